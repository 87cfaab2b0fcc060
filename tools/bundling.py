"""For maintainers: put trained weights into the package with their card, and draw the sample sheets.

python -m tools.bundling weights runs/mnist-full --name mnist-untuned --steps 4 --guidance 1.15
python -m tools.bundling weights runs/mnist --name mnist
python -m tools.bundling weights runs/fashion_mnist --name fashion_mnist --guidance 1.3 --guidance-start 0.25
python -m tools.bundling card mnist
python -m tools.bundling samples mnist
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from course_utils.classifier import load_classifier
from course_utils.data import SAMPLES_FOLDER, SOURCES, load_dataset, save_sample
from course_utils.evaluation import check_for_copies, evaluate_by, in_percent, with_range
from course_utils.pipeline import BUNDLED_WEIGHTS, TRAINING_REPORT, ClassConditionedPipeline
from course_utils.recipes import RECIPES
from course_utils.sampling import guidance_scales
from course_utils.storage.files import written_whole
from course_utils.storage.weights import PRETRAINED_FOLDER

SAMPLE_COUNT = 2000
SEEDS = 5  # of the pictures that a card's scores are a mean of
COPIES_COUNT = 1000  # pictures, and held-out real images, that are compared with all training images
SAMPLING_SETTINGS = ("num_inference_steps", "guidance_scale", "guidance_start")
CARD = """# {name}

Weights of a class-conditional diffusion model, trained by this project from random weights on the {dataset} train split
(60,000 images). `ClassConditionedPipeline.from_pretrained("{name}")` loads them.

| | |
|---|---|
| network | conditioning by {conditioning}, widths {widths}, {parameters:,} parameters |
| training | recipe `{recipe}`, seed {seed}: {images_seen:,} images in {seconds:,.0f} s on {machine} |
| command | `python -m course_utils train --dataset {dataset} --recipe {recipe}{options} --seed {seed} --out {folder}` |
{tuning}| sampling, by default | {scheduler}, {num_inference_steps} steps, guidance {guidance}: {evaluations} network evaluations per picture |
{note}
{seeds} seeds of {count:,} pictures each: the mean, and in parentheses the smallest and the largest. *Excess distance* is how much
farther than real images the pictures are from real images; 0 is as good as real ones.

| | by the judge | by the second judge |
|---|---|---|
| class accuracy | {first_accuracy} | {second_accuracy} |
| the judge's own accuracy on real test images | {first_real:.1%} | {second_real:.1%} |
| excess distance | {first_excess} | {second_excess} |

Recall by class: {recalls}.

Copies of training images: the distance of {copies_count:,} pictures to their nearest training image is {relative:.2f} times that of as many
real test images (1: as new as real ones, 0: copies), and {near:.1%} of them are nearer than 99 % of the real ones are.

The scores come from `python -m course_utils evaluate --weights {name} --count {count} --seeds {seeds}`, judged by this project's own
classifiers (`classifier-{classifier}` and `classifier-{classifier}-second`); the last paragraph from
`python -m tools.bundling card {name}`.
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
    if report["is_sample"] or report.get("tuning", report).get("is_sample"):
        raise ValueError(f"{folder} was trained on the bundled sample: only weights of real images are bundled.")
    if "tuning" in report:
        pipe = tuned_pipeline(trained, **sampling)
    else:
        pipe = replace(RECIPES[report["recipe"]], **sampling).make_pipeline(trained.unet, report["dataset"])
    target = PRETRAINED_FOLDER / name
    pipe.save_pretrained(target)
    with written_whole(target / TRAINING_REPORT) as file:
        file.write_text(json.dumps(report | dict(folder=str(folder))), encoding="utf-8")
    write_card(pipe, name, report | dict(folder=str(folder)), count)


def tuned_pipeline(tuned, sampler=None, **sampling) -> ClassConditionedPipeline:
    """Fine-tuned weights with the sampler that they were fine-tuned through, guided otherwise if asked for."""
    if sampler is not None:
        raise ValueError(f"sampler is {sampler!r}: fine-tuned weights draw with the one they were fine-tuned through.")
    return tuned.with_unet(tuned.unet, **sampling)


def write_card(pipe, name: str, report: dict, count: int):
    """Write the model card: data, recipe, seconds, scores and the commands that made them."""
    first, second = evaluate_by(
        [load_classifier(pipe.config.dataset, second) for second in (False, True)], pipe, count, SEEDS
    )
    config, tuning, folder = pipe.unet.config, report.get("tuning"), report["folder"]
    card = CARD.format(
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
        num_inference_steps=pipe.config.num_inference_steps,
        guidance=f"{pipe.config.guidance_scale:g}"
        + (f" after the first {pipe.config.guidance_start:.0%} of them" if pipe.config.guidance_start else ""),
        evaluations=evaluations_per_picture(pipe.config),
        note=f"\n{report['note']}\n" if "note" in report else "",
        recalls=", ".join(
            f"{class_name} {recall:.1%}" for class_name, recall in zip(pipe.class_names, first["recall"], strict=True)
        ),
        classifier=pipe.config.dataset.replace("_", "-"),
        count=count,
        seeds=SEEDS,
        **{
            f"{name}_accuracy": in_percent(scores, "class_accuracy")
            for name, scores in (("first", first), ("second", second))
        },
        **{
            f"{name}_excess": with_range(scores, "excess_distance")
            for name, scores in (("first", first), ("second", second))
        },
        **{f"{name}_real": scores["judge_accuracy"] for name, scores in (("first", first), ("second", second))},
        **copies_of(pipe),
        **{key: report[key] for key in ("dataset", "recipe", "seed", "images_seen", "seconds")},
    )
    with written_whole(PRETRAINED_FOLDER / name / "README.md") as file:
        file.write_text(card, encoding="utf-8")
    print(card)


def evaluations_per_picture(config) -> int:
    """Network evaluations for a picture: one per step, two where the step is guided."""
    scales = guidance_scales(config.num_inference_steps, config.guidance_scale, config.guidance_start)
    return sum(1 if scale == 1 else 2 for scale in scales)


def copies_of(pipe) -> dict:
    """What the card says of copies of training images."""
    train, test = (load_dataset(pipe.config.dataset, split) for split in ("train", "test"))
    generator = torch.Generator().manual_seed(0)
    pictures = pipe(torch.arange(COPIES_COUNT) % len(pipe.class_names), generator=generator, output_type="pt").images
    check = check_for_copies(pictures, train.images, test.images[:COPIES_COUNT])
    return dict(relative=check["relative_distance"], near=check["share_very_near"], copies_count=COPIES_COUNT)


def rewrite_card(name: str, count: int):
    """Measure bundled weights anew, and write their card."""
    report = json.loads((PRETRAINED_FOLDER / name / TRAINING_REPORT).read_text(encoding="utf-8"))
    write_card(ClassConditionedPipeline.from_pretrained(name), name, report, count)


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
    weights.add_argument("--count", type=int, default=2000, help="pictures to draw for each seed")
    weights.add_argument("--sampler", help="default: the recipe's")
    weights.add_argument("--steps", type=int, dest="num_inference_steps", help="default: the recipe's")
    weights.add_argument("--guidance", type=float, dest="guidance_scale", help="default: the recipe's")
    weights.add_argument(
        "--guidance-start", type=float, help="share of the steps before guidance; default: the recipe's"
    )
    weights.set_defaults(run=run_weights)
    card = commands.add_parser("card", help="measure bundled weights anew and write their card")
    card.add_argument("name", choices=BUNDLED_WEIGHTS)
    card.add_argument("--count", type=int, default=2000, help="pictures to draw for each seed")
    card.set_defaults(run=lambda args: rewrite_card(args.name, args.count))
    samples = commands.add_parser("samples", help="draw 2,000 pictures that stand in for a data set")
    samples.add_argument("name", choices=tuple(SOURCES))
    samples.set_defaults(run=lambda args: draw_samples(args.name))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
