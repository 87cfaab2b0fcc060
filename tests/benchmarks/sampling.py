"""One drag of the slider against the example's thousand steps, and each sampler's time beside its quality, in one run.

    python tests/benchmarks/sampling.py

The cost grows in proportion to steps, and to pictures once a batch is larger than a few; guidance doubles the pictures.
Large batches use two threads well, and a single picture hardly.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.evaluation import evaluate, score_cells
from course_utils.model import ClassConditionedUnet
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import make_scheduler, sample
from course_utils.widgets import ClassPicker

DRAGS = 30
SAMPLERS, STEPS, BATCHES = ("ddim", "dpmsolver++", "unipc"), (4, 6, 10, 20), (1, 64)
COUNT, PICTURE_SEEDS = 200, 5  # pictures for each sampler's quality


def seconds(action) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def drag_and_thousand_steps(pipe) -> dict:
    """Milliseconds of one drag, and of the example's network drawing a digit in a thousand steps."""
    picker = ClassPicker(pipe)
    example, ddpm = ClassConditionedUnet(), make_scheduler("ddpm")
    sample(example, ddpm, [3], 5)  # warm up
    drags = [seconds(lambda digit=i % 10: setattr(picker.slider, "value", digit)) for i in range(1, DRAGS + 1)]
    drag, thousand_steps = statistics.median(drags), seconds(lambda: sample(example, ddpm, [3], 1000))
    return dict(drag_ms=1000 * drag, example_ms=1000 * thousand_steps, times_as_fast=thousand_steps / drag)


def measure(pipe, name: str, steps: int, guidance: float) -> dict:
    """A sampler's milliseconds a picture for each batch, and its pictures' quality."""
    sampler = make_scheduler(name, pipe.scheduler.config.prediction_type)
    sampled = ClassConditionedPipeline(pipe.unet, sampler, pipe.config.dataset, steps, guidance)
    times = {}
    for batch in BATCHES:
        rounds = [seconds(lambda batch=batch: sampled([3] * batch, output_type="pt")) for _ in range(5)]
        times[f"ms_in_batch_of_{batch}"] = 1000 * statistics.median(rounds) / batch
    scores = evaluate(sampled, COUNT, PICTURE_SEEDS)
    row = dict(sampler=name, steps=steps, guidance=guidance, **times)
    return row | score_cells(scores)


def main():
    pipes = {name: ClassConditionedPipeline.from_pretrained(name) for name in ("mnist", "mnist-untuned")}
    result = drag_and_thousand_steps(pipes["mnist"])
    print(
        f"one drag: {result['drag_ms']:.1f} ms (median of {DRAGS}); the example's 1000 steps: "
        f"{result['example_ms'] / 1000:.2f} s; {result['times_as_fast']:.0f} times as fast"
    )
    print(
        "weights | sampler | steps | guidance | ms a picture, alone | in a batch of 64 | "
        f"class accuracy ({PICTURE_SEEDS} x {COUNT}) | excess distance"
    )
    guidance = pipes["mnist-untuned"].config.guidance_scale
    settings = [("mnist", "ddim", steps, 1.0) for steps in (1, 2, 4)]
    settings += [("mnist-untuned", "ddim", 2, guidance)]
    settings += [("mnist-untuned", name, steps, guidance) for name in SAMPLERS for steps in STEPS]
    rows = []
    for weights, *setting in settings:
        rows.append(row := dict(weights=weights) | measure(pipes[weights], *setting))
        print(
            f"{weights} | {row['sampler']} | {row['steps']} | {row['guidance']:g} | {row['ms_in_batch_of_1']:.1f} | "
            f"{row['ms_in_batch_of_64']:.1f} | {row['class accuracy']} | {row['excess distance']}",
            flush=True,
        )
    print(json.dumps(result | dict(samplers=rows, threads=torch.get_num_threads())))


if __name__ == "__main__":
    main()
