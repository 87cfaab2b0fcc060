"""Pictures as image files: enlarged, laid out in a grid, in whatever format a file's ending names."""

import io
from pathlib import Path

import torch
from PIL import Image

HEIGHT = 224  # pixels of a picture on the screen
LARGEST_SIDE = 16_000  # pixels of an image; WebP has the smallest limit of the usual formats, 16,383


def tiled(pictures: torch.Tensor, columns: int) -> torch.Tensor:
    """Square pictures (N, 1, H, H), row after row on one sheet (rows * H, columns * H); what is left over is paper, 0."""
    rows, side = -(-len(pictures) // columns), pictures.shape[-1]
    sheet = torch.zeros(rows * columns, side, side)
    sheet[: len(pictures)] = pictures[:, 0].float().cpu()
    return sheet.view(rows, columns, side, side).permute(0, 2, 1, 3).reshape(rows * side, columns * side)


def on_paper(pictures: torch.Tensor) -> torch.Tensor:
    """How pictures are shown everywhere in the course: ink, stored as 1, is black, and paper, stored as 0, is white."""
    return 1 - pictures


def picture_grid(pictures: torch.Tensor, columns: int) -> Image.Image:
    """One image of many pictures, dark ink on white paper, each pixel enlarged as far as that makes no huge image.

    Args:
        pictures: (N, 1, H, H) in [0, 1]; outside of it they are clipped.
        columns: pictures in a row, at most.
    """
    sheet = on_paper(tiled(pictures, min(columns, len(pictures)))).clamp(0, 1)
    image = Image.fromarray(sheet.mul(255).round().byte().numpy())
    scale = max(1, min(HEIGHT // pictures.shape[-1], LARGEST_SIDE // max(image.size)))
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def png_bytes(pictures: torch.Tensor, columns: int | None = None) -> bytes:
    """Pictures (N, 1, H, H) in [0, 1] as a PNG of dark ink on white paper, each enlarged to about 224 pixels.

    Args:
        columns: pictures side by side, at most; default: all of them.
    """
    buffer = io.BytesIO()
    picture_grid(pictures, columns or len(pictures)).save(buffer, "PNG", compress_level=1)
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
