"""Adversarial fine-tuning: a trained network learns to draw in very few steps, through its own sampler.

A second network, the discriminator, learns to tell drawn pictures from real ones; gradients flow from its judgement
back through all steps of the sampler. What the network knew about noise it keeps, because it goes on learning that, too.
"""

from dataclasses import dataclass

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import nn
from torch.nn import functional as F

from course_utils.pipeline import ClassConditionedPipeline
from course_utils.processes import OneProcess, launched_processes
from course_utils.sampling import denoise, make_scheduler
from course_utils.training import Trainer, TrainingConfig, make_optimizer, run_trainer
from course_utils.validation import check_whole_number

# What a checkpoint holds beside a `Trainer`'s.
OPPONENT = ("discriminator", "discriminator_optimizer", "discriminator_lr_scheduler")
PENALTY_EVERY = 2  # steps; in between, the discriminator's slope hardly changes (arXiv:1912.04958, section 3.1)


@dataclass(frozen=True)
class AdversarialConfig(TrainingConfig):
    """How to fine-tune, beside what a `TrainingConfig` says.

    Both learning rates fall to zero along half a cosine, `learning_rate` after it has risen for a twentieth of the
    steps: `lr_schedule` plays no part. Neither optimizer averages slopes for long, because each network has to follow the
    other: AdamW not at all, Muon over two steps.

    Attributes:
        num_inference_steps: of the sampler that is trained through.
        discriminator_learning_rate: its peak; the network's own is `learning_rate`.
        gradient_penalty: how much the discriminator pays for steep slopes (arXiv:2501.05441, R1 and R2).
        mismatch_weight: how much it pays for taking a real picture for one of another class (arXiv:1605.05396).
        diffusion_weight: of the loss that the network was trained with before, beside the adversarial one.
    """

    batch_size: int = 32
    learning_rate: float = 2e-4
    adam_beta2: float = 0.99
    ema_decay: float | None = 0.998
    label_dropout: float = 0.1
    stratified_timesteps: bool = True
    max_grad_norm: float | None = 10.0
    max_steps: int | None = 8000
    num_epochs: int = 100
    num_inference_steps: int = 2
    discriminator_learning_rate: float = 1e-3
    gradient_penalty: float = 0.02
    mismatch_weight: float = 0.1
    diffusion_weight: float = 5.0


class Discriminator(nn.Module):
    """Says of each picture how real it looks as a picture of each class.

    Args:
        num_classes: how many classes there are.
        sample_size: side of the pictures, in pixels; a multiple of 4.
        widths: channels at the full, the half and the quarter size.
    """

    def __init__(self, num_classes: int = 10, sample_size: int = 28, widths: tuple[int, int, int] = (32, 64, 128)):
        super().__init__()
        narrow, middle, wide = widths
        self.layers = nn.Sequential(
            nn.Conv2d(1, narrow, 3, padding=1), nn.LeakyReLU(0.2),  # (B, 32, 28, 28)
            nn.Conv2d(narrow, middle, 4, stride=2, padding=1), nn.LeakyReLU(0.2),  # (B, 64, 14, 14)
            nn.Conv2d(middle, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2),  # (B, 128, 7, 7)
            nn.Conv2d(wide, wide, 3, padding=1), nn.LeakyReLU(0.2), nn.Flatten(),  # (B, 6272)
        )  # fmt: skip
        self.head = nn.Linear(wide * (sample_size // 4) ** 2, 1 + num_classes)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Higher is more real.

        Args:
            pictures: (B, 1, 28, 28) in [-1, 1].

        Returns:
            (B, num_classes): as a picture at all, plus as one of this class.
        """
        scores = self.head(self.layers(pictures))
        return scores[:, :1] + scores[:, 1:]


class AdversarialTrainer(Trainer):
    """A `Trainer` whose step is one of the discriminator, and one of the network against it and on its old loss.

    `losses` are the discriminator's: log 2 = 0.69 is where it cannot tell drawn pictures from real ones.
    """

    def __init__(self, model, dataset, noise_scheduler, config: AdversarialConfig, processes=None):
        super().__init__(model, dataset, noise_scheduler, config, processes)
        self.sampler = make_scheduler("ddim", noise_scheduler.config.prediction_type)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            discriminator = Discriminator(model.config.num_classes, dataset.images.shape[-1])
        self.discriminator = discriminator.to(self.processes.device)
        betas = (0.0, config.adam_beta2)
        self.optimizer = make_optimizer(model, config, betas[0], matrix_momentum=0.5)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), config.discriminator_learning_rate, betas, fused=True
        )
        lead = self.total_steps // 20  # the discriminator must know something before its judgement is worth following
        self.lr_scheduler = get_cosine_schedule_with_warmup(self.optimizer, lead, self.total_steps)
        self.discriminator_lr_scheduler = get_cosine_schedule_with_warmup(
            self.discriminator_optimizer, 0, self.total_steps
        )

    def training_step(self):
        """Draw a batch, let the discriminator learn from it, and move the weights one step."""
        real, labels = self.next_batch()
        drawn = self.draw(labels)
        discriminator_loss = self.discriminator_step(real, drawn.detach(), labels)
        loss = self.adversarial_loss(real, drawn, labels)
        loss = loss + self.config.diffusion_weight * self.loss(real[::2], labels[::2])  # half a batch does for that
        self.move_weights(loss)
        self.discriminator_lr_scheduler.step()
        self.count_step(discriminator_loss, len(labels))

    def draw(self, labels: torch.Tensor) -> torch.Tensor:
        """Pictures by the sampler that will be used, with the gradients of all of its steps: (B, 1, 28, 28)."""
        steps, generators = self.config.num_inference_steps, [self.generator] * len(labels)
        *_, pictures = denoise(self.network, self.sampler, labels, [1.0] * steps, generators)
        return pictures

    def discriminator_step(self, real, drawn, labels) -> float:
        """Move the discriminator one step; returns how well it told drawn from real, without what it paid beside."""
        penalised = self.step % PENALTY_EVERY == 0
        pictures = torch.cat((real, drawn)).requires_grad_(penalised)
        of_real, of_drawn = self.discriminator(pictures).chunk(2)
        told_apart = F.softplus(as_class(of_drawn, labels) - as_class(of_real, labels)).mean()
        mismatch = F.softplus(as_class(of_real, self.other_labels(labels)) - as_class(of_real, labels)).mean()
        loss = told_apart + self.config.mismatch_weight * mismatch
        if penalised:
            judged = as_class(of_real, labels).sum() + as_class(of_drawn, labels).sum()
            (slopes,) = torch.autograd.grad(judged, pictures, create_graph=True)  # (2 B, 1, 28, 28)
            penalty = slopes.square().sum((1, 2, 3)).mean()  # of real and drawn ones, half each
            loss = loss + self.config.gradient_penalty * PENALTY_EVERY * penalty
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.check_finite(loss.item())
        self.discriminator_optimizer.step()
        return told_apart.item()

    def other_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """For each label another one: int64 (B,)."""
        num_classes = self.model.config.num_classes
        further = torch.randint(1, num_classes, labels.shape, generator=self.generator).to(labels.device)
        return (labels + further) % num_classes

    def adversarial_loss(self, real, drawn, labels) -> torch.Tensor:
        """Small where each drawn picture looks more real than a real one of its class (arXiv:1807.00734)."""
        with torch.no_grad():
            of_real = as_class(self.discriminator(real), labels)
        return F.softplus(of_real - as_class(self.discriminator(drawn), labels)).mean()

    def state_dict(self) -> dict:
        """All that is needed to go on as if nothing had happened."""
        return super().state_dict() | {name: getattr(self, name).state_dict() for name in OPPONENT}

    def load_state_dict(self, state: dict):
        """Go on from where `state_dict` was taken.

        Raises:
            ValueError: if the checkpoint was made with another configuration, network or data set.
        """
        super().load_state_dict(state)
        for name in OPPONENT:
            getattr(self, name).load_state_dict(state[name])


def as_class(judgements: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of judgements (B, num_classes), those as the class of each label: (B,)."""
    return judgements.gather(1, labels[:, None])[:, 0]


def fine_tune(pipe, dataset, config=None, device=None, progress=True, checkpoint_dir=None):
    """Teach a trained network to draw in very few steps, without guidance.

    Args:
        pipe: a `ClassConditionedPipeline` whose network predicts the velocity; its network is trained in place.
        dataset: an `ImageDataset` of the size that the network draws.
        config: an `AdversarialConfig`; default: two steps.
        device, progress, checkpoint_dir: as in `train`.

    Returns:
        A `ClassConditionedPipeline` that draws in `config.num_inference_steps` steps of DDIM, and a `TrainingRun`.

    Raises:
        ValueError: if the parts do not fit together, or several processes were launched.
        OSError, FloatingPointError, MemoryError: as `train`.
    """
    config = config or AdversarialConfig()
    check_fine_tuning(pipe, dataset, config)
    noise_scheduler = make_scheduler("ddpm", pipe.scheduler.config.prediction_type)
    run = run_trainer(
        AdversarialTrainer, pipe.unet, dataset, noise_scheduler, config, OneProcess(device), progress, checkpoint_dir
    )
    sampler = make_scheduler("ddim", pipe.scheduler.config.prediction_type)
    return ClassConditionedPipeline(run.model, sampler, pipe.config.dataset, config.num_inference_steps), run


def check_fine_tuning(pipe, dataset, config):
    """Refuse, before any work, what cannot be fine-tuned.

    Raises:
        ValueError: with what was found and what was expected.
    """
    size, side = pipe.unet.config.sample_size, dataset.images.shape[-1]
    if launched_processes().count > 1:
        raise ValueError("fine-tuning runs on one process: start it without torchrun or accelerate launch.")
    if pipe.scheduler.config.prediction_type != "v_prediction":
        raise ValueError(
            f"the network predicts {pipe.scheduler.config.prediction_type!r}, expected 'v_prediction': from predicted "
            "noise there is no first step that few steps could begin with."
        )
    if size != side or size % 4:
        raise ValueError(f"the network draws {size}x{size} pixels and the data set has {side}x{side}: expected 28x28.")
    if pipe.unet.config.num_classes < 2:
        raise ValueError("the network knows a single class, expected at least two to tell apart.")
    check_whole_number("num_inference_steps", config.num_inference_steps, 1, 50)
