"""The FashionMNIST challenge: what a run cost, how good its clothes are, and the score card."""

import json
from pathlib import Path

from filelock import FileLock

from course_utils.data import load_dataset
from course_utils.display import show_text, table
from course_utils.evaluation import evaluate
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.plotting import cost_and_quality
from course_utils.recipes import Recipe, recipe_flops
from course_utils.settings import Settings
from course_utils.storage.files import make_writable_folder, written_whole
from course_utils.storage.weights import PRETRAINED_FOLDER
from course_utils.training import TrainingRun

PARS_FILE = PRETRAINED_FOLDER / "challenge-pars.json"


class Challenge:
    """A learner's runs, kept in a small file, beside the pars.

    Args:
        settings: from `course_settings()`: the device, and how many pictures are judged.
        file: where the runs' scores are kept, as JSON; a run is added, none is ever removed.
        pars: the rows to be beaten; default: those that come with the course.
    """

    def __init__(self, settings: Settings, file="runs/challenge.json", pars: list[dict] | None = None):
        self.settings, self.file = settings, Path(file)
        self.pars = json.loads(PARS_FILE.read_text(encoding="utf-8")) if pars is None else pars
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
            runs = json.loads(self.file.read_text(encoding="utf-8"))
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
                file.write_text(json.dumps(runs, indent=1), encoding="utf-8")

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
