"""For maintainers: train with each broken training step of notebook 3, and keep what it draws.

    python -m tools.broken_steps

Writes course_utils/samples/broken-steps.png: a row of ten digits for each, then one for the step without a bug, all
from the same noise, 16x16 pixels each; and broken-steps.json beside it: the mean of the last 100 losses of each, null
where it was no longer a number. Ten minutes on one CPU core.
"""

import json
import math
import sys

import torch
from PIL import Image

from course_utils import minimal
from course_utils.data import load_dataset
from course_utils.exercises.broken_steps import CHANGES, LOSSES, PICTURES, SIDE, broken_step, training_step
from course_utils.model import ClassConditionedUnet
from course_utils.recipes import resized
from course_utils.sampling import denoise, make_scheduler
from course_utils.training import running_mean

STEPS, LEARNING_RATE = 600, 2e-3
SAMPLING_STEPS, GUIDANCE = 10, 2.0


def trained(step, dataset) -> tuple[ClassConditionedUnet, float]:
    """A network trained by a step from the same weights and images as with the others, and its last losses' mean."""
    torch.manual_seed(0)
    model, generator = ClassConditionedUnet.fast(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    alphas_cumprod = minimal.cosine_alphas_cumprod()
    losses = [step(model, optimizer, dataset, alphas_cumprod, generator).item() for _ in range(STEPS)]
    return model.eval(), running_mean(losses)


@torch.no_grad()
def drawn(model) -> torch.Tensor:
    """Ten digits, uint8 (16, 160): ink is 255."""
    noise_scheduler, generator = make_scheduler("ddim", "v_prediction"), torch.Generator().manual_seed(1)
    *_, x = denoise(model, noise_scheduler, torch.arange(10), [GUIDANCE] * SAMPLING_STEPS, generator, side=SIDE)
    return ((x.nan_to_num(-1) + 1) * 127.5).round().byte()[:, 0].permute(1, 0, 2).flatten(1)


def main():
    dataset = load_dataset("mnist")
    if dataset.is_sample:
        sys.exit("error: MNIST could not be downloaded, and the steps are trained on its images.")
    small, rows, losses = resized(dataset, SIDE), [], {}
    for name, step in [*((letter, broken_step(letter)) for letter in CHANGES), ("no bug", training_step)]:
        model, loss = trained(step, small)
        rows.append(drawn(model))
        losses[name] = round(loss, 4) if math.isfinite(loss) else None
        print(f"{name}: loss {loss:.4f}", flush=True)
    Image.fromarray(torch.cat(rows).numpy()).save(PICTURES)
    LOSSES.write_text(json.dumps(losses), encoding="utf-8")


if __name__ == "__main__":
    main()
