"""The training loop: noise a batch, let the network predict the noise, compare, step."""

import copy
import math
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from torch.nn import functional as F
from tqdm import tqdm

from course_utils.data import check_image_dataset, scale_to_model
from course_utils.model import check_class_labels
from course_utils.muon import Muon, inner_matrices
from course_utils.processes import OneProcess, interrupt_deferred, launched_processes, several_were_launched
from course_utils.sampling import SCHEDULERS
from course_utils.storage.checkpoints import CheckpointFolder, check_shapes, checksum, load_optimizer
from course_utils.validation import (
    check_choice,
    check_finite_number,
    check_switch,
    check_whole_number,
    in_one_line,
    quoted,
)

OPTIMIZERS = ("adamw", "muon")
LR_SCHEDULES = ("constant", "one_cycle")
LARGEST_COUNT = 10**9
SEEDS = (-(2**63), 2**64 - 1)  # what a torch.Generator takes
RUNNING_MEAN_STEPS = 100
PREVIEW_STEPS, PREVIEW_GUIDANCE = 6, 2.0  # how a training's pictures are drawn, where it can be guided
MUON_OVER_ADAMW = 10  # of the learning rates: a step of Muon's moves a number by less
CHECKPOINT_SECONDS = 120  # what a killed training loses at most
REMEDY = "use the same to go on, or another checkpoint folder to start anew."
PROGRESS = ("step", "losses", "seconds", "images_seen")  # plain values of a `Trainer`


@dataclass(frozen=True)
class CommonConfig:
    """What a `TrainingConfig` and an `AdversarialConfig` have in common.

    Attributes:
        num_epochs: passes over the data set.
        batch_size: images per step, of all processes together where several share the training.
        optimizer: "adamw", or "muon" for the matrices inside the network and AdamW for the rest (`Muon`).
        learning_rate: of AdamW, and a tenth of Muon's; the peak, where a schedule is used.
        adam_beta2: decay per step of AdamW's average of squared gradients.
        weight_decay: decoupled, of either; AdamW with 0 is plain Adam.
        ema_decay: decay per step of the moving average of the weights that is returned; None returns the last weights.
        label_dropout: share of labels replaced by "no class" in training, which guidance needs; 0 .. 1.
        max_grad_norm: gradients are scaled down to this norm; None leaves them.
        stratified_timesteps: spread the timesteps of a batch evenly over all of them, instead of drawing each
            by itself (arXiv:2107.00630, appendix I.1).
        max_steps: stop after so many steps, even inside an epoch; None for no such limit.
        seed: of everything random in training: order of images, noise, timesteps, dropped labels.

    Raises:
        ValueError: for a value that is not what it should be; NumPy's numbers are as good as Python's.
    """

    num_epochs: int = 10
    batch_size: int = 128
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    adam_beta2: float = 0.999
    weight_decay: float = 0.0
    ema_decay: float | None = None
    label_dropout: float = 0.0
    max_grad_norm: float | None = None
    stratified_timesteps: bool = False
    max_steps: int | None = None
    seed: int = 0

    def __post_init__(self):
        self.check(check_whole_number, "num_epochs", 1, LARGEST_COUNT)
        self.check(check_whole_number, "batch_size", 1, LARGEST_COUNT)
        self.check(check_choice, "optimizer", OPTIMIZERS)
        self.check(check_finite_number, "learning_rate", "a number above 0")
        self.check(check_finite_number, "adam_beta2", "a number from 0 up to, not including, 1")
        self.check(check_finite_number, "weight_decay", "a number of at least 0")
        self.check(check_finite_number, "label_dropout", "a share from 0 to 1")
        self.check(check_switch, "stratified_timesteps")
        self.check(check_whole_number, "seed", *SEEDS)
        self.check_if_given(check_finite_number, "ema_decay", "a number from 0 up to, not including, 1")
        self.check_if_given(check_finite_number, "max_grad_norm", "a number above 0")
        self.check_if_given(check_whole_number, "max_steps", 1, LARGEST_COUNT)

    def check(self, kind, name: str, *expected):
        """Replace a value by the plain one that `kind` makes of it: a checkpoint and a report hold no NumPy numbers."""
        object.__setattr__(self, name, kind(name, getattr(self, name), *expected))

    def check_if_given(self, kind, name: str, *expected):
        if getattr(self, name) is not None:
            self.check(kind, name, *expected)

    def total_steps(self, num_images: int) -> int:
        """Optimizer steps of a whole training on so many images."""
        steps = self.num_epochs * math.ceil(num_images / self.batch_size)
        return min(steps, self.max_steps) if self.max_steps else steps


@dataclass(frozen=True)
class TrainingConfig(CommonConfig):
    """How to train. The defaults are the recipe of the Hugging Face class-conditioned example.

    Attributes:
        lr_schedule: "constant", or "one_cycle": up for the first tenth of the steps, then down to zero
            (arXiv:1708.07120); the momentum stays what it is.
        momentum: decay per step of the average of gradients, of AdamW (its beta1) and of Muon alike.
        num_epochs, batch_size, optimizer, learning_rate, adam_beta2, weight_decay, ema_decay, label_dropout,
            max_grad_norm, stratified_timesteps, max_steps, seed: as in `CommonConfig`.
    """

    lr_schedule: str = "constant"
    momentum: float = 0.9

    def __post_init__(self):
        super().__post_init__()
        self.check(check_finite_number, "momentum", "a number from 0 up to, not including, 1")
        self.check(check_choice, "lr_schedule", LR_SCHEDULES)

    @classmethod
    def fast(cls, **changes) -> "TrainingConfig":
        """The fast track's settings, for `ClassConditionedUnet.fast()` and v-prediction; its steps are in `RECIPES`.

        Args:
            changes: attributes to set differently, such as `num_epochs=2`.
        """
        return replace(
            cls(
                num_epochs=1,
                batch_size=64,
                optimizer="muon",
                learning_rate=2e-3,
                adam_beta2=0.99,
                weight_decay=0.01,
                lr_schedule="one_cycle",
                momentum=0.85,  # with 0.95 a training this short ends at an excess of 1.1 in place of 0.2 (one seed)
                ema_decay=0.99,
                label_dropout=0.1,
                max_grad_norm=1.0,
                stratified_timesteps=True,
            ),
            **changes,
        )


@dataclass
class TrainingRun:
    """What came out of a training.

    Attributes:
        model: the trained network, in eval mode; with the moving average of the weights where one was kept.
        losses: mean squared error of each step.
        seconds: wall-clock time spent in training steps.
        images_seen: images that went through the network, repeats counted.
        config: the `TrainingConfig` it was trained with.
        interrupted: True where Ctrl-C, or Stop, ended it before its last step.
        processes: how many processes shared each batch.
    """

    model: torch.nn.Module
    config: CommonConfig
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    images_seen: int = 0
    interrupted: bool = False
    processes: int = 1


class TrainingStep(NamedTuple):
    """What a `Trainer` yields: the number of steps taken, and the loss of the last one."""

    step: int
    loss: float


def running_mean(losses: list[float]) -> float:
    """Mean of the last 100 losses, or of as many as there are."""
    recent = losses[-RUNNING_MEAN_STEPS:]
    return sum(recent) / len(recent)


def train(model, dataset, noise_scheduler, config=None, device=None, progress=True, checkpoint_dir=None) -> TrainingRun:
    """Train a class-conditioned network.

    Started as several processes (`torchrun --nproc_per_node 2 ...`), each takes its part of every batch, and all get
    the same result.

    Ctrl-C, or Jupyter's stop button, ends the training after the current step, as Stop does in the panel: what was
    learned is returned. A second Ctrl-C stops at once.

    Args:
        model: a `ClassConditionedUnet`; it is trained in place.
        dataset: an `ImageDataset` of pictures of the size that the network draws.
        noise_scheduler: a `DDPMScheduler`; its `prediction_type` says what the network learns to predict.
        config: a `TrainingConfig`; default: the example's recipe.
        device: "cuda", "mps", "cpu" or a torch.device; default: the best there is.
        progress: show the running loss and the time that remains: in Jupyter in a `TrainingPanel`, with pictures and a
            Stop button, elsewhere in a tqdm bar. False shows nothing. A function that takes a `Trainer` and yields its
            steps shows what it likes; where it ends, so does the training.
        checkpoint_dir: folder for a checkpoint every two minutes and at the end; if it holds one, training goes on
            from there, exactly as if it had never stopped.

    Returns:
        A `TrainingRun`. On one machine's CPU the same model, data, config and seed give the same weights.

    Raises:
        ValueError: if the parts do not fit together, the device is not there, or no checkpoint in the folder can be read.
        OSError: if the folder cannot be written to.
        FloatingPointError: if the loss is no longer a number; the model keeps the weights of the step before.
        MemoryError: if a batch does not fit into memory.
    """
    config = TrainingConfig() if config is None else config
    check_training(model, dataset, noise_scheduler, config)
    check_drawn_size(model, *dataset.images.shape[-2:])
    return train_stage(model, dataset, noise_scheduler, config, device, progress, checkpoint_dir)


def train_stage(
    model, dataset, noise_scheduler, config, device=None, progress=True, checkpoint_dir=None
) -> TrainingRun:
    """One of several trainings of a network: as `train`, but the pictures may be smaller than those that it draws."""
    processes = launched_processes(device)
    return run_trainer(Trainer, model, dataset, noise_scheduler, config, processes, progress, checkpoint_dir)


def run_trainer(
    kind, model, dataset, noise_scheduler, config, processes, progress=True, checkpoint_dir=None
) -> TrainingRun:
    """Train by a `Trainer`, or a kind of it, from the start or the last checkpoint to the last step or Ctrl-C.

    Args:
        kind: the class of the trainer.
        processes: what `launched_processes` returned.
        model, dataset, noise_scheduler, config, progress, checkpoint_dir: as in `train`, which see for what is raised.
    """
    with memory_errors_explained(config), interrupt_deferred(processes.seconds_per_interrupt) as interrupt:
        trainer = kind(model, dataset, noise_scheduler, config, processes)
        checkpoints = CheckpointFolder(checkpoint_dir) if checkpoint_dir and processes.is_main else None
        state = processes.from_main(lambda: checkpoints.newest() if checkpoints else None)
        if state is not None:
            trainer.load_state_dict(state)
        with shown(processes.is_main and progress) as show:
            run_steps(trainer, checkpoints, interrupt, show)
        trainer.check_weights()
    return trainer.finish()


@contextmanager
def shown(progress, shares=(1.0,)):
    """Within, what `progress` stands for: a function that takes a `Trainer`, and yields its steps and shows them.

    Args:
        progress: as in `train`.
        shares: of the whole training's time that its stages take, about.
    """
    if not progress:
        yield iter
    elif callable(progress):
        yield progress
    elif not has_page():
        yield with_bar
    else:
        from course_utils.watching import TrainingPanel  # nobody else need wait for widgets to be imported

        with TrainingPanel(shares).on_the_page() as panel:
            yield panel.watch


def has_page() -> bool:
    """Whether this is the kernel of a notebook, or the like; of several processes none shows a panel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None and not several_were_launched()


def with_bar(trainer: "Trainer") -> Iterator["TrainingStep"]:
    """Yield the steps that remain, and show a bar with the running loss and the time that is left."""
    with tqdm(initial=trainer.step, total=trainer.total_steps, desc="training") as bar:
        for step in trainer:
            bar.set_postfix_str(f"loss {trainer.recent_loss():.4f}", refresh=False)
            bar.update()
            yield step


def run_steps(trainer: "Trainer", checkpoints: CheckpointFolder | None, interrupt, show):
    """Take the steps that remain, or those until Ctrl-C, with a checkpoint at intervals and after the last one.

    Args:
        trainer, checkpoints: whose steps, and where to save them, if anywhere.
        interrupt: of `interrupt_deferred`.
        show: takes the trainer and yields its steps; where it ends, no more are taken.
    """
    saver = Saver(checkpoints, trainer)
    with closing(show(trainer)) as steps:
        while not trainer.processes.any(interrupt.requested) and next(steps, None) is not None:
            saver.save_at_intervals()
        trainer.processes.from_main(saver.save)  # one that ended earlier would make its launcher end the others
    if trainer.step < trainer.total_steps and trainer.processes.is_main:
        print(f"Training stopped after {trainer.step} of {trainer.total_steps} steps; {saver.how_to_go_on()}")


class Saver:
    """Writes a training's checkpoints; a full disk costs the checkpoint, not the training.

    Args:
        checkpoints: where to, or None to write none.
        trainer: whose.
    """

    def __init__(self, checkpoints: CheckpointFolder | None, trainer: "Trainer"):
        self.checkpoints, self.trainer = checkpoints, trainer
        self.saved_step, self.saved_at, self.warned = trainer.step, time.perf_counter(), False

    def save_at_intervals(self):
        if time.perf_counter() - self.saved_at >= CHECKPOINT_SECONDS:
            self.save()

    def save(self):
        """Write a checkpoint, unless there is one of this step."""
        if self.checkpoints is None or self.saved_step == self.trainer.step:
            return
        self.trainer.check_weights()
        try:
            self.checkpoints.write(self.trainer.step, self.trainer.state_dict())
            self.saved_step = self.trainer.step
        except OSError as error:
            if not self.warned:
                warnings.warn(
                    f"no checkpoint could be written to {self.checkpoints.folder} ({error.strerror or error}): training "
                    "goes on, and the last good checkpoint stays; make room there to get new ones.",
                    stacklevel=2,
                )
            self.warned = True
        self.saved_at = time.perf_counter()

    def how_to_go_on(self) -> str:
        if self.checkpoints is None:
            return "the model keeps what it has learned. With a checkpoint_dir, training could go on from here."
        if self.saved_step == 0:
            return f"there is no checkpoint in {self.checkpoints.folder} to go on from."
        return (
            f"the next training with the checkpoints in {self.checkpoints.folder} goes on from step {self.saved_step}."
        )


@contextmanager
def memory_errors_explained(config: CommonConfig):
    """Within, the many ways to run out of memory become a MemoryError that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = str(error).lower()  # on a CPU, and on a Mac's GPU, it is a plain RuntimeError
        if isinstance(error, RuntimeError) and "out of memory" not in words and "can't allocate memory" not in words:
            raise
        smaller = max(1, config.batch_size // 2)
        advice = f"try batch_size={smaller}" if smaller < config.batch_size else "try a smaller network"
        raise MemoryError(f"there is not enough memory for batch_size={config.batch_size}: {advice}.") from error


def check_training(model, dataset, noise_scheduler, config, config_kind=TrainingConfig):
    """Refuse, before any work, parts that do not fit together.

    Raises:
        ValueError: with what was found and what was expected.
    """
    check_image_dataset(dataset)
    check_network(model)
    check_noise_scheduler(noise_scheduler)
    if not isinstance(config, config_kind):
        raise ValueError(f"config is {quoted(config)}, expected {config_kind.__name__}(...).")
    if len(dataset) == 0:
        raise ValueError("the data set has no images.")
    check_picture_size(model, *dataset.images.shape[-2:])
    check_labels(dataset.labels, model.config.num_classes)
    if config.label_dropout:
        _ = model.null_label  # raises if the network has no "no class"


def check_network(model):
    """Refuse what is no class-conditioned network, and one in a dtype too coarse for training.

    Raises:
        ValueError: with what was found and what was expected.
    """
    config = getattr(model, "config", None)
    if not all(hasattr(config, name) for name in ("num_classes", "sample_size", "block_out_channels")):
        raise ValueError(f"model is {type(model).__name__}, expected a ClassConditionedUnet.")
    if model.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the network is in {model.dtype}, which rounds away the small steps of a training: train it in float32, "
            "by model.float()."
        )


def check_noise_scheduler(noise_scheduler):
    """Refuse a sampler, and a prediction type that the training knows no target for.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if not isinstance(noise_scheduler, DDPMScheduler):
        raise ValueError(
            f"noise_scheduler is {type(noise_scheduler).__name__}, expected a DDPMScheduler to train with, such as "
            "make_scheduler('ddpm', 'v_prediction'): other schedulers draw from the trained network."
        )
    prediction_type = noise_scheduler.config.prediction_type
    if prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"the scheduler's prediction_type is {quoted(prediction_type)}, expected 'epsilon' or 'v_prediction'."
        )


def check_labels(labels, num_classes: int):
    """Refuse labels that the network does not know.

    Raises:
        ValueError: with what was found and what was expected.
    """
    try:
        check_class_labels(labels, num_classes)
    except ValueError as error:
        raise ValueError(
            f"the labels of the data set do not fit a network that knows only {num_classes} classes: "
            f"{in_one_line(error)}; build the network with num_classes=... for other classes."
        ) from error


def check_picture_size(model, height: int, width: int):
    """Refuse pictures that the network's levels cannot halve.

    Raises:
        ValueError: with what was found and what was expected.
    """
    step = 2 ** (len(model.config.block_out_channels) - 1)
    if min(height, width) < step or height % step or width % step:
        raise ValueError(f"the pictures have {height}x{width} pixels, expected multiples of {step}, such as 28.")


def check_drawn_size(model, height: int, width: int):
    """Refuse to end a training with pictures of another size than those that the network draws.

    Raises:
        ValueError: with what was found and what was expected.
    """
    size = model.config.sample_size
    if (height, width) != (size, size):
        raise ValueError(
            f"the pictures have {height}x{width} pixels, but the network draws {size}x{size}: build it with "
            f"sample_size={height}, or use resized(dataset, {size}) from course_utils.recipes."
        )


class Trainer:
    """The state of a training, and what one step does to it.

    `for step, loss in trainer:` takes the steps that remain, one by one; `finish()` returns what came out.

    Args:
        model, dataset, noise_scheduler, config: as in `train`.
        processes: what `launched_processes` returned; default: this process alone, on the model's device.

    Raises:
        ValueError: if the parts do not fit together.
    """

    config_kind = TrainingConfig
    learning_rates = ("learning_rate",)  # names of those that large gradients may come from

    def __init__(self, model, dataset, noise_scheduler, config: CommonConfig, processes=None):
        check_training(model, dataset, noise_scheduler, config, self.config_kind)
        self.processes = processes or OneProcess(model.device)
        self.model, self.dataset, self.config = model.to(self.processes.device), dataset, config
        self.noise_scheduler = copy.deepcopy(noise_scheduler)  # it moves its numbers to the device of the images
        self.identity = self.make_identity()
        self.processes.require_same(self.identity)
        self.network = self.processes.share(self.model)
        self.total_steps = config.total_steps(len(dataset))
        self.step, self.losses, self.seconds, self.images_seen = 0, [], 0.0, 0
        self.optimizers = self.make_optimizers()
        self.lr_schedulers = {name: self.make_lr_scheduler(one) for name, one in self.optimizers.items()}
        self.ema = EMAModel(model.parameters(), decay=config.ema_decay) if config.ema_decay is not None else None
        self.generator = torch.Generator().manual_seed(config.seed)  # on the CPU: the same draws on every device
        self.order = torch.empty(0, dtype=torch.int64)  # the images of this epoch still to come
        self.dtype = model.dtype

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return make_optimizers(self.model, self.config, self.config.momentum, self.config.momentum)

    def make_lr_scheduler(self, optimizer: torch.optim.Optimizer):
        return make_lr_scheduler(optimizer, self.config, self.total_steps)

    def __iter__(self) -> Iterator[TrainingStep]:
        """Take the steps that remain, and yield after each."""
        self.model.train()
        while self.step < self.total_steps:
            started = time.perf_counter()
            self.training_step()
            self.seconds += time.perf_counter() - started
            yield TrainingStep(self.step, self.losses[-1])

    def training_step(self):
        """Take one batch, and move the weights one step."""
        images, labels = self.next_batch()
        loss = self.loss(images, labels)
        self.optimizer_step(loss)
        self.count_step(loss.item(), len(labels))

    def optimizer_step(self, loss):
        """Move the weights, and their average, one step down the gradients of a loss."""
        self.model.zero_grad()
        loss.backward()
        max_grad_norm = math.inf if self.config.max_grad_norm is None else self.config.max_grad_norm
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_grad_norm)
        self.check_finite("loss", loss.item())
        self.check_finite("norm of the gradients", grad_norm.item(), *self.learning_rates)
        for name, optimizer in self.optimizers.items():
            optimizer.step()
            self.lr_schedulers[name].step()
        if self.ema is not None:
            self.ema.step(self.model.parameters())

    def count_step(self, loss: float, images: int):
        """Note that a step was taken."""
        self.step += 1
        self.images_seen += images
        self.losses.append(loss)

    def next_batch(self):
        """The next images in a random order that is drawn anew each epoch: (B, 1, 28, 28) in [-1, 1], and int64 (B,)."""
        if len(self.order) == 0:
            self.order = torch.randperm(len(self.dataset), generator=self.generator)
        batch, self.order = self.order[: self.config.batch_size], self.order[self.config.batch_size :]
        images = self.dataset.images.index_select(0, batch)  # ten times as fast as images[batch]
        device = self.processes.device  # asking the model walks through all its modules
        return scale_to_model(images.to(device)).to(self.dtype), self.dataset.labels[batch].to(device, torch.int64)

    def recent_loss(self) -> float:
        """Mean of the last 100 losses, or of as many as there are."""
        return running_mean(self.losses)

    def sampling(self):
        """How to draw from what was learned so far, quickly: a noise scheduler, and the guidance scale of each step."""
        kind, options = SCHEDULERS["dpmsolver++"]
        scale = PREVIEW_GUIDANCE if self.config.label_dropout else 1.0
        with torch.device("cpu"):  # where the solvers compute, whatever the default device
            return kind.from_config(self.noise_scheduler.config, **options), [scale] * PREVIEW_STEPS

    def drop_labels(self, labels):
        """Replace a share of the labels by "no class"."""
        if not self.config.label_dropout:
            return labels
        dropped = torch.rand(len(labels), generator=self.generator) < self.config.label_dropout
        return labels.masked_fill(dropped.to(labels.device), self.model.null_label)

    def draw_timesteps(self, count: int):
        """int64 (count,), each in 0 .. num_train_timesteps - 1: all of them, the last included."""
        num_train_timesteps = self.noise_scheduler.config.num_train_timesteps
        if not self.config.stratified_timesteps:
            return torch.randint(0, num_train_timesteps, (count,), generator=self.generator)
        offset = torch.rand((), generator=self.generator)
        spread = (torch.arange(count) + offset) / count  # evenly over [0, 1)
        return (spread * num_train_timesteps).long().clamp(max=num_train_timesteps - 1)

    def loss(self, images, labels):
        """Mean squared error of the prediction at timesteps drawn at random, for some images without their label."""
        labels = self.drop_labels(labels)
        noise = torch.randn(images.shape, generator=self.generator, dtype=torch.float32).to(images)  # (B, 1, 28, 28)
        timesteps = self.draw_timesteps(len(images)).to(images.device)  # (B,)
        noisy_images = self.noise_scheduler.add_noise(images, noise, timesteps)
        prediction = self.network(noisy_images, timesteps, labels)
        return F.mse_loss(prediction, training_target(self.noise_scheduler, images, noise, timesteps))

    def check_finite(self, what: str, value: float, *settings: str):
        """Stop before a step that would spoil the weights.

        Args:
            what: what the value is, such as "loss".
            settings: names of the learning rates that may be to blame; default: the network's.

        Raises:
            FloatingPointError: if the value is infinite or no number.
        """
        if not math.isfinite(value):
            self.stop_diverging(f"the {what} became {value} at step {self.step + 1}", *settings)

    def check_weights(self):
        """Stop before weights that are infinite or no numbers are kept.

        Raises:
            FloatingPointError: if there are any.
        """
        if not all(parameter.isfinite().all() for parameter in self.model.parameters()):
            self.stop_diverging(f"the weights were no longer finite after step {self.step}")

    def stop_diverging(self, what: str, *settings: str):
        settings = settings or ("learning_rate",)
        rates = ", ".join(f"{name.replace('_', ' ')} {self.current_rate(name):g}" for name in settings)
        clipping_helps = "learning_rate" in settings and self.config.max_grad_norm is None
        advice = f"lower {' or '.join(settings)}" + (", or set max_grad_norm=1." if clipping_helps else ".")
        raise FloatingPointError(f"{what} ({rates}): {advice}")

    def current_rate(self, setting: str) -> float:
        """The value at this step of a learning rate, by its name in the configuration."""
        return self.lr_schedulers["adamw"].get_last_lr()[0]

    def finish(self) -> TrainingRun:
        if self.ema is not None:
            self.ema.copy_to(self.model.parameters())
        self.model.eval()
        return TrainingRun(
            self.model,
            self.config,
            self.losses,
            self.seconds,
            self.images_seen,
            interrupted=self.step < self.total_steps,
            processes=self.processes.count,
        )

    def make_identity(self) -> dict:
        """What must not differ between a training and the one that goes on from its checkpoint: plain values."""
        dataset, model_config, scheduler_config = self.dataset, self.model.config, self.noise_scheduler.config
        noise_names = ("prediction_type", "beta_schedule", "num_train_timesteps")
        return (
            asdict(self.config)
            | {"dataset.name": dataset.name, "dataset.class_names": [str(name) for name in dataset.class_names]}
            | {"dataset.images.shape": list(dataset.images.shape)}
            | {f"the checksum of dataset.{name}": checksum(getattr(dataset, name)) for name in ("images", "labels")}
            | {f"model.{name}": as_list(model_config[name]) for name in model_config if not name.startswith("_")}
            | {name: scheduler_config[name] for name in noise_names}
            | {"the checksum of the noise levels": checksum(self.noise_scheduler.alphas_cumprod)}
        )

    def state_dict(self) -> dict:
        """All that is needed to go on as if nothing had happened: tensors and plain values."""
        return {name: getattr(self, name) for name in PROGRESS} | {
            "identity": self.identity,
            "order": self.order.clone(),  # without the rest of the epoch, of which it is a view
            "model": self.model.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "lr_schedulers": {name: scheduler.state_dict() for name, scheduler in self.lr_schedulers.items()},
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict):
        """Go on from where `state_dict` was taken.

        Raises:
            ValueError: if the checkpoint was made by another training, or is damaged.
        """
        check_checkpoint(state, self)
        try:
            self.load_parts(state)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise ValueError(f"a part of the checkpoint does not fit ({in_one_line(error)}): {REMEDY}") from error

    def load_parts(self, state: dict):
        """Take over what a checkpoint holds; what goes wrong in it depends on what is wrong with the checkpoint."""
        for name in PROGRESS:
            setattr(self, name, state[name])
        self.order = state["order"]
        for name, optimizer in self.optimizers.items():
            load_optimizer(optimizer, state["optimizers"][name])
            self.lr_schedulers[name].load_state_dict(state["lr_schedulers"][name])
        if self.ema is not None:
            check_shapes(state["ema"]["shadow_params"], self.ema.shadow_params)
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self.processes.device)
        self.generator.set_state(state["generator"])
        self.model.load_state_dict(state["model"])


def check_checkpoint(state: dict, trainer: Trainer):
    """Refuse a checkpoint of another training.

    Raises:
        ValueError: with what differs.
    """
    for name, own in trainer.state_dict().items():
        if type(state.get(name)) is not type(own):
            raise ValueError(
                f"the checkpoint's {name!r} is {quoted(state.get(name))}, expected {type(own).__name__}: it is damaged or "
                "of another version of this course, so use another checkpoint folder to start anew."
            )
    for name, wanted in trainer.identity.items():
        stored = state["identity"].get(name)
        if type(stored) is not type(wanted) or stored != wanted:
            raise ValueError(
                f"the checkpoint was made with {name}={quoted(stored)}, this training has {quoted(wanted)}: {REMEDY}"
            )
    check_progress(state, trainer)


def check_progress(state: dict, trainer: Trainer):
    """Refuse a checkpoint whose counts contradict each other.

    Raises:
        ValueError: with what was found.
    """
    step, losses, images, order = (state[name] for name in ("step", "losses", "images_seen", "order"))
    counted = 0 <= step == len(losses) <= trainer.total_steps and step <= images <= step * trainer.config.batch_size
    if not counted or not all(isinstance(loss, float) for loss in losses):
        raise ValueError(
            f"the checkpoint has {len(losses)} losses of {quoted(step)} steps and {quoted(images)} images: it is damaged, so "
            "remove it."
        )
    if order.dtype != torch.int64 or order.ndim != 1 or not ((order >= 0) & (order < len(trainer.dataset))).all():
        raise ValueError("the checkpoint's order of images is not one of this data set: it is damaged, so remove it.")


def as_list(value):
    """A tuple as a list: one network's configuration has tuples when it is built, and lists when it is loaded."""
    return [as_list(one) for one in value] if isinstance(value, (tuple, list)) else value


def seconds_per_step(trainer: Trainer, steps: int = 3) -> float:
    """Median wall-clock seconds of a training step, after one to warm up; it moves the weights, as training does."""
    trainer.training_step()
    durations = []
    for _ in range(steps):
        start = time.perf_counter()
        trainer.training_step()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def training_target(noise_scheduler, images, noise, timesteps):
    """What the network should have predicted: the noise, or the velocity."""
    if noise_scheduler.config.prediction_type == "v_prediction":
        return noise_scheduler.get_velocity(images, noise, timesteps)
    return noise


def make_optimizers(
    model, config: CommonConfig, beta1: float, matrix_momentum: float
) -> dict[str, torch.optim.Optimizer]:
    """What moves the weights: AdamW alone, or beside Muon, which moves the matrices inside the network.

    Args:
        beta1: decay per step of AdamW's average of gradients.
        matrix_momentum: the same of Muon's.
    """
    rate, decay = config.learning_rate, config.weight_decay
    matrices, others = inner_matrices(model) if config.optimizer == "muon" else ([], list(model.parameters()))
    # Fused is one pass over all weights; the loop that is the default on a CPU takes a twelfth of a fast track.
    adamw = torch.optim.AdamW(others, rate, (beta1, config.adam_beta2), weight_decay=decay, fused=True)
    if not matrices:
        return {"adamw": adamw}
    return {"adamw": adamw, "muon": Muon(matrices, MUON_OVER_ADAMW * rate, matrix_momentum, decay)}


def make_lr_scheduler(optimizer: torch.optim.Optimizer, config: TrainingConfig, total_steps: int):
    """The learning rate over the steps of a training."""
    if config.lr_schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    points = total_steps + 1
    rising = max(0.1, 2 / points)  # it must rise for a step at least, however short the training
    peaks = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(  # by default it would move the momentum as well
        optimizer, peaks, total_steps=points, pct_start=rising, cycle_momentum=False
    )
