"""The FashionMNIST challenge: what a run cost, how good its clothes are, and the score card."""

import json
from functools import partial
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
from course_utils.validation import in_one_line, is_finite, is_number, quoted

PARS_FILE = PRETRAINED_FOLDER / "challenge-pars.json"
JUDGED = dict(count=200, seeds=5)  # every row, at every preset, so that any two rows compare
KEPT_SCORES = (
    "class_accuracy", "class_accuracy_range", "excess_distance", "excess_distance_range", "recall", "judge_accuracy",
    "count", "seeds", "num_inference_steps", "guidance_scale",
)  # fmt: skip


class Challenge:
    """A learner's runs, kept in a small file, beside the pars.

    Args:
        settings: from `course_settings()`: the device to train on, and the preset, which is kept with each run.
        file: where the runs' scores are kept, as JSON; a run is added, none is ever removed.
        pars: the rows to be beaten; default: those that come with the course.
    """

    def __init__(self, settings: Settings, file="runs/challenge.json", pars: list[dict] | None = None):
        self.settings, self.file = settings, Path(file)
        self.pars = bundled_pars() if pars is None else pars
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
            return [checked_row(run) for run in json.loads(self.file.read_text(encoding="utf-8"))]
        except (ValueError, TypeError, RecursionError) as error:  # TypeError: the file holds no list
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
            row = score(name, pipe, run.images_seen, flops, run.seconds, self.settings.preset)
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
        return score_table(self.pars + self.runs())

    def export(self, name: str, author: str) -> str:
        """The newest run of a name as one line of text, which a teacher can collect for `class_board`.

        Args:
            name: of the run, as it was submitted.
            author: who made it, for the board.

        Raises:
            ValueError: if there is no run of this name, or `author` is no text.
        """
        if not isinstance(author, str) or not author.strip():
            raise ValueError(f"author is {quoted(author)}: expected a name for the board, such as 'Ada'.")
        found = [run for run in self.runs() if run["name"] == name]
        if not found:
            names = ", ".join(quoted(run["name"]) for run in self.runs()) or "none yet"
            raise ValueError(f"there is no run {quoted(name)} to export; your runs: {names}.")
        return json.dumps(found[-1] | dict(author=author.strip()))

    def plot(self):
        """Quality against cost, with the frontier: the runs than which none is both cheaper and better."""
        rows = sorted(self.pars + self.runs(), key=lambda row: row["flops"])
        return cost_and_quality(rows, {row["name"] for row in self.pars})


def class_board(file, pars: list[dict] | None = None):
    """The runs of a class as a score card, with the pars: a table.

    Args:
        file: a text file with one line of `Challenge.export` per run; empty lines are left out.
        pars: as in `Challenge`.

    Raises:
        ValueError: for a line that is no exported run; the sentence has the number of the line.
        FileNotFoundError: if there is no such file.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}: put one line of Challenge.export per run into it.")
    lines = enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1)
    runs = [board_row(line, f"{file}, line {number}") for number, line in lines if line.strip()]
    return score_table((bundled_pars() if pars is None else pars) + runs)


def board_row(line: str, where: str) -> dict:
    """A row from an exported line, under its author's name.

    Raises:
        ValueError: if the line is no exported run.
    """
    try:
        row = checked_row(json.loads(line))
        return row | dict(name=f"{row.get('author', '?')}: {row['name']}")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where} is no exported run ({in_one_line(error)}): expected a whole line of Challenge.export, unchanged."
        ) from error


def bundled_pars() -> list[dict]:
    """The rows to be beaten that come with the course."""
    return json.loads(PARS_FILE.read_text(encoding="utf-8"))


def checked_row(row) -> dict:
    """A run as it was kept or exported, if a score card can show it and compare it.

    Raises:
        ValueError: if something is missing in it, or is not what it has to be.
    """
    if not isinstance(row, dict):
        raise ValueError("it is not a run")
    for keys, is_sound in SOUND.items():
        for key in keys:
            if not is_sound(row.get(key)):
                raise ValueError(f"its {key} is {quoted(row.get(key))}")
    if len(row["recall"]) != len(row["class_names"]):
        raise ValueError(f"it has {len(row['recall'])} recalls of {len(row['class_names'])} classes")
    return row


def is_finite_number(value) -> bool:
    return is_number(value) and is_finite(value)


def is_list_of(is_sound, smallest: int, value) -> bool:
    return isinstance(value, list) and len(value) >= smallest and all(map(is_sound, value))


SOUND = {
    ("name",): lambda value: isinstance(value, str),
    ("is_sample",): lambda value: isinstance(value, bool),
    ("images_seen", "flops", "seconds", "class_accuracy", "excess_distance", "count"): is_finite_number,
    ("class_accuracy_range", "excess_distance_range"): partial(is_list_of, is_finite_number, 2),
    ("recall", "seeds"): partial(is_list_of, is_finite_number, 1),
    ("class_names",): partial(is_list_of, lambda value: isinstance(value, str), 1),
}


def score_table(rows: list[dict]):
    """Rows as a table, in the order of their cost."""
    rows = sorted(rows, key=lambda row: row["flops"])
    return table([{"#": number} | card_line(row) for number, row in enumerate(rows, 1)])


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


def score(name: str, pipe, images_seen: int, flops: float, seconds: float, preset: str) -> dict:
    """A row of the score card: what the training cost, and how good the pictures are."""
    scores = evaluate(pipe, **JUDGED)
    row = dict(name=str(name), images_seen=images_seen, flops=flops, seconds=seconds, preset=preset)
    return row | {key: scores[key] for key in KEPT_SCORES} | dict(class_names=pipe.class_names, is_sample=False)


def comparable(row: dict, par: dict) -> bool:
    """Whether both were judged by as many pictures, and trained on real images."""
    judged = [(each["count"], len(each["seeds"])) for each in (row, par)]
    return judged[0] == judged[1] and not row["is_sample"] and not par["is_sample"]


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
        result = "It is not compared with the pars: they were trained on real images, and judged by 5 x 200 pictures."
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
