"""The log of adversarial fine-tuning: a short one with one thing changed, each from the same weights, and judged.

    python tests/benchmarks/tuning.py                        # all of them, about two minutes each on two CPU cores
    python tests/benchmarks/tuning.py no-mismatch one-step   # some of them

A few of the 8,000 batches that the bundled weights had, because a short training shows more clearly what helps it. The cost grows in
proportion to the batches; each step of the sampler adds a step of training to each of them.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.adversarial import AdversarialConfig, fine_tune
from course_utils.data import load_dataset
from course_utils.evaluation import evaluate
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import make_scheduler

COUNT, BATCHES = 1000, 300
SHORT = AdversarialConfig(max_steps=BATCHES, ema_decay=0.98)
TRIALS = {
    "as-it-is": SHORT,
    "another-seed": replace(SHORT, seed=1),
    "no-mismatch": replace(SHORT, mismatch_weight=0.0),
    "no-diffusion-loss": replace(SHORT, diffusion_weight=0.0),
    "one-step": replace(SHORT, num_inference_steps=1),
}


def judged(pipe) -> str:
    """Class accuracy and Frechet distance over its floor."""
    scores = evaluate(pipe, COUNT)
    return f"{scores['class_accuracy']:.1%}, {scores['frechet_distance'] / scores['frechet_floor']:.2f}"


def measure(dataset, config: AdversarialConfig) -> dict:
    """Fine-tune the bundled weights and judge them: in the steps they were tuned for, and in ten, guided."""
    pipe = ClassConditionedPipeline.from_pretrained("mnist-untuned")
    before = ClassConditionedPipeline(
        pipe.unet, make_scheduler("ddim", "v_prediction"), "mnist", config.num_inference_steps
    )
    row = dict(before=judged(before))
    tuned, run = fine_tune(pipe, dataset, config, "cpu", progress=False)
    ten_steps = ClassConditionedPipeline(tuned.unet, pipe.scheduler, "mnist", 10, guidance_scale=1.5)
    return row | dict(seconds=run.seconds, after=judged(tuned), ten_guided_steps=judged(ten_steps))


def main():
    dataset = load_dataset("mnist")
    if dataset.is_sample:
        sys.exit("error: MNIST could not be downloaded, and the trials are trained on its images.")
    result = {}
    print("trial | seconds | before: accuracy, Frechet / floor | after | in ten guided steps")
    for name in sys.argv[1:] or TRIALS:
        result[name] = row = measure(dataset, TRIALS[name])
        print(
            f"{name} | {row['seconds']:.0f} | {row['before']} | {row['after']} | {row['ten_guided_steps']}", flush=True
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
