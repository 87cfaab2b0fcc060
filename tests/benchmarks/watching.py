"""What it costs to watch a training: the fast track's step, with the panel and without, in turns.

    python tests/benchmarks/watching.py

In a Jupyter kernel of its own, so that the panel sends all that it sends to a page. The cost is measured twice: as the
time that passes between the steps of the watched training, over the time of its steps; and as the processor's time for all
that over that for as many steps without the panel, in turns. The clock's would say the same on a quiet machine, but other
work disturbs it. Nearly a third of each stage is trained on, so the picture before its first step weighs three times as
much as in the whole. The cost grows in proportion to the steps.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from jupyter_client.manager import start_new_kernel

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.data import load_sample
from course_utils.recipes import RECIPES, resized
from course_utils.sampling import make_scheduler
from course_utils.training import Trainer
from course_utils.watching import TrainingPanel

ROUNDS = 3
TURN = 0.1  # of a stage's steps


def take_steps(steps, count: int) -> tuple[float, float]:
    """Seconds of so many steps, and of what happens between them: on the clock, and those that this process computed."""
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(steps)
    return time.perf_counter() - clock, time.process_time() - processor


def cost(size: int, config) -> dict:
    """What the panel adds to a stage's training, as shares of its time."""
    dataset, recipe = resized(load_sample("mnist"), size), RECIPES["fast"]
    noise_scheduler = make_scheduler("ddpm", recipe.prediction_type)
    alone, watched = (Trainer(recipe.make_model(), dataset, noise_scheduler, config) for _ in range(2))
    with TrainingPanel().on_the_page() as panel:
        silent, seen, ratios, seconds = iter(alone), panel.watch(watched), [], 0.0
        count = round(TURN * watched.total_steps)
        take_steps(silent, 2)  # warm up
        for _ in range(ROUNDS):
            _, alone_computed = take_steps(silent, count)
            clock, computed = take_steps(seen, count)
            ratios.append(computed / alone_computed - 1)
            seconds += clock
        between = seconds / watched.seconds - 1
    return dict(size=size, steps=len(watched.losses), seconds=watched.seconds, between=between, computed=ratios)


def measure():
    """In the kernel: print what each stage's training costs more."""
    for size, config in RECIPES["fast"].stages:
        print(json.dumps(cost(size, config)), flush=True)


def in_kernel() -> list[dict]:
    """What `measure` prints in a kernel."""
    manager, client = start_new_kernel()
    printed = []

    def hear(message):
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport watching\nwatching.measure()"
    reply = client.execute_interactive(code, timeout=3600, output_hook=hear)["content"]
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    if reply["status"] != "ok":
        sys.exit(f"error: {reply['ename']}: {reply['evalue']}")
    return [json.loads(line) for line in "".join(printed).splitlines() if line.startswith("{")]


def main():
    stages = in_kernel()
    print(f"pictures | steps | seconds of steps | between them | computed more than without (median of {ROUNDS})")
    for stage in stages:
        print(
            f"{stage['size']} x {stage['size']} | {stage['steps']} | {stage['seconds']:.0f} | {stage['between']:+.1%} | "
            f"{statistics.median(stage['computed']):+.1%}"
        )
    print(json.dumps(dict(stages=stages, threads=torch.get_num_threads())))


if __name__ == "__main__":
    main()
