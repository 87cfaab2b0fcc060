import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset, random_split
from torchvision import datasets, transforms

from course_utils.__main__ import main
from course_utils.data import ImageDataset, check_image_dataset
from course_utils.own_pictures import SHAPES, draw_shapes, natural_order
from course_utils.recipes import Recipe, resized

BYTES = torch.randint(0, 256, (6, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
BYTES[:, 0, 0] = 255
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])

IMAGES = {
    "uint8": BYTES,
    "with a channel": BYTES[:, None],
    "channel last": BYTES[..., None],
    "numpy": BYTES.numpy(),
    "read-only": np.frombuffer(BYTES.numpy().tobytes(), dtype=np.uint8).reshape(6, 28, 28),
    "numpy, turned twice": np.ascontiguousarray(BYTES.numpy()[:, ::-1])[:, ::-1],
    "big-endian": BYTES.numpy().astype(">f4") / 255,
    "int64": BYTES.long(),
    "uint16": BYTES.numpy().astype(np.uint16),
    "float32": BYTES.float() / 255,
    "float64": BYTES.double().numpy() / 255,
    "float16": (BYTES.float() / 255).half(),
    "with gradients": (BYTES.float() / 255).requires_grad_(),
    "hardly outside": (BYTES.float() / 255) * 1.00001,
    "nested lists": BYTES.tolist(),
    "list of tensors": list(BYTES[:, None].float() / 255),
    "list of arrays": list(BYTES.numpy()),
    "list of PIL images": [Image.fromarray(image) for image in BYTES.numpy()],
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_any_kind_are_stored_alike(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = ImageDataset(IMAGES[kind], LABELS)
    assert ds.images.dtype == torch.uint8 and torch.equal(ds.images, BYTES[:, None])
    assert ds.class_names == ["0", "1", "2"]


def test_booleans_are_ink_and_paper():
    assert torch.equal(ImageDataset(BYTES > 99, LABELS).images[:, 0], (BYTES > 99).byte() * 255)


@pytest.mark.parametrize("side", [8, 16, 32, 29])
def test_other_square_sizes(side):
    image, label = ImageDataset(torch.ones(2, side, side), [0, 1])[1]
    assert image.shape == (1, side, side) and image.max() == 1 and label == 1


LABEL_KINDS = {
    "int64": LABELS,
    "uint8": LABELS.byte(),
    "int8": LABELS.to(torch.int8),
    "uint64": LABELS.numpy().astype(np.uint64),
    "whole floats": LABELS.float(),
    "list": LABELS.tolist(),
    "tuple": tuple(LABELS.tolist()),
    "NumPy's ints": list(LABELS.numpy()),
    "list of tensors": list(LABELS),
    "big-endian": LABELS.numpy().astype(">i4"),
}


@pytest.mark.parametrize("kind", LABEL_KINDS)
def test_labels_of_any_integer_kind_are_stored_alike(kind):
    ds = ImageDataset(BYTES, LABEL_KINDS[kind])
    assert ds.labels.dtype == torch.int64 and torch.equal(ds.labels, LABELS)
    assert isinstance(ds[2][1], int)


FLOATS = BYTES.float() / 255
REFUSED_IMAGES = {
    "floats in [-1, 1]": (FLOATS * 2 - 1, r"floats from -1 to 1.*\(images \+ 1\) / 2"),
    "floats 0 .. 255": (BYTES.float(), "floats from 0 to 255.*divide by"),
    "scikit-learn's 0 .. 16": (FLOATS * 16, "floats from 0 to 16.*divide by"),
    "standardised": ((FLOATS - 0.13) / 0.3, "undo the standardisation"),
    "0 and 1 as bytes": ((BYTES > 99).byte(), "brightest pixel of all images is 1 of 255"),
    "[0, 1] cast to bytes": (FLOATS.clamp(max=0.99).byte(), "brightest pixel of all images is 0 of 255"),
    "divided twice": (FLOATS / 255, "brightest pixel of all images is 1 of 255"),
    "0 .. 16 as bytes": ((FLOATS * 16).byte(), "brightest pixel of all images is 16 of 255"),
    "NaN": (FLOATS.masked_fill(FLOATS == 1, torch.nan), "NaN or infinite"),
    "infinite": (FLOATS.masked_fill(FLOATS == 1, torch.inf), "NaN or infinite"),
    "negative": (BYTES.long() - 128, "from -128 to 127, expected whole numbers from 0 to 255"),
    "16 bits": (BYTES.long() * 257, "to 65535, expected whole numbers from 0 to 255"),
    "complex": (FLOATS.to(torch.complex64), "complex64"),
    "strings": ([["a", "b"], ["c", "d"]], "cannot be read as numbers"),
    "None": (None, "cannot be read as numbers"),
    "ragged": ([[[0, 1], [1, 2]], [[0, 255]]], "cannot be read as numbers"),
    "colours": (BYTES[:, None].expand(6, 3, 28, 28), "3 channels.*expected grey.*Grayscale"),
    "colours last": (BYTES[..., None].expand(6, 28, 28, 3), "3 channels.*expected grey"),
    "colours and alpha": (BYTES[..., None].expand(6, 28, 28, 4), "4 channels.*expected grey"),
    "flat": (BYTES.flatten(1), r"shape \(6, 784\).*reshape\(-1, 28, 28\)"),
    "a single one": (BYTES[0], r"shape \(28, 28\), expected \(N, 28, 28\)"),
    "not square": (BYTES[:, :20], r"shape \(6, 20, 28\).*square"),
    "empty": (BYTES[:0], "there are no images"),
    "no pixels": (BYTES[:, :0, :0], "there are no images"),
    "five dimensions": (BYTES[None, None], "shape"),
    "a meta tensor": (torch.zeros(6, 28, 28, device="meta"), "cannot be read as numbers"),
}


def is_one_sentence(error) -> bool:
    text = str(error.value)
    return "\n" not in text and text.endswith(".") and len(text) < 400


@pytest.mark.parametrize("kind", REFUSED_IMAGES)
def test_images_that_could_be_misunderstood_are_refused(kind):
    images, words = REFUSED_IMAGES[kind]
    with pytest.raises(ValueError, match=words) as error:
        ImageDataset(images, LABELS)
    assert is_one_sentence(error)


NAMES = ["a", "b", "c"]
REFUSED_LABELS = {
    "one-hot": (torch.eye(3)[LABELS], NAMES, r"shape \(6, 3\).*argmax"),
    "a column": (LABELS[:, None], NAMES, r"labels\[:, 0\]"),
    "too few": (LABELS[:5], NAMES, "6 images and 5 labels"),
    "too many": (torch.cat((LABELS, LABELS)), NAMES, "6 images and 12 labels"),
    "booleans": (LABELS > 0, NAMES, "torch.bool"),
    "halves": (LABELS + 0.5, NAMES, "holds 0.5"),
    "NaN": (LABELS.float().masked_fill(LABELS == 2, torch.nan), NAMES, "holds nan"),
    "infinite": (LABELS.float().masked_fill(LABELS == 2, torch.inf), NAMES, "holds inf"),
    "negative": (LABELS - 1, NAMES, "holds -1"),
    "too large": (LABELS * 500, None, "holds 1000, expected whole numbers from 0 to 999"),
    "huge": ([0, 1, 2**62, 0, 1, 2], None, "expected whole numbers from 0 to 999"),
    "without a name": (LABELS + 1, NAMES, "label 3 has no name: class_names has 3"),
    "strings": (["cat"] * 6, NAMES, "labels is a list that cannot be read as numbers"),
    "a number": (3, NAMES, "shape"),
    "None": ([0, 1, None, 0, 1, 2], NAMES, "cannot be read as numbers"),
    "no names": (LABELS, [], "has no name"),
    "a string of names": (LABELS, "abc", "expected a list"),
    "a dictionary of names": (LABELS, {"a": 0, "b": 1, "c": 2}, "expected a list"),
    "names of another kind": (LABELS, ["a", None, "c"], "holds None"),
    "too many names": (LABELS, map(str, range(1001)), "1,001 names, expected at most 1000"),
}


@pytest.mark.parametrize("kind", REFUSED_LABELS)
def test_labels_and_names_that_do_not_fit_are_refused(kind):
    labels, names, words = REFUSED_LABELS[kind]
    with pytest.raises(ValueError, match=words) as error:
        ImageDataset(BYTES, labels, names)
    assert is_one_sentence(error)


def test_names_of_any_kind_and_as_many_classes_as_there_are_names():
    names = ["猫", "", "$x$", "100 %", "two\nlines", "x" * 200, 7]
    ds = ImageDataset(BYTES, LABELS, names)
    assert ds.class_names == [*names[:-1], "7"]
    assert len(ImageDataset(torch.ones(1000, 4, 4), range(1000)).class_names) == 1000


def test_changing_the_arrays_later_does_not_change_the_data_set():
    images, labels = BYTES.clone(), LABELS.clone()
    ds = ImageDataset(images, labels)
    images.zero_()
    labels.fill_(-1)
    assert torch.equal(ds.images[:, 0], BYTES) and torch.equal(ds.labels, LABELS)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_gets_what_single_items_say(workers):
    ds = ImageDataset(BYTES, LABELS)
    batches = list(
        DataLoader(ds, batch_size=4, num_workers=workers, multiprocessing_context="spawn" if workers else None)
    )
    assert [len(labels) for _, labels in batches] == [4, 2] and batches[0][1].dtype == torch.int64
    images = torch.cat([images for images, _ in batches])
    assert torch.equal(images, torch.stack([image for image, _ in ds]))


def test_a_data_loader_fetches_whole_batches(monkeypatch):
    monkeypatch.delattr(ImageDataset, "__getitem__")
    assert len(list(DataLoader(Subset(ImageDataset(BYTES, LABELS), [5, 1, 3]), batch_size=2))) == 2


@pytest.mark.parametrize(
    "chosen, expected",
    [
        (LABELS == 1, [1, 4]),
        ((LABELS == 1).tolist(), [1, 4]),
        (np.array([5, 0]), [5, 0]),
        ([-1], [5]),
        (slice(1, 3), [1, 2]),
        (range(2), [0, 1]),
    ],
)
def test_subsets_by_mask_numbers_and_slice(chosen, expected):
    part = ImageDataset(BYTES, LABELS, NAMES, "mine", "test").subset(chosen)
    assert torch.equal(part.images[:, 0], BYTES[expected]) and torch.equal(part.labels, LABELS[expected])
    assert (part.class_names, part.name, part.split) == (NAMES, "mine", "test")


@pytest.mark.parametrize("chosen", [[True], [6], [-7], [], [False] * 6, [0.5], "all", None, [[0]]])
def test_impossible_subsets_are_refused(chosen):
    with pytest.raises(ValueError) as error:
        ImageDataset(BYTES, LABELS).subset(chosen)
    assert is_one_sentence(error)


def test_a_subset_of_faint_pictures_is_none_the_less_a_subset():
    images = BYTES.clone()
    images[0] = 1
    assert ImageDataset(images, LABELS).subset([0]).images.max() == 1


def write_idx(root: Path, kind, labels=(0, 1, 2, 0, 1, 2), prefixes=("train", "t10k")):
    """A tiny data set in the files that torchvision's MNIST and its relatives read."""
    folder = root / kind.__name__ / "raw"
    folder.mkdir(parents=True)
    for prefix in prefixes:
        header = struct.pack(">IIII", 0x803, *BYTES.shape)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + BYTES.numpy().tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + bytes(labels))
    return root


def emnist(root, split, labels, **options):
    write_idx(root, datasets.EMNIST, labels, [f"emnist-{split}-{part}" for part in ("train", "test")])
    return datasets.EMNIST(root, split, **options)


TRANSFORMS = {
    "none": None,
    "ToTensor": transforms.ToTensor(),
    "PILToTensor": transforms.PILToTensor(),
    "Compose": transforms.Compose([transforms.ToTensor()]),
}
every_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
COURSE_SETS = {datasets.MNIST: ("mnist", "0"), datasets.FashionMNIST: ("fashion_mnist", "T-shirt")}


@every_transform
@pytest.mark.parametrize("kind", [*COURSE_SETS, datasets.KMNIST])
def test_torchvisions_grey_data_sets(tmp_path, kind, transform):
    write_idx(tmp_path, kind)
    ds = ImageDataset.from_torchvision(kind(tmp_path, transform=transform))
    assert torch.equal(ds.images[:, 0], BYTES) and torch.equal(ds.labels, LABELS) and ds.split == "train"
    assert (ds.name, ds.class_names[0]) == COURSE_SETS.get(kind, ("KMNIST", "o")) and len(ds.class_names) == 10
    assert ImageDataset.from_torchvision(kind(tmp_path, train=False)).split == "test"


@every_transform
def test_emnists_letters_stand_upright_and_count_from_0(tmp_path, transform):
    letters = emnist(tmp_path, "letters", [1, 2, 26, 1, 2, 26], transform=transform)
    ds = ImageDataset.from_torchvision(letters)
    assert torch.equal(ds.images[:, 0], BYTES.transpose(1, 2))
    assert ds.labels.tolist() == [0, 1, 25, 0, 1, 25] and "".join(ds.class_names) == "abcdefghijklmnopqrstuvwxyz"
    part = ImageDataset.from_torchvision(Subset(letters, [2, 4]))
    assert torch.equal(part.images, ds.images[[2, 4]]) and part.labels.tolist() == [25, 1]


@pytest.mark.parametrize("split, classes, last", [("balanced", 47, "t"), ("byclass", 62, "z"), ("digits", 10, "9")])
def test_emnists_other_splits(tmp_path, split, classes, last):
    ds = ImageDataset.from_torchvision(emnist(tmp_path, split, [0, 1, 9, 0, 1, 9]))
    assert (len(ds.class_names), ds.class_names[-1], ds.labels.tolist()) == (classes, last, [0, 1, 9, 0, 1, 9])


@pytest.mark.parametrize("wrap", [lambda ds: ds, lambda ds: ConcatDataset([ds, ds])])
def test_emnist_that_is_turned_already_is_refused(tmp_path, wrap):
    turned = transforms.Lambda(lambda image: image.transpose(Image.Transpose.TRANSPOSE))
    with pytest.raises(ValueError, match="on their side.*transform=None"):
        ImageDataset.from_torchvision(wrap(emnist(tmp_path, "digits", LABELS.tolist(), transform=turned)))


def test_changed_labels_do_not_keep_the_names(tmp_path):
    even = datasets.MNIST(write_idx(tmp_path, datasets.MNIST), target_transform=lambda label: label % 2)
    ds = ImageDataset.from_torchvision(even)
    assert (ds.labels.tolist(), ds.class_names, ds.name) == ([0, 1, 0, 0, 1, 0], ["0", "1"], "")
    named = ImageDataset.from_torchvision(even, class_names=["even", "odd"], name="parity")
    assert (named.class_names, named.name) == (["even", "odd"], "parity")


def nested(ds):
    return Subset(Subset(ds, [5, 4, 3]), [2, 0])


@pytest.mark.parametrize("make", ["ours", "torchvision's"])
def test_subsets_of_subsets_choose_the_same_pictures(tmp_path, make):
    if make == "ours":
        whole = ImageDataset(BYTES, LABELS, NAMES, "mine", "test")
    else:
        whole = datasets.MNIST(write_idx(tmp_path, datasets.MNIST), transform=transforms.ToTensor())
    part = ImageDataset.from_torchvision(nested(whole))
    assert torch.equal(part.images[:, 0], BYTES[[3, 5]]) and part.labels.tolist() == [0, 2]
    assert (part.name, len(part.class_names)) == (("mine", 3) if make == "ours" else ("mnist", 10))
    halves = random_split(whole, [4, 2], generator=torch.Generator().manual_seed(0))
    parts = [ImageDataset.from_torchvision(half) for half in halves]
    assert [len(part) for part in parts] == [4, 2]
    assert torch.equal(torch.cat([part.labels for part in parts]).sort().values, LABELS.sort().values)
    joined = ImageDataset.from_torchvision(ConcatDataset(halves))
    assert torch.equal(joined.images, torch.cat([part.images for part in parts]))


class Listed:
    """A data set of one's own: a list of items."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


GREY = Image.fromarray(BYTES[0].numpy())
ITEMS = {
    "PIL": (GREY, 3),
    "black and white": (GREY.convert("1"), 3),
    "palette": (GREY.convert("P"), 3),
    "array": (BYTES[0].numpy(), np.int64(3)),
    "tensors": (BYTES[:1].float() / 255, torch.tensor(3)),
    "list": [GREY, 3],
}


@pytest.mark.parametrize("kind", ITEMS)
def test_any_data_set_that_gives_a_picture_and_a_label(kind):
    ds = ImageDataset.from_torchvision(Listed(ITEMS[kind]))
    expected = BYTES[0] if kind != "black and white" else torch.from_numpy(np.array(GREY.convert("1").convert("L")))
    assert torch.equal(ds.images[0, 0], expected) and ds.labels.tolist() == [3]


COLOURS = Image.new("RGB", (32, 32), "red")
REFUSED_SETS = {
    "colours, as CIFAR's": (Listed((COLOURS, 0)), "3 channels.*Grayscale"),
    "colours as tensors": (Listed((transforms.ToTensor()(COLOURS), 0)), "3 channels"),
    "different sizes": (Listed((GREY, 0), (GREY.resize((30, 30)), 1)), "different sizes.*Resize"),
    "normalised": (Listed((transforms.ToTensor()(GREY) * 2 - 1, 0)), "floats from -1 to 1"),
    "dictionaries": (Listed({"image": GREY, "label": 0}), "is a dict, expected"),
    "pictures alone": (Listed(GREY), r"expected \(picture, label\)"),
    "one-hot": (Listed((GREY, torch.eye(3)[0])), "argmax"),
    "empty": (Listed(), "there are no images"),
    "a loader": (DataLoader(ImageDataset(BYTES, LABELS)), "is a DataLoader, expected"),
    "a name": ("mnist", "is a str, expected"),
    "None": (None, "is a NoneType, expected"),
}


@pytest.mark.parametrize("kind", REFUSED_SETS)
def test_data_sets_that_cannot_be_converted_are_refused(kind):
    dataset, words = REFUSED_SETS[kind]
    with pytest.raises(ValueError, match=words) as error:
        ImageDataset.from_torchvision(dataset)
    assert is_one_sentence(error)


WRONG = {
    "a name": ("mnist", r"use load_dataset\(\'mnist\'\)"),
    "another string": ("letters", r"ImageDataset.from_folder\(folder\)"),
    "a path": (Path("letters"), r"ImageDataset.from_folder\(folder\)"),
    "a loader": (DataLoader(ImageDataset(BYTES, LABELS)), r"ImageDataset.from_torchvision\(loader.dataset\)"),
    "a subset": (Subset(ImageDataset(BYTES, LABELS), [1]), r"ImageDataset.from_torchvision\(dataset\)"),
    "torchvision's": (datasets.FakeData(3), r"is a FakeData.*ImageDataset.from_torchvision\(dataset\)"),
    "tensors": (TensorDataset(BYTES, LABELS), r"ImageDataset.from_torchvision\(dataset\)"),
    "an array": (BYTES.numpy(), r"is a ndarray.*ImageDataset\(images, labels, class_names\)"),
    "a pair": ((BYTES, LABELS), r"ImageDataset\(images, labels, class_names\)"),
    "None": (None, r"ImageDataset\(images, labels, class_names\)"),
    "the class": (ImageDataset, r"ImageDataset\(images, labels, class_names\)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_image_dataset_is_named_with_the_call_that_makes_one(kind):
    dataset, words = WRONG[kind]
    with pytest.raises(ValueError, match=words) as error:
        check_image_dataset(dataset)
    assert is_one_sentence(error)


@pytest.mark.parametrize(
    "attribute, value",
    [
        ("images", BYTES),
        ("images", FLOATS[:, None]),
        ("labels", LABELS[:3]),
        ("labels", LABELS + 1),
        ("class_names", []),
    ],
)
def test_attributes_that_no_longer_fit_together_are_noticed(attribute, value):
    ds = ImageDataset(BYTES, LABELS)
    check_image_dataset(ds)
    setattr(ds, attribute, value)
    with pytest.raises(ValueError, match="no longer.*make a new one") as error:
        check_image_dataset(ds)
    assert is_one_sentence(error)


@pytest.fixture
def folder(tmp_path):
    """A function that fills a folder: `{"class/file": picture or bytes}`."""

    def fill(files, root=tmp_path / "pictures"):
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content) if isinstance(content, bytes) else content.save(path)
        return root

    return fill


def ink(width=40, height=40, paper=255, colour=0, mode="L"):
    """A picture with a quarter of its middle full of ink."""
    image = Image.new(mode, (width, height), paper)
    image.paste(colour, (width // 4, height // 4, 3 * width // 4, 3 * height // 4))
    return image


def test_a_folder_with_a_sub_folder_per_class(folder):
    """As torchvision's ImageFolder reads it, with the same transforms."""
    root = folder({f"{name}/{i}.png": ink(28, 28, 0, 50 * i + 100) for name in ("cat", "dog") for i in range(2)})
    ds = ImageDataset.from_folder(root)
    theirs = datasets.ImageFolder(root, transforms.Compose([transforms.Grayscale(), transforms.PILToTensor()]))
    assert torch.equal(ds.images, torch.stack([image for image, _ in theirs]))
    assert ds.labels.tolist() == theirs.targets and ds.class_names == theirs.classes and ds.name == "pictures"
    for given in (theirs, datasets.ImageFolder(root), Subset(datasets.ImageFolder(root), range(4))):
        converted = ImageDataset.from_torchvision(given)
        assert torch.equal(converted.images, ds.images) and converted.class_names == ["cat", "dog"]


def test_classes_and_pictures_come_in_natural_order(folder):
    names = ["9", "10", "a2", "a10", "B", "c"]
    ds = ImageDataset.from_folder(folder({f"{name}/{name}.png": ink() for name in names}))
    assert ds.class_names == names
    assert sorted(map(Path, ["x10.png", "x9.png", "X1.png"]), key=natural_order)[0] == Path("X1.png")


FORMATS = [(ending, mode) for ending in ("png", "PNG", "bmp", "gif", "tif") for mode in ("L", "RGB", "1", "P")]
FORMATS += [(ending, mode) for ending in ("jpg", "jpeg", "webp", "ppm") for mode in ("L", "RGB")]


@pytest.mark.parametrize("ending, mode", FORMATS)
def test_formats_and_colours(folder, ending, mode):
    image = ImageDataset.from_folder(folder({f"a/1.{ending}": ink().convert(mode)})).images[0, 0]
    assert image[14, 14] > 245 and image[2, 2] < 10  # dark ink on light paper is stored as ink on 0


@pytest.mark.parametrize("ink_is, middle, border", [("auto", 255, 0), ("dark", 255, 0), ("light", 0, 255)])
def test_dark_ink_is_turned_over_unless_told_otherwise(folder, ink_is, middle, border):
    root = folder({"a/1.png": ink(), "a/2.png": ink(), "b/light on dark.png": ink(paper=0, colour=255)})
    image = ImageDataset.from_folder(root, ink=ink_is).images[0, 0]
    assert image[14, 14] == middle and image[0, 0] == border


def test_light_ink_on_dark_stays(folder):
    image = ImageDataset.from_folder(folder({"a/1.png": ink(paper=0, colour=255)})).images[0, 0]
    assert image[14, 14] == 255 and image[0, 0] == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("shade", [0, 255])
def test_what_is_transparent_is_paper(folder, mode, shade):
    clear = ink(paper=(shade, shade, shade, 0), colour=(shade, shade, shade, 255), mode="RGBA")
    picture = clear.convert(mode) if mode != "P" else clear.convert("P", palette=Image.Palette.ADAPTIVE)
    if mode == "P":
        picture = Image.fromarray((np.asarray(clear)[..., 3] > 0).astype(np.uint8), "P")
        picture.putpalette([255 - shade] * 3 + [shade] * 3)
        picture.info["transparency"] = 0
    image = ImageDataset.from_folder(folder({"a/1.png": picture})).images[0, 0]
    assert image[14, 14] == 255 and image[0, 0] == 0


def test_oblong_pictures_are_padded_with_their_paper_and_averaged_down(folder):
    ds = ImageDataset.from_folder(folder({"a/1.png": ink(400, 100, paper=230, colour=30)}), size=32)
    image = ds.images[0, 0].int()
    assert image.shape == (32, 32) and image[16, 16] == 225 and (image[:8] == 25).all() and (image[-8:] == 25).all()
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (280, 140)))  # without averaging: all 0, or all 255
    fine = ImageDataset.from_folder(folder({"a/1.png": stripes})).images[0, 0, 2:-2, 2:-2].int()
    assert ((fine - 128).abs() < 20).all()


def test_very_thin_pictures(folder):
    assert ImageDataset.from_folder(folder({"a/1.png": ink(400, 12)})).images.max() > 32


def test_a_camera_held_upright_is_believed(folder):
    picture = Image.new("L", (40, 40), 255)
    picture.paste(0, (0, 0, 40, 20))  # the upper half
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 270 degrees to see it upright
    root = folder({"a/1.jpg": ink()})
    turned.save(root / "a" / "1.jpg", exif=exif, quality=95)
    image = ImageDataset.from_folder(root, ink="dark").images[0, 0]
    assert image[4].min() > 240 and image[-4].max() < 15


def test_sixteen_bits_keep_their_shades(folder):
    shades = (np.arange(40 * 40).reshape(40, 40) * 40).astype(np.uint16)
    image = ImageDataset.from_folder(folder({"a/1.png": Image.fromarray(shades)}), size=40, ink="light").images[0, 0]
    assert np.abs(image.numpy() - shades / 257).max() <= 1


def test_what_systems_leave_behind_is_left_out(folder):
    files = {f"{name}/1.png": ink() for name in ("cat", "__MACOSX", ".ipynb_checkpoints")}
    files |= {"cat/.DS_Store": b"x", "cat/._1.png": b"x", "cat/Thumbs.db": b"x", "README.txt": b"x"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = ImageDataset.from_folder(folder(files))
    assert (len(ds), ds.class_names) == (1, ["cat"])


def test_files_that_are_no_pictures_are_named_in_a_warning(folder):
    root = folder({"cat/1.png": ink(), "cat/photo.heic": b"x", "cat/notes.txt": b"x"})
    with pytest.warns(UserWarning, match="notes.txt, photo.heic") as caught:
        assert len(ImageDataset.from_folder(root)) == 1
    assert caught[0].filename == __file__


REFUSED_FOLDERS = {
    "no sub-folders": ({"1.png": ink()}, "holds no sub-folders: expected a folder with a sub-folder"),
    "an empty class": ({"cat/1.png": ink(), "dog/notes.txt": b"x"}, "dog holds no pictures.*notes.txt"),
    "a level too many": (
        {"train/cat/1.png": ink(), "test/cat/1.png": ink()},
        "holds folders.*'cat'.*sub-folders are the",
    ),
    "a web page": ({"cat/1.png": ink(), "cat/2.png": b"<html>"}, r"cat/2.png \(cannot identify"),
    "an empty file": ({"cat/1.png": b""}, r"cat/1.png \(cannot identify"),
    "cut off": ({"cat/1.png": ink()}, "cat/1.png.*truncated|cat/1.png"),
    "floats": ({"cat/1.tif": ink().convert("F")}, "floating point"),
    "blank": ({"cat/1.png": Image.new("L", (9, 9), 0)}, "brightest pixel"),
}


@pytest.mark.parametrize("kind", REFUSED_FOLDERS)
def test_folders_that_cannot_be_read_are_refused(folder, kind):
    files, words = REFUSED_FOLDERS[kind]
    root = folder(files)
    if kind == "cut off":
        (root / "cat" / "1.png").write_bytes((root / "cat" / "1.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=words) as error:
        ImageDataset.from_folder(root)
    assert is_one_sentence(error)


def test_folders_that_are_none(tmp_path):
    (tmp_path / "pictures.zip").write_bytes(b"x")
    for name, words in (("nowhere", "is not there"), ("pictures.zip", "is a file")):
        with pytest.raises(ValueError, match=words):
            ImageDataset.from_folder(tmp_path / name)


@pytest.mark.parametrize(
    "options", [dict(size=0), dict(size=28.0), dict(size=100_000), dict(ink="black"), dict(ink=None)]
)
def test_impossible_options_are_refused(folder, options):
    with pytest.raises(ValueError, match="expected") as error:
        ImageDataset.from_folder(folder({"cat/1.png": ink()}), **options)
    assert is_one_sentence(error)


def test_home_strange_names_and_a_name_that_is_taken(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder({"猫 100 %/1.png": ink()}, tmp_path / "mnist")
    ds = ImageDataset.from_folder("~/mnist")
    assert ds.class_names == ["猫 100 %"]
    assert ds.name == "my mnist"  # not the real one, by whose judge it would be judged


def test_shapes_are_drawn_and_read(tmp_path):
    ds = ImageDataset.from_folder(draw_shapes(tmp_path / "shapes", per_class=8))
    assert ds.class_names == list(SHAPES) and torch.bincount(ds.labels).tolist() == [8] * 5
    assert ((ds.images > 128).float().mean((1, 2, 3)) > 0.03).all()  # each has some ink
    assert (ds.images[:, :, [0, -1]] < 60).all()  # and its border is paper
    again = ImageDataset.from_folder(draw_shapes(tmp_path / "again", per_class=8))
    other = ImageDataset.from_folder(draw_shapes(tmp_path / "other", per_class=8, seed=1))
    assert torch.equal(again.images, ds.images) and not torch.equal(other.images, ds.images)


def train_command(tmp_path, monkeypatch, *options):
    """The exit status of `python -m course_utils train`, and the data set that it trains on, without training."""
    seen = []

    def train(recipe, dataset, *args, **kwargs):
        seen.append(dataset)
        raise ValueError("seen enough.")

    monkeypatch.setattr(Recipe, "train", train)
    return main(["train", *options, "--out", str(tmp_path / "out")]), seen


def test_the_command_line_trains_on_a_folder(folder, tmp_path, monkeypatch):
    root = folder({"cat/1.png": ink(), "dog/1.png": ink()})
    status, (seen,) = train_command(tmp_path, monkeypatch, "--data", str(root), "--size", "16")
    assert status == 2 and seen.class_names == ["cat", "dog"] and seen.images.shape == (2, 1, 16, 16)


def test_the_command_line_says_what_is_wrong_with_a_folder(tmp_path, monkeypatch, capsys):
    assert train_command(tmp_path, monkeypatch, "--data", str(tmp_path / "nowhere")) == (2, [])
    assert "nowhere is not there: expected a folder with a sub-folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--dataset", "fashion_mnist", "--data", "x", "--out", "y"])


@pytest.mark.parametrize("size", [8, 14, 16, 28, 32])
def test_recipes_bring_own_pictures_to_their_size(tmp_path, size):
    ds = ImageDataset.from_folder(draw_shapes(tmp_path, per_class=2), size=size)
    for wanted in (14, 16, 28):
        small = resized(ds, wanted)
        assert small.images.shape == (10, 1, wanted, wanted) and small.class_names == ds.class_names
