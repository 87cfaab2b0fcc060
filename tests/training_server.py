"""Trains in forked children, on command, so that a test can kill many of them and pay for the imports once.

A command is a line of JSON on stdin; the child's exit status is printed, below zero if it was killed:
    {"folder": ...}                    train, or go on, with a checkpoint at every step, and write result.pt
    {..., "kill_after": 0.3}           to be killed after so many seconds
    {..., "die": "rename", "at": 3}    to be killed at that moment of the third write
    {..., "file_size": 1000}           where no file may grow beyond so many bytes
"""

import json
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from course_utils import training
from course_utils.data import load_sample
from course_utils.recipes import Recipe
from course_utils.training import TrainingConfig
from tiny import make_tiny_model


def make_smallest_model():
    return make_tiny_model(conditioning="time", attention_levels=())


FAST = TrainingConfig.fast(batch_size=8, num_epochs=2, max_steps=6)  # of 20 images: three steps an epoch
TWO_STAGES = Recipe(make_smallest_model, ((16, FAST), (28, FAST)), "v_prediction", "dpmsolver++", 2, 1.5)


def die_at(moment: str, count: int):
    """Kill this process at the `count`-th time that a checkpoint's writing comes to this moment."""
    owner, name = {
        "write": (Path, "write_bytes"),
        "sync": (os, "fsync"),
        "rename": (os, "replace"),
        "renamed": (os, "replace"),
        "remove": (Path, "unlink"),
    }[moment]
    original, calls = getattr(owner, name), []

    def dying(*args, **options):
        calls.append(args)
        if len(calls) < count:
            return original(*args, **options)
        if moment == "write":
            original(args[0], args[1][: len(args[1]) // 2])
        if moment == "renamed":
            original(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, dying)


def train(command: dict, dataset):
    """What one child does."""
    training.CHECKPOINT_SECONDS = 0
    folder = Path(command["folder"])
    if "die" in command:
        die_at(command["die"], command["at"])
    _, unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (command.get("file_size", unlimited), unlimited))
    with warnings.catch_warnings(record=True) as caught:
        pipe, run = TWO_STAGES.train(dataset, 0, folder / "checkpoints", device="cpu", progress=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
    result = dict(weights=pipe.unet.state_dict(), losses=run.losses, warnings=[str(one.message) for one in caught])
    torch.save(result, folder / "result.pt")


def main():
    torch.set_num_threads(1)  # a forked child has no threads but its own
    dataset = load_sample("mnist")
    dataset.images, dataset.labels = dataset.images[:20], dataset.labels[:20]
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                train(command, dataset)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        if "kill_after" in command:
            time.sleep(command["kill_after"])
            os.kill(child, signal.SIGKILL)  # no effect on one that has ended and is still to be waited for
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
