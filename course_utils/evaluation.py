"""How good are the pictures? Class accuracy, Frechet distance beside its floor, and the loss by timestep."""

import functools
import time

import torch
from torch.nn import functional as F

from course_utils.classifier import Classifier, describe, load_classifier, mean_and_covariance
from course_utils.data import load_dataset, scale_to_model
from course_utils.sampling import evaluating

FLOOR_DRAWS = 4


def evaluate(
    pipe, count: int = 1000, num_inference_steps=None, guidance_scale=None, generator=None, classifier=None
) -> dict:
    """Draw pictures of every class in turn and let the bundled classifier judge them.

    Args:
        pipe: a `ClassConditionedPipeline`; smaller pictures than 28x28 are enlarged for the classifier.
        count: pictures to draw, at least 2; the Frechet distance shrinks with more, so compare equal counts.
        num_inference_steps, guidance_scale: as in the pipeline's call.
        generator: a `torch.Generator` for the pictures; default: one seeded with 0.
        classifier: the judge; default: the bundled one of the pipeline's data set.

    Returns:
        A dict:
            "class_accuracy": share of pictures recognised as the class asked for, 0 .. 1.
            "frechet_distance": between the classifier's features of the pictures and of the real train split
                (arXiv:1706.08500, with this classifier in Inception's place); 0 is best.
            "frechet_floor": the same for `count` real images of the same classes: what a perfect model scores.
            "floor_from": "real images", or "statistics" where the real images are not at hand.
            "recall": that share for each class, a list.
            "confusion": counts, a list of rows, class asked for x class recognised.
            "count", "num_inference_steps", "guidance_scale", "seconds": how it was measured.

    Raises:
        ValueError: for a count under 2, or what the pipeline refuses.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 2:
        raise ValueError(f"count is {count!r}, expected a whole number of at least 2.")
    classifier = classifier or load_classifier(pipe.config.dataset)
    classifier = classifier.to(pipe.device)
    num_classes = pipe.unet.config.num_classes
    asked = torch.arange(count) % num_classes
    start = time.perf_counter()
    generator = generator or torch.Generator().manual_seed(0)
    pictures = pipe(asked, num_inference_steps, guidance_scale, generator, output_type="pt").images  # in [0, 1]
    seconds = time.perf_counter() - start
    features, scores = describe(classifier, enlarged(pictures) * 2 - 1)
    confusion = confusion_counts(asked, scores.argmax(1), num_classes)
    floor, floor_from = frechet_floor(classifier, pipe.config.dataset, asked)
    return {
        "class_accuracy": confusion.diag().sum().item() / count,
        "frechet_distance": frechet_distance(*mean_and_covariance(features), *reference(classifier)),
        "frechet_floor": floor,
        "floor_from": floor_from,
        "recall": (confusion.diag() / confusion.sum(1).clamp(min=1)).tolist(),
        "confusion": confusion.tolist(),
        "count": count,
        "num_inference_steps": num_inference_steps or pipe.config.num_inference_steps,
        "guidance_scale": pipe.config.guidance_scale if guidance_scale is None else guidance_scale,
        "seconds": seconds,
    }


def enlarged(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures of any size in [0, 1] as the classifier wants them: (N, 1, 28, 28), still in [0, 1]."""
    if pictures.shape[-1] == 28:
        return pictures
    return F.interpolate(pictures, (28, 28), mode="bicubic").clamp(0, 1)


def confusion_counts(asked: torch.Tensor, recognised: torch.Tensor, num_classes: int) -> torch.Tensor:
    """int64 (num_classes, num_classes): how often each class asked for (row) was recognised as each (column)."""
    return torch.bincount(asked * num_classes + recognised, minlength=num_classes**2).view(num_classes, num_classes)


def frechet_distance(mean_a, covariance_a, mean_b, covariance_b) -> float:
    """Distance between two Gaussians, squared: |mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2)).

    Args:
        mean_a, mean_b: (F,).
        covariance_a, covariance_b: (F, F).

    Returns:
        A number, 0 or more.
    """
    root_a = matrix_square_root(covariance_a)
    mixed = torch.linalg.eigvalsh(root_a @ covariance_b @ root_a).clamp(min=0).sqrt().sum()  # trace of (A B)^(1/2)
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * mixed
    return max(distance.item(), 0.0)


def matrix_square_root(matrix: torch.Tensor) -> torch.Tensor:
    """Of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def reference(classifier: Classifier):
    """Mean and covariance of the real train split's features, in float64."""
    return classifier.feature_mean.cpu().double(), classifier.feature_covariance.cpu().double()


def frechet_floor(classifier: Classifier, dataset: str, asked: torch.Tensor) -> tuple[float, str]:
    """What real images of the classes asked for score: the mean of a few draws, and where it comes from.

    Without the real images, vectors drawn from their features' statistics stand in for them.
    """
    real = real_images(dataset)
    generator = torch.Generator().manual_seed(0)
    mean, covariance = reference(classifier)
    distances = []
    for _ in range(FLOOR_DRAWS):
        if real.is_sample:
            noise = torch.randn(len(asked), len(mean), generator=generator, dtype=torch.float64)
            features = mean + noise @ matrix_square_root(covariance)
        else:
            images = real.images[draw_of_classes(real.labels, asked, generator)]
            features, _ = describe(classifier, scale_to_model(images))
        distances.append(frechet_distance(*mean_and_covariance(features), mean, covariance))
    return sum(distances) / FLOOR_DRAWS, "statistics" if real.is_sample else "real images"


@functools.cache
def real_images(dataset: str):
    """The train split, loaded once a process; where it had to be replaced by the sample, nobody waits for it twice."""
    return load_dataset(dataset)


def draw_of_classes(labels: torch.Tensor, asked: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """For each class asked for, the position of a random image of that class: int64 (N,)."""
    by_class = labels.argsort(stable=True)
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    picks = (torch.rand(len(asked), generator=generator) * counts[asked]).long()
    return by_class[starts[asked] + picks]


@torch.inference_mode()
def loss_by_timestep(model, noise_scheduler, dataset, bands: int = 10, images_per_band: int = 200, generator=None):
    """Mean squared error of the predicted noise, for equal bands of timesteps.

    A network that predicts the velocity is counted in noise too: its error there is alpha_bar(t) times as large.
    Networks of both kinds can be compared, then.

    Args:
        model: a `ClassConditionedUnet`.
        noise_scheduler: the scheduler it was trained with.
        dataset: an `ImageDataset`.
        bands: how many equal parts the timesteps are divided into.
        images_per_band: images a band, each at a timestep of its own.
        generator: a `torch.Generator`; default: one seeded with 0.

    Returns:
        float32 (bands,), from the least noise to the most.
    """
    generator = generator or torch.Generator().manual_seed(0)
    width = noise_scheduler.config.num_train_timesteps // bands
    losses = []
    with evaluating(model):
        for band in range(bands):
            chosen = torch.randint(len(dataset), (images_per_band,), generator=generator)
            timesteps = band * width + torch.randint(width, (images_per_band,), generator=generator)
            losses.append(noise_error(model, noise_scheduler, dataset, chosen, timesteps, generator))
    return torch.tensor(losses)


def noise_error(model, noise_scheduler, dataset, chosen, timesteps, generator) -> float:
    """Mean squared error of the noise that the model sees in some images at some timesteps."""
    images = scale_to_model(dataset.images[chosen])  # (B, 1, 28, 28)
    noise = torch.randn(images.shape, generator=generator)
    noisy = noise_scheduler.add_noise(images, noise, timesteps)
    prediction = model(
        noisy.to(model.device), timesteps.to(model.device), dataset.labels[chosen].to(model.device)
    ).cpu()
    if noise_scheduler.config.prediction_type == "v_prediction":
        alpha_bar = noise_scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        prediction = alpha_bar.sqrt() * prediction + (1 - alpha_bar).sqrt() * noisy  # the noise that this v implies
    return (prediction - noise).square().mean().item()
