"""Pictures as image files: enlarged, laid out in a grid, in whatever format a file's ending names."""

import io
from pathlib import Path

import torch
from PIL import Image

HEIGHT = 224  # pixels of a picture on the screen
LARGEST_SIDE = 16_000  # pixels of an image; WebP has the smallest limit of the usual formats, 16,383


def picture_grid(pictures: torch.Tensor, columns: int) -> Image.Image:
    """One grey image of many pictures, in rows, each pixel enlarged as far as that makes no huge image.

    Args:
        pictures: (N, 1, H, W) in [0, 1]; outside of it they are clipped.
        columns: pictures in a row; what is left of the last row is black.
    """
    count, _, height, width = pictures.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    cells = torch.zeros(rows * columns, height, width)
    cells[:count] = pictures[:, 0]
    grid = cells.view(rows, columns, height, width).transpose(1, 2).reshape(rows * height, columns * width)
    image = Image.fromarray(grid.clamp(0, 1).mul(255).round().byte().numpy())
    scale = max(1, min(HEIGHT // height, LARGEST_SIDE // max(image.size)))
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def png_bytes(pictures: torch.Tensor) -> bytes:
    """Pictures (N, 1, 28, 28) in [0, 1], side by side, as PNG with every pixel enlarged to a height of 224 pixels."""
    buffer = io.BytesIO()
    picture_grid(pictures, len(pictures)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def image_format(path: Path) -> str:
    """The format that a file's ending stands for, as Pillow calls it.

    Raises:
        ValueError: if Pillow cannot write grey pictures in such a format.
    """
    name = Image.registered_extensions().get(path.suffix.lower())
    try:
        Image.new("L", (28, 28)).save(io.BytesIO(), name or path.suffix)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(
            f"{path.name} ends in {path.suffix!r}, expected the ending of an image format, such as .png, .jpg, .webp or "
            ".pdf."
        ) from error
    return name
