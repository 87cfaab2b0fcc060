"""For maintainers: the Hugging Face class-conditioned example as it is: train it, judge it by its own sampler, keep both.

    python -m tools.example mnist           # and then: fashion_mnist

Ten epochs take about six hours on one CPU core and minutes on a GPU; the 1,080 pictures of a thousand steps take half as
long. What is done already is in runs/NAME-example, and the same command goes on from there. Writes into
course_utils/samples: example-NAME.png, the example's 80 pictures: ten columns, one per class; example-NAME-ten-steps.png,
the same from the same noise by ten steps of DDIM; and example-NAME.json: the mean loss of each epoch's last 100 steps, the
seconds, and the scores of 5 x 200 pictures by both judges. The weights of MNIST then come into the package by
`python -m tools.bundling weights`.
"""

import argparse
import json
from pathlib import Path

import torch
from PIL import Image

from course_utils.__main__ import main as command_line
from course_utils.classifier import load_classifier
from course_utils.data import SAMPLES_FOLDER, SOURCES
from course_utils.evaluation import over_seeds, score_pictures
from course_utils.pipeline import TRAINING_REPORT, ClassConditionedPipeline
from course_utils.sampling import make_scheduler, sample
from course_utils.storage.files import written_whole

EPOCHS, LOSSES_PER_EPOCH = 10, 100  # the example prints the mean of an epoch's last 100 losses
JUDGED, SEEDS = 200, 5
GRID_LABELS = torch.arange(10).repeat(8)  # rows of ten classes
GRID_SEED = 100


def train(name: str, folder: Path) -> ClassConditionedPipeline:
    """The example's ten epochs, resumed where they were interrupted."""
    if not (folder / TRAINING_REPORT).is_file():
        status = command_line(["train", "--dataset", name, "--recipe", "course", "--resume", "--out", str(folder)])
        if status:
            raise SystemExit(status)
    return ClassConditionedPipeline.from_pretrained(folder)


def drawn(pipe, labels, seed: int, file: Path, sampler: str = "ddpm", steps: int = 1000) -> torch.Tensor:
    """Pictures (N, 1, 28, 28) in [-1, 1], from a file if they have been drawn before."""
    if not file.is_file():
        generator = torch.Generator().manual_seed(seed)
        pictures = sample(pipe.unet, make_scheduler(sampler), labels, steps, generator=generator, progress=True)
        with written_whole(file) as part:
            torch.save(pictures.cpu(), part)
    return torch.load(file, weights_only=True)


def losses_by_epoch(report: dict) -> list[float]:
    """The mean of the last 100 losses of each epoch, as the example prints it."""
    steps = len(report["losses"]) // EPOCHS
    ends = range(steps, len(report["losses"]) + 1, steps)
    return [sum(report["losses"][end - LOSSES_PER_EPOCH : end]) / LOSSES_PER_EPOCH for end in ends]


def scores(pipe, name: str, folder: Path) -> dict[str, dict]:
    """What each judge says of five seeds of pictures."""
    labels = torch.arange(JUDGED) % 10
    pictures = [drawn(pipe, labels, seed, folder / f"pictures-{seed}.pt") for seed in range(SEEDS)]
    judged = {}
    for which, second in (("judge", False), ("second judge", True)):
        judge = load_classifier(name, second)
        found = over_seeds([score_pictures(each, labels, judge) for each in pictures], torch.arange(10))
        judged[which] = found | dict(judge_accuracy=judge.config.accuracy, count=JUDGED, seeds=list(range(SEEDS)))
    return judged


def save_grid(pictures: torch.Tensor, file: Path):
    """80 pictures as one image of eight rows of ten: ink is 255."""
    rows = (pictures.clamp(-1, 1) + 1).mul(127.5).round().byte().view(8, 10, 28, 28)
    Image.fromarray(rows.transpose(1, 2).reshape(8 * 28, 10 * 28).numpy()).save(file)


def main():
    parser = argparse.ArgumentParser(description="The Hugging Face example's ten epochs, its pictures and its scores.")
    parser.add_argument("name", choices=tuple(SOURCES))
    name = parser.parse_args().name
    folder = Path(f"runs/{name}-example")
    pipe = train(name, folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe.to(device)
    save_grid(drawn(pipe, GRID_LABELS, GRID_SEED, folder / "grid.pt"), SAMPLES_FOLDER / f"example-{name}.png")
    few = drawn(pipe, GRID_LABELS, GRID_SEED, folder / "grid-ten-steps.pt", "ddim", 10)
    save_grid(few, SAMPLES_FOLDER / f"example-{name}-ten-steps.png")
    report = json.loads((folder / TRAINING_REPORT).read_text(encoding="utf-8"))
    kept = {key: report[key] for key in ("seconds", "images_seen", "device", "threads")}
    kept |= dict(losses=losses_by_epoch(report), scores=scores(pipe, name, folder))
    with written_whole(SAMPLES_FOLDER / f"example-{name}.json") as file:
        file.write_text(json.dumps(kept), encoding="utf-8")
    print(json.dumps(kept))


if __name__ == "__main__":
    main()
