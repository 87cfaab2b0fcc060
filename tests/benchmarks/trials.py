"""The log of trials: half of `fast-adamw` with one thing changed, each trained from random weights and judged.

    python tests/benchmarks/trials.py                  # all of them, under two minutes each on two CPU cores
    python tests/benchmarks/trials.py batch64 one-size # some of them

Half the images of `fast-adamw`, which was the fast track until the trials came to Muon, because a short training shows more
clearly what helps it. The first three lines differ in nothing but the seed: what differs from them by no more than they from
each other has shown nothing. The cost grows in proportion to the images; two thirds of a trial is training, the rest drawing
1,000 pictures twice.
"""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.data import load_dataset
from course_utils.evaluation import evaluate, score_cells
from course_utils.model import ClassConditionedUnet
from course_utils.recipes import RECIPES

COUNT, PICTURE_SEEDS = 200, 5
SEEDS = {"seed1": 1, "seed2": 2}  # all other trials: 0
FAST = RECIPES["fast-adamw"].for_images(30_720)
SECONDS_28 = 100 / 46  # a step on whole pictures over one on small pictures (notebook 7)


def with_network(**changes):
    """The fast track with another network."""
    return replace(FAST, make_model=partial(ClassConditionedUnet.fast, **changes))


def with_batch(size: int):
    """As many images in batches of another size."""
    stages = ((side, replace(config, batch_size=size)) for side, config in FAST.stages)
    return replace(FAST, stages=tuple(stages)).for_images(30_720)


def on_whole_pictures():
    """About as many seconds, without small pictures."""
    (_, small), (side, whole) = FAST.stages
    steps = whole.max_steps + round(small.max_steps / SECONDS_28)
    return replace(FAST, stages=((side, replace(whole, max_steps=steps, num_epochs=steps)),))


TRIALS = {
    "fast-adamw": FAST,
    "seed1": FAST,
    "seed2": FAST,
    "guidance-3": replace(FAST, guidance_scale=3.0),
    "muon": FAST.with_changes(optimizer="muon"),
    "muon-batch64": with_batch(64).with_changes(optimizer="muon"),
    "muon-learning-rate-double": FAST.with_changes(optimizer="muon", learning_rate=4e-3),
    "learning-rate-half": FAST.with_changes(learning_rate=1e-3),
    "learning-rate-double": FAST.with_changes(learning_rate=4e-3),
    "learning-rate-constant": FAST.with_changes(lr_schedule="constant", learning_rate=1e-3),
    "beta2-999": FAST.with_changes(adam_beta2=0.999),
    "batch16": with_batch(16),
    "batch64": with_batch(64),
    "one-size": on_whole_pictures(),
    "no-zero-init": with_network(zero_init=False),
    "wider-top": with_network(block_out_channels=(32, 32, 64)),
    "channels": with_network(conditioning="embedding", class_emb_size=10),
    "noise": replace(FAST, prediction_type="epsilon"),
    "no-ema": FAST.with_changes(ema_decay=None),
    "timesteps-one-by-one": FAST.with_changes(stratified_timesteps=False),
}


def measure(dataset, recipe, seed: int) -> dict:
    """Train and judge: seconds, class accuracy and excess distance, unguided and as the recipe draws."""
    pipe, run = recipe.train(dataset, seed, device="cpu", progress=False)
    row = dict(seconds=run.seconds)
    for name, guidance in (("unguided", 1.0), ("guided", None)):
        scores = evaluate(pipe, COUNT, PICTURE_SEEDS, guidance_scale=guidance)
        row |= {f"{name} {figure}": value for figure, value in score_cells(scores).items()}
    return row


def main():
    dataset = load_dataset("mnist")
    if dataset.is_sample:
        sys.exit("error: MNIST could not be downloaded, and the trials are trained on its images.")
    result = {}
    print("trial | seconds | unguided: accuracy, excess distance | guided: accuracy, excess distance")
    for name in sys.argv[1:] or TRIALS:
        result[name] = row = measure(dataset, TRIALS[name], SEEDS.get(name, 0))
        print(
            f"{name} | {row['seconds']:.0f} | {row['unguided class accuracy']}, {row['unguided excess distance']} | "
            f"{row['guided class accuracy']}, {row['guided excess distance']}",
            flush=True,
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
