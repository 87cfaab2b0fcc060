"""Seconds to draw one digit, from the example's thousand steps to one drag of the slider; draws README's picture of it.

    python tests/benchmarks/ladder.py

The cost grows in proportion to the steps; guidance evaluates the network for two pictures in place of one.
"""

import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from course_utils.model import ClassConditionedUnet
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.plotting import ladder
from course_utils.sampling import make_scheduler, sample

PICTURE = Path(__file__).parents[2] / "notebooks" / "images" / "ladder.png"
ROUNDS = 5  # of each rung but those of a thousand steps; the best counts


def seconds_to_draw(network, sampler, steps: int, guidance_scale: float = 1.0) -> float:
    """Wall-clock seconds to draw one digit."""
    sample(network, sampler, [3], 2)  # warm up
    durations = []
    for _ in range(1 if steps == 1000 else ROUNDS):
        start = time.perf_counter()
        sample(network, sampler, [3], steps, guidance_scale)
        durations.append(time.perf_counter() - start)
    return min(durations)


def main():
    tuned, example = ClassConditionedPipeline.from_pretrained("mnist"), ClassConditionedUnet()
    pipe = ClassConditionedPipeline.from_pretrained("mnist-untuned")
    steps, guidance = pipe.config.num_inference_steps, pipe.config.guidance_scale
    seconds = {
        "the example, 1000 steps": seconds_to_draw(example, make_scheduler("ddpm"), 1000),
        "1000 steps of a lighter network": seconds_to_draw(pipe.unet, make_scheduler("ddpm"), 1000),
        "50 steps of DDIM": seconds_to_draw(pipe.unet, make_scheduler("ddim", "v_prediction"), 50),
        f"{steps} guided steps of DPM-Solver++": seconds_to_draw(pipe.unet, pipe.scheduler, steps, guidance),
        f"{tuned.config.num_inference_steps} steps, fine-tuned: the slider": seconds_to_draw(
            tuned.unet, tuned.scheduler, tuned.config.num_inference_steps
        ),
    }
    PICTURE.write_bytes(ladder(seconds, "Seconds to draw one digit").png())
    print(json.dumps(seconds | dict(threads=torch.get_num_threads())))


if __name__ == "__main__":
    main()
