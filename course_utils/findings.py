"""What longer trainings of the maintainers found: figures and pictures that come with the course, for the notebooks."""

import json
from pathlib import Path

import torch
from PIL import Image

from course_utils.data import SAMPLES_FOLDER

EMBEDDING_SIZES = SAMPLES_FOLDER / "embedding-sizes.json"


def embedding_sizes() -> list[dict]:
    """Short trainings of the example's network with several sizes of the embedding (`python -m tools.embedding_sizes`).

    Returns:
        One dict per training: "size", "seed", "class_accuracy" and "judge_accuracy" (0 .. 1), "excess_distance",
        "seconds" and "images" (seen in training).
    """
    return json.loads(EMBEDDING_SIZES.read_text(encoding="utf-8"))


def embedding_size_pictures() -> torch.Tensor:
    """Ten digits for each of those sizes, in their order, all from the same noise: float (N, 1, 28, 28) in [0, 1]."""
    return rows_of_pictures(EMBEDDING_SIZES.with_suffix(".png"), 28)


def rows_of_pictures(file: Path, side: int) -> torch.Tensor:
    """The pictures of a file that has ten of them in each row: float (N, 1, side, side) in [0, 1], ink = 1."""
    with Image.open(file) as image:
        rows = torch.frombuffer(bytearray(image.convert("L").tobytes()), dtype=torch.uint8).view(-1, 10 * side)
    return rows.view(-1, side, 10, side).transpose(1, 2).reshape(-1, 1, side, side).float() / 255
