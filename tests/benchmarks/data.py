"""Images per second: the example's `DataLoader` over torchvision's data set, the same over this course's data set, which
hands over whole batches, and this course's tensor in memory.

    python tests/benchmarks/data.py

All shuffle, make batches of 128 and scale to [-1, 1]; all need MNIST to be on the disk, as `load_dataset("mnist")`
leaves it. The cost of each grows in proportion to the images, whatever the size of a batch; the example's loader makes a
picture object of each image, on one core, and the tensor's batch is a copy.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.data import default_root, load_dataset
from course_utils.model import ClassConditionedUnet
from course_utils.sampling import make_scheduler
from course_utils.training import Trainer, TrainingConfig

BATCH, ROUNDS = 128, 5
BATCHES = {"the example's DataLoader": 60, "DataLoader of ImageDataset": 200, "one tensor": 400}  # in each round


def loader_batches(dataset):
    """Batches as the example makes them, epoch after epoch."""
    loader = DataLoader(dataset, BATCH, shuffle=True)
    while True:
        for images, labels in loader:
            yield images * 2 - 1, labels


def trainer_batches(dataset):
    """Batches as `train` makes them."""
    trainer = Trainer(ClassConditionedUnet(), dataset, make_scheduler(), TrainingConfig(batch_size=BATCH))
    while True:
        yield trainer.next_batch()


def images_per_second(batches, count: int) -> float:
    next(batches)  # warm up
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return count * BATCH / (time.perf_counter() - start)


def main():
    dataset = load_dataset("mnist")
    if dataset.is_sample:
        sys.exit("error: MNIST could not be downloaded, and its files are what is measured.")
    root = os.environ.get("COURSE_DATA_DIR") or default_root()
    ways = {
        "the example's DataLoader": loader_batches(datasets.MNIST(root, transform=transforms.ToTensor())),
        "DataLoader of ImageDataset": loader_batches(dataset),
        "one tensor": trainer_batches(dataset),
    }
    rounds = [{name: images_per_second(way, BATCHES[name]) for name, way in ways.items()} for _ in range(ROUNDS)]
    result = {name: statistics.median(measured[name] for measured in rounds) for name in ways}
    times = statistics.median(measured["one tensor"] / measured["the example's DataLoader"] for measured in rounds)
    print(f"images per second (median of {ROUNDS}) | " + " | ".join(f"{name} {n:,.0f}" for name, n in result.items()))
    print(json.dumps(result | dict(times_as_fast=times, batch=BATCH, threads=torch.get_num_threads())))


if __name__ == "__main__":
    main()
