"""A step of the fast track's training as it is, and with what is said to make it faster, in one run.

    python tests/benchmarks/accelerations.py

`torch.compile` needs a C++ compiler; what its first step takes is the price of its gain. The cost of all of them grows in
proportion to the images a step.
"""

import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.data import load_sample
from course_utils.model import ClassConditionedUnet
from course_utils.sampling import make_scheduler
from course_utils.training import Trainer, TrainingConfig, seconds_per_step

STEPS = 20


def make_trainer(memory_format=torch.contiguous_format) -> Trainer:
    network = ClassConditionedUnet.fast().to(memory_format=memory_format).train()
    return Trainer(network, load_sample("mnist"), make_scheduler("ddpm", "v_prediction"), TrainingConfig.fast())


def in_bfloat16() -> Trainer:
    """A trainer whose network computes in bfloat16; its gradients and its optimizer do not, as PyTorch advises."""
    trainer = make_trainer()
    trainer.network = torch.autocast("cpu", torch.bfloat16)(trainer.network)
    return trainer


def compiled() -> Trainer:
    """A trainer whose network is compiled already, as one graph; prints the seconds that this took."""
    trainer = make_trainer()
    trainer.network = torch.compile(trainer.network, fullgraph=True)
    start = time.perf_counter()
    trainer.training_step()
    print(f"compiling took {time.perf_counter() - start:.0f} s")
    return trainer


def main():
    plain = seconds_per_step(make_trainer(), STEPS)
    bfloat16 = seconds_per_step(in_bfloat16(), STEPS)
    channels_last = seconds_per_step(make_trainer(torch.channels_last), STEPS)
    result = dict(
        plain=plain, bfloat16=bfloat16, channels_last=channels_last, compiled=seconds_per_step(compiled(), STEPS)
    )
    for name, seconds in result.items():
        print(f"{name}: {1000 * seconds:.0f} ms a step, {plain / seconds:.2f} times as fast")
    print(json.dumps(result | dict(threads=torch.get_num_threads(), machine=torch.backends.cpu.get_cpu_capability())))


if __name__ == "__main__":
    main()
