"""A training step on one process and on two, one thread each, in turns.

    python tests/benchmarks/processes.py

The batch is the same for both: each of two processes takes half of it. Two processes need two cores to themselves, and
other work on the machine disturbs the seconds; the processor seconds of the main process it hardly touches, and they say
what the seconds would be on cores of their own. All are medians of the rounds.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.data import load_sample
from course_utils.processes import launched_processes
from course_utils.recipes import RECIPES
from course_utils.sampling import make_scheduler
from course_utils.training import Trainer

ROUNDS = 3
STEPS = {"fast": 20, "course": 2}  # of each recipe, in each round


def time_steps(trainer: Trainer, steps: int) -> tuple[float, float]:
    """Seconds a step on the clock, and those that this process computed."""
    trainer.training_step()  # warm up
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(steps):
        trainer.training_step()
    return (time.perf_counter() - clock) / steps, (time.process_time() - processor) / steps


def measure():
    """In a launched process: time the steps of each recipe; the main process prints them."""
    torch.set_num_threads(1)
    processes, timed = launched_processes("cpu"), {}
    for name, steps in STEPS.items():
        recipe = RECIPES[name]
        noise_scheduler, (_, config) = make_scheduler("ddpm", recipe.prediction_type), recipe.stages[-1]
        trainer = Trainer(recipe.make_model().train(), load_sample("mnist"), noise_scheduler, config, processes)
        timed[name] = time_steps(trainer, steps)
    if processes.is_main:
        print(json.dumps(timed))


def launched(count: int) -> dict[str, list[float]]:
    """What `time_steps` gave for each recipe on so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, __file__, "measure"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, encoding="utf-8")
    return json.loads(done.stdout)


def main():
    rounds = [{count: launched(count) for count in (1, 2)} for _ in range(ROUNDS)]
    result = {}
    print(f"a step (median of {ROUNDS}) | 1 process | 2 processes | times as fast")
    for name in STEPS:
        batch_size = RECIPES[name].stages[-1][1].batch_size
        for place, kind in enumerate(("seconds", "processor_seconds")):
            one, two = (statistics.median(timed[count][name][place] for timed in rounds) for count in (1, 2))
            print(f"{name}, batch of {batch_size}, {kind.replace('_', ' ')} | {one:.3f} | {two:.3f} | {one / two:.2f}")
            result[f"{name}_{kind}"] = dict(one=one, two=two, times_as_fast=one / two)
    print(json.dumps(result | dict(rounds=ROUNDS, cores=os.cpu_count())))


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["measure"] else main()
