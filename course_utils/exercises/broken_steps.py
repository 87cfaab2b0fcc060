"""A training step, and five like it with one line broken, for notebook 3's exercise `diagnoses`.

The pictures and losses that each of them leads to are in course_utils/samples (`python -m tools.broken_steps`).
"""

import inspect
import json
from pathlib import Path

import torch
from IPython.display import Markdown
from PIL import Image
from torch.nn import functional as F

from course_utils import minimal
from course_utils.minimal import add_noise

PICTURES = Path(__file__).parent.parent / "samples" / "broken-steps.png"
LOSSES = PICTURES.with_suffix(".json")
SIDE = 16  # pixels of a picture in that file, which has ten of them in each row


def training_step(model, optimizer, dataset, alphas_cumprod, generator):
    batch = torch.randint(0, len(dataset), (64,), generator=generator)
    images = dataset.images[batch].float() / 127.5 - 1
    labels = dataset.labels[batch]
    labels = labels.masked_fill(torch.rand(64, generator=generator) < 0.1, model.null_label)
    noise = torch.randn(images.shape, generator=generator)
    timesteps = torch.randint(0, 1000, (64,), generator=generator)
    prediction = model(add_noise(images, noise, timesteps, alphas_cumprod), timesteps, labels)
    velocity = add_noise(noise, -images, timesteps, alphas_cumprod)
    loss = F.mse_loss(prediction, velocity)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


CHANGES = {
    "A": ("F.mse_loss(prediction, velocity)", "F.mse_loss(prediction, noise)"),
    "B": ("dataset.labels[batch]", "dataset.labels[torch.randint(0, len(dataset), (64,), generator=generator)]"),
    "C": ("    optimizer.zero_grad()\n", ""),
    "D": (".float() / 127.5 - 1", ".float() / 255"),
    "E": ("0, 1000, (64,), generator=generator)", "0, 1000, (1,), generator=generator).expand(64)"),
}


def source(letter: str) -> str:
    """The code of a broken step."""
    return inspect.getsource(training_step).replace(*CHANGES[letter])


def broken_step(letter: str):
    """The function of a broken step."""
    namespace = dict(vars(minimal))
    exec(source(letter), namespace)
    return namespace["training_step"]


def show_step(letter: str) -> Markdown:
    """The code of a broken step, for a notebook."""
    return Markdown(f"Step {letter}:\n```python\n{source(letter)}```")


def losses() -> dict[str, float | None]:
    """The mean of the last 100 losses with each step, None where it was no longer a number; "no bug" is the one without."""
    return json.loads(LOSSES.read_text(encoding="utf-8"))


def pictures() -> torch.Tensor:
    """What each step leads to, and last the one without a bug: float (60, 1, 16, 16) in [0, 1], ten digits each."""
    with Image.open(PICTURES) as file:
        rows = torch.frombuffer(bytearray(file.convert("L").tobytes()), dtype=torch.uint8).view(-1, 10 * SIDE)
    return rows.view(-1, SIDE, 10, SIDE).transpose(1, 2).reshape(-1, 1, SIDE, SIDE).float() / 255
