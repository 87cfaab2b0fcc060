"""The images: MNIST and FashionMNIST, downloaded, verified and held in one tensor."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch.utils.data import Dataset
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from course_utils.storage.downloads import fetch, unpack, verified
from course_utils.storage.files import make_writable_folder, written_whole
from course_utils.validation import quoted

SAMPLE_NOTE = " (bundled sample, not real images)"
SAMPLES_FOLDER = Path(__file__).parent / "samples"
SAMPLE_COLUMNS = 50  # images in a row of a sample sheet
LARGEST_FILE = 16 + 60_000 * 28 * 28  # bytes: a header and the training images; no raw file is larger
FILE_PREFIXES = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class Source:
    """Where a data set comes from, and how to recognise its files."""

    folder: str  # as torchvision calls it
    mirrors: tuple[str, ...]  # addresses of the zipped files' folder, in the order in which they are tried
    class_names: tuple[str, ...]
    md5: dict[str, str]  # of each raw file, unzipped


SOURCES = {
    "mnist": Source(
        "MNIST",
        # torchvision's, those with encryption first, whichever comes first in its version
        tuple(sorted(datasets.MNIST.mirrors, key=lambda mirror: not mirror.startswith("https://"))),
        tuple("0123456789"),
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "fashion_mnist": Source(
        "FashionMNIST",
        # torchvision has one mirror, without encryption; the data set's own repository holds the same files.
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            *datasets.FashionMNIST.mirrors,
        ),
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
        note: what the title of a figure adds to say so; "" for the real data set.
    """

    def __init__(self, images, labels, class_names, name="", split="train", is_sample=False):
        self.images, self.labels = images, labels
        self.class_names = list(class_names)
        self.name, self.split, self.is_sample = name, split, is_sample
        self.note = SAMPLE_NOTE if is_sample else ""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i].float() / 255, int(self.labels[i])


def check_image_dataset(dataset):
    """Refuse what is no `ImageDataset`.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if not isinstance(dataset, ImageDataset):
        raise ValueError(
            f"dataset is {quoted(dataset)}, expected an ImageDataset: load_dataset('mnist'), or "
            "ImageDataset(images, labels, class_names) with uint8 images (N, 1, 28, 28) and int64 labels (N,)."
        )


def load_dataset(name: str, split: str = "train", root=None, download: bool = True) -> ImageDataset:
    """Load MNIST or FashionMNIST, downloading it the first time.

    Every raw file is compared with its known checksum before use; a damaged one is fetched again, and the other
    split's files with it. When that fails, the sample bundled with the course stands in, with a warning that says why.
    A mirror that keeps silent is given up after `downloads.TIMEOUT` seconds: with two mirrors, half a minute.

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
    prefix = FILE_PREFIXES[split]
    bad = damaged_files(source, root, prefix)
    if bad and not download:
        raise FileNotFoundError(
            f"{raw_folder(source, root)} lacks good copies of {', '.join(bad)}: use download=True to fetch them."
        )
    if bad:
        make_writable_folder(raw_folder(source, root))
        try:
            mend_files(source, root, prefix)
        except OSError as error:  # no mirror has them, something is in their place, the disk is full
            if damaged_files(source, root, prefix):
                return fall_back(name, split, root, error)
    path = raw_folder(source, root) / prefix
    images, labels = read_image_file(f"{path}-images-idx3-ubyte"), read_label_file(f"{path}-labels-idx1-ubyte")
    return ImageDataset(images[:, None], labels, source.class_names, name, split)


def default_root() -> Path:
    """The per-user folder for data sets, after the XDG convention."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "class-conditional-diffusion-course"


def raw_folder(source: Source, root: Path) -> Path:
    """Where torchvision keeps the unzipped files of a data set."""
    return root / source.folder / "raw"


def damaged_files(source: Source, root: Path, prefix: str = "") -> list[str]:
    """Names of the raw files that are missing or are not, byte for byte, what they should be."""
    folder = raw_folder(source, root)
    return [name for name, md5 in source.md5.items() if name.startswith(prefix) and not has_md5(folder / name, md5)]


def has_md5(path: Path, md5: str) -> bool:
    try:
        return path.is_file() and bool(verified(path.read_bytes(), md5))
    except (OSError, ValueError):  # not for us to read; or damaged
        return False


def mend_files(source: Source, root: Path, first: str):
    """Put good copies of the missing or damaged raw files in place; good files are left alone.

    Those whose names begin with `first` come first.

    Each file is unpacked and verified in memory, and then appears whole, so neither an interruption nor a second
    process can leave half a file; a lock keeps a second process from downloading again.

    Raises:
        OSError: if a good copy cannot be had or put in place.
    """
    mirrors = list(source.mirrors)
    with FileLock(root / ".download.lock"):
        bad = damaged_files(source, root)  # asked anew: another process may have mended them by now
        for file in sorted(bad, key=lambda file: not file.startswith(first)):
            path = raw_folder(source, root) / file
            clear_the_way(path)
            content = from_archive(path, source.md5[file]) or fetch(file, source.md5[file], LARGEST_FILE, mirrors)
            with written_whole(path) as partial:
                partial.write_bytes(content)


def clear_the_way(path: Path):
    """Remove an empty folder in a file's place.

    Raises:
        OSError: if the folder holds something.
    """
    if path.is_dir() and not path.is_symlink():
        try:
            path.rmdir()
        except OSError as error:
            raise OSError(f"{path} is a folder that holds something, where a file should be: move it away") from error


def from_archive(path: Path, md5: str) -> bytes | None:
    """A raw file's content from a good archive beside it, such as torchvision leaves there; None if there is none."""
    try:
        return verified(unpack([path.with_name(path.name + ".gz").read_bytes()], LARGEST_FILE), md5)
    except (OSError, ValueError):
        return None


def fall_back(name: str, split: str, root: Path, reason: Exception) -> ImageDataset:
    """The bundled sample, with a warning that says why it is used."""
    warnings.warn(
        f"{name} could not be loaded ({reason}), so the bundled sample stands in, pictures drawn by this course's own "
        f"model, not real ones: for the real ones connect to the internet and run this again, or copy the data set's "
        f"raw files to {raw_folder(SOURCES[name], root)}.",
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
