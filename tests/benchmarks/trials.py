"""The log of trials: the fast track with one thing changed, each trained from random weights and judged.

    python tests/benchmarks/trials.py                  # all of them, some three minutes each on two CPU cores
    python tests/benchmarks/trials.py batch64 one-size # some of them

One seed each, 1,000 pictures: two trainings that differ only in their seed differ by about one floor (`training.py`).
"""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.data import load_dataset
from course_utils.evaluation import evaluate
from course_utils.model import ClassConditionedUnet
from course_utils.recipes import RECIPES

COUNT = 1000
FAST = RECIPES["fast"]
(SMALL_SIZE, SMALL), (SIZE, WHOLE) = FAST.stages


def with_network(**changes):
    """The fast track with another network."""
    return replace(FAST, make_model=partial(ClassConditionedUnet.fast, **changes))


TRIALS = {
    "fast": FAST,
    "learning-rate-half": FAST.with_changes(learning_rate=1e-3),
    "learning-rate-double": FAST.with_changes(learning_rate=4e-3),
    "beta2-999": FAST.with_changes(adam_beta2=0.999),
    "batch64": replace(  # as many images, in half as many steps
        FAST,
        stages=tuple(
            (size, replace(config, batch_size=64, max_steps=config.max_steps // 2)) for size, config in FAST.stages
        ),
    ),
    "one-size": replace(FAST, stages=((SIZE, replace(WHOLE, max_steps=1240)),)),  # about as many seconds
    "no-zero-init": with_network(zero_init=False),
    "wide-heads": with_network(attention_head_dim=32),
    "channels": with_network(conditioning="embedding", class_emb_size=10),
    "noise": replace(FAST, prediction_type="epsilon"),
    "no-ema": FAST.with_changes(ema_decay=None),
    "timesteps-one-by-one": FAST.with_changes(stratified_timesteps=False),
}


def measure(dataset, recipe) -> dict:
    """Train and judge: seconds, class accuracy and Frechet distance over its floor, unguided and as the recipe draws."""
    pipe, run = recipe.train(dataset, device="cpu", progress=False)
    row = dict(seconds=run.seconds)
    for name, guidance in (("unguided", 1.0), ("guided", None)):
        scores = evaluate(pipe, COUNT, guidance_scale=guidance)
        ratio = scores["frechet_distance"] / scores["frechet_floor"]
        row |= {f"{name}_class_accuracy": scores["class_accuracy"], f"{name}_frechet_ratio": ratio}
    return row


def main():
    dataset = load_dataset("mnist")
    if dataset.is_sample:
        sys.exit("error: MNIST could not be downloaded, and the trials are trained on its images.")
    result = {}
    print("trial | seconds | unguided: accuracy, Frechet / floor | guided: accuracy, Frechet / floor")
    for name in sys.argv[1:] or TRIALS:
        result[name] = row = measure(dataset, TRIALS[name])
        print(
            f"{name} | {row['seconds']:.0f} | {row['unguided_class_accuracy']:.1%}, {row['unguided_frechet_ratio']:.1f} | "
            f"{row['guided_class_accuracy']:.1%}, {row['guided_frechet_ratio']:.2f}",
            flush=True,
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
