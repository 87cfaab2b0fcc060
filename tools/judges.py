"""Train the judges that come with the course, and measure what real images look like to them.

python -m tools.judges mnist
python -m tools.judges mnist --second
"""

import argparse
import itertools
import time

import torch

from course_utils.classifier import (
    PLANS,
    Classifier,
    TrainingPlan,
    accuracy,
    judge_folder,
    measure_reference,
    train_classifier,
)
from course_utils.data import ImageDataset, load_dataset, scale_to_model
from course_utils.evaluation import frechet_distance, score_pictures
from course_utils.recipes import resized
from course_utils.settings import best_device
from course_utils.storage.files import written_whole
from course_utils.storage.weights import PRETRAINED_FOLDER

SIZES = (14, 28)  # of the pictures that the course's networks draw
CARD = """# {title} of {dataset}

A small convolutional network, trained by this project on the {dataset} train split (60,000 images). It says whether a
drawn picture shows the class that was asked for, and describes each picture by 64 numbers. With the weights are stored mean
and covariance of these numbers for the real *test* split, for each class and for two disjoint halves: the excess distance
compares with them.

| | |
|---|---|
| accuracy on the real test split (10,000 images) | {accuracy:.2%} |
| parameters | {parameters:,} |
| widths, seed | {widths}, {seed} |
| changes of the training images | shift {shift:g} pixels, rotation {degrees:g} degrees, size {scale:.0%}{mirror} |
| training | {epochs} epochs, {seconds:.0f} s on {device} |
| command | `{command}` |
{marks}
"""


def with_references(classifier: Classifier, test: ImageDataset) -> Classifier:
    """A classifier that carries statistics of real images of every size, its accuracy and the marks."""
    config = dict(classifier.config) | dict(reference_sizes=SIZES, accuracy=accuracy(classifier, test))
    judge = Classifier(**{name: value for name, value in config.items() if not name.startswith("_")}).eval()
    judge.layers, judge.head = classifier.layers, classifier.head
    for size in SIZES:
        measure_reference(judge, resized(test, size))
    judge.register_to_config(marks=measured_marks(judge, test))
    return judge


def measured_marks(judge: Classifier, test: ImageDataset) -> dict[str, float]:
    """Excess distances of what everybody can imagine."""
    small = scale_to_model(resized(test, 14).images)
    blurred = torch.nn.functional.interpolate(small, (28, 28), mode="bicubic").clamp(-1, 1)
    return {
        "real images through 14x14 pixels and back": score_pictures(blurred, test.labels, judge)["excess_distance"],
        "one class of ten drawn as another": one_class_as_another(judge),
    }


def one_class_as_another(judge: Classifier) -> float:
    """Mean, over all pairs of classes, of the excess distance of real images among which one class stands for another."""
    num_classes = judge.config.num_classes
    even = torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
    real = judge.reference(1, even)
    distances = []
    for missing, twice in itertools.permutations(range(num_classes), 2):
        shares = even.clone()
        shares[missing], shares[twice] = 0, 2 / num_classes
        distances.append(frechet_distance(*judge.reference(0, shares), *real))
    return sum(distances) / len(distances) - frechet_distance(*judge.reference(0, even), *real)


def save(judge: Classifier, dataset: str, second: bool, plan: TrainingPlan, seconds: float):
    """Put a judge into the package, with its card."""
    folder = PRETRAINED_FOLDER / judge_folder(dataset, second)
    judge.cpu().save_pretrained(folder)
    card = CARD.format(
        title="Second judge" if second else "Judge",
        dataset=dataset,
        accuracy=judge.config.accuracy,
        parameters=sum(p.numel() for p in judge.parameters()),
        mirror=", left and right swapped" if plan.mirror else "",
        seconds=seconds,
        device=f"{torch.get_num_threads()} CPU cores" if best_device() == "cpu" else best_device(),
        command=f"python -m tools.judges {dataset}" + (" --second" if second else ""),
        marks="\n".join(f"| excess distance: {name} | {value:.2f} |" for name, value in judge.config.marks.items()),
        **{name: getattr(plan, name) for name in ("widths", "seed", "shift", "degrees", "scale", "epochs")},
    )
    with written_whole(folder / "README.md") as file:
        file.write_text(card, encoding="utf-8")
    print(card)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m tools.judges", description="Train a judge and measure real images."
    )
    parser.add_argument("dataset", choices=tuple(PLANS))
    parser.add_argument("--second", action="store_true", help="the other judge: other widths, seed and changes")
    args = parser.parse_args()
    plan, start = PLANS[args.dataset][args.second], time.perf_counter()
    classifier = train_classifier(load_dataset(args.dataset), plan).cpu()
    seconds = time.perf_counter() - start
    judge = with_references(classifier, load_dataset(args.dataset, "test"))
    save(judge, args.dataset, args.second, plan, seconds)


if __name__ == "__main__":
    main()
