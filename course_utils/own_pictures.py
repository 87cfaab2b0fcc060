"""Pictures from anywhere: arrays that are checked, data sets of torchvision, folders of files, and shapes to try it with."""

import re
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch.utils.data import ConcatDataset, Subset
from torchvision import datasets
from tqdm import tqdm

from course_utils.storage.files import make_writable_folder
from course_utils.validation import check_whole_number, in_one_line, quoted

MOST_CLASSES = 1000
FAINTEST = 32  # of 255: pixels that nowhere reach an eighth of full ink are in another range, such as 0 .. 1 or 0 .. 16
ROUNDING = 1e-3  # by which a resized picture may leave the range from 0 to 1
INKS = ("auto", "light", "dark")
SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")
SHOWN = 5  # names of files in a message
CHUNK = 4096  # pictures that are turned into bytes at once


def as_images(images) -> torch.Tensor:
    """Grey pictures in any container, as uint8 (N, 1, H, H).

    Args:
        images: (N, H, H), (N, 1, H, H) or (N, H, H, 1): whole numbers 0 .. 255, floats in [0, 1], or booleans.

    Raises:
        ValueError: for another shape, colours, no pictures, or numbers in another range.
    """
    images = as_bytes(with_channel(as_tensor("images", images)))
    if images.max() < FAINTEST:
        raise ValueError(
            f"the brightest pixel of all images is {images.max().item()} of 255, expected ink of at least {FAINTEST}: "
            "are these numbers from 0 to 1 or 0 to 16, made whole? Full ink is 255, or 1.0 where images are floats."
        )
    return images


def as_tensor(name: str, values) -> torch.Tensor:
    """Numbers in any container, as a tensor of its own on the CPU.

    Raises:
        ValueError: if they are no numbers, or rows of different lengths.
    """
    try:
        if isinstance(values, (list, tuple)) and values and all(isinstance(part, torch.Tensor) for part in values):
            values = torch.stack(list(values))
        if isinstance(values, torch.Tensor):
            return values.detach().cpu().clone()
        array = np.asarray(values)
        if array.dtype.kind not in "buif":
            raise TypeError(f"its elements are {array.dtype}")
        native = np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
        return torch.tensor(array.astype(native))
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ValueError(
            f"{name} is a {type(values).__name__} that cannot be read as numbers ({in_one_line(error)}): expected a "
            "tensor, a NumPy array or nested lists of the same length."
        ) from error


def with_channel(images: torch.Tensor) -> torch.Tensor:
    """Pictures as (N, 1, H, H).

    Raises:
        ValueError: for another shape, colours or no pictures.
    """
    shape, expected = tuple(images.shape), "expected (N, 28, 28) or (N, 1, 28, 28), or another square size"
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        advice = ": give images.reshape(-1, 28, 28)" if shape[1:] == (784,) else ""
        raise ValueError(f"images has shape {shape}, {expected}{advice}.")
    if shape[-1] in (1, 2, 3, 4) and images.shape[1] == images.shape[2]:
        images = images.permute(0, 3, 1, 2)  # the channel came last
    if images.shape[1] in (2, 3, 4):
        raise ValueError(
            f"images has {images.shape[1]} channels (shape {shape}), expected grey pictures: average the colours, or "
            "give a torchvision data set transform=transforms.Grayscale()."
        )
    if images.shape[1] != 1 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images has shape {shape}, {expected}.")
    if 0 in shape:
        raise ValueError(f"there are no images: images has shape {shape}, {expected}.")
    return images


def as_bytes(images: torch.Tensor) -> torch.Tensor:
    """Numbers 0 .. 255, floats in [0, 1] or booleans, as uint8 0 .. 255.

    Raises:
        ValueError: for any other range, and for what is not finite.
    """
    if images.is_complex() or images.is_quantized:
        raise ValueError(f"images is {images.dtype}, expected whole numbers from 0 to 255 or floats from 0 to 1.")
    if images.dtype == torch.bool:
        return images.byte() * 255
    images = images.float() if images.is_floating_point() else images.long() if images.dtype != torch.uint8 else images
    if not images.isfinite().all():
        raise ValueError("images holds NaN or infinite numbers, expected floats from 0 to 1.")
    low, high = images.min().item(), images.max().item()
    if not images.is_floating_point():
        if low < 0 or high > 255:
            raise ValueError(f"images goes from {low} to {high}, expected whole numbers from 0 to 255.")
        return images.byte()
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(f"images are floats from {low:.3g} to {high:.3g}, expected 0 to 1: {range_advice(low, high)}.")
    return (images.clamp(0, 1) * 255).round().byte()


def range_advice(low: float, high: float) -> str:
    """How to bring floats of another range to [0, 1]."""
    if low >= 0:
        return "divide by what full ink is, such as 255 or 16"
    if low >= -1 - ROUNDING and high <= 1 + ROUNDING:
        return "for pictures in [-1, 1] give (images + 1) / 2"
    return "undo the standardisation, or leave out transforms.Normalize"


def as_labels(labels, count: int) -> torch.Tensor:
    """Labels in any container, as int64 (count,).

    Raises:
        ValueError: for another shape or number of labels, and for anything but whole numbers from 0 to 999.
    """
    labels = as_tensor("labels", labels)
    if labels.ndim != 1:
        advice = {True: "labels[:, 0]", False: "labels.argmax(1), if they are one-hot"}[labels.shape[1:] == (1,)]
        advice = f": give {advice}" if labels.ndim == 2 else ""
        raise ValueError(f"labels has shape {tuple(labels.shape)}, expected one number per image{advice}.")
    if len(labels) != count:
        raise ValueError(f"there are {count:,} images and {len(labels):,} labels, expected as many of one as of other.")
    if labels.dtype == torch.bool or labels.is_complex():
        raise ValueError(f"labels are {labels.dtype}, expected whole numbers: give labels.long() if False is class 0.")
    if labels.is_floating_point() and not (labels == labels.floor()).all():
        wrong = labels[labels != labels.floor()][0].item()  # NaN equals nothing
        raise ValueError(f"labels holds {wrong:g}, expected whole numbers from 0.")
    low, high = labels.double().min().item(), labels.double().max().item()  # of unsigned kinds torch knows no minimum
    if low < 0 or high >= MOST_CLASSES:
        wrong = low if low < 0 else high
        raise ValueError(f"labels holds {wrong:g}, expected whole numbers from 0 to {MOST_CLASSES - 1}.")
    return labels.long()


def as_class_names(names, highest: int) -> list[str]:
    """One name per class; `names=None` gives "0", "1", ... up to the highest label.

    Raises:
        ValueError: for anything but a list of names, and for a label that has none.
    """
    if names is None:
        return [str(label) for label in range(highest + 1)]
    if isinstance(names, (str, bytes, dict, set)) or not hasattr(names, "__iter__"):
        raise ValueError(f"class_names is {quoted(names)}, expected a list with one name per class.")
    names = list(names)
    wrong = [name for name in names if isinstance(name, bool) or not isinstance(name, (str, int, np.integer))]
    if wrong:
        raise ValueError(f"class_names holds {quoted(wrong[0])}, expected a name for each class.")
    if len(names) > MOST_CLASSES:
        raise ValueError(f"class_names has {len(names):,} names, expected at most {MOST_CLASSES}.")
    if highest >= len(names):
        raise ValueError(f"label {highest} has no name: class_names has {len(names)}, one per label from 0.")
    return [str(name) for name in names]


def as_indices(chosen, count: int) -> torch.Tensor:
    """Which of `count` pictures are chosen, by a mask or by their numbers, as int64 (M,).

    Raises:
        ValueError: for a mask of another length, numbers outside, or nothing chosen.
    """
    if isinstance(chosen, slice):
        chosen = range(*chosen.indices(count))
    indices = as_tensor("the choice", list(chosen) if isinstance(chosen, range) else chosen)
    if indices.ndim != 1 or len(indices) == 0:
        raise ValueError(f"the choice has shape {tuple(indices.shape)}, expected the numbers of pictures, or a mask.")
    if indices.dtype == torch.bool:
        if len(indices) != count:
            raise ValueError(f"the mask has {len(indices):,} entries, expected one for each of {count:,} pictures.")
        indices = indices.nonzero()[:, 0]
        if len(indices) == 0:
            raise ValueError("the mask chooses no picture, expected at least one.")
    if indices.is_floating_point() or indices.min() < -count or indices.max() >= count:
        raise ValueError(f"the choice holds {quoted(indices.tolist())}, expected numbers from 0 to {count - 1}.")
    return indices.long()


def without_subsets(dataset):
    """The data set under any number of `Subset`s, and the numbers of its pictures that they choose; None for all."""
    chosen = None
    while isinstance(dataset, Subset):
        indices = np.asarray(dataset.indices)
        chosen, dataset = indices if chosen is None else indices[chosen], dataset.dataset
    return dataset, chosen if chosen is None else chosen.tolist()


def first_part(dataset):
    """The first data set that has pictures of its own, under `Subset`s and `ConcatDataset`s."""
    while isinstance(dataset, (Subset, ConcatDataset)):
        dataset = dataset.dataset if isinstance(dataset, Subset) else dataset.datasets[0]
    return dataset


def read_torchvision(dataset, chosen=None):
    """Pictures, labels and class names of a data set of torchvision, or of any that gives `(picture, label)`.

    Its transforms are used. EMNIST's pictures are put upright, and its letters count from 0.

    Args:
        chosen: numbers of the pictures to read; None for all.

    Returns:
        uint8 (N, 1, H, H), a list of labels, and the names, or None where the data set has none.

    Raises:
        ValueError: for a data set without pictures and labels, with colours or with pictures of different sizes.
    """
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")) or isinstance(dataset, (str, dict)):
        raise ValueError(
            f"the data set is a {type(dataset).__name__}, expected one of torchvision, or another that gives "
            "(picture, label) for a number."
        )
    chosen = range(len(dataset)) if chosen is None else chosen
    if isinstance(dataset, datasets.ImageFolder) and dataset.transforms is None:
        images = read_files([Path(dataset.samples[i][0]) for i in chosen])
        return images, [dataset.targets[i] for i in chosen], dataset.classes
    images, labels = read_items(dataset, chosen)
    part = first_part(dataset)
    names = known_names(part)
    if isinstance(part, datasets.EMNIST):
        images, labels, names = upright(dataset, chosen, images, labels, names)
    return images, labels, names


def read_items(dataset, chosen):
    """Pictures and labels, a few thousand at a time: uint8 (N, 1, H, H) and a list."""
    if len(chosen) == 0:
        raise ValueError("there are no images in the data set, expected at least one.")
    images, labels, sizes = [], [], set()
    for start in tqdm(range(0, len(chosen), CHUNK), desc="reading pictures", leave=False, disable=len(chosen) <= CHUNK):
        items = [read_item(dataset, i) for i in chosen[start : start + CHUNK]]
        sizes |= {np.shape(picture) for picture, _ in items}
        if len(sizes) > 1:
            raise ValueError(
                f"the pictures have different sizes, such as {' and '.join(map(str, sorted(sizes)[:2]))}: give the data "
                "set transform=transforms.Resize((28, 28))."
            )
        images.append(as_bytes(with_channel(as_tensor("images", [picture for picture, _ in items]))))
        labels += [label for _, label in items]
    return torch.cat(images), labels


def read_item(dataset, i: int):
    """One picture, as a tensor or array, and its label.

    Raises:
        ValueError: if the data set gives something else.
    """
    item = dataset[i]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise ValueError(f"picture {i} of the data set is a {type(item).__name__}, expected (picture, label).")
    picture, label = item
    if isinstance(picture, Image.Image):
        palette = picture.mode in ("1", "P", "LA", "PA")  # whose numbers are no shades of grey
        picture = np.asarray(picture.convert("L") if palette else picture)
    return picture, label


def known_names(dataset):
    """The class names of a data set of torchvision; None where it has none, or where its labels are changed."""
    names = getattr(dataset, "class_names", None) or getattr(dataset, "classes", None)
    if names is None or getattr(dataset, "target_transform", None) is not None:
        return None
    return [re.sub(r"^(\d) - \w+$", r"\1", str(name)) for name in names]  # MNIST's are "0 - zero", "1 - one", ...


def upright(dataset, chosen, images, labels, names):
    """EMNIST's pictures, which are stored on their side, put upright, and letters numbered from 0 in place of 1.

    Raises:
        ValueError: if a transform may have turned the pictures already.
    """
    stored = getattr(dataset, "data", None)
    few = list(chosen)[:20]
    if stored is None or not torch.equal(stored[few], images[: len(few), 0]):
        raise ValueError(
            "EMNIST's pictures are stored on their side, and a transform or another data set around them may have turned "
            "them: give EMNIST itself, or a Subset of it, with transform=None; they are put upright."
        )
    if names and names[0] == "N/A":  # torchvision's name for the class 0 that letters do not have
        labels, names = [int(label) - 1 for label in labels], names[1:]
    return images.transpose(-1, -2).contiguous(), labels, names


def read_folder(folder, size: int = 28, ink: str = "auto"):
    """Pictures of a folder with a sub-folder for each class, in torchvision's `ImageFolder` layout.

    Args:
        folder, size, ink: as in `ImageDataset.from_folder`, which see for what is raised.

    Returns:
        uint8 (N, 1, size, size), a list of labels, and the class names.
    """
    folders = class_folders(Path(folder).expanduser())
    files, labels = [], []
    for label, path in enumerate(folders):
        pictures = picture_files(path)
        files += pictures
        labels += [label] * len(pictures)
    return read_files(files, size, ink), labels, [readable_name(path.name) for path in folders]


def class_folders(folder: Path) -> list[Path]:
    """The sub-folders of a folder, in natural order: "10" comes after "9".

    Raises:
        ValueError: if it is no folder, or has no sub-folders, or too many.
    """
    layout = "expected a folder with a sub-folder of pictures for each class"
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "is not there"
        raise ValueError(f"{folder.absolute()} {found}: {layout}.")
    folders = [path for path in visible(folder) if path.is_dir()]
    if not folders:
        raise ValueError(f"{folder.absolute()} holds no sub-folders: {layout}.")
    if len(folders) > MOST_CLASSES:
        raise ValueError(f"{folder.absolute()} holds {len(folders):,} sub-folders, expected at most {MOST_CLASSES}.")
    return folders


def visible(folder: Path) -> list[Path]:
    """What a folder holds, in natural order, without hidden and systems' files."""
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted((path for path in found if path.name.lower() not in SYSTEM_FILES), key=natural_order)


def natural_order(path: Path) -> tuple:
    """A key that sorts numbers inside names by their size."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.casefold()) for part in parts if part], path.name


def readable_name(name: str) -> str:
    """A folder's name as text that every file and figure takes, whatever bytes the disk has for it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def picture_files(folder: Path) -> list[Path]:
    """The pictures of one class: all files whose ending Pillow knows; a warning names the others.

    Raises:
        ValueError: if there are none, or folders where pictures should be.
    """
    found = visible(folder)
    folders = [path.name for path in found if path.is_dir()]
    if folders:
        raise ValueError(
            f"{folder.absolute()} holds folders ({quoted(folders)}), expected the pictures of one class: give the folder "
            "whose sub-folders are the classes, and put pictures directly in them."
        )
    pictures = [path for path in found if path.suffix.lower() in picture_endings()]
    others = [path.name for path in found if path not in pictures]
    if not pictures:
        raise ValueError(
            f"{folder.absolute()} holds no pictures that Pillow opens ({shown(others) or 'it is empty'}): fill it, "
            "or remove it."
        )
    if others:
        warnings.warn(f"left out of {folder.absolute()}, no pictures that Pillow opens: {shown(others)}.", stacklevel=4)
    return pictures


def picture_endings() -> set[str]:
    """Endings of files that Pillow can open, such as ".png"."""
    return {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def shown(names: list[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(readable_name, names[:SHOWN])) + more


def read_files(files: list[Path], size: int = 28, ink: str = "auto") -> torch.Tensor:
    """Pictures from files as uint8 (N, 1, size, size), ink 255 on paper 0.

    Raises:
        ValueError: for an impossible size or ink, or with the names of the files that cannot be read.
    """
    check_whole_number("size", size, 4, 512)
    if ink not in INKS:
        raise ValueError(f"ink is {quoted(ink)}, expected one of {', '.join(map(repr, INKS))}.")
    squares, papers, damaged = [], [], []
    for file in tqdm(files, desc="reading pictures", leave=False, disable=len(files) < 500):
        try:
            grey = read_grey(file)
            papers.append(paper_of(grey))
            squares.append(np.array(squared(grey, papers[-1], size)))
        except Exception as error:  # what Pillow's many readers raise for damage is not one kind
            damaged.append(f"{file.parent.name}/{file.name} ({in_one_line(error)})")
    if damaged:
        raise ValueError(f"cannot be read as pictures: {shown(damaged)}: remove or replace them.")
    images = np.stack(squares)[:, None]
    is_dark = ink == "dark" or (ink == "auto" and np.median(papers) > 127)
    return torch.from_numpy(255 - images if is_dark else images)


def read_grey(file: Path) -> Image.Image:
    """A picture in grey, turned as its camera was held, what is transparent on paper.

    Raises:
        ValueError: for floating point pixels, whose range nobody knows.
        OSError: and what else Pillow raises.
    """
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("F"):
            raise ValueError("its pixels are floating point numbers")
        if image.mode.startswith("I"):  # 16 bits; to convert them would cut off all but the darkest
            return Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).round().astype(np.uint8))
        if "A" not in image.getbands() and "transparency" not in image.info:
            return image.convert("L")
        return on_opposite_paper(image.convert("RGBA"))


def on_opposite_paper(image: Image.Image) -> Image.Image:
    """A picture with transparency, on white paper if what can be seen of it is dark, else on black: in grey."""
    grey, alpha = image.convert("L"), image.getchannel("A")
    opacity = np.asarray(alpha, dtype=np.float64)
    mean = (np.asarray(grey) * opacity).sum() / max(opacity.sum(), 1)
    return Image.composite(grey, Image.new("L", image.size, 255 if mean < 128 else 0), alpha)


def paper_of(image: Image.Image) -> int:
    """The grey value of a picture's paper: the median of its border."""
    pixels = np.asarray(image)
    return int(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))


def squared(image: Image.Image, paper: int, size: int) -> Image.Image:
    """A picture in the middle of square paper, averaged down, or enlarged, to `size` x `size`."""
    side = max(image.size)
    square = Image.new("L", (side, side), paper)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.resize((size, size), Image.Resampling.BILINEAR)  # Pillow averages over all pixels underneath


def corners(count: int, step: int = 1) -> list[complex]:
    """A closed line through the corners of a regular polygon around 0, every `step`-th: 2 of 5 draw a star."""
    return [np.exp(2j * np.pi * (k * step / count - 0.25)) for k in range(count + 1)]


SHAPES = {
    "circle": [corners(40)],
    "cross": [[-0.8 - 0.8j, 0.8 + 0.8j], [0.8 - 0.8j, -0.8 + 0.8j]],
    "square": [[0.8 - 0.8j, 0.8 + 0.8j, -0.8 + 0.8j, -0.8 - 0.8j, 0.8 - 0.8j]],
    "star": [corners(5, 2)],
    "triangle": [corners(3)],
}


def draw_shapes(folder, per_class: int = 60, seed: int = 0) -> Path:
    """Draw pictures of five shapes, dark ink on white paper, as PNG files in a sub-folder for each shape.

    Each is turned, moved, scaled and drawn with a pen of its own, on paper with a little noise.

    Args:
        folder: made if it is not there.
        per_class: pictures per shape, 1 .. 10,000.
        seed: of everything random.

    Returns:
        The folder, which `ImageDataset.from_folder` reads.

    Raises:
        OSError: if the folder cannot be written to.
    """
    check_whole_number("per_class", per_class, 1, 10_000)
    folder, rng = Path(folder).expanduser(), np.random.default_rng(seed)
    for name, lines in SHAPES.items():
        make_writable_folder(folder / name)
        for number in range(per_class):
            draw_shape(lines, rng).save(folder / name / f"{number}.png")
    return folder


def draw_shape(lines: list[list[complex]], rng: np.random.Generator, side: int = 56) -> Image.Image:
    """One picture of a shape whose points lie within 1.2 of 0 in the complex plane."""
    turned = rng.uniform(0.26, 0.38) * side * np.exp(1j * rng.uniform(-0.3, 0.3))  # turned by up to 17 degrees
    middle = side * complex(*rng.uniform(0.44, 0.56, 2))
    pen = int(rng.integers(10, 22))
    large = Image.new("L", (4 * side, 4 * side), 255)  # four times as large, and averaged down: soft edges
    for line in lines:
        points = [4 * (middle + turned * point) for point in line]
        ends = [(point.real, point.imag) for point in points]
        ImageDraw.Draw(large).line(ends + ends[1:2], fill=0, width=pen, joint="curve")
    pixels = np.asarray(large.resize((side, side), Image.Resampling.BOX)) + rng.normal(0, 6, (side, side))
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))
