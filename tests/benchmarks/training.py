"""Time to quality: the example's ten epochs against the fast track, side by side in one run.

    python tests/benchmarks/training.py

The target is below: means over five seeds of the pictures. The fast track is trained from random weights with several
seeds, and its seconds count only if it reaches the target. The example's seconds are those of its steps, timed beside each
of these trainings, times the 4,690 steps of its ten epochs.

How far could it go? The floating point operations of both are counted, and the processor's peak is measured on a product
of large matrices: no training of as many operations can take less time than they take at the peak.

The cost of both grows in proportion to steps and images a step; with the side of the picture, by its square. More threads
help the example's wide layers more than the fast track's narrow ones.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.data import load_dataset
from course_utils.evaluation import evaluate
from course_utils.recipes import RECIPES, TRAIN_IMAGES, recipe_flops
from course_utils.sampling import make_scheduler
from course_utils.training import Trainer, seconds_per_step

SEEDS = (0, 1, 2)
TIMED_STEPS = 3  # of the example, beside each training
COUNT, PICTURE_SEEDS = 400, 5  # how a training is judged
CLASS_ACCURACY, EXCESS_DISTANCE = 0.98, 0.30  # the target: at least, and at most what the example's ten epochs reach


def example_seconds(dataset) -> float:
    """What ten epochs of the example take: a step's seconds times its steps."""
    (_, config), *_ = RECIPES["course"].stages
    model = RECIPES["course"].make_model().train()
    trainer = Trainer(model, dataset, make_scheduler("ddpm"), config)
    return seconds_per_step(trainer, TIMED_STEPS) * trainer.total_steps


def side_by_side(dataset, seed: int) -> dict:
    """One training of the fast track, its scores, and what the example would have taken at that moment."""
    example = example_seconds(dataset)
    pipe, run = RECIPES["fast"].train(dataset, seed, device="cpu", progress=False)
    scores = evaluate(pipe, COUNT, PICTURE_SEEDS)
    reached = scores["class_accuracy"] >= CLASS_ACCURACY and scores["excess_distance"] <= EXCESS_DISTANCE
    return dict(
        seed=seed,
        example_seconds=example,
        seconds=run.seconds,
        times_as_fast=example / run.seconds,
        class_accuracy=scores["class_accuracy"],
        excess_distance=scores["excess_distance"],
        reached=reached,
    )


def peak_flops(side: int = 2048, rounds: int = 10) -> float:
    """Floating point operations a second of the best of a few products of large matrices."""
    matrix, durations = torch.randn(side, side), []
    for _ in range(rounds):
        start = time.perf_counter()
        matrix @ matrix
        durations.append(time.perf_counter() - start)
    return 2 * side**3 / min(durations)


def limits() -> dict:
    """What both trainings compute, and the seconds this would take at the processor's peak."""
    peak, result = peak_flops(), {}
    for name in ("course", "fast"):
        images = sum(config.total_steps(TRAIN_IMAGES) * config.batch_size for _, config in RECIPES[name].stages)
        flops = recipe_flops(RECIPES[name], TRAIN_IMAGES, images)
        print(
            f"{name}: {flops / 1e12:,.1f} TFLOP, {flops / peak:,.0f} s at the peak of {peak / 1e9:,.0f} GFLOP a second"
        )
        result[f"{name}_flops"] = flops
    return result | dict(peak_flops=peak)


def main():
    dataset = load_dataset("mnist")
    if dataset.is_sample:
        sys.exit("error: MNIST could not be downloaded, and the target is measured against its images.")
    print("seed | the example, s | the fast track, s | times as fast | class accuracy | excess distance | target")
    rows = []
    for seed in SEEDS:
        row = side_by_side(dataset, seed)
        rows.append(row)
        print(
            f"{seed} | {row['example_seconds']:,.0f} | {row['seconds']:.0f} | {row['times_as_fast']:.0f} | "
            f"{row['class_accuracy']:.1%} | {row['excess_distance']:.2f} | {'reached' if row['reached'] else 'missed'}",
            flush=True,
        )
    result = {
        name: statistics.mean(row[name] for row in rows) for name in ("example_seconds", "seconds", "times_as_fast")
    }
    print(json.dumps(result | limits() | dict(runs=rows, threads=torch.get_num_threads())))


if __name__ == "__main__":
    main()
