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
from course_utils.storage.checkpoints import checksum, load_optimizer
from course_utils.training import CommonConfig, Trainer, check_drawn_size, check_training, make_optimizers, run_trainer
from course_utils.validation import check_finite_number, check_whole_number, quoted

MOST_STEPS = 50  # to fine-tune through: memory and time grow with them
PENALTY_EVERY = 2  # steps; in between, the discriminator's gradients hardly change (arXiv:1912.04958, section 3.1)


@dataclass(frozen=True)
class AdversarialConfig(CommonConfig):
    """How to fine-tune.

    Both learning rates fall to zero along half a cosine, `learning_rate` after it has risen for a twentieth of the
    steps. Neither optimizer averages gradients for long, because each network has to follow the other: AdamW not at all,
    Muon over two steps.

    Attributes:
        num_inference_steps: of the sampler that is trained through.
        discriminator_learning_rate: its peak; the network's own is `learning_rate`.
        gradient_penalty: how much the discriminator pays for large gradients (arXiv:2501.05441, R1 and R2).
        mismatch_weight: how much it pays for taking a real picture for one of another class (arXiv:1605.05396).
        diffusion_weight: of the loss that the network was trained with before, beside the adversarial one.
        num_epochs, batch_size, optimizer, learning_rate, adam_beta2, weight_decay, ema_decay, label_dropout,
            max_grad_norm, stratified_timesteps, max_steps, seed: as in `CommonConfig`.
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

    def __post_init__(self):
        super().__post_init__()
        self.check(check_whole_number, "num_inference_steps", 1, MOST_STEPS)
        self.check(check_finite_number, "discriminator_learning_rate", "a number above 0")
        for name in ("gradient_penalty", "mismatch_weight", "diffusion_weight"):
            self.check(check_finite_number, name, "a number of at least 0")


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

    `losses` are the discriminator's: log 2 = 0.69 is where it cannot distinguish drawn pictures from real ones.
    """

    config_kind = AdversarialConfig
    learning_rates = ("learning_rate", "discriminator_learning_rate")

    def __init__(self, model, dataset, noise_scheduler, config: AdversarialConfig, processes=None):
        super().__init__(model, dataset, noise_scheduler, config, processes)
        self.sampler = make_scheduler("ddim", noise_scheduler.config.prediction_type)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            discriminator = Discriminator(model.config.num_classes, dataset.images.shape[-1])
        self.discriminator = discriminator.to(self.processes.device, self.dtype)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), config.discriminator_learning_rate, (0.0, config.adam_beta2), fused=True
        )
        self.discriminator_lr_scheduler = get_cosine_schedule_with_warmup(
            self.discriminator_optimizer, 0, self.total_steps
        )

    def make_optimizers(self):
        return make_optimizers(self.model, self.config, beta1=0.0, matrix_momentum=0.5)

    def make_lr_scheduler(self, optimizer):
        lead = self.total_steps // 20  # the discriminator must know something before its judgement is worth following
        return get_cosine_schedule_with_warmup(optimizer, lead, self.total_steps)

    def make_identity(self) -> dict:
        """As a `Trainer`'s, and the weights that the fine-tuning starts from."""
        return super().make_identity() | {"the checksum of the starting weights": checksum(*self.model.parameters())}

    def training_step(self):
        """Draw a batch, let the discriminator learn from it, and move the weights one step."""
        real, labels = self.next_batch()
        drawn = self.draw(labels)
        self.check_finite("sum of the drawn pictures", drawn.sum().item())
        discriminator_loss = self.discriminator_step(real, drawn.detach(), labels)
        loss = self.adversarial_loss(real, drawn, labels)
        self.check_finite("adversarial loss", loss.item(), "discriminator_learning_rate")
        loss = loss + self.config.diffusion_weight * self.loss(real[::2], labels[::2])  # half a batch does for that
        self.optimizer_step(loss)
        self.discriminator_lr_scheduler.step()
        self.count_step(discriminator_loss, len(labels))

    def draw(self, labels: torch.Tensor) -> torch.Tensor:
        """Pictures by the sampler that will be used, with the gradients of all of its steps: (B, 1, 28, 28)."""
        steps, generators = self.config.num_inference_steps, [self.generator] * len(labels)
        *_, pictures = denoise(self.network, self.sampler, labels, [1.0] * steps, generators)
        return pictures

    def sampling(self):
        """As the pictures will be drawn: in very few steps, without guidance."""
        return self.sampler, [1.0] * self.config.num_inference_steps

    def discriminator_step(self, real, drawn, labels) -> float:
        """Move the discriminator one step; returns the part of its loss that compares drawn pictures with real ones."""
        penalised = self.step % PENALTY_EVERY == 0
        pictures = torch.cat((real, drawn)).requires_grad_(penalised)
        of_real, of_drawn = self.discriminator(pictures).chunk(2)
        comparison = F.softplus(as_class(of_drawn, labels) - as_class(of_real, labels)).mean()
        mismatch = F.softplus(as_class(of_real, self.other_labels(labels)) - as_class(of_real, labels)).mean()
        loss = comparison + self.config.mismatch_weight * mismatch
        if penalised:
            scores = torch.cat((as_class(of_real, labels), as_class(of_drawn, labels)))  # (2 B,)
            loss = loss + self.config.gradient_penalty * PENALTY_EVERY * squared_gradients(scores, pictures)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.check_finite("discriminator's loss", loss.item(), "discriminator_learning_rate")
        self.discriminator_optimizer.step()
        return comparison.item()

    def current_rate(self, setting: str) -> float:
        if setting == "discriminator_learning_rate":
            return self.discriminator_lr_scheduler.get_last_lr()[0]
        return super().current_rate(setting)

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
        return super().state_dict() | {
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "discriminator_lr_scheduler": self.discriminator_lr_scheduler.state_dict(),
        }

    def load_parts(self, state: dict):
        self.discriminator.load_state_dict(state["discriminator"])
        load_optimizer(self.discriminator_optimizer, state["discriminator_optimizer"])
        self.discriminator_lr_scheduler.load_state_dict(state["discriminator_lr_scheduler"])
        super().load_parts(state)


def squared_gradients(scores: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Mean over all pictures of the squared length of the gradient of a picture's score.

    Of as many real pictures as drawn ones it is half the sum of the penalties R1 and R2 (arXiv:2501.05441, section 3.2).

    Args:
        scores: (N,).
        pictures: (N, 1, 28, 28), from which the scores were computed, each from its own.
    """
    (gradients,) = torch.autograd.grad(scores.sum(), pictures, create_graph=True)  # (N, 1, 28, 28)
    return gradients.square().sum((1, 2, 3)).mean()


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
    config = AdversarialConfig() if config is None else config
    check_fine_tuning(pipe, dataset, config)
    prediction_type = pipe.scheduler.config.prediction_type
    sampler, noise_scheduler = make_scheduler("ddim", prediction_type), make_scheduler("ddpm", prediction_type)
    tuned = ClassConditionedPipeline(
        pipe.unet, sampler, pipe.config.dataset, config.num_inference_steps, class_names=pipe.class_names
    )
    processes = OneProcess(device)
    run = run_trainer(
        AdversarialTrainer, pipe.unet, dataset, noise_scheduler, config, processes, progress, checkpoint_dir
    )
    return tuned, run


def check_fine_tuning(pipe, dataset, config):
    """Refuse, before any work, what cannot be fine-tuned.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if launched_processes().count > 1:
        raise ValueError("fine-tuning runs on one process: start it without torchrun or accelerate launch.")
    if not isinstance(pipe, ClassConditionedPipeline):
        raise ValueError(f"pipe is {quoted(pipe)}, expected a ClassConditionedPipeline.")
    prediction_type = pipe.scheduler.config.prediction_type
    if prediction_type != "v_prediction":
        raise ValueError(
            f"the network predicts {prediction_type!r}, expected 'v_prediction': from predicted noise there is no first "
            "step that few steps could begin with."
        )
    check_training(pipe.unet, dataset, make_scheduler("ddpm", prediction_type), config, AdversarialConfig)
    check_drawn_size(pipe.unet, *dataset.images.shape[-2:])
    if pipe.unet.config.sample_size % 4:
        raise ValueError(f"the network draws {dataset.images.shape[-1]} pixels a side, expected a multiple of 4.")
    if pipe.unet.config.num_classes < 2:
        raise ValueError("the network knows a single class, expected at least two to compare.")
