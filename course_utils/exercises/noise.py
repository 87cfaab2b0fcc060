"""The exercises of notebook 1: how much noise a picture has at each timestep, and how it is added."""

import inspect
import math

import torch

from course_utils import minimal
from course_utils.exercises.exercise import FunctionExercise, Mistake


def level(time: float) -> float:
    """The cosine curve of arXiv:2102.09672: from 1, only picture, to 0, only noise."""
    return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2


def betas(count: int, clipped: bool = True, level=level) -> torch.Tensor:
    """The share of the noise that each timestep adds, float32 (count,)."""
    shares = [1 - level((t + 1) / count) / level(t / count) for t in range(count)]
    return torch.tensor([min(share, 0.999) if clipped else share for share in shares])


cosine_alphas_cumprod = FunctionExercise(
    name="cosine_alphas_cumprod",
    solution_text=inspect.getsource(minimal.cosine_alphas_cumprod),
    praise="These are the numbers of diffusers' `squaredcos_cap_v2`.",
    hints=(
        "Three steps: a list of the betas, then the alphas, `1 - beta`, then the product of the alphas up to each timestep.",
        "For beta at t you need f at t / T and at (t + 1) / T. `min(..., 0.999)` limits it.",
        "`(1 - torch.tensor(betas)).cumprod(0)`, where `betas` is a list of Python numbers.",
    ),
    draw_arguments=lambda generator, trial: ((1000, 10, 100, 2, 50, 500, 30, 250)[trial],),
    mistakes=(
        Mistake(lambda n: betas(n), "Those are the betas: the share of noise that each timestep adds."),
        Mistake(lambda n: 1 - betas(n), "Those are the alphas; alpha_bar is the product of all alphas up to t."),
        Mistake(lambda n: (1 - betas(n)).cumsum(0), "That is a sum; alpha_bar is a product."),
        Mistake(lambda n: betas(n).cumprod(0), "That multiplies the betas; the product is of 1 - beta."),
        Mistake(
            lambda n: (1 - betas(n, clipped=False)).cumprod(0),
            "The last beta is not limited to 0.999, so that nothing of the picture is left at the last timestep.",
        ),
        Mistake(
            lambda n: torch.tensor([level(t / n) for t in range(n)]),
            "That is f itself, one timestep too early, and no beta is limited to 0.999.",
        ),
        Mistake(
            lambda n: (1 - betas(n, level=lambda time: math.sqrt(level(time)))).cumprod(0),
            "The square of the cosine is missing in f.",
        ),
        Mistake(
            lambda n: (1 - betas(n, level=lambda time: math.cos(time * math.pi / 2) ** 2)).cumprod(0),
            "The small number 0.008 is missing in f.",
        ),
        Mistake(lambda n: (1 - betas(n)).cumprod(0).sqrt(), "Those are the square roots, the factors of the picture."),
        Mistake(lambda n: (1 - betas(1000)).cumprod(0), "The number of timesteps must follow `num_train_timesteps`."),
    ),
)


def draw_noising(generator, trial):
    """Arguments for `add_noise`: pictures that are not square, and another timestep for each."""
    batch, height, width = (int(torch.randint(low, low + 4, (), generator=generator)) for low in (2, 7, 12))
    images, noise = (torch.randn(batch, 1, height, width, generator=generator) for _ in range(2))
    timesteps = torch.randperm(40, generator=generator)[:batch]
    return images, noise, timesteps, minimal.cosine_alphas_cumprod(40)


def per_picture(numbers: torch.Tensor) -> torch.Tensor:
    """(B,) to (B, 1, 1, 1)."""
    return numbers[:, None, None, None]


def mixed(images, noise, of_images, of_noise):
    """Both with a factor for each picture."""
    return per_picture(of_images) * images + per_picture(of_noise) * noise


add_noise = FunctionExercise(
    name="add_noise",
    solution_text=inspect.getsource(minimal.add_noise),
    praise="`DDPMScheduler.add_noise` in diffusers does the same.",
    hints=(
        "`alphas_cumprod[timesteps]` gives alpha_bar for each picture: shape (B,).",
        "A factor of shape (B, 1, 1, 1) multiplies each picture by its own number: use `.view(-1, 1, 1, 1)`.",
        "The picture's factor is `alpha_bar.sqrt()`, the noise's factor is `(1 - alpha_bar).sqrt()`.",
    ),
    draw_arguments=draw_noising,
    mistakes=(
        Mistake(lambda x, e, t, a: mixed(x, e, a[t], 1 - a[t]), "The two square roots are missing."),
        Mistake(lambda x, e, t, a: mixed(x, e, a[t].sqrt(), 1 - a[t]), "The noise's square root is missing."),
        Mistake(lambda x, e, t, a: mixed(x, e, a[t], (1 - a[t]).sqrt()), "The picture's square root is missing."),
        Mistake(
            lambda x, e, t, a: minimal.add_noise(x, e, t, minimal.cosine_alphas_cumprod()),
            "The schedule must be the argument `alphas_cumprod`, which need not have 1000 timesteps.",
        ),
        Mistake(
            lambda x, e, t, a: mixed(x, e, (1 - a[t]).sqrt(), a[t].sqrt()),
            "The factors are swapped: at t = 0 almost everything is picture.",
        ),
        Mistake(
            lambda x, e, t, a: mixed(x, e, a[t].sqrt(), 1 - a[t].sqrt()),
            "The *squares* of the two factors add up to 1, not the factors.",
        ),
        Mistake(
            lambda x, e, t, a: mixed(x, e, a[t[:1]].sqrt(), (1 - a[t[:1]]).sqrt()),
            "Every picture gets the first picture's timestep.",
        ),
        Mistake(lambda x, e, t, a: x + per_picture((1 - a[t]).sqrt()) * e, "The picture keeps its full strength."),
        Mistake(lambda x, e, t, a: per_picture(a[t].sqrt()) * x, "The noise is missing."),
        Mistake(lambda x, e, t, a: mixed(x, e, a[t].sqrt(), -(1 - a[t]).sqrt()), "The noise is added, not subtracted."),
    ),
)
