"""The images: `ImageDataset`, the front door for any pictures; MNIST and FashionMNIST, downloaded and verified."""

import copy
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets

from course_utils.own_pictures import (
    as_class_names,
    as_images,
    as_indices,
    as_labels,
    first_part,
    read_folder,
    read_torchvision,
    without_subsets,
)
from course_utils.storage.downloads import fetch, unpack, verified
from course_utils.storage.files import make_writable_folder, written_whole
from course_utils.validation import in_one_line, quoted

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
    """Small grey images with labels, all in memory: the front door for anybody's pictures.

    `ds[i]` is `(image, label)`: float32 (1, H, H) in [0, 1], ink = 1, paper = 0, and an int. A `DataLoader` fetches whole
    batches of them at once.

    Everything is checked when it is made, and copied, so that no later change of the arrays goes unchecked. One range
    never passes for another: whole numbers are 0 .. 255, floats are 0 .. 1, and both reach at least an eighth of full
    ink somewhere.

    Args:
        images: (N, H, H), (N, 1, H, H) or (N, H, H, 1), a tensor, a NumPy array or nested lists: whole numbers 0 .. 255,
            floats in [0, 1], or booleans.
        labels: N whole numbers from 0, in any container.
        class_names: one name per class, at most 1000; default: "0", "1", ... up to the highest label.
        name: of the data set, for titles and reports.
        split: "train" or "test", for reports.
        is_sample: True where the bundled sample stands in for a data set that could not be downloaded.

    Attributes:
        images: uint8 (N, 1, H, H), 0 .. 255.
        labels: int64 (N,).
        class_names: a list with one name per label.
        name, split, is_sample: as given.
        note: what the title of a figure adds to say that it is the sample; "" for real pictures.

    Raises:
        ValueError: with what was found, what was expected and what to do.
    """

    def __init__(self, images, labels, class_names=None, name: str = "", split: str = "train", is_sample: bool = False):
        self.images = as_images(images)
        self.labels = as_labels(labels, len(self.images))
        self.class_names = as_class_names(class_names, int(self.labels.max()))
        self.name, self.split, self.is_sample = str(name), split, is_sample
        self.note = SAMPLE_NOTE if is_sample else ""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i].float() / 255, int(self.labels[i])

    def __getitems__(self, indices) -> list:
        """Many at once, as a `DataLoader` asks for them."""
        indices = torch.as_tensor(indices)
        return list(zip(self.images[indices].float() / 255, self.labels[indices].tolist()))

    def subset(self, chosen) -> "ImageDataset":
        """Some of the pictures, with the same class names.

        Args:
            chosen: a mask (N,) of booleans, such as `ds.labels == 3`; or the numbers of the pictures; or a slice.

        Raises:
            ValueError: for a mask of another length, numbers outside, or nothing chosen.
        """
        indices, part = as_indices(chosen, len(self)), copy.copy(self)
        part.images, part.labels = self.images[indices], self.labels[indices]
        return part

    @classmethod
    def from_torchvision(cls, dataset, class_names=None, name: str | None = None) -> "ImageDataset":
        """Grey pictures from a data set of torchvision, or from any other that gives `(picture, label)`.

        Its transforms are used once, so none is needed, and ToTensor does no harm. MNIST and FashionMNIST get the
        course's class names; EMNIST's pictures are put upright, and its letters count from 0.

        Args:
            dataset: such as `torchvision.datasets.KMNIST(...)`; or a `Subset`, `random_split`'s too, of it or of an
                `ImageDataset`.
            class_names, name: default: the data set's own.

        Raises:
            ValueError: for colours, pictures of different sizes, another range than [0, 1], or no `(picture, label)`.
        """
        whole, chosen = without_subsets(dataset)
        if isinstance(whole, cls):
            part = whole if chosen is None else whole.subset(chosen)
            return cls(part.images, part.labels, class_names or part.class_names, name or part.name, part.split)
        images, labels, names = read_torchvision(whole, chosen)
        part = first_part(whole)
        own_name = KNOWN_TO_TORCHVISION.get(type(part), type(part).__name__) if names else ""
        names = SOURCES[own_name].class_names if own_name in SOURCES else names
        split = "train" if getattr(part, "train", True) else "test"
        return cls(images, labels, class_names or names, own_name if name is None else name, split)

    @classmethod
    def from_folder(cls, folder, size: int = 28, ink: str = "auto", name: str | None = None) -> "ImageDataset":
        """Grey pictures from a folder with a sub-folder for each class, in torchvision's `ImageFolder` layout.

        Any format that Pillow opens, of any size: each picture is turned as its camera was held, put in the middle of
        a square of its paper, and averaged down to `size` x `size`. The sub-folders' names are the class names, in
        natural order. Hidden files are left out, and a warning names files that are no pictures.

        Args:
            folder: a path; `~` is the user's own folder.
            size: pixels per side, 4 .. 512; the recipes train at 28.
            ink: "dark" ink on light paper is turned over, because the course stores ink as 1; "light" stays. "auto"
                takes for paper what the borders of most pictures show.
            name: of the data set; default: the folder's.

        Raises:
            ValueError: for a folder of another layout, a class without pictures, or files that cannot be read.
        """
        images, labels, class_names = read_folder(folder, size, ink)
        own_name = Path(folder).expanduser().resolve().name
        own_name = f"my {own_name}" if own_name in SOURCES else own_name  # never to be taken for the real MNIST
        return cls(images, labels, class_names, own_name if name is None else name)


# The data sets of torchvision that are the course's own.
KNOWN_TO_TORCHVISION = {datasets.MNIST: "mnist", datasets.FashionMNIST: "fashion_mnist"}


def check_image_dataset(dataset):
    """Refuse anything but an `ImageDataset`, and say which call makes one of it.

    Raises:
        ValueError: with what was found and what to do.
    """
    if isinstance(dataset, ImageDataset):
        return check_unchanged(dataset)
    if isinstance(dataset, str):
        advice = f"load_dataset({dataset!r})" if dataset in SOURCES else "ImageDataset.from_folder(folder)"
    elif isinstance(dataset, Path):
        advice = "ImageDataset.from_folder(folder)"
    elif isinstance(dataset, DataLoader):
        advice = "ImageDataset.from_torchvision(loader.dataset)"
    elif isinstance(dataset, Dataset):
        advice = "ImageDataset.from_torchvision(dataset)"
    else:
        advice = "ImageDataset(images, labels, class_names)"
    found = quoted(dataset) if isinstance(dataset, (str, Path)) else f"a {type(dataset).__name__}"
    raise ValueError(f"the data set is {found}, expected an ImageDataset: use {advice}.")


def check_unchanged(dataset: ImageDataset):
    """Refuse an `ImageDataset` whose attributes were replaced by what does not fit together.

    Raises:
        ValueError: with what was found and what to do.
    """
    images, labels = dataset.images, dataset.labels
    if not (isinstance(images, torch.Tensor) and images.dtype == torch.uint8 and images.ndim == 4):
        found = "images are no longer uint8 (N, 1, H, H)"
    elif not (isinstance(labels, torch.Tensor) and labels.dtype == torch.int64 and labels.shape == (len(images),)):
        found = "labels are no longer int64, one per image"
    elif len(labels) == 0 or labels.min() < 0 or labels.max() >= len(dataset.class_names):
        found = "labels and class_names no longer fit together"
    else:
        return
    raise ValueError(f"the data set's {found}: make a new one by ImageDataset(images, labels, class_names).")


def load_dataset(name: str, split: str = "train", root=None, download: bool = True) -> ImageDataset:
    """Load MNIST or FashionMNIST, downloading it the first time.

    Every raw file is compared with its known checksum before use; a damaged one is fetched again, and the other
    split's files with it. When that fails, the sample bundled with the course stands in, with a warning that says why.
    A mirror that keeps silent is given up after `downloads.TIMEOUT` seconds: with two mirrors, half a minute.

    Args:
        name: "mnist" or "fashion_mnist".
        split: "train" (60,000 images) or "test" (10,000).
        root: folder of the data sets, in torchvision's layout; default: as in `data_folder`, and where that cannot be
            written to, the sample stands in.
        download: fetch what is missing or damaged.

    Returns:
        An `ImageDataset`; look at `is_sample` to see whether it is the real set.

    Raises:
        ValueError: for an unknown name or split.
        OSError: if `root` cannot be written to, or with `download=False` if files are missing or damaged.
    """
    if not isinstance(name, str) or name not in SOURCES:
        raise ValueError(f"unknown data set {quoted(name)}: expected one of {', '.join(map(repr, SOURCES))}.")
    if not isinstance(split, str) or split not in FILE_PREFIXES:
        raise ValueError(f"unknown split {quoted(split)}: expected 'train' or 'test'.")
    folder, source, prefix = data_folder(root), SOURCES[name], FILE_PREFIXES[split]
    bad = damaged_files(source, folder, prefix)
    if bad and not download:
        raise FileNotFoundError(
            f"{raw_folder(source, folder)} lacks good copies of {', '.join(bad)}: use download=True to fetch them."
        )
    if bad:
        if root:
            make_writable_folder(raw_folder(source, folder))
        try:
            make_writable_folder(raw_folder(source, folder))
            mend_files(source, folder, prefix)
        except OSError as error:  # no mirror has them, something is in their place, no folder, the disk is full
            if damaged_files(source, folder, prefix):
                return fall_back(name, split, folder, error)
    path = raw_folder(source, folder) / prefix
    images, labels = read_idx(Path(f"{path}-images-idx3-ubyte")), read_idx(Path(f"{path}-labels-idx1-ubyte"))
    return ImageDataset(images, labels, source.class_names, name, split)


def data_folder(root=None) -> Path:
    """Where the data sets are: `root`, else $COURSE_DATA_DIR, else a folder in the user's cache. An absolute path.

    A relative path starts at the folder that the program runs in, which is another one for each notebook's folder:
    give $COURSE_DATA_DIR whole.

    Raises:
        ValueError: for what is no path.
        OSError: if the system knows no home for `~`.
    """
    chosen = root or os.environ.get("COURSE_DATA_DIR")
    if chosen is not None and not isinstance(chosen, (str, os.PathLike)):
        raise ValueError(f"root is {quoted(chosen)}, expected the path of a folder.")
    try:
        return (Path(chosen).expanduser() if chosen else default_root()).absolute()
    except RuntimeError as error:
        raise FileNotFoundError(
            f"no home folder is known for {chosen or '~'}: set COURSE_DATA_DIR to a folder."
        ) from error


def default_root() -> Path:
    """The per-user folder for data sets, after the XDG convention."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "class-conditional-diffusion-course"


def raw_folder(source: Source, root: Path) -> Path:
    """Where torchvision keeps the unzipped files of a data set."""
    return root / source.folder / "raw"


def read_idx(path: Path) -> torch.Tensor:
    """The bytes of a file in MNIST's IDX format, as uint8 of the shape that its header says.

    Raises:
        ValueError: if it is not such a file, or not whole.
    """
    content = path.read_bytes()
    if len(content) < 4 or content[:3] != b"\0\0\x08":  # 8: unsigned bytes
        raise ValueError(f"{path} is no file of bytes in the IDX format: remove it, and it is fetched again.")
    header = 4 + 4 * content[3]
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4)]
    if len(content) != header + math.prod(shape):
        raise ValueError(f"{path} has {len(content):,} bytes, not what its header says: remove it.")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).reshape(shape)


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
        return verified(unpack(path.with_name(path.name + ".gz").read_bytes(), LARGEST_FILE), md5)
    except (OSError, ValueError):
        return None


def fall_back(name: str, split: str, root: Path, reason: Exception) -> ImageDataset:
    """The bundled sample, with a warning that says why it is used."""
    warnings.warn(
        f"{name} could not be loaded ({in_one_line(reason)}), so the bundled sample stands in, pictures drawn by this course's own "
        f"model, not real ones: for the real ones put this right and run this again, or copy the data set's raw files "
        f"to {raw_folder(SOURCES[name], root)}; COURSE_DATA_DIR names another folder.",
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
