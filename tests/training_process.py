"""What `test_processes.py` launches several times at once: `training_process.py SCENARIO FOLDER`."""

import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from course_utils import __main__ as command_line
from course_utils.data import load_sample
from course_utils.processes import launched_processes
from course_utils.recipes import Recipe
from course_utils.sampling import make_scheduler
from course_utils.training import Trainer, TrainingConfig, train
from tiny import make_tiny_model

FAST = TrainingConfig.fast(batch_size=25, num_epochs=2)
CONFIGS = {
    "uneven parts": TrainingConfig(batch_size=25, num_epochs=2),  # of 60 images: 13 + 12 three times, then 5 + 5
    "a last batch of one": TrainingConfig(batch_size=59, num_epochs=2),
    "fast": FAST,
}
STAGES = Recipe(make_tiny_model, ((16, FAST), (28, FAST)), "v_prediction", "dpmsolver++", 2, 1.5)


def sample_of_60():
    dataset = load_sample("mnist")
    dataset.images, dataset.labels = dataset.images[:60], dataset.labels[:60]
    return dataset


def train_tiny(config, folder=None):
    model = make_tiny_model(conditioning="time")
    return train(model, sample_of_60(), make_scheduler("ddpm", "v_prediction"), config, "cpu", False, folder)


def train_stages():
    pipe, run = STAGES.train(sample_of_60(), device="cpu", progress=False)
    run.model = pipe.unet
    return run


def disturb_step(step: int, disturbance):
    """Let something happen in the last process alone, in the middle of a step."""
    original = Trainer.loss

    def loss(trainer, *batch):
        if trainer.step + 1 == step and not trainer.processes.is_main:
            disturbance()
        return original(trainer, *batch)

    Trainer.loss = loss
    return original


def interrupted_and_on(folder: Path):
    """Ctrl-C reaches the last process only; both stop, and go on, twice."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    original = disturb_step(3, lambda: signal.raise_signal(signal.SIGINT))
    for name in ("for two", "for one"):
        run = train_tiny(FAST, folder / name)
        assert run.interrupted and len(run.losses) == 3
    Trainer.loss = original
    return train_tiny(FAST, folder / "for two")


def refusal_of(action) -> str:
    try:
        return str(action())
    except ValueError as error:
        return str(error)


def main(scenario: str, folder: Path):
    if scenario == "count":
        print(f"{launched_processes('cpu').count} at work")
    elif scenario == "fail":
        disturb_step(2, lambda: os._exit(3))
        train_tiny(FAST)
    elif scenario == "train":
        runs = {name: train_tiny(config) for name, config in CONFIGS.items()}
        runs |= {"stages": train_stages(), "interrupted": interrupted_and_on(folder)}
        results = {
            name: dict(losses=run.losses, weights=run.model.state_dict(), processes=run.processes)
            for name, run in runs.items()
        }
        results["refusal"] = refusal_of(lambda: train_tiny(TrainingConfig(seed=int(os.environ["RANK"]))))
        torch.save(results, folder / f"rank-{os.environ['RANK']}.pt")
        command_line.load_dataset = load_sample
        sys.exit(command_line.main(["train", "--preset", "smoke", "--allow-sample", "--out", str(folder / "weights")]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))
