"""For maintainers: train the example's network with several sizes of the embedding, and keep what notebook 4 shows.

    python -m tools.embedding_sizes

Trains each size with each seed, in about six minutes on one CPU core; a training that is in runs/embedding-sizes already
is not repeated. Writes course_utils/samples/embedding-sizes.json: size, seed, class accuracy, excess distance and seconds
of each training; and embedding-sizes.png beside it: a row of ten digits for each size, trained with seed 0, all from the
same noise, 28x28 pixels each.
"""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from course_utils.data import load_dataset
from course_utils.evaluation import evaluate
from course_utils.findings import EMBEDDING_SIZES
from course_utils.model import ClassConditionedUnet
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.recipes import RECIPES, with_steps
from course_utils.storage.files import written_whole

SIZES, SEEDS = (1, 4, 10), (0, 1, 2)
SMALL_STEPS, WHOLE_STEPS, BATCH = 800, 80, 32
FOLDER = Path("runs/embedding-sizes")


def recipe_of(size: int):
    """A short training of the example's network: small pictures first, then whole ones; no guidance."""
    fast = RECIPES["fast"].with_changes(batch_size=BATCH, label_dropout=0.0)
    (small, first), (whole, second) = fast.stages
    stages = ((small, with_steps(first, SMALL_STEPS)), (whole, with_steps(second, WHOLE_STEPS)))
    make_model = partial(ClassConditionedUnet, class_emb_size=size)
    return replace(fast, make_model=make_model, stages=stages, num_inference_steps=10, guidance_scale=1.0)


def trained(size: int, seed: int, dataset) -> tuple[ClassConditionedPipeline, dict]:
    """The pipeline of a training and its scores, from an earlier call if there was one."""
    folder, scores_file = FOLDER / f"{size}-{seed}", FOLDER / f"{size}-{seed}.json"
    if scores_file.is_file():
        return ClassConditionedPipeline.from_pretrained(folder), json.loads(scores_file.read_text(encoding="utf-8"))
    pipe, run = recipe_of(size).train(dataset, seed)
    scores = evaluate(pipe, 200, 5)
    row = dict(size=size, seed=seed, seconds=round(run.seconds), images=run.images_seen)
    row |= {name: scores[name] for name in ("class_accuracy", "excess_distance", "judge_accuracy")}
    pipe.save_pretrained(folder)
    with written_whole(scores_file) as file:
        file.write_text(json.dumps(row), encoding="utf-8")
    return pipe, row


def drawn(pipe) -> torch.Tensor:
    """Ten digits, uint8 (28, 280): ink is 255."""
    pictures = pipe(list(range(10)), generator=torch.Generator().manual_seed(0), output_type="pt").images
    return (pictures * 255).round().byte()[:, 0].permute(1, 0, 2).flatten(1)


def main():
    dataset = load_dataset("mnist")
    if dataset.is_sample:
        sys.exit("error: MNIST could not be downloaded, and the networks are trained on its images.")
    results, rows = [], []
    for size in SIZES:
        for seed in SEEDS:
            pipe, row = trained(size, seed, dataset)
            results.append(row)
            if seed == SEEDS[0]:
                rows.append(drawn(pipe))
            print(json.dumps(row), flush=True)
    Image.fromarray(torch.cat(rows).numpy()).save(EMBEDDING_SIZES.with_suffix(".png"))
    EMBEDDING_SIZES.write_text(json.dumps(results, indent=0), encoding="utf-8")


if __name__ == "__main__":
    main()
