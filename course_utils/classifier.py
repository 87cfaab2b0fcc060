"""The judge: a small classifier that says which class a picture shows, and describes the picture by 64 numbers.

A judge also carries what real images look like to it: mean and covariance of the 64 numbers, for each class, measured on
images that it was not trained on. The excess distance compares with them (`evaluation.py`).
"""

import math
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from course_utils.data import ImageDataset, scale_to_model
from course_utils.settings import best_device
from course_utils.storage.weights import PRETRAINED_FOLDER, StrictModel
from course_utils.validation import check_whole_number, is_number, quoted

FEATURES = 64
HALVES = 2  # the held-out images are divided into two disjoint halves: each is the reference of the other
SIDE = 28  # pixels: what the network looks at


@dataclass(frozen=True)
class TrainingPlan:
    """How a judge is made: its widths, its seed, and how far images are changed in training.

    Attributes:
        widths: channels of the three levels.
        shift: pixels, at most.
        degrees: of rotation, at most.
        scale: relative change of the size, at most.
        mirror: whether left and right may be swapped: clothes stay clothes, digits do not stay digits.
        epochs: passes over the data set.
        seed: of the weights, the order of the images and their changes.
    """

    widths: tuple[int, int, int] = (24, 48, 96)
    shift: float = 2
    degrees: float = 10
    scale: float = 0.1
    mirror: bool = False
    epochs: int = 8
    seed: int = 0


# Two judges for each data set. They differ in widths, seed and changes, so that weights tuned to please one show it.
PLANS = {
    "mnist": (TrainingPlan(), TrainingPlan((32, 48, 64), shift=3, degrees=15, scale=0.15, seed=1)),
    "fashion_mnist": (
        TrainingPlan((32, 64, 128), shift=1, degrees=0, scale=0, mirror=True, epochs=12),
        TrainingPlan((24, 64, 96), shift=2, degrees=5, scale=0.1, mirror=True, seed=1),
    ),
}


class Classifier(StrictModel):
    """A convolutional classifier of 28x28 one-channel images, with the statistics of real held-out images.

    Args:
        num_classes: classes, numbered from 0.
        widths: channels of the three levels.
        class_names: one name per class; None for "0", "1", ...
        reference_sizes: sides of the real images whose statistics it carries, in pixels. Images of another side than 28
            are resized for the network, and real images went through the same resizing.
        accuracy: share of real held-out images whose class it recognises, 0 .. 1.
        marks: the excess distance of things that everybody can imagine, by name (`evaluation.MARKS`).
    """

    @register_to_config
    def __init__(
        self,
        num_classes: int = 10,
        widths: tuple[int, ...] = (24, 48, 96),
        class_names: tuple[str, ...] | None = None,
        reference_sizes: tuple[int, ...] = (SIDE,),
        accuracy: float = 0.0,
        marks: dict[str, float] | None = None,
    ):
        super().__init__()
        check_judge(self.config)
        narrow, middle, wide = widths
        self.layers = nn.Sequential(
            ConvBlock(1, narrow), nn.MaxPool2d(2),  # (B, 24, 14, 14)
            ConvBlock(narrow, middle), Residual(ConvBlock(middle, middle)), nn.MaxPool2d(2),  # (B, 48, 7, 7)
            ConvBlock(middle, wide), Residual(ConvBlock(wide, wide)), nn.AdaptiveAvgPool2d(1), nn.Flatten(),  # (B, 96)
            nn.Linear(wide, FEATURES), nn.ReLU(),  # (B, 64)
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, num_classes)
        triangle = FEATURES * (FEATURES + 1) // 2  # a covariance is symmetric: half of it is stored
        for size in reference_sizes:
            self.register_buffer(f"means_{size}", torch.zeros(HALVES, num_classes, FEATURES))
            self.register_buffer(f"covariances_{size}", torch.zeros(HALVES, num_classes, triangle))

    @property
    def class_names(self) -> list[str]:
        """One name per class."""
        return list(self.config.class_names or map(str, range(self.config.num_classes)))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, 28, 28) in [-1, 1] to (B, 64)."""
        return self.layers(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, 28, 28) in [-1, 1] to class scores (B, num_classes)."""
        return self.head(self.features(images))

    def reference(self, half: int, class_shares: torch.Tensor, size: int = SIDE):
        """Statistics of the features of real held-out images, with the classes mixed as asked for.

        Args:
            half: 0 or 1.
            class_shares: float64 (num_classes,), adding up to 1.
            size: side of the images in pixels, one of `config.reference_sizes`.

        Returns:
            Mean (64,) and covariance (64, 64), in float64.
        """
        means = getattr(self, f"means_{size}")[half].cpu().double()  # (num_classes, 64)
        packed = getattr(self, f"covariances_{size}")[half].cpu().double()  # (num_classes, 2080)
        mean = class_shares @ means
        spread = means - mean  # of the classes around the common mean
        return mean, unpacked(class_shares @ packed) + spread.T @ (class_shares[:, None] * spread)


def check_judge(config):
    """Refuse settings that make no classifier.

    Args:
        config: the arguments of `Classifier` by name, as its `config` holds them.

    Raises:
        ValueError: with what was found and what was expected.
    """
    check_whole_number("num_classes", config["num_classes"], 1, 1000)
    for name, limit in (("widths", 1024), ("reference_sizes", 256)):
        if not isinstance(config[name], (list, tuple)) or not 1 <= len(config[name]) <= 8:
            raise ValueError(f"{name} is {quoted(config[name])}, expected a list of whole numbers.")
        for value in config[name]:
            check_whole_number(f"a number in {name}", value, 1, limit)
    if len(config["widths"]) != 3:
        raise ValueError(f"widths is {quoted(config['widths'])}, expected a list of three, one for each level.")
    names = config["class_names"]
    if names is not None and not (isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"class_names is {quoted(names)}, expected a list of strings.")
    if names is not None and len(names) != config["num_classes"]:
        raise ValueError(f"there are {len(names)} class_names for {config['num_classes']} classes.")
    if not is_number(config["accuracy"]) or not 0 <= config["accuracy"] <= 1:
        raise ValueError(f"accuracy is {quoted(config['accuracy'])}, expected a share from 0 to 1.")
    marks = config["marks"] or {}
    if not isinstance(marks, dict) or not all(is_number(value) for value in marks.values()):
        raise ValueError(f"marks is {quoted(marks)}, expected a number for each name.")


class ConvBlock(nn.Sequential):
    def __init__(self, in_channels, out_channels):
        conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


class Residual(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return x + self.block(x)


def packed(covariances: torch.Tensor) -> torch.Tensor:
    """Symmetric matrices (..., 64, 64) to their lower triangles (..., 2080)."""
    rows, columns = torch.tril_indices(FEATURES, FEATURES)
    return covariances[..., rows, columns]


def unpacked(triangle: torch.Tensor) -> torch.Tensor:
    """The symmetric matrix (64, 64) of a lower triangle (2080,)."""
    rows, columns = torch.tril_indices(FEATURES, FEATURES)
    matrix = triangle.new_zeros(FEATURES, FEATURES)
    matrix[rows, columns] = triangle
    matrix[columns, rows] = triangle
    return matrix


def load_classifier(dataset: str, second: bool = False) -> Classifier:
    """The bundled judge of "mnist" or "fashion_mnist".

    Args:
        dataset: the name of the data set.
        second: the other judge, with other widths, another seed and other changes in training.

    Raises:
        FileNotFoundError: for a data set without one.
    """
    if dataset not in PLANS:
        raise FileNotFoundError(
            f"there is no judge for {quoted(dataset)}, only for {', '.join(map(repr, PLANS))}: train one on your own "
            "images with train_judge(dataset), or `python -m course_utils judge`, and pass it on as judge=..."
        )
    return Classifier.from_pretrained(PRETRAINED_FOLDER / judge_folder(dataset, second))


def judge_folder(dataset: str, second: bool) -> str:
    return f"classifier-{dataset.replace('_', '-')}" + ("-second" if second else "")


def as_judged(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures of any size, in [-1, 1], as the network looks at them: (N, 1, 28, 28), still in [-1, 1]."""
    if pictures.shape[-2:] == (SIDE, SIDE):
        return pictures
    return F.interpolate(pictures, (SIDE, SIDE), mode="bicubic", antialias=pictures.shape[-1] > SIDE).clamp(-1, 1)


@torch.inference_mode()
def describe(classifier: Classifier, pictures: torch.Tensor, batch_size: int = 1000):
    """Features and class scores of many pictures.

    Args:
        pictures: (N, 1, H, W), float in [-1, 1].

    Returns:
        Features (N, 64) and scores (N, num_classes), float32 on the CPU.
    """
    batches = (as_judged(batch).to(classifier.device) for batch in pictures.split(batch_size))
    features = torch.cat([classifier.features(batch) for batch in batches])
    return features.cpu(), classifier.head(features).cpu()


def mean_and_covariance(features: torch.Tensor):
    """Mean (64,) and covariance (64, 64) of features (N, 64), in float64."""
    features = features.double()
    return features.mean(0), features.T.cov()


def augment(images: torch.Tensor, plan: TrainingPlan, generator: torch.Generator) -> torch.Tensor:
    """Shift, rotate, scale and mirror images at random, within the plan's limits; what comes in is background."""
    shift, turn, size = torch.rand(3, len(images), 2, generator=generator).mul(2).sub(1)  # each in [-1, 1]
    angle, scale = math.radians(plan.degrees) * turn[:, 0], 1 + plan.scale * size[:, 0]
    mirror = torch.where(size[:, 1] > 0, 1.0, -1.0) if plan.mirror else torch.ones(len(images))
    shift = shift * plan.shift / 14  # pixels to the grid's unit, half a picture
    rows = (
        torch.stack((mirror * scale * angle.cos(), -scale * angle.sin(), shift[:, 0]), dim=1),
        torch.stack((mirror * scale * angle.sin(), scale * angle.cos(), shift[:, 1]), dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), images.shape, align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1


def train_classifier(
    dataset: ImageDataset, plan: TrainingPlan, batch_size: int = 256, learning_rate: float = 8e-3
) -> Classifier:
    """Train a classifier on a data set; it has no statistics of real images yet (`measure_reference`)."""
    generator = torch.Generator().manual_seed(plan.seed)
    size = dataset.images.shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        names = tuple(dataset.class_names)
        classifier = Classifier(len(names), plan.widths, names, reference_sizes=(size,)).to(best_device())
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05)
    batch_size = min(batch_size, len(dataset))
    batches = plan.epochs * (len(dataset) // batch_size)
    lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=batches + 1)
    for step in tqdm(range(batches), desc="training the judge"):
        if step % (len(dataset) // batch_size) == 0:
            order = torch.randperm(len(dataset), generator=generator)
        batch, order = order[:batch_size], order[batch_size:]
        images = augment(as_judged(scale_to_model(dataset.images[batch])), plan, generator)
        scores = classifier(images.to(classifier.device))
        loss = F.cross_entropy(scores, dataset.labels[batch].to(classifier.device), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
    return classifier.eval()


def measure_reference(classifier: Classifier, held_out: ImageDataset):
    """Let a classifier look at real images that it was not trained on, and keep their statistics in its buffers.

    Each class is divided at random into two halves.

    Args:
        held_out: of a size in the classifier's `reference_sizes`, with at least four images of each class.

    Raises:
        ValueError: if a class has fewer than four images.
    """
    size, generator = held_out.images.shape[-1], torch.Generator().manual_seed(0)
    features = describe(classifier, scale_to_model(held_out.images))[0].double()
    for label, name in enumerate(classifier.class_names):
        members = (held_out.labels == label).nonzero()[:, 0]
        if len(members) < 2 * HALVES:
            raise ValueError(f"class {name} has {len(members)} held-out images, expected at least {2 * HALVES}.")
        members = members[torch.randperm(len(members), generator=generator)]
        for half in range(HALVES):
            mean, covariance = mean_and_covariance(features[members[half::HALVES]])
            getattr(classifier, f"means_{size}")[half, label] = mean
            getattr(classifier, f"covariances_{size}")[half, label] = packed(covariance)


def train_judge(
    dataset: ImageDataset, held_out: ImageDataset | None = None, plan: TrainingPlan | None = None
) -> Classifier:
    """Train a judge of your own images, for `evaluate(pipe, judge=...)`.

    Args:
        dataset: the images to train it on.
        held_out: other images of the same classes and size, for its accuracy and its statistics. Default: a third of
            `dataset`, which is then left out of the training.
        plan: how to train; default: mild changes that keep most pictures what they are, and enough epochs.

    Returns:
        A `Classifier`; look at its `config.accuracy` before you trust it.

    Raises:
        ValueError: if a class has too few images.
    """
    if held_out is None:
        dataset, held_out = divided(dataset)
    epochs = max(8, math.ceil(1500 * 256 / max(len(dataset), 1) / 8))  # few images need more passes
    classifier = train_classifier(dataset, plan or TrainingPlan(epochs=min(epochs, 60)))
    measure_reference(classifier, held_out)
    classifier.register_to_config(accuracy=accuracy(classifier, held_out))
    return classifier.cpu()


def divided(dataset: ImageDataset) -> tuple[ImageDataset, ImageDataset]:
    """Two thirds of each class, and the other third, at random but always the same."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
    order = order[dataset.labels[order].argsort(stable=True)]  # by class
    third = torch.arange(len(order)) % 3 == 0
    parts = (order[~third], order[third])
    return tuple(
        ImageDataset(dataset.images[part], dataset.labels[part], dataset.class_names, dataset.name) for part in parts
    )


def accuracy(classifier: Classifier, dataset: ImageDataset) -> float:
    """Share of a data set's images whose class is recognised, 0 .. 1."""
    scores = describe(classifier, scale_to_model(dataset.images))[1]
    return (scores.argmax(1) == dataset.labels).double().mean().item()
