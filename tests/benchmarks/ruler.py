"""Does the excess distance depend on the number of pictures? The same weights at several numbers, over five seeds.

    python tests/benchmarks/ruler.py

The cost grows in proportion to the pictures drawn, which are drawn once for each seed.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.classifier import load_classifier
from course_utils.evaluation import score_pictures
from course_utils.pipeline import ClassConditionedPipeline

WEIGHTS, COUNTS, SEEDS = ("mnist", "fashion_mnist"), (500, 1000, 2000, 5000), range(5)


def excess_by_count(name: str) -> dict[int, list[float]]:
    """For each number of pictures the excess distance of each seed, by the first judge."""
    pipe = ClassConditionedPipeline.from_pretrained(name)
    judge, labels = load_classifier(pipe.config.dataset), torch.arange(max(COUNTS)) % 10
    found = {count: [] for count in COUNTS}
    for seed in SEEDS:
        drawn = pipe(labels, generator=torch.Generator().manual_seed(seed), output_type="pt").images * 2 - 1
        for count in COUNTS:
            found[count].append(score_pictures(drawn[:count], labels[:count], judge)["excess_distance"])
    return found


def main():
    print("weights | " + " | ".join(f"{count:,} pictures" for count in COUNTS))
    result = {}
    for name in WEIGHTS:
        result[name] = excess_by_count(name)
        cells = (f"{sum(e) / len(e):.3f} ({min(e):.3f} to {max(e):.3f})" for e in result[name].values())
        print(f"`{name}` | " + " | ".join(cells), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
