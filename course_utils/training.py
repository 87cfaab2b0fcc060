"""The training loop: noise a batch, let the network predict the noise, compare, step."""

import math
import signal
import statistics
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from types import SimpleNamespace

import torch
from diffusers.training_utils import EMAModel
from torch.nn import functional as F
from tqdm import tqdm

from course_utils.data import scale_to_model
from course_utils.muon import Muon
from course_utils.processes import OneProcess, launched_processes
from course_utils.storage.checkpoints import CheckpointFolder

OPTIMIZERS = ("adamw", "muon")
RUNNING_MEAN_STEPS = 100
MUON_OVER_ADAMW = 10  # of the learning rates: a step of Muon's moves a number by less
CHECKPOINT_SECONDS = 120  # what a killed training loses at most
PROGRESS = ("step", "losses", "seconds", "images_seen")  # plain values of a `Trainer`


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. The defaults are the recipe of the Hugging Face class-conditioned example.

    Attributes:
        num_epochs: passes over the data set.
        batch_size: images a step, of all processes together where several share the training.
        optimizer: "adamw", or "muon" for the matrices inside the network and AdamW for the rest (`Muon`).
        learning_rate: of AdamW, and a tenth of Muon's; the peak, where a schedule is used.
        adam_beta2: decay a step of AdamW's average of squared gradients.
        weight_decay: decoupled, of either; AdamW with 0 is plain Adam.
        lr_schedule: "constant", or "one_cycle": up for the first tenth of the steps, then down to zero
            (arXiv:1708.07120).
        ema_decay: decay a step of the moving average of the weights that is returned; None returns the last weights.
        label_dropout: share of labels replaced by "no class" in training, which guidance needs; 0 .. 1.
        max_grad_norm: gradients are scaled down to this norm; None leaves them.
        stratified_timesteps: spread the timesteps of a batch evenly over all of them, instead of drawing each
            by itself (arXiv:2107.00630, appendix I.1).
        max_steps: stop after so many steps, even inside an epoch; None for no such limit.
        seed: of everything random in training: order of images, noise, timesteps, dropped labels.
    """

    num_epochs: int = 10
    batch_size: int = 128
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    adam_beta2: float = 0.999
    weight_decay: float = 0.0
    lr_schedule: str = "constant"
    ema_decay: float | None = None
    label_dropout: float = 0.0
    max_grad_norm: float | None = None
    stratified_timesteps: bool = False
    max_steps: int | None = None
    seed: int = 0

    def __post_init__(self):
        for name in ("num_epochs", "batch_size", "max_steps"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is {value!r}, expected a whole number of at least 1.")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate!r}, expected a number above 0.")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}, expected 'adamw' or 'muon'.")
        if self.lr_schedule not in ("constant", "one_cycle"):
            raise ValueError(f"lr_schedule is {self.lr_schedule!r}, expected 'constant' or 'one_cycle'.")
        if not 0 <= self.adam_beta2 < 1:
            raise ValueError(f"adam_beta2 is {self.adam_beta2!r}, expected a number from 0 up to, not including, 1.")
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout is {self.label_dropout!r}, expected a share from 0 to 1.")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"ema_decay is {self.ema_decay!r}, expected None or a number from 0 up to, not including, 1."
            )

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
                ema_decay=0.99,
                label_dropout=0.1,
                max_grad_norm=1.0,
                stratified_timesteps=True,
            ),
            **changes,
        )

    def total_steps(self, num_images: int) -> int:
        """Optimiser steps of a whole training on so many images."""
        steps = self.num_epochs * math.ceil(num_images / self.batch_size)
        return min(steps, self.max_steps) if self.max_steps else steps


@dataclass
class TrainingRun:
    """What came out of a training.

    Attributes:
        model: the trained network, in eval mode; with the moving average of the weights where one was kept.
        losses: mean squared error of each step.
        seconds: wall-clock time spent in the loop.
        images_seen: images that went through the network, repeats counted.
        config: the `TrainingConfig` it was trained with.
        interrupted: True where Ctrl-C stopped it before its last step.
        processes: how many processes shared each batch.
    """

    model: torch.nn.Module
    config: TrainingConfig
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    images_seen: int = 0
    interrupted: bool = False
    processes: int = 1


def running_mean(losses: list[float]) -> float:
    """Mean of the last 100 losses, or of as many as there are."""
    recent = losses[-RUNNING_MEAN_STEPS:]
    return sum(recent) / len(recent)


def train(model, dataset, noise_scheduler, config=None, device=None, progress=True, checkpoint_dir=None) -> TrainingRun:
    """Train a class-conditioned network.

    Started as several processes (`torchrun --nproc_per_node 2 ...`), each takes its part of every batch, and all get
    the same result.

    Ctrl-C, or Jupyter's stop button, ends the training after the step at hand: what was learned is returned.

    Args:
        model: a `ClassConditionedUnet`; it is trained in place.
        dataset: an `ImageDataset`.
        noise_scheduler: a `DDPMScheduler`; its `prediction_type` says what the network learns to predict.
        config: a `TrainingConfig`; default: the example's recipe.
        device: "cuda", "mps", "cpu" or a torch.device; default: the best there is.
        progress: show a tqdm bar with the running loss and the time that remains.
        checkpoint_dir: folder for a checkpoint every two minutes and at the end; if it holds one, training goes on
            from there, exactly as if it had never stopped.

    Returns:
        A `TrainingRun`. On one machine's CPU the same model, data, config and seed give the same weights.

    Raises:
        ValueError: if the parts do not fit together, or no checkpoint in the folder can be read.
        OSError: if the folder cannot be written to.
        FloatingPointError: if the loss is no longer a number; the model keeps the weights of the step before.
        MemoryError: if a batch does not fit into memory.
    """
    config, processes = config or TrainingConfig(), launched_processes(device)
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
    check_training(model, dataset, noise_scheduler, config)
    with memory_errors_explained(config), torch.random.fork_rng(devices=[]), interrupt_deferred() as interrupt:
        torch.default_generator.manual_seed(config.seed)  # from which a network with dropout draws
        trainer = kind(model.to(processes.device), dataset, noise_scheduler, config, processes)
        checkpoints = CheckpointFolder(checkpoint_dir) if checkpoint_dir and processes.is_main else None
        state = processes.from_main(lambda: checkpoints.newest() if checkpoints else None)
        if state is not None:
            trainer.load_state_dict(state)
        run_steps(trainer, checkpoints, interrupt, progress and processes.is_main)
    return trainer.finish()


def run_steps(trainer: "Trainer", checkpoints: CheckpointFolder | None, interrupt, progress: bool):
    """Take the steps that remain, or those until Ctrl-C, with a checkpoint at intervals and after the last one."""
    trainer.model.train()
    saver = Saver(checkpoints, trainer)
    bar = tqdm(initial=trainer.step, total=trainer.total_steps, disable=not progress, desc="training")
    started = time.perf_counter()
    with bar:
        while trainer.step < trainer.total_steps and not trainer.processes.any(interrupt.came):
            trainer.training_step()
            bar.set_postfix_str(f"loss {running_mean(trainer.losses):.4f}", refresh=False)
            bar.update()
            now = time.perf_counter()
            trainer.seconds, started = trainer.seconds + now - started, now
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
def interrupt_deferred():
    """Within, Ctrl-C sets `.came` of the object that the context gives, in place of breaking off half a step."""
    interrupt = SimpleNamespace(came=False)
    before = signal.getsignal(signal.SIGINT)
    # Only the main thread is interrupted; and where Ctrl-C is ignored, as under nohup, it stays so.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield interrupt
        return
    signal.signal(signal.SIGINT, lambda *_: setattr(interrupt, "came", True))
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def memory_errors_explained(config: TrainingConfig):
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


def check_training(model, dataset, noise_scheduler, config):
    """Refuse, before any work, parts that do not fit together.

    Raises:
        ValueError: with what was found and what was expected.
    """
    prediction_type = noise_scheduler.config.prediction_type
    if prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"the scheduler's prediction_type is {prediction_type!r}, expected 'epsilon' or 'v_prediction'."
        )
    if len(dataset) == 0:
        raise ValueError("the data set has no images.")
    if int(dataset.labels.max()) >= model.config.num_classes:
        raise ValueError(
            f"the data set has label {int(dataset.labels.max())}, but the network knows only {model.config.num_classes} classes."
        )
    if config.label_dropout:
        _ = model.null_label  # raises if the network has no "no class"


class Trainer:
    """The state of a training, and what one step does to it.

    Args:
        processes: what `launched_processes` returned; default: this process alone.
    """

    def __init__(self, model, dataset, noise_scheduler, config: TrainingConfig, processes=None):
        self.model, self.dataset, self.noise_scheduler, self.config = model, dataset, noise_scheduler, config
        self.processes = processes or OneProcess(model.device)
        self.processes.require_same(self.facts())
        self.network = self.processes.share(model)
        self.total_steps = config.total_steps(len(dataset))
        self.step, self.losses, self.seconds, self.images_seen = 0, [], 0.0, 0
        self.optimizer = make_optimizer(model, config)
        self.lr_scheduler = make_lr_scheduler(self.optimizer, config, self.total_steps)
        self.ema = EMAModel(model.parameters(), decay=config.ema_decay) if config.ema_decay is not None else None
        self.generator = torch.Generator().manual_seed(config.seed)  # on the CPU: the same draws on every device
        self.order = torch.empty(0, dtype=torch.int64)  # the images of this epoch still to come

    def training_step(self):
        """Take one batch, and move the weights one step."""
        images, labels = self.next_batch()
        loss = self.loss(images, labels)
        self.move_weights(loss)
        self.count_step(loss.item(), len(labels))

    def move_weights(self, loss):
        """Move the weights, and their average, one step down the slope of a loss."""
        self.optimizer.zero_grad()
        loss.backward()
        max_grad_norm = math.inf if self.config.max_grad_norm is None else self.config.max_grad_norm
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_grad_norm)
        self.check_finite(loss.item(), grad_norm.item())
        self.optimizer.step()
        self.lr_scheduler.step()
        if self.ema is not None:
            self.ema.step(self.model.parameters())

    def count_step(self, loss: float, images: int):
        """Note that a step was taken."""
        self.step += 1
        self.images_seen += images
        self.losses.append(loss)

    def next_batch(self):
        """The next images in a random order that is drawn anew each epoch: (B, 1, 28, 28) in [-1, 1], and (B,)."""
        if len(self.order) == 0:
            self.order = torch.randperm(len(self.dataset), generator=self.generator)
        batch, self.order = self.order[: self.config.batch_size], self.order[self.config.batch_size :]
        images = self.dataset.images.index_select(0, batch)  # ten times as fast as images[batch]
        device = self.processes.device  # asking the model walks through all its modules
        return scale_to_model(images.to(device)), self.dataset.labels[batch].to(device)

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
        noise = torch.randn(images.shape, generator=self.generator).to(images.device)  # (B, 1, 28, 28)
        timesteps = self.draw_timesteps(len(images)).to(images.device)  # (B,)
        noisy_images = self.noise_scheduler.add_noise(images, noise, timesteps)
        prediction = self.network(noisy_images, timesteps, labels)
        return F.mse_loss(prediction, training_target(self.noise_scheduler, images, noise, timesteps))

    def check_finite(self, loss: float, grad_norm: float = 0.0):
        """Stop before a step that would spoil the weights.

        Raises:
            FloatingPointError: if the loss or the norm of the gradients is infinite or no number.
        """
        for name, value in (("loss", loss), ("norm of the gradients", grad_norm)):
            if not math.isfinite(value):
                self.stop_diverging(f"the {name} became {value} at step {self.step + 1}")

    def check_weights(self):
        """Stop before weights that are infinite or no numbers are kept.

        Raises:
            FloatingPointError: if there are any.
        """
        if not all(parameter.isfinite().all() for parameter in self.model.parameters()):
            self.stop_diverging(f"the weights were no longer finite after step {self.step}")

    def stop_diverging(self, what: str):
        raise FloatingPointError(
            f"{what} (learning rate {self.lr_scheduler.get_last_lr()[0]:g}): lower learning_rate, or set max_grad_norm=1."
        )

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

    def facts(self) -> dict:
        """What must not differ between a training and the one that goes on from its checkpoint."""
        return asdict(self.config) | {
            "dataset.name": self.dataset.name,
            "dataset.images.shape": list(self.dataset.images.shape),
            "prediction_type": self.noise_scheduler.config.prediction_type,
            "beta_schedule": self.noise_scheduler.config.beta_schedule,
        }

    def state_dict(self) -> dict:
        """All that is needed to go on as if nothing had happened: tensors and plain values."""
        return {name: getattr(self, name) for name in PROGRESS} | {
            "facts": self.facts(),
            "order": self.order.clone(),  # without the rest of the epoch, of which it is a view
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "generator": self.generator.get_state(),
            "global_generator": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict):
        """Go on from where `state_dict` was taken.

        Raises:
            ValueError: if the checkpoint was made with another configuration, network or data set.
        """
        check_checkpoint(state, self.facts(), self.model)
        for name in PROGRESS:
            setattr(self, name, state[name])
        self.order = state["order"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self.processes.device)
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["global_generator"])


def check_checkpoint(state: dict, facts: dict, model):
    """Refuse a checkpoint of another training.

    Raises:
        ValueError: with what differs.
    """
    remedy = "use the same to go on, or another checkpoint folder to start anew."
    for name, wanted in facts.items():
        stored = state["facts"].get(name)
        if stored != wanted:
            raise ValueError(f"the checkpoint was made with {name}={stored!r}, this training has {wanted!r}: {remedy}")
    stored, wanted = ({name: part.shape for name, part in of.items()} for of in (state["model"], model.state_dict()))
    if stored != wanted:
        raise ValueError(f"the checkpoint was made with a network of other sizes: {remedy}")


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


def make_optimizer(model, config: TrainingConfig, beta1=0.9, matrix_momentum=0.95) -> torch.optim.Optimizer:
    """What moves the weights.

    Args:
        beta1: decay a step of AdamW's average of slopes.
        matrix_momentum: the same of Muon's; a "one_cycle" schedule moves both between 0.85 and 0.95.
    """
    rate, betas, decay = config.learning_rate, (beta1, config.adam_beta2), config.weight_decay
    if config.optimizer == "muon":
        return Muon(model, rate, betas, MUON_OVER_ADAMW * rate, matrix_momentum, decay)
    # Fused is one pass over all weights; the loop that is the default on a CPU takes a twelfth of a fast track.
    return torch.optim.AdamW(model.parameters(), rate, betas, weight_decay=decay, fused=True)


def make_lr_scheduler(optimizer, config: TrainingConfig, total_steps: int):
    """The learning rate over the steps of a training."""
    if config.lr_schedule == "one_cycle":
        points = total_steps + 1
        rising = max(0.1, 2 / points)  # it must rise for a step at least, however short the training
        peaks = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=points, pct_start=rising)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
