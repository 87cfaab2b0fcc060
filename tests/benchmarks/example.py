"""What the example's ten epochs are worth: its own loop, scored after every epoch, and at the end with each sampler.

    python tests/benchmarks/example.py runs/mnist-example      # about four hours on two CPU cores
    python tests/benchmarks/example.py runs/mnist-example 4    # its first four epochs

The folder keeps a checkpoint: the same command goes on from it. The learning rate is constant, so that the first epochs of
ten are what a training of fewer would have been. The cost grows in proportion to the epochs, and that of judging to
pictures times steps.
"""

import json
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.data import load_dataset
from course_utils.evaluation import evaluate, score_cells, summarize
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.recipes import RECIPES
from course_utils.sampling import make_scheduler
from course_utils.storage.checkpoints import CheckpointFolder
from course_utils.training import Saver, Trainer

EACH_EPOCH = ("dpmsolver++", 10)
AT_THE_END = (("ddim", 20), ("dpmsolver++", 10), ("dpmsolver++", 20), ("unipc", 10), ("unipc", 20))
NATIVE = ("ddpm", 1000)
COUNT, PICTURE_SEEDS = 200, 5


def score(model, sampler: str, steps: int, count: int) -> dict:
    """Judge `count` pictures drawn by a sampler; prints a row."""
    pipe = ClassConditionedPipeline(model, make_scheduler(sampler), "mnist", steps, guidance_scale=1.0)
    scores = evaluate(pipe, count, PICTURE_SEEDS)
    print(f"  {sampler}, {steps} steps, {PICTURE_SEEDS} x {count:,} pictures: {summarize(scores)}", flush=True)
    return dict(sampler=sampler, steps=steps, count=count) | score_cells(scores) | scores


def train_epoch(trainer: Trainer, saver: Saver, steps: int):
    """Go on to the end of the epoch, of so many steps, that the last checkpoint may have interrupted."""
    trainer.model.train()
    for _ in range(steps - trainer.step % steps):
        trainer.training_step()
        saver.save_at_intervals()
    saver.save()


def main():
    dataset = load_dataset("mnist")
    if dataset.is_sample:
        sys.exit("error: MNIST could not be downloaded, and the example is trained on its images.")
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10
    device = "cuda" if torch.cuda.is_available() else "cpu"
    (_, config), *_ = RECIPES["course"].stages
    torch.manual_seed(config.seed)
    model, checkpoints = RECIPES["course"].make_model().to(device), CheckpointFolder(folder)
    trainer = Trainer(model, dataset, make_scheduler("ddpm"), config)
    if (state := checkpoints.newest()) is not None:
        trainer.load_state_dict(state)
    saver, rows = Saver(checkpoints, trainer), []
    steps = trainer.total_steps // config.num_epochs
    while trainer.step < epochs * steps:
        train_epoch(trainer, saver, steps)
        loss = statistics.mean(trainer.losses[-steps:])
        print(f"epoch {trainer.step // steps}: loss {loss:.4f}", flush=True)
        rows.append(dict(epoch=trainer.step // steps, loss=loss) | score(model, *EACH_EPOCH, COUNT))
    print(f"after {trainer.step // steps} epochs:")
    ends = [score(model, *few, COUNT) for few in AT_THE_END]
    ends.append(score(model, *NATIVE, COUNT))
    print(json.dumps(dict(epochs=rows, samplers=ends, threads=torch.get_num_threads())))


if __name__ == "__main__":
    main()
