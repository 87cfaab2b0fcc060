"""The measuring stick: a small classifier that says which class a picture shows, and describes it by 64 numbers."""

import math
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from course_utils.data import scale_to_model
from course_utils.settings import best_device
from course_utils.storage.weights import PRETRAINED_FOLDER, StrictModel
from course_utils.validation import check_whole_number, quoted

FEATURES = 64


@dataclass(frozen=True)
class TrainingPlan:
    """How the classifier of a data set is made: its widths, and how far pictures are changed in training.

    Attributes:
        widths: channels of the three levels.
        shift: pixels, at most.
        degrees: turn, at most.
        scale: share by which the size changes, at most.
        mirror: whether left and right may be swapped: clothes stay clothes, digits do not stay digits.
    """

    widths: tuple[int, int, int]
    shift: float
    degrees: float
    scale: float
    mirror: bool


PLANS = {
    "mnist": TrainingPlan((24, 48, 96), shift=2, degrees=10, scale=0.1, mirror=False),
    "fashion_mnist": TrainingPlan((32, 64, 128), shift=1, degrees=0, scale=0, mirror=True),
}


class Classifier(StrictModel):
    """A convolutional classifier of 28x28 one-channel images.

    Beside its weights it carries what the Frechet distance needs to know of the real train split: the buffers
    `feature_mean` (64,) and `feature_covariance` (64, 64).
    """

    @register_to_config
    def __init__(self, num_classes: int = 10, widths: tuple[int, ...] = (24, 48, 96)):
        super().__init__()
        check_whole_number("num_classes", num_classes, 1, 1000)
        if not isinstance(widths, (list, tuple)) or len(widths) != 3:
            raise ValueError(f"widths is {quoted(widths)}, expected a list of three, one for each level.")
        for width in widths:
            check_whole_number("a width in widths", width, 1, 1024)
        narrow, middle, wide = widths
        self.layers = nn.Sequential(
            ConvBlock(1, narrow), nn.MaxPool2d(2),  # (B, 24, 14, 14)
            ConvBlock(narrow, middle), Residual(ConvBlock(middle, middle)), nn.MaxPool2d(2),  # (B, 48, 7, 7)
            ConvBlock(middle, wide), Residual(ConvBlock(wide, wide)), nn.AdaptiveAvgPool2d(1), nn.Flatten(),  # (B, 96)
            nn.Linear(wide, FEATURES), nn.ReLU(),  # (B, 64)
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, num_classes)
        self.register_buffer("feature_mean", torch.zeros(FEATURES))
        self.register_buffer("feature_covariance", torch.zeros(FEATURES, FEATURES))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, 28, 28) in [-1, 1] to (B, 64)."""
        return self.layers(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, 28, 28) in [-1, 1] to class scores (B, 10)."""
        return self.head(self.features(x))


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


def load_classifier(dataset: str) -> Classifier:
    """The bundled classifier of "mnist" or "fashion_mnist".

    Raises:
        FileNotFoundError: for a data set without one.
    """
    return Classifier.from_pretrained(PRETRAINED_FOLDER / f"classifier-{dataset.replace('_', '-')}")


@torch.inference_mode()
def describe(classifier: Classifier, images: torch.Tensor, batch_size: int = 1000):
    """Features and class scores of many images.

    Args:
        images: (N, 1, 28, 28), float in [-1, 1].

    Returns:
        Features (N, 64) and scores (N, 10), float32 on the CPU.
    """
    features = torch.cat([classifier.features(batch.to(classifier.device)) for batch in images.split(batch_size)])
    return features.cpu(), classifier.head(features).cpu()


def mean_and_covariance(features: torch.Tensor):
    """Mean (64,) and covariance (64, 64) of features (N, 64), in float64."""
    features = features.double()
    return features.mean(0), features.T.cov()


def augment(images: torch.Tensor, plan: TrainingPlan, generator: torch.Generator) -> torch.Tensor:
    """Shift, turn, scale and mirror pictures at random, within the plan's limits; what comes in is background."""
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
    dataset, epochs: int, batch_size: int = 256, learning_rate: float = 8e-3, seed: int = 0
) -> Classifier:
    """Train on the whole train split, and measure the real features that the Frechet distance compares with."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    plan = PLANS[dataset.name]
    classifier = Classifier(widths=plan.widths).to(best_device())
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05)
    batches = epochs * (len(dataset) // batch_size)
    lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=batches + 1)
    for step in tqdm(range(batches)):
        if step % (len(dataset) // batch_size) == 0:
            order = torch.randperm(len(dataset), generator=generator)
        batch, order = order[:batch_size], order[batch_size:]
        images = augment(scale_to_model(dataset.images[batch]), plan, generator)
        scores = classifier(images.to(classifier.device))
        loss = F.cross_entropy(scores, dataset.labels[batch].to(classifier.device), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
    classifier.eval()
    mean, covariance = mean_and_covariance(describe(classifier, scale_to_model(dataset.images))[0])
    classifier.feature_mean.copy_(mean)
    classifier.feature_covariance.copy_(covariance)
    return classifier


def accuracy(classifier: Classifier, dataset) -> float:
    """Share of a data set's images whose class is recognised."""
    scores = describe(classifier, scale_to_model(dataset.images))[1]
    return (scores.argmax(1) == dataset.labels).float().mean().item()
