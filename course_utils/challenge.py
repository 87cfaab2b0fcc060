"""The FashionMNIST challenge: what a run cost, how good its clothes are, and the score card.

For maintainers, to train the example for an epoch, and then measure the pars anew:

    python -m course_utils train --dataset fashion_mnist --recipe course --epochs 1 --out runs/fashion-example
    python -m course_utils.challenge
"""

import json
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from course_utils.data import load_dataset
from course_utils.display import show_text, table
from course_utils.evaluation import evaluate
from course_utils.files import make_writable_folder, written_whole
from course_utils.model import PRETRAINED_FOLDER, ClassConditionedUnet
from course_utils.pipeline import TRAINING_REPORT, ClassConditionedPipeline
from course_utils.plotting import cost_and_quality
from course_utils.recipes import RECIPES, TRAIN_IMAGES, Recipe
from course_utils.sampling import make_scheduler
from course_utils.settings import Settings, course_settings
from course_utils.training import Trainer, TrainingConfig, TrainingRun, seconds_per_step

PARS_FILE = PRETRAINED_FOLDER / "challenge-pars.json"
EXAMPLE_FOLDER = Path("runs/fashion-example")
FEW_STEPS = dict(sampler="ddim", num_inference_steps=50)  # its native 1000 steps would take hours


class Challenge:
    """A learner's runs, kept in a small file, beside the pars.

    Args:
        settings: from `course_settings()`: the device, and how many pictures are judged.
        file: where the runs' scores are kept, as JSON; a run is added, none is ever removed.
        pars: the rows to be beaten; default: those that come with the course.
    """

    def __init__(self, settings: Settings, file="runs/challenge.json", pars: list[dict] | None = None):
        self.settings, self.file = settings, Path(file)
        self.pars = json.loads(PARS_FILE.read_text()) if pars is None else pars
        make_writable_folder(self.file.parent)
        self.runs()  # a damaged file is noticed now, and not after a training

    def runs(self) -> list[dict]:
        """The scores of the runs so far, in order.

        Raises:
            ValueError: if the file is damaged.
        """
        if not self.file.exists():
            return []
        try:
            runs = json.loads(self.file.read_text())
            return [dict(run, name=str(run["name"]), flops=float(run["flops"])) for run in runs]
        except (ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{self.file} holds no runs of the challenge: move it elsewhere to start a new list."
            ) from error

    def submit(self, name: str, recipe: Recipe, seed: int = 0) -> ClassConditionedPipeline | None:
        """Train by a recipe from random weights, judge the pictures, keep the scores, and show them.

        Args:
            name: of the run, for the score card; the same name may be used again.
            recipe: such as `RECIPES["fast"].with_changes(learning_rate=1e-3)`.
            seed: of the weights and of everything random in training.

        Returns:
            The pipeline that draws the clothes; None if the training broke down. It says why, then, and nothing is kept
            of it.
        """
        dataset = load_dataset("fashion_mnist")
        try:
            pipe, run = recipe.train(dataset, seed, device=self.settings.device)
            flops = recipe_flops(recipe, len(dataset), run.images_seen)
            row = score(name, pipe, run.images_seen, flops, run.seconds, self.settings)
        except (FloatingPointError, MemoryError) as error:
            show_text(f"**{name} was not scored**, and your earlier runs are kept. What happened: {error}")
            return None
        self.keep(row)
        show_text(verdict(row, self.pars) + warning(run))
        return pipe

    def keep(self, row: dict):
        """Add a run to the file, whole or not at all, whoever else writes to it."""
        with FileLock(f"{self.file}.lock"):
            runs = [*self.runs(), row]
            with written_whole(self.file) as file:
                file.write_text(json.dumps(runs, indent=1))

    def score_card(self):
        """Pars and runs as a table, in the order of their cost."""
        rows = sorted(self.pars + self.runs(), key=lambda row: row["flops"])
        return table([{"#": number} | card_line(row) for number, row in enumerate(rows, 1)])

    def plot(self):
        """Quality against cost, with the frontier: the runs than which none is both cheaper and better."""
        rows = sorted(self.pars + self.runs(), key=lambda row: row["flops"])
        return cost_and_quality(rows, {row["name"] for row in self.pars})


def card_line(row: dict) -> dict:
    """What the score card says of a run."""
    worst = min(range(len(row["recall"])), key=row["recall"].__getitem__)
    return {
        "run": row["name"],
        "images seen": row["images_seen"],
        "training, TFLOP": row["flops"] / 1e12,
        "seconds": row["seconds"],
        "class accuracy": f"{row['class_accuracy']:.1%}",
        "Frechet / floor": row["frechet_ratio"],
        "worst class": f"{row['class_names'][worst]} {row['recall'][worst]:.0%}",
        "pictures": row["count"],
    }


def score(name: str, pipe, images_seen: int, flops: float, seconds: float, settings: Settings) -> dict:
    """A row of the score card: what the training cost, and what the pictures are worth."""
    scores = evaluate(pipe, settings.eval_images)
    kept = ("class_accuracy", "frechet_distance", "frechet_floor", "recall", "count", "num_inference_steps")
    row = {"name": name, "images_seen": images_seen, "flops": flops, "seconds": seconds, "preset": settings.preset}
    row |= {key: scores[key] for key in (*kept, "guidance_scale")}
    ratio = scores["frechet_distance"] / scores["frechet_floor"]
    return row | {"frechet_ratio": ratio, "class_names": pipe.class_names}


def flops_per_image(model, size: int = 28) -> int:
    """Floating point operations (a multiplication and an addition count as two) to train on one image.

    Forward and backward are counted as they run; the optimiser, which does not grow with the images, is left out.
    """
    image, t, label = torch.zeros(1, 1, size, size), torch.zeros(1, dtype=torch.int64), torch.zeros(1).long()
    # Plain attention: what the counter knows of the faster kinds differs with torch's version and the device.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        F.mse_loss(model(image, t, label), image).backward()
    model.zero_grad()
    return counter.get_total_flops()


def recipe_flops(recipe: Recipe, num_images: int, images_seen: int) -> float:
    """Floating point operations of a training, stage by stage, for the images that it really saw."""
    flops, left, model = 0.0, images_seen, recipe.make_model()
    for size, config in recipe.stages:
        images = min(left, config.total_steps(num_images) * config.batch_size)
        flops, left = flops + images * flops_per_image(model, size), left - images
    return flops


def beats(row: dict, par: dict) -> bool:
    """At no more cost, at least as good by both measures."""
    return (
        row["flops"] <= par["flops"]
        and row["class_accuracy"] >= par["class_accuracy"]
        and row["frechet_ratio"] <= par["frechet_ratio"]
    )


def verdict(row: dict, pars: list[dict]) -> str:
    """A run's scores, and the pars that it beats, in words."""
    beaten = [f"*{par['name']}*" for par in pars if beats(row, par)]
    return (
        f"**{row['name']}**: {row['class_accuracy']:.1%} recognised, Frechet distance {row['frechet_ratio']:.1f} times the "
        f"floor, for {row['images_seen']:,} images and {row['flops'] / 1e12:,.1f} TFLOP in {row['seconds']:.0f} s. "
        + (f"As good at no more cost: it beats {', '.join(beaten)}." if beaten else "It beats none of the pars yet.")
    )


def warning(run: TrainingRun) -> str:
    """What to do where the loss did not come down, or nothing."""
    first, last = run.losses[0], sum(run.losses[-20:]) / len(run.losses[-20:])
    if len(run.losses) < 40 or last < first / 2:
        return ""
    return (
        f" The loss hardly fell, from {first:.2f} to {last:.2f}: with a learning rate of {run.config.learning_rate:g} "
        "the training diverged or stood still. Try a third of it, or, if it was tiny, ten times as much."
    )


def make_pars(settings: Settings) -> list[dict]:
    """Measure the rows to be beaten: the example, its settings, the fast track, and the best known."""
    dataset = load_dataset("fashion_mnist")
    rows = [score_example(settings), score_best_known(settings)]
    for name, recipe in par_recipes(settings).items():
        pipe, run = recipe.train(dataset, device=settings.device)
        rows.append(
            score(
                name, pipe, run.images_seen, recipe_flops(recipe, len(dataset), run.images_seen), run.seconds, settings
            )
        )
    return sorted(rows, key=lambda row: row["flops"])


def score_example(settings: Settings) -> dict:
    """The example after an epoch, with the seconds that its steps take now."""
    unet = ClassConditionedPipeline.from_pretrained(EXAMPLE_FOLDER).unet
    pipe = replace(RECIPES["course"], **FEW_STEPS).make_pipeline(unet, "fashion_mnist")
    images = json.loads((EXAMPLE_FOLDER / TRAINING_REPORT).read_text())["images_seen"]
    flops, config = images * flops_per_image(unet), TrainingConfig(num_epochs=1)
    row = score("the example, after 1 of its 10 epochs", pipe, images, flops, 0.0, settings)
    trainer = Trainer(ClassConditionedUnet(), load_dataset("fashion_mnist"), make_scheduler("ddpm"), config)
    return row | {"seconds": config.total_steps(images) * seconds_per_step(trainer)}


def score_best_known(settings: Settings) -> dict:
    """The bundled weights, whose training and fine-tuning both count; the discriminator's operations are left out."""
    pipe = ClassConditionedPipeline.from_pretrained("fashion_mnist")
    report = json.loads((PRETRAINED_FOLDER / "fashion_mnist" / TRAINING_REPORT).read_text())
    tuning = report["tuning"]
    flops = recipe_flops(RECIPES[report["recipe"]], TRAIN_IMAGES, report["images_seen"])
    evaluations = tuning["steps"] + 0.5  # of the network an image: half of the images are noised and learned from, too
    flops += tuning["images_seen"] * evaluations * flops_per_image(pipe.unet)
    images, seconds = (report[name] + tuning[name] for name in ("images_seen", "seconds"))
    return score("the best known", pipe, images, flops, seconds, settings)


def par_recipes(settings: Settings) -> dict[str, Recipe]:
    """The pars that are trained on as many images as a learner's run at this preset."""
    example = RECIPES["course"].for_images(settings.train_images)
    return {
        "the example's settings, small network": replace(example, make_model=ClassConditionedUnet.fast, **FEW_STEPS),
        "the fast track": RECIPES["fast"].for_images(settings.train_images),
    }


if __name__ == "__main__":
    measured = make_pars(course_settings("laptop"))
    with written_whole(PARS_FILE) as par_file:
        par_file.write_text(json.dumps(measured, indent=1))
    print(json.dumps([card_line(row) for row in measured], indent=1))
