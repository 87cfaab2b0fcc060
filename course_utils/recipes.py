"""Recipes: a network, a noise scheduler, a training and a sampler that go together."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from course_utils.data import ImageDataset, check_image_dataset
from course_utils.model import ClassConditionedUnet, flops_per_image
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import make_scheduler
from course_utils.training import (
    LARGEST_COUNT,
    SEEDS,
    TrainingConfig,
    TrainingRun,
    check_drawn_size,
    check_picture_size,
    check_training,
    shown,
    train_stage,
)
from course_utils.validation import check_whole_number

TRAIN_IMAGES = 60_000  # of either data set's train split, an epoch
PIXELS_ON_TOP = 200  # whose time a picture takes more, whatever its size: 16 x 16 costs 46 % of 28 x 28 (notebook 7)


@dataclass(frozen=True)
class Recipe:
    """What `python -m course_utils train --recipe NAME` does.

    Attributes:
        make_model: makes the untrained network.
        stages: side of the training images in pixels, and the training, one after the other.
        prediction_type: what the network learns to predict.
        sampler, num_inference_steps, guidance_scale, guidance_start: how pictures are drawn from it.
    """

    make_model: Callable[[], ClassConditionedUnet]
    stages: tuple[tuple[int, TrainingConfig], ...]
    prediction_type: str
    sampler: str
    num_inference_steps: int
    guidance_scale: float
    guidance_start: float = 0.0

    def with_changes(self, **changes) -> "Recipe":
        """The same recipe with other training settings, such as `learning_rate=1e-3`, in every stage."""
        return replace(self, stages=tuple((size, replace(config, **changes)) for size, config in self.stages))

    def for_images(self, count: int) -> "Recipe":
        """The same recipe, longer or shorter, so that it sees about `count` images: each stage in proportion.

        Raises:
            ValueError: if `count` is no whole number of at least 1.
        """
        count = check_whole_number("count", count, 1, LARGEST_COUNT)
        steps = [config.total_steps(TRAIN_IMAGES) for _, config in self.stages]
        images = sum(number * config.batch_size for number, (_, config) in zip(steps, self.stages, strict=True))
        scaled = [max(1, round(number * count / images)) for number in steps]
        stages = zip(scaled, self.stages, strict=True)
        return replace(self, stages=tuple((size, with_steps(config, number)) for number, (size, config) in stages))

    def train(self, dataset: ImageDataset, seed: int = 0, checkpoint_dir=None, progress=True, **options):
        """Train from random weights.

        Args:
            dataset: an `ImageDataset`; its images are resized for each stage.
            seed: of the weights and of everything random in training.
            checkpoint_dir: folder for checkpoints, with a folder for each stage; a training found there goes on.
            progress: as in `train`; all stages are shown by one panel.
            options: passed to `train`, such as `device="cpu"`.

        Returns:
            A `ClassConditionedPipeline` and the `TrainingRun` of all stages together; Ctrl-C or Stop in one stage keeps
            what it has learned and leaves out the stages after it.

        Raises:
            ValueError: before the first step, if anything does not fit together (for more see `train`).
        """
        pipe, noise_scheduler = self.untrained(dataset, seed), make_scheduler("ddpm", self.prediction_type)
        whole = None
        with shown(progress, self.shares(len(dataset))) as show:
            for number, (size, config) in enumerate(self.stages):
                folder = Path(checkpoint_dir) / f"stage-{number}" if checkpoint_dir else None
                parts = (resized(dataset, size), noise_scheduler, replace(config, seed=stage_seed(seed, number)))
                run = train_stage(pipe.unet, *parts, progress=show, checkpoint_dir=folder, **options)
                whole = run if whole is None else join(whole, run)
                if run.interrupted:
                    break
        return pipe, whole

    def shares(self, num_images: int) -> list[float]:
        """Share of the whole training's time that each stage takes, about, on so many images."""
        work = [
            config.total_steps(num_images) * config.batch_size * (size**2 + PIXELS_ON_TOP)
            for size, config in self.stages
        ]
        return [part / sum(work) for part in work]

    def untrained(self, dataset: ImageDataset, seed: int = 0) -> ClassConditionedPipeline:
        """What `train` begins with: random weights. What would be refused later is refused now.

        Raises:
            ValueError: if the network, the data set, the stages and the sampler do not fit together.
        """
        check_image_dataset(dataset)
        seed = check_whole_number("seed", seed, *SEEDS)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = with_classes(self.make_model, len(dataset.class_names))
        noise_scheduler = make_scheduler("ddpm", self.prediction_type)
        if not self.stages:
            raise ValueError("the recipe has no stages, expected at least one, such as ((28, TrainingConfig()),).")
        for size, config in self.stages:
            check_training(model, dataset, noise_scheduler, config)
            check_picture_size(model, size, size)
        check_drawn_size(model, size, size)
        return self.make_pipeline(model, dataset.name, dataset.class_names)

    def make_pipeline(self, model: ClassConditionedUnet, dataset: str, class_names=None) -> ClassConditionedPipeline:
        """Put a trained network together with the recipe's sampler and its settings."""
        return ClassConditionedPipeline(
            model,
            make_scheduler(self.sampler, self.prediction_type),
            dataset,
            self.num_inference_steps,
            self.guidance_scale,
            self.guidance_start,
            class_names,
        )


def with_classes(make_model: Callable[[], ClassConditionedUnet], num_classes: int) -> ClassConditionedUnet:
    """An untrained network, of the kind that `make_model` makes, for so many classes."""
    model = make_model()
    if model.config.num_classes == num_classes:
        return model
    return type(model).from_config(model.config, num_classes=num_classes)


def recipe_flops(recipe: Recipe, num_images: int, images_seen: int) -> float:
    """Floating point operations of a training, stage by stage, for the images that it really saw."""
    flops, left, model = 0.0, images_seen, recipe.make_model()
    for size, config in recipe.stages:
        images = min(left, config.total_steps(num_images) * config.batch_size)
        flops, left = flops + images * flops_per_image(model, size), left - images
    return flops


def stage_seed(seed: int, number: int) -> int:
    """The seed of a stage: with that of the first one, every stage would see the same images in the same order.

    The first stage has the seed itself. The others mix seed and number, so that stage 1 of seed 0 is not stage 0 of seed 1.
    """
    if number == 0:
        return seed
    (mixed,) = np.random.SeedSequence((seed % 2**64, number)).generate_state(1, np.uint64)
    return int(mixed)


def with_steps(config: TrainingConfig, steps: int) -> TrainingConfig:
    """The same training with exactly so many steps, however many epochs they take."""
    return replace(config, max_steps=steps, num_epochs=steps)


def join(first: TrainingRun, second: TrainingRun) -> TrainingRun:
    """Two stages as one run."""
    return replace(
        second,
        losses=first.losses + second.losses,
        seconds=first.seconds + second.seconds,
        images_seen=first.images_seen + second.images_seen,
    )


def resized(dataset: ImageDataset, size: int) -> ImageDataset:
    """The same images with `size` x `size` pixels, averaged down."""
    if dataset.images.shape[-2:] == (size, size):
        return dataset
    images = [
        torch.nn.functional.interpolate(part.float(), (size, size), mode="bilinear", antialias=True).round().byte()
        for part in dataset.images.split(4096)
    ]
    small = copy.copy(dataset)
    small.images = torch.cat(images)
    return small


FAST = TrainingConfig.fast()
ADAMW = TrainingConfig.fast(optimizer="adamw", batch_size=32)
LONG = replace(ADAMW, adam_beta2=0.999)
PROGRESSIVE = replace(LONG, ema_decay=0.995)
THOROUGH = replace(ADAMW, ema_decay=0.999)
SMALL = replace(LONG, optimizer="muon", learning_rate=2e-3, ema_decay=0.98, label_dropout=0.0)

#: The recipes that the course compares, by name.
RECIPES = {
    # The Hugging Face class-conditioned example, as it is.
    "course": Recipe(ClassConditionedUnet, ((28, TrainingConfig()),), "epsilon", "ddpm", 1000, 1.0),
    # The smaller network, with the class in the time embedding; small pictures first, at less than half the cost.
    "fast": Recipe(
        ClassConditionedUnet.fast,
        ((16, with_steps(FAST, 400)), (28, with_steps(FAST, 240))),
        "v_prediction",
        "dpmsolver++",
        6,
        2.0,
    ),
    # The same with the optimizer of before: it takes twice as long. The bundled `mnist-untuned` weights are trained by it.
    "fast-adamw": Recipe(
        ClassConditionedUnet.fast,
        ((16, with_steps(ADAMW, 1200)), (28, with_steps(ADAMW, 720))),
        "v_prediction",
        "dpmsolver++",
        6,
        2.0,
    ),
    # The same for three quarters of an hour, most of it on whole pictures.
    "thorough": Recipe(
        ClassConditionedUnet.fast,
        ((16, with_steps(THOROUGH, 8000)), (28, with_steps(THOROUGH, 22000))),
        "v_prediction",
        "unipc",
        8,
        1.5,
        0.25,
    ),
    # The exercises' network and pictures: poor drawings in half a minute, good enough to compare.
    "small": Recipe(
        ClassConditionedUnet.small, ((14, with_steps(SMALL, 320)),), "v_prediction", "dpmsolver++", 10, 1.0
    ),
    # The example's network on an evening's budget: most of its training on small pictures, the rest on whole ones.
    "progressive": Recipe(
        lambda: ClassConditionedUnet(unconditional=True),
        ((16, with_steps(PROGRESSIVE, 4000)), (28, with_steps(PROGRESSIVE, 2400))),
        "v_prediction",
        "dpmsolver++",
        10,
        1.5,
    ),
}
