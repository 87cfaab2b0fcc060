"""The images: MNIST and FashionMNIST, downloaded, verified and held in one tensor."""

import hashlib
import os
import tempfile
import warnings
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch.utils.data import Dataset
from torchvision import datasets

from course_utils.files import make_writable_folder

SAMPLES_FOLDER = Path(__file__).parent / "samples"
SAMPLE_COLUMNS = 50  # images in a row of a sample sheet


@dataclass(frozen=True)
class Source:
    """Where a data set comes from, and how to recognise its files."""

    torchvision_class: type
    class_names: tuple[str, ...]
    md5: dict[str, str]  # of each raw file, unzipped


SOURCES = {
    "mnist": Source(
        datasets.MNIST,
        tuple("0123456789"),
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "fashion_mnist": Source(
        datasets.FashionMNIST,
        ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
}


class ImageDataset(Dataset):
    """Small grey images with labels, all in memory.

    `ds[i]` is `(image, label)`: float32 (1, 28, 28) in [0, 1], ink = 1, and an int.

    Attributes:
        images: uint8 (N, 1, 28, 28), 0 .. 255.
        labels: int64 (N,).
        class_names: one name a label.
        name, split: what was asked of `load_dataset`.
        is_sample: True where the bundled sample stands in for a data set that could not be downloaded.
    """

    def __init__(self, images, labels, class_names, name="", split="train", is_sample=False):
        self.images, self.labels = images, labels
        self.class_names = list(class_names)
        self.name, self.split, self.is_sample = name, split, is_sample

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i].float() / 255, int(self.labels[i])


def load_dataset(name: str, split: str = "train", root=None, download: bool = True) -> ImageDataset:
    """Load MNIST or FashionMNIST, downloading it the first time.

    Every raw file is compared with its known checksum before use; a damaged one is fetched again. When that fails,
    the sample bundled with the course stands in, with a warning that says why.

    Args:
        name: "mnist" or "fashion_mnist".
        split: "train" (60,000 images) or "test" (10,000).
        root: folder of the data sets, in torchvision's layout; default $COURSE_DATA_DIR, else a folder in the user's
            cache.
        download: fetch what is missing or damaged.

    Returns:
        An `ImageDataset`; look at `is_sample` to see whether it is the real set.

    Raises:
        ValueError: for an unknown name or split.
        OSError: if the folder cannot be written to, or with `download=False` if files are missing or damaged.
    """
    if name not in SOURCES:
        raise ValueError(f"unknown data set {name!r}: expected one of {', '.join(map(repr, SOURCES))}.")
    if split not in ("train", "test"):
        raise ValueError(f"unknown split {split!r}: expected 'train' or 'test'.")
    root = Path(root or os.environ.get("COURSE_DATA_DIR") or default_root()).expanduser()
    source = SOURCES[name]
    bad = damaged_files(source, root)
    if bad and not download:
        raise FileNotFoundError(
            f"{raw_folder(source, root)} lacks good copies of {', '.join(bad)}: use download=True to fetch them."
        )
    if bad:
        try:
            download_files(source, root)
        except RuntimeError as error:  # what torchvision raises when no mirror answers, or answers wrongly
            return fall_back(name, split, root, error)
    stored = source.torchvision_class(root, train=split == "train", download=False)
    return ImageDataset(stored.data[:, None], stored.targets, source.class_names, name, split)


def default_root() -> Path:
    """The per-user folder for data sets, after the XDG convention."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "class-conditional-diffusion-course"


def raw_folder(source: Source, root: Path) -> Path:
    """Where torchvision keeps the unzipped files of a data set."""
    return root / source.torchvision_class.__name__ / "raw"


def damaged_files(source: Source, root: Path) -> list[str]:
    """Names of the raw files that are missing or are not, byte for byte, what they should be."""
    return [name for name, md5 in source.md5.items() if not has_md5(raw_folder(source, root) / name, md5)]


def has_md5(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == md5


def download_files(source: Source, root: Path):
    """Put good copies of the missing or damaged raw files in place; good files are left alone.

    The download goes to a temporary folder beside the data and each file is moved into place whole, so neither an
    interruption nor a second process can leave half a file; a lock keeps a second process from downloading again.

    Raises:
        OSError: if the folder cannot be written to.
        RuntimeError: if no mirror delivers the right files.
    """
    make_writable_folder(raw_folder(source, root))
    with FileLock(root / ".download.lock"), tempfile.TemporaryDirectory(dir=root, prefix=".incoming-") as incoming:
        bad = damaged_files(source, root)
        if not bad:
            return  # another process fetched them while this one waited
        fetch(source, Path(incoming))
        for name in bad:
            os.replace(raw_folder(source, Path(incoming)) / name, raw_folder(source, root) / name)


def fetch(source: Source, folder: Path):
    """Download a data set into an empty folder with torchvision, and verify it.

    Raises:
        RuntimeError: if no mirror delivers the right files.
    """
    try:
        source.torchvision_class(folder, download=True)
    except (RuntimeError, EOFError, HTTPException, ConnectionError, TimeoutError) as error:
        raise RuntimeError(str(error) or type(error).__name__) from error
    wrong = damaged_files(source, folder)
    if wrong:
        raise RuntimeError(f"the downloaded {wrong[0]} is not the file it should be")


def fall_back(name: str, split: str, root: Path, reason: Exception) -> ImageDataset:
    """The bundled sample, with a warning that says why it is used."""
    warnings.warn(
        f"{name} could not be downloaded ({str(reason).splitlines()[0]}). In its place you get the bundled sample: "
        f"pictures drawn by this course's own model, not real ones. To fix it, connect to the internet and run this "
        f"again, or copy the data set's raw files to {raw_folder(SOURCES[name], root)}.",
        stacklevel=3,
    )
    return load_sample(name, split)


def load_sample(name: str, split: str = "train") -> ImageDataset:
    """2,000 pictures drawn by the course's own model: 1,600 as "train", 400 as "test".

    They are stored as one sheet, image i in row i // 50 and column i % 50, with label i % 10.
    """
    sheet = torch.from_numpy(np.array(Image.open(SAMPLES_FOLDER / f"{name}.png")))  # (40 * 28, 50 * 28)
    images = sheet.unfold(0, 28, 28).unfold(1, 28, 28).reshape(-1, 1, 28, 28).contiguous()
    labels = torch.arange(len(images)) % 10
    kept = slice(None, 1600) if split == "train" else slice(1600, None)
    return ImageDataset(images[kept], labels[kept], SOURCES[name].class_names, name, split, is_sample=True)


def save_sample(images: torch.Tensor, path: Path):
    """Write pictures as the sheet that `load_sample` reads.

    Args:
        images: uint8 (N, 28, 28), N a multiple of 50, image i of class i % 10.
        path: the PNG to write.
    """
    rows = images.reshape(-1, SAMPLE_COLUMNS, 28, 28)
    Image.fromarray(rows.permute(0, 2, 1, 3).reshape(len(rows) * 28, SAMPLE_COLUMNS * 28).numpy()).save(
        path, optimize=True
    )


def scale_to_model(images: torch.Tensor) -> torch.Tensor:
    """uint8 0 .. 255 to float32 in [-1, 1], the range the network sees."""
    return images.float() / 127.5 - 1
