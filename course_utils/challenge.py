"""The FashionMNIST challenge: what a run cost, how good its clothes are, and the score card."""

import json
from pathlib import Path

from filelock import FileLock

from course_utils.data import load_dataset
from course_utils.display import show_text, table
from course_utils.evaluation import evaluate, score_cells, summarize
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.plotting import cost_and_quality
from course_utils.recipes import Recipe, recipe_flops
from course_utils.settings import Settings
from course_utils.storage.files import make_writable_folder, written_whole
from course_utils.storage.weights import PRETRAINED_FOLDER
from course_utils.training import TrainingRun

PARS_FILE = PRETRAINED_FOLDER / "challenge-pars.json"
JUDGED_PICTURES = 1000  # for each seed, of every row that is compared with another, at the presets laptop and full
KEPT_SCORES = (
    "class_accuracy", "class_accuracy_range", "excess_distance", "excess_distance_range", "recall", "judge_accuracy",
    "count", "seeds", "num_inference_steps", "guidance_scale",
)  # fmt: skip


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
            numbers = ("flops", "excess_distance", "class_accuracy")
            return [dict(run, name=str(run["name"])) | {key: float(run[key]) for key in numbers} for run in runs]
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
            count = judged_pictures(self.settings)
            row = score(name, pipe, run.images_seen, flops, run.seconds, self.settings.preset, count)
        except (FloatingPointError, MemoryError) as error:
            show_text(f"**{name} was not scored**, and your earlier runs are kept. What happened: {error}")
            return None
        row |= dict(seed=seed, is_sample=dataset.is_sample)
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


def judged_pictures(settings: Settings) -> int:
    """How many pictures a run is judged by: the same at every preset but `smoke`, whose rows are compared with none."""
    return settings.eval_images if settings.preset == "smoke" else JUDGED_PICTURES


def card_line(row: dict) -> dict:
    """What the score card says of a run."""
    worst = min(range(len(row["recall"])), key=row["recall"].__getitem__)
    return {
        "run": row["name"] + (" (trained on the sample)" if row["is_sample"] else ""),
        "images seen": row["images_seen"],
        "training, TFLOP": row["flops"] / 1e12,
        "seconds": row["seconds"],
        **score_cells(row),
        "worst class": f"{row['class_names'][worst]} {row['recall'][worst]:.0%}",
        "pictures": f"{len(row['seeds'])} x {row['count']:,}",
    }


def score(
    name: str, pipe, images_seen: int, flops: float, seconds: float, preset: str, count: int, seeds: int = 1
) -> dict:
    """A row of the score card: what the training cost, and how good the pictures are."""
    scores = evaluate(pipe, count, seeds)
    row = dict(name=name, images_seen=images_seen, flops=flops, seconds=seconds, preset=preset)
    return row | {key: scores[key] for key in KEPT_SCORES} | dict(class_names=pipe.class_names, is_sample=False)


def comparable(row: dict, par: dict) -> bool:
    """Whether both were judged by as many pictures, and trained on real images."""
    return row["count"] == par["count"] and not row["is_sample"] and not par["is_sample"]


def beats(row: dict, par: dict) -> bool:
    """At no more cost, at least as good by both measures; a row that does not compare beats nothing."""
    return (
        comparable(row, par)
        and row["flops"] <= par["flops"]
        and row["class_accuracy"] >= par["class_accuracy"]
        and row["excess_distance"] <= par["excess_distance"]
    )


def verdict(row: dict, pars: list[dict]) -> str:
    """A run's scores, and the pars that it beats, in words."""
    beaten = [f"*{par['name']}*" for par in pars if beats(row, par)]
    if beaten:
        result = f"As good at no more cost: it beats {', '.join(beaten)}."
    elif any(comparable(row, par) for par in pars):
        result = "It beats none of the pars yet."
    else:
        result = "It is not compared with the pars: they were judged by more pictures, after a training on real images."
    return (
        f"**{row['name']}**: {summarize(row)} Its training took {row['images_seen']:,} images and "
        f"{row['flops'] / 1e12:,.1f} TFLOP in {row['seconds']:.0f} s. {result}"
    )


def warning(run: TrainingRun) -> str:
    """What to do where the loss did not come down, or nothing."""
    if len(run.losses) < 40:
        return ""
    first, last = run.losses[0], sum(run.losses[-20:]) / 20
    if last < first / 2:
        return ""
    return (
        f" The loss hardly fell, from {first:.2f} to {last:.2f}: with a learning rate of {run.config.learning_rate:g} "
        "the training diverged or stood still. Try a third of it, or, if it was tiny, ten times as much."
    )
