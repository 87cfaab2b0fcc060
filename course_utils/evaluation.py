"""How good are the pictures? Class accuracy, excess distance, copies of training images, and the loss by timestep."""

import time
from collections.abc import Sequence

import torch

from course_utils.classifier import SIDE, Classifier, describe, load_classifier, mean_and_covariance
from course_utils.data import scale_to_model
from course_utils.sampling import evaluating
from course_utils.validation import check_whole_number, quoted

MOST_PICTURES = 1_000_000
FEWEST_FOR_DISTANCE = 200  # with fewer pictures than these the excess distance is rough
COPY_QUANTILE = 0.01  # of held-out real images, the share that counts as very near to a training image


def evaluate(
    pipe,
    count: int = 1000,
    seeds: int | Sequence[int] = 1,
    num_inference_steps=None,
    guidance_scale=None,
    judge: Classifier | None = None,
) -> dict:
    """Draw pictures of every class in turn, and let a judge look at them.

    No data set is loaded: what the judge has to know of real images is stored with it.

    Args:
        pipe: a `ClassConditionedPipeline`.
        count: pictures to draw for each seed. The figures do not depend on it, but they are less certain with few:
            take 200 at least.
        seeds: how many times to do so, with the seeds 0, 1, ...; or the seeds themselves, such as [7].
        num_inference_steps, guidance_scale: as in the pipeline's call.
        judge: a `Classifier`; default: the bundled one of the pipeline's data set.

    Returns:
        A dict. The first three are means over the seeds; each has its smallest and largest value beside it, as
        "class_accuracy_range" and so on.

        - "class_accuracy": share of pictures recognised as the class asked for, 0 .. 1.
        - "excess_distance": how much farther than real images the pictures are from real images (`excess_distance`);
          0 is as good as real ones, and chance makes it a little more or less.
        - "recall": the class accuracy of each class, a list.
        - "confusion": counts over all seeds, a list of rows: class asked for x class recognised.
        - "judge_accuracy": share of real held-out images whose class the judge recognises.
        - "count", "seeds", "num_inference_steps", "guidance_scale", "seconds": how it was measured.

    Raises:
        ValueError: before anything is drawn, for a bad count or seed, or a judge that does not know the pipeline's
            classes or size; and for what the pipeline refuses.
        FileNotFoundError: if there is no bundled judge for the pipeline's data set.
    """
    judge = judge or load_classifier(pipe.config.dataset)
    return evaluate_by([judge], pipe, count, seeds, num_inference_steps, guidance_scale)[0]


def evaluate_by(
    judges: list[Classifier], pipe, count: int = 1000, seeds=1, num_inference_steps=None, guidance_scale=None
) -> list[dict]:
    """What `evaluate` returns, by each of several judges who look at the same pictures."""
    check_whole_number("count", count, 2, MOST_PICTURES)
    seeds = checked_seeds(seeds)
    known = [labels_of_judge(judge, pipe) for judge in judges]
    asked = torch.arange(count) % len(pipe.class_names)
    scores, seconds = [[] for _ in judges], 0.0
    for seed in seeds:
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(seed)
        pictures = pipe(asked, num_inference_steps, guidance_scale, generator, output_type="pt").images * 2 - 1
        seconds += time.perf_counter() - start
        for judge, labels, judged in zip(judges, known, scores, strict=True):
            judged.append(score_pictures(pictures, labels[asked], judge))
    steps = pipe.config.num_inference_steps if num_inference_steps is None else num_inference_steps
    scale = pipe.config.guidance_scale if guidance_scale is None else guidance_scale
    how = dict(count=count, seeds=seeds, num_inference_steps=int(steps), guidance_scale=float(scale), seconds=seconds)
    return [
        over_seeds(judged, labels) | dict(judge_accuracy=judge.config.accuracy) | how
        for judge, labels, judged in zip(judges, known, scores, strict=True)
    ]


def checked_seeds(seeds) -> list[int]:
    """The seeds to use: 0, 1, ... for a number of them.

    Raises:
        ValueError: for anything that is neither a number of seeds nor a list of them.
    """
    if not isinstance(seeds, (Sequence, torch.Tensor)) or isinstance(seeds, str):
        check_whole_number("seeds", seeds, 1, 1000)
        return list(range(seeds))
    if len(seeds) == 0:
        raise ValueError("seeds is empty, expected a number of seeds or a list of at least one.")
    for seed in seeds:
        check_whole_number("a seed", seed, 0, 2**63 - 1)
    return [int(seed) for seed in seeds]


def labels_of_judge(judge: Classifier, pipe) -> torch.Tensor:
    """What the judge calls each class that the pipeline draws: int64 (num_classes,).

    A network of some of the classes, such as three of the ten digits, is judged by their names.

    Raises:
        ValueError: if the judge does not know a class, or has no statistics of real images of this size.
    """
    names, drawn = judge.class_names, pipe.class_names
    strangers = [name for name in drawn if name not in names]
    if strangers:
        raise ValueError(
            f"the judge knows {len(names)} classes ({quoted(names)}), and not {quoted(strangers[0])}, which this network "
            "draws: train a judge on your own images with train_judge(dataset), and pass it on as judge=..."
        )
    reference_size(judge, pipe.unet.config.sample_size)
    return torch.tensor([names.index(name) for name in drawn])


def reference_size(judge: Classifier, size: int) -> int:
    """The size of the real images that pictures of a size are compared with: the same, or 28 for larger ones.

    Raises:
        ValueError: if the judge has no statistics of such images.
    """
    size = min(size, SIDE) if SIDE in judge.config.reference_sizes else size
    if size not in judge.config.reference_sizes:
        sizes = ", ".join(f"{known}x{known}" for known in judge.config.reference_sizes)
        raise ValueError(
            f"the pictures have {size}x{size} pixels, and the judge has statistics of real images of {sizes}: draw one of "
            "these sizes, or train a judge on images of yours with train_judge(dataset)."
        )
    return size


def score_pictures(pictures: torch.Tensor, labels: torch.Tensor, judge: Classifier) -> dict:
    """What a judge says of pictures, however they were made.

    Args:
        pictures: float (N, 1, H, W) in [-1, 1].
        labels: int64 (N,), the classes asked for, as the judge numbers them.

    Returns:
        "class_accuracy" and "excess_distance" as in `evaluate`; "confusion", int64 (num_classes, num_classes).
    """
    features, scores = describe(judge, pictures)
    return {
        "class_accuracy": (scores.argmax(1) == labels).double().mean().item(),
        "excess_distance": excess_distance(features, labels, judge, reference_size(judge, pictures.shape[-1])),
        "confusion": confusion_counts(labels, scores.argmax(1), judge.config.num_classes),
    }


def over_seeds(scores: list[dict], labels: torch.Tensor) -> dict:
    """The scores of several seeds as one: means, with the smallest and the largest beside them."""
    confusions = torch.stack([score["confusion"][labels] for score in scores])  # (seeds, asked, recognised)
    own = labels.expand(len(scores), -1)[..., None]  # (seeds, asked, 1)
    recalls = confusions.gather(2, own)[..., 0] / confusions.sum(2).clamp(min=1)  # (seeds, asked)
    summary = {"recall": recalls.mean(0).tolist()}
    summary["recall_range"] = list(zip(recalls.amin(0).tolist(), recalls.amax(0).tolist(), strict=True))
    for name in ("class_accuracy", "excess_distance"):
        values = [score[name] for score in scores]
        summary |= {name: sum(values) / len(values), f"{name}_range": [min(values), max(values)]}
    return summary | {"confusion": confusions.sum(0).tolist()}


def confusion_counts(asked: torch.Tensor, recognised: torch.Tensor, num_classes: int) -> torch.Tensor:
    """int64 (num_classes, num_classes): how often each class asked for (row) was recognised as each (column)."""
    return torch.bincount(asked * num_classes + recognised, minlength=num_classes**2).view(num_classes, num_classes)


def excess_distance(features: torch.Tensor, labels: torch.Tensor, judge: Classifier, size: int = SIDE) -> float:
    """How much farther than real images pictures are from real images.

    It is the Frechet distance (arXiv:1706.08500, with the judge's features in Inception's place) of the pictures to real
    images that nobody was trained on, minus the same distance of other such real images. The real images' classes are
    mixed as the pictures' are. Both distances are those of infinitely many pictures, because a distance measured on few
    pictures is too large (arXiv:1911.07023): so the figure is the same, up to chance, at every count.

    The held-out real images are in two halves: each in turn is what pictures and the other half are compared with.

    Args:
        features: (N, 64), of the pictures.
        labels: int64 (N,), the classes asked for, as the judge numbers them.
        size: side of the pictures, one of the judge's `reference_sizes`.

    Returns:
        About 0 for pictures as good as real ones, more for worse ones; chance makes it a little more or less.
    """
    shares = torch.bincount(labels, minlength=judge.config.num_classes).double() / len(labels)
    first, second = (judge.reference(half, shares, size) for half in (0, 1))
    pictures = sum(distance_of_many(features, labels, reference) for reference in (first, second)) / 2
    # Both halves miss what infinitely many real images would show by as much: half of their distance is one's share.
    return pictures - frechet_distance(*first, *second) / 2


def distance_of_many(features: torch.Tensor, labels: torch.Tensor, reference) -> float:
    """The Frechet distance to a reference that infinitely many such pictures would have.

    Measured on N pictures it is too large by c / N: so half as many pictures show the same error twice.
    """
    by_class = labels.argsort(stable=True)  # neighbours are of one class: the halves have the same classes
    whole = frechet_distance(*mean_and_covariance(features), *reference)
    halves = (features[by_class[start::2]] for start in (0, 1))
    return 2 * whole - sum(frechet_distance(*mean_and_covariance(half), *reference) for half in halves) / 2


def frechet_distance(mean_a, covariance_a, mean_b, covariance_b) -> float:
    """Distance between two Gaussians, squared: `|mean_a - mean_b|^2 + trace(A + B - 2 (A B)^(1/2))`.

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


def summarize(scores: dict) -> str:
    """What `evaluate` returned, in words."""
    accuracy, real = scores["class_accuracy"], scores["judge_accuracy"]
    plainer = (
        "; that is more than of real images: the pictures may be plainer than real ones" if accuracy > real else ""
    )
    rough = "" if scores["count"] >= FEWEST_FOR_DISTANCE else f"; under {FEWEST_FOR_DISTANCE} pictures this is rough"
    return (
        f"class accuracy {in_percent(scores, 'class_accuracy')}, where the judge recognises {real:.1%} of real images"
        f"{plainer}. Excess distance {with_range(scores, 'excess_distance')}{rough}."
    )


def score_cells(scores: dict) -> dict[str, str]:
    """The two figures as cells of a table."""
    return {
        "class accuracy": in_percent(scores, "class_accuracy"),
        "excess distance": with_range(scores, "excess_distance"),
    }


def in_percent(scores: dict, name: str) -> str:
    """A share and, from two seeds on, its range: "98.9 % (98.6 to 99.3)"."""
    low, high = scores[f"{name}_range"]
    spread = f" ({100 * low:.1f} to {100 * high:.1f})" if len(scores["seeds"]) > 1 else ""
    return f"{100 * scores[name]:.1f} %{spread}"


def with_range(scores: dict, name: str) -> str:
    """A distance and, from two seeds on, its range: "0.022 (0.017 to 0.026)"."""
    low, high = scores[f"{name}_range"]
    return f"{scores[name]:.3f}" + (f" ({low:.3f} to {high:.3f})" if len(scores["seeds"]) > 1 else "")


@torch.inference_mode()
def nearest_images(pictures: torch.Tensor, images: torch.Tensor, batch_size: int = 500):
    """For each picture the nearest of many images, by the root mean square difference of their pixels.

    Args:
        pictures: float (N, 1, H, W) in [0, 1].
        images: uint8 (M, 1, H, W).

    Returns:
        Distances, float32 (N,), 0 .. 1; and positions in `images`, int64 (N,).
    """
    flat = images.flatten(1).float() / 255
    lengths = flat.square().sum(1)
    distances, positions = [], []
    for batch in pictures.flatten(1).split(batch_size):
        # |a - b|^2 = |a|^2 - 2 a b + |b|^2
        squares = torch.addmm(lengths, batch, flat.T, alpha=-2) + batch.square().sum(1, keepdim=True)
        nearest = squares.min(1)
        distances.append((nearest.values.clamp(min=0) / flat.shape[1]).sqrt())
        positions.append(nearest.indices)
    return torch.cat(distances), torch.cat(positions)


def check_for_copies(pictures: torch.Tensor, train_images: torch.Tensor, held_out_images: torch.Tensor) -> dict:
    """Are pictures copies of training images? Real images that nobody was trained on say how near is normal.

    Args:
        pictures: float (N, 1, H, W) in [0, 1].
        train_images: uint8 (M, 1, H, W), what the network was trained on.
        held_out_images: uint8 (K, 1, H, W), other real images.

    Returns:
        A dict.

        - "distances", "positions": of each picture to its nearest training image, and which one that is
          (`nearest_images`).
        - "held_out_distances": the same distances of the held-out images.
        - "relative_distance": median of the pictures' distances, divided by that of the held-out images: about 1 for
          pictures that are new, near 0 for copies.
        - "share_very_near": share of pictures nearer to a training image than 99 % of the held-out images are: about
          0.01 for new pictures.
    """
    distances, positions = nearest_images(pictures, train_images)
    held_out, _ = nearest_images(held_out_images.float() / 255, train_images)
    return {
        "distances": distances,
        "positions": positions,
        "held_out_distances": held_out,
        "relative_distance": (distances.median() / held_out.median()).item(),
        "share_very_near": (distances < held_out.quantile(COPY_QUANTILE)).double().mean().item(),
    }


@torch.inference_mode()
def loss_by_timestep(model, noise_scheduler, dataset, bands: int = 10, images_per_band: int = 200, generator=None):
    """Mean squared error of the predicted noise, for equal bands of timesteps.

    A network that predicts the velocity is counted in noise too: its error there is alpha_bar(t) times as large.
    Networks of both kinds can be compared, then.

    Args:
        model: a `ClassConditionedUnet`.
        noise_scheduler: the scheduler it was trained with.
        dataset: an `ImageDataset`.
        bands: how many equal parts the timesteps are divided into; the last one ends with the last timestep.
        images_per_band: images per band, each at a timestep of its own.
        generator: a `torch.Generator`; default: one seeded with 0.

    Returns:
        float32 (bands,), from the least noise to the most.
    """
    generator = generator or torch.Generator().manual_seed(0)
    edges = torch.linspace(0, noise_scheduler.config.num_train_timesteps, bands + 1).round().long().tolist()
    losses = []
    with evaluating(model):
        for band in range(bands):
            chosen = torch.randint(len(dataset), (images_per_band,), generator=generator)
            timesteps = torch.randint(edges[band], edges[band + 1], (images_per_band,), generator=generator)
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
