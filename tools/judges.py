"""Train the classifiers that judge drawn pictures.

python -m tools.judges --dataset mnist --epochs 8 --out course_utils/pretrained/classifier-mnist
"""

import argparse
import time
from pathlib import Path

import torch

from course_utils.classifier import PLANS, accuracy, train_classifier
from course_utils.data import load_dataset
from course_utils.settings import best_device

CARD = """# Classifier of {dataset}

A small convolutional network, trained by this project on the {dataset} train split (60,000 images). The course uses it to
tell whether a drawn picture shows the class that was asked for, and takes its 64 features for the Frechet distance; the
mean and covariance of the train split's features are stored with the weights.

| | |
|---|---|
| accuracy on the real test split (10,000 images) | {accuracy:.2%} |
| parameters | {parameters:,} |
| training | {epochs} epochs, {seconds:.0f} s on {device} |
| command | `{command}` |
"""


def main():
    parser = argparse.ArgumentParser(description="Train the classifier that judges drawn pictures.")
    parser.add_argument("--dataset", choices=tuple(PLANS), required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--out", required=True, help="folder for the weights and their card")
    args = parser.parse_args()
    start = time.perf_counter()
    classifier = train_classifier(load_dataset(args.dataset), args.epochs)
    seconds = time.perf_counter() - start
    classifier.cpu().save_pretrained(args.out)
    card = CARD.format(
        dataset=args.dataset,
        accuracy=accuracy(classifier, load_dataset(args.dataset, "test")),
        parameters=sum(p.numel() for p in classifier.parameters()),
        epochs=args.epochs,
        seconds=seconds,
        device=f"{torch.get_num_threads()} CPU cores" if best_device() == "cpu" else best_device(),
        command=f"python -m tools.judges --dataset {args.dataset} --epochs {args.epochs} --out {args.out}",
    )
    (Path(args.out) / "README.md").write_text(card, encoding="utf-8")
    print(card)


if __name__ == "__main__":
    main()
