"""How much to compute: the presets `smoke`, `laptop` and `full`, and the device."""

import os
from dataclasses import dataclass

import torch

from course_utils.validation import quoted


@dataclass(frozen=True)
class Settings:
    """What a notebook may spend.

    Attributes:
        preset: the name of this setting.
        device: "cuda", "mps" or "cpu".
        train_images: images that a notebook's training sees, repeats counted.
        eval_images: pictures drawn to measure quality, for each seed.
        eval_seeds: how many times that is done, with another seed each time.
        images_per_class: rows of the grid of samples.
        ddpm_steps: steps where the thousand-step sampler is shown.
    """

    preset: str
    device: str
    train_images: int
    eval_images: int
    eval_seeds: int
    images_per_class: int
    ddpm_steps: int


PRESETS = {
    "smoke": dict(train_images=256, eval_images=100, eval_seeds=1, images_per_class=2, ddpm_steps=4),
    "laptop": dict(train_images=40_960, eval_images=200, eval_seeds=5, images_per_class=8, ddpm_steps=1000),
    "full": dict(train_images=600_000, eval_images=1000, eval_seeds=5, images_per_class=8, ddpm_steps=1000),
}


def best_device() -> str:
    """ "cuda" or "mps" where there is one, else "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def course_settings(preset: str | None = None) -> Settings:
    """The one switch of every notebook.

    Args:
        preset: "smoke" (seconds, for tests), "laptop" (minutes on a CPU) or "full" (as long as the example's ten
            epochs); default $COURSE_PRESET, else "laptop" on any device: a training that takes hours is asked for.

    Raises:
        ValueError: for an unknown preset.
    """
    chosen = preset or os.environ.get("COURSE_PRESET") or "laptop"
    if not isinstance(chosen, str) or chosen not in PRESETS:
        origin = "" if preset else "the environment variable COURSE_PRESET holds an "
        expected = ", ".join(map(repr, PRESETS))
        raise ValueError(f"{origin}unknown preset {quoted(chosen)}: expected one of {expected}.")
    return Settings(chosen, best_device(), **PRESETS[chosen])
