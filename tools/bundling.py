"""For maintainers: put trained weights into the package with their card, and draw the sample sheets.

python -m tools.bundling weights runs/mnist-full --name mnist-untuned --steps 4 --guidance 1.15
python -m tools.bundling weights runs/mnist --name mnist
python -m tools.bundling weights runs/fashion_mnist --name fashion_mnist --guidance 1.3 --guidance-start 0.25
python -m tools.bundling samples mnist
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from course_utils.data import SAMPLES_FOLDER, SOURCES, save_sample
from course_utils.evaluation import evaluate
from course_utils.pipeline import TRAINING_REPORT, ClassConditionedPipeline
from course_utils.recipes import RECIPES
from course_utils.storage.weights import PRETRAINED_FOLDER

SAMPLE_COUNT = 2000
SAMPLING_SETTINGS = ("num_inference_steps", "guidance_scale", "guidance_start")
CARD = """# {name}

Weights of a class-conditional diffusion model, trained by this project from random weights on the {dataset} train split
(60,000 images). `ClassConditionedPipeline.from_pretrained("{name}")` loads them.

| | |
|---|---|
| network | conditioning by {conditioning}, widths {widths}, {parameters:,} parameters |
| training | recipe `{recipe}`, seed {seed}: {images_seen:,} images in {seconds:,.0f} s on {machine} |
| command | `python -m course_utils train --dataset {dataset} --recipe {recipe}{options} --seed {seed} --out {folder}` |
{tuning}| sampling, by default | {scheduler}, {num_inference_steps} steps, guidance {guidance} |
| class accuracy, {count:,} pictures | {class_accuracy:.1%} |
| Frechet distance, {count:,} pictures | {frechet_distance:.3f} |
| Frechet distance of as many real images (the floor) | {frechet_floor:.3f} ({ratio:.2f} times the floor) |
| recall by class | {recalls} |

The scores come from `python -m course_utils evaluate --weights {name} --count {count}`, judged by this project's own classifier
(`classifier-{classifier}`).
"""

TUNING = """| fine-tuning | adversarial, seed {seed}: {images_seen:,} images in {seconds:,.0f} s on {machine} |
| command | `python -m course_utils tune --weights {weights} --steps {steps} --batches {batches} --optimizer {optimizer} --seed {seed} --out {folder}` |
"""


def bundle_weights(folder: Path, name: str, count: int, **sampling):
    """Copy what `train` or `tune` has written into the package, with a card of scores on `count` pictures.

    Args:
        sampling: how these weights draw, such as `guidance_scale`, where it is not as the recipe says, or as they were
            fine-tuned.

    Raises:
        ValueError: for another sampler than the one that weights were fine-tuned through.
    """
    trained = ClassConditionedPipeline.from_pretrained(folder)
    report = json.loads((folder / TRAINING_REPORT).read_text(encoding="utf-8"))
    if "tuning" in report:
        pipe = tuned_pipeline(trained, **sampling)
    else:
        pipe = replace(RECIPES[report["recipe"]], **sampling).make_pipeline(trained.unet, report["dataset"])
    target = PRETRAINED_FOLDER / name
    pipe.save_pretrained(target)
    shutil.copy(folder / TRAINING_REPORT, target / TRAINING_REPORT)
    (target / "README.md").write_text(write_card(pipe, name, folder, report, count), encoding="utf-8")


def tuned_pipeline(tuned, sampler=None, **sampling) -> ClassConditionedPipeline:
    """Fine-tuned weights with the sampler that they were fine-tuned through, guided otherwise if asked for."""
    if sampler is not None:
        raise ValueError(f"sampler is {sampler!r}: fine-tuned weights draw with the one they were fine-tuned through.")
    settings = {name: getattr(tuned.config, name) for name in SAMPLING_SETTINGS} | sampling
    return ClassConditionedPipeline(tuned.unet, tuned.scheduler, tuned.config.dataset, **settings)


def write_card(pipe, name: str, folder: Path, report: dict, count: int) -> str:
    """The model card: data, recipe, seconds, scores and the commands that made them."""
    scores = evaluate(pipe, count)
    config, tuning = pipe.unet.config, report.get("tuning")
    return CARD.format(
        name=name,
        folder=tuning["weights"] if tuning else folder,
        tuning=TUNING.format(**tuning | dict(machine=machine(tuning), folder=folder)) if tuning else "",
        conditioning={
            "embedding": "extra input channels",
            "one_hot": "one-hot input channels",
            "time": "time embedding",
        }[config.conditioning],
        widths=tuple(config.block_out_channels),
        parameters=sum(parameter.numel() for parameter in pipe.unet.parameters()),
        options="".join(f" --{name} {report[name]}" for name in ("preset", "epochs") if report.get(name)),
        machine=machine(report),
        scheduler=type(pipe.scheduler).__name__,
        guidance=f"{pipe.config.guidance_scale:g}"
        + (f" after the first {pipe.config.guidance_start:.0%} of them" if pipe.config.guidance_start else ""),
        ratio=scores["frechet_distance"] / scores["frechet_floor"],
        recalls=", ".join(
            f"{class_name} {recall:.1%}" for class_name, recall in zip(pipe.class_names, scores["recall"], strict=True)
        ),
        classifier=pipe.config.dataset.replace("_", "-"),
        **{
            key: scores[key]
            for key in (
                "count",
                "class_accuracy",
                "frechet_distance",
                "frechet_floor",
                "num_inference_steps",
            )
        },
        **{key: report[key] for key in ("dataset", "recipe", "seed", "images_seen", "seconds")},
    )


def machine(report: dict) -> str:
    """What a training ran on."""
    return f"{report['threads']} CPU cores" if report["device"] == "cpu" else f"a {report['device']} device"


def draw_samples(name: str):
    """Draw the sample that stands in for a data set, with the bundled weights of the same name."""
    labels = torch.arange(SAMPLE_COUNT) % 10
    pictures = ClassConditionedPipeline.from_pretrained(name)(
        labels, generator=torch.Generator().manual_seed(0), output_type="pt"
    ).images
    SAMPLES_FOLDER.mkdir(exist_ok=True)
    save_sample(pictures[:, 0].mul(255).round().byte(), SAMPLES_FOLDER / f"{name}.png")


def run_weights(args):
    sampling = {name: value for name in ("sampler", *SAMPLING_SETTINGS) if (value := getattr(args, name)) is not None}
    bundle_weights(args.folder, args.name, args.count, **sampling)


def main():
    parser = argparse.ArgumentParser(description="Bundle trained weights, or draw the sample sheets.")
    commands = parser.add_subparsers(required=True)
    weights = commands.add_parser("weights", help="copy a trained folder into the package and write its card")
    weights.add_argument("folder", type=Path)
    weights.add_argument("--name", required=True)
    weights.add_argument("--count", type=int, default=2000, help="pictures to draw for the scores")
    weights.add_argument("--sampler", help="default: the recipe's")
    weights.add_argument("--steps", type=int, dest="num_inference_steps", help="default: the recipe's")
    weights.add_argument("--guidance", type=float, dest="guidance_scale", help="default: the recipe's")
    weights.add_argument(
        "--guidance-start", type=float, help="share of the steps before guidance; default: the recipe's"
    )
    weights.set_defaults(run=run_weights)
    samples = commands.add_parser("samples", help="draw 2,000 pictures that stand in for a data set")
    samples.add_argument("name", choices=tuple(SOURCES))
    samples.set_defaults(run=lambda args: draw_samples(args.name))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
