"""The command line: check, train, tune, sample, evaluate, judge.

python -m course_utils check
python -m course_utils train    --dataset mnist --recipe fast --out runs/mine
python -m course_utils tune     --weights runs/mine --out runs/mine-in-two-steps
python -m course_utils sample   --weights fashion_mnist --class Sneaker --count 8 --out grid.png
python -m course_utils evaluate --weights mnist --count 1000 --seeds 5
python -m course_utils judge    --data my-pictures --out runs/judge
torchrun --nproc_per_node 2 -m course_utils train ...
"""

import argparse
import json
import sys
from pathlib import Path

from course_utils import checking

if __name__ == "__main__" and sys.argv[1:] == ["check"]:
    sys.exit(checking.main())  # before the imports below, which fail where the setup is broken

import torch

from course_utils.classifier import Classifier, load_classifier, train_judge
from course_utils.data import SOURCES, ImageDataset, load_dataset
from course_utils.evaluation import evaluate_by
from course_utils.pictures import LARGEST_SIDE, image_format, picture_grid
from course_utils.pipeline import BUNDLED_WEIGHTS, INDEX_FILE, TRAINING_REPORT, ClassConditionedPipeline, find_weights
from course_utils.processes import launched_processes
from course_utils.recipes import RECIPES, Recipe
from course_utils.settings import PRESETS, best_device, course_settings
from course_utils.storage.checkpoints import KEPT, checkpoint_files, remove, require_room
from course_utils.storage.files import make_writable_folder, path_of, written_whole
from course_utils.storage.weights import read_settings
from course_utils.training import OPTIMIZERS, TrainingRun, running_mean
from course_utils.two_steps import AdversarialConfig, check_fine_tuning, fine_tune
from course_utils.validation import check_whole_number, in_one_line, quoted

COLUMNS = 10  # pictures in a row of an image file
WEIGHTS = f"{', '.join(BUNDLED_WEIGHTS)}, or a folder"
CHECKPOINTS = "checkpoints"  # in the folder that --out names; in it, one folder for each stage, or for a fine-tuning
STAGES, TUNING = "stage-*", "tuning"
CHECKPOINT_SIZE = 6  # at most, in units of the weights: their average, the optimizer's, and the discriminator's
LARGEST_REPORT = 10_000_000  # bytes; that of the longest recipe has 350,000


def main(arguments=None) -> int:
    """Run one command; bad input is answered by one line on stderr and exit status 2, Ctrl-C by one and status 130."""
    args = make_parser().parse_args(arguments)
    try:
        return args.run(args) or 0
    except (ValueError, OSError, FloatingPointError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {interrupt}" if str(interrupt) else "interrupted", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course_utils", description="Train, sample and evaluate.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("check", help="look at everything the course needs, and say what to do about it")
    command.set_defaults(run=lambda args: checking.main())

    command = commands.add_parser("train", help="train a network and save it with its sampler")
    pictures = command.add_mutually_exclusive_group()
    pictures.add_argument("--dataset", choices=tuple(SOURCES), default="mnist")
    add_own_data(pictures, command)
    command.add_argument("--recipe", choices=tuple(RECIPES), default="fast")
    command.add_argument(
        "--preset", choices=tuple(PRESETS), help="train on as many images as a notebook at this preset"
    )
    command.add_argument(
        "--epochs", type=int, help="passes over the data, in each stage of the recipe; default: the recipe's"
    )
    add_training_arguments(command)
    command.set_defaults(run=run_train)

    command = commands.add_parser("tune", help="fine-tune trained weights, so that they draw in very few steps")
    command.add_argument("--weights", required=True, help=WEIGHTS)
    add_own_data(command, command)
    command.add_argument(
        "--steps",
        type=int,
        default=AdversarialConfig.num_inference_steps,
        help="in which they will draw; default: %(default)s",
    )
    command.add_argument(
        "--batches", type=int, default=AdversarialConfig.max_steps, help="how long; default: %(default)s batches"
    )
    command.add_argument(
        "--optimizer", choices=OPTIMIZERS, default=AdversarialConfig.optimizer, help="default: %(default)s"
    )
    add_training_arguments(command)
    command.set_defaults(run=run_tune)

    command = commands.add_parser("sample", help="draw pictures of one class into an image file, in rows of ten")
    command.add_argument("--weights", required=True, help=WEIGHTS)
    command.add_argument(
        "--class", "--digit", dest="label", metavar="CLASS", required=True, help="the class to draw: its name or number"
    )
    command.add_argument("--count", type=int, default=8)
    command.add_argument("--steps", type=int, help="default: what the weights were saved with")
    command.add_argument("--guidance", type=float, help="1 is off; default: what the weights were saved with")
    command.add_argument("--guidance-start", type=float, help="share of the steps before it sets in; default: as saved")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", required=True, help="the image file; its ending is its format: .png, .jpg, .pdf ...")
    command.set_defaults(run=run_sample)

    command = commands.add_parser("evaluate", help="measure class accuracy and excess distance; prints JSON")
    command.add_argument("--weights", required=True, help=WEIGHTS)
    command.add_argument("--count", type=int, default=1000, help="pictures to draw for each seed; default: %(default)s")
    command.add_argument(
        "--seeds", type=int, default=1, help="how many seeds to take the mean of; default: %(default)s"
    )
    command.add_argument("--steps", type=int, help="default: what the weights were saved with")
    command.add_argument("--guidance", type=float, help="1 is off; default: what the weights were saved with")
    command.add_argument(
        "--judge", help="folder of a judge that `judge` has trained; default: the data set's two judges"
    )
    command.set_defaults(run=run_evaluate)

    command = commands.add_parser("judge", help="train a judge of own pictures, for `evaluate --judge`")
    command.add_argument("--data", metavar="FOLDER", required=True, help="own pictures: a sub-folder per class")
    command.add_argument("--size", type=int, default=28, help="pixels per side that they are brought to; default: 28")
    command.add_argument("--out", required=True, type=path_of, help="folder for the judge; one that is not there yet")
    command.set_defaults(run=run_judge)
    return parser


def add_own_data(pictures, command: argparse.ArgumentParser):
    """Options for a folder of one's own pictures in a data set's place; `pictures` is the group that names the data."""
    pictures.add_argument(
        "--data", metavar="FOLDER", help="own pictures in place of a data set: a sub-folder per class"
    )
    command.add_argument("--size", type=int, default=28, help="pixels per side that they are brought to; default: 28")


def chosen_dataset(args, name: str) -> ImageDataset:
    """One's own pictures where a folder was given, else the data set of that name."""
    return ImageDataset.from_folder(args.data, args.size) if args.data else load_dataset(name)


def add_training_arguments(command: argparse.ArgumentParser):
    """What `train` and `tune` have in common."""
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", required=True, type=path_of, help="folder for the weights")
    earlier = command.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    earlier.add_argument(
        "--overwrite", action="store_true", help="start anew, and lose the checkpoints and weights in --out"
    )
    command.add_argument(
        "--allow-sample", action="store_true", help="train on the bundled sample where the real images are missing"
    )


def run_train(args):
    """Train by a recipe, with a checkpoint every few minutes, and save the pipeline and the losses.

    Raises:
        KeyboardInterrupt: if the training was stopped by Ctrl-C, when its checkpoint is written.
    """
    recipe, processes = chosen_recipe(args), launched_processes()
    if processes.is_main:
        check_out(args, STAGES)
    with processes.main_first():  # one download for all
        dataset = chosen_dataset(args, args.dataset)
    check_not_sample(dataset, args)
    untrained = recipe.untrained(dataset, args.seed)  # whatever could be refused has been refused after this
    if processes.is_main:
        prepare_out(args, untrained.unet, len(recipe.stages))
    pipe, run = recipe.train(dataset, args.seed, args.out / CHECKPOINTS)
    stop_if_interrupted(run)
    if processes.is_main:
        asked = dict(recipe=args.recipe, dataset=dataset.name, preset=args.preset, epochs=args.epochs, seed=args.seed)
        save(args, pipe, run, asked | facts_of(run, dataset))


def run_tune(args):
    """Fine-tune weights, with a checkpoint every few minutes, and save the pipeline and both trainings' reports.

    Raises:
        KeyboardInterrupt: if it was stopped by Ctrl-C, when its checkpoint is written.
    """
    pipe = ClassConditionedPipeline.from_pretrained(args.weights)
    report = earlier_report(find_weights(args.weights) / TRAINING_REPORT)
    asked = dict(optimizer=args.optimizer, seed=args.seed)
    config = AdversarialConfig(num_inference_steps=args.steps, max_steps=args.batches, **asked)
    check_out(args, TUNING)
    dataset = chosen_dataset(args, pipe.config.dataset)
    check_not_sample(dataset, args)
    check_fine_tuning(pipe, dataset, config)
    prepare_out(args, pipe.unet)
    pipe, run = fine_tune(pipe, dataset, config, checkpoint_dir=args.out / CHECKPOINTS / TUNING)
    stop_if_interrupted(run)
    tuning = dict(weights=args.weights, steps=args.steps, batches=args.batches, **asked) | facts_of(run, dataset)
    save(args, pipe, run, report | dict(tuning=tuning))


def earlier_report(file: Path) -> dict:
    """The report of the training whose weights are fine-tuned, which the new one adds to; {} if there is none.

    Raises:
        ValueError: if it is no report.
    """
    if not file.exists():
        return {}
    remedy = f"remove {file}, or train the weights again"
    try:
        report = read_settings(file, LARGEST_REPORT)
    except ValueError as error:
        raise ValueError(f"{in_one_line(error)}: {remedy}.") from error
    if not is_shallow(report, levels=3):
        raise ValueError(f"{file.name} holds no report of a training, such as {{'recipe': 'fast', ...}}: {remedy}.")
    return report


def is_shallow(value, levels: int) -> bool:
    """Whether JSON is nested no deeper than so many levels."""
    if not isinstance(value, (dict, list)):
        return True
    parts = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(is_shallow(part, levels - 1) for part in parts)


def check_out(args, folders: str):
    """Refuse a folder that cannot be written to, or whose trained weights or checkpoints would be lost unasked.

    Args:
        folders: those in the folder of checkpoints that --resume goes on from.

    Raises:
        ValueError: with what was found and what to do.
        OSError: if the folder cannot be written to.
    """
    checkpoints = checkpoint_files(args.out / CHECKPOINTS)
    to_go_on_from = [file for file in checkpoints if file.parent.match(folders)] if args.resume else []
    weights = any((args.out / name).exists() for name in (INDEX_FILE, TRAINING_REPORT))
    if (checkpoints or weights) and not to_go_on_from and not args.overwrite:
        found = " and ".join(["trained weights"] * weights + ["checkpoints of an earlier training"] * bool(checkpoints))
        go_on = "" if args.resume or not checkpoints else "--resume to go on from the checkpoints, "
        raise ValueError(
            f"{args.out} holds {found}: give {go_on}--overwrite to start anew and lose them, or another folder."
        )
    if args.resume and not to_go_on_from:
        print(f"{args.out} holds no checkpoint to go on from: the training starts anew.", file=sys.stderr)
    make_writable_folder(args.out)


def check_not_sample(dataset, args):
    """Refuse the bundled sample in a data set's place, unless it was asked for.

    Raises:
        ValueError: with what to do.
    """
    if dataset.is_sample and not args.allow_sample:
        raise ValueError(
            f"{dataset.name} could not be loaded, and its bundled sample, pictures drawn by this course's own model, would "
            "train weights that pass for those of real images: connect to the internet and run this again, or give "
            "--allow-sample."
        )


def prepare_out(args, unet, stages: int = 1):
    """Make sure that there is room for a training's files, and with --overwrite remove the checkpoints that are there.

    Raises:
        OSError: if there is none.
    """
    earlier = checkpoint_files(args.out / CHECKPOINTS)
    weights = sum(parameter.nbytes for parameter in unet.parameters())
    needed = weights * (1 + CHECKPOINT_SIZE * (KEPT * stages + 1))  # one more while it is being written
    require_room(args.out, needed - sum(file.stat().st_size for file in earlier))
    if args.overwrite:
        remove(earlier)


def stop_if_interrupted(run: TrainingRun):
    """After Ctrl-C, save no weights that are not yet what was asked for.

    Raises:
        KeyboardInterrupt: if the training was stopped.
    """
    if run.interrupted:
        raise KeyboardInterrupt("to go on, give the same command again with --resume.")


def chosen_recipe(args) -> Recipe:
    """The recipe that was asked for, with as many epochs or images."""
    recipe = RECIPES[args.recipe]
    if args.preset:
        recipe = recipe.for_images(course_settings(args.preset).train_images)
    if args.epochs is not None:
        recipe = recipe.with_changes(num_epochs=args.epochs, max_steps=None)
    return recipe


def facts_of(run: TrainingRun, dataset) -> dict:
    """What a report says of a training, beside what was asked for."""
    return dict(
        seconds=run.seconds,
        images_seen=run.images_seen,
        is_sample=dataset.is_sample,
        processes=run.processes,
        device=best_device(),
        threads=torch.get_num_threads(),
        losses=[round(loss, 5) for loss in run.losses],
    )


def save(args, pipe: ClassConditionedPipeline, run: TrainingRun, report: dict):
    """Write the pipeline and the report, and say so.

    Raises:
        OSError: if they could not be written, with the checkpoint that still holds the training.
    """
    try:
        pipe.save_pretrained(args.out)
        with written_whole(args.out / TRAINING_REPORT) as file:
            file.write_text(json.dumps(report), encoding="utf-8")
    except OSError as error:
        checkpoints = checkpoint_files(args.out / CHECKPOINTS)
        last = f"the last checkpoint is {checkpoints[-1]}" if checkpoints else "there is no checkpoint"
        raise OSError(
            f"the trained weights could not be saved to {args.out} ({error.strerror or in_one_line(error)}), and {last}: "
            "make room there, and give the same command again with --resume."
        ) from error
    shared = f" on {run.processes} processes" if run.processes > 1 else ""
    print(
        f"{run.images_seen:,} images, {run.config.batch_size} per step{shared}, in {run.seconds:.0f} s, "
        f"loss {running_mean(run.losses):.4f}, saved to {args.out}"
    )


def run_sample(args):
    """Draw the pictures, when all that was asked for can be done, and say where they are.

    Raises:
        ValueError: for an ending, a class, a count or settings that cannot be followed.
        OSError: if there are no such weights, or the file cannot be written.
    """
    out = path_of(args.out)
    file_format = image_format(out)
    pipe = ClassConditionedPipeline.from_pretrained(args.weights)
    label = label_of(args.label, pipe.class_names)
    check_whole_number("--count", args.count, 1, COLUMNS * (LARGEST_SIDE // pipe.unet.config.sample_size))
    make_writable_folder(out.parent)
    generator = torch.Generator().manual_seed(args.seed)
    settings = (args.steps, args.guidance, generator, "pt", args.guidance_start)
    pictures = pipe([label] * args.count, *settings).images
    with written_whole(out) as file:
        picture_grid(pictures, COLUMNS).save(file, file_format)
    print(f"{args.count} x {pipe.class_names[label]} in {out}")


def label_of(text: str, class_names: list[str]) -> int:
    """The label that a class's name or number stands for; a name counts first.

    Raises:
        ValueError: if there is no such class.
    """
    names = [name.casefold() for name in class_names]
    if text.casefold() in names:
        return names.index(text.casefold())
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    known = in_one_line(", ".join(class_names))
    raise ValueError(
        f"there is no class {quoted(text)}: expected a number from 0 to {len(names) - 1}, or a name: {known}."
    )


def run_judge(args):
    """Train a judge on two thirds of the pictures in a folder, and measure it on the others."""
    if args.out.exists():
        raise FileExistsError(f"{args.out} is there already: name a new folder, so that nothing is overwritten.")
    dataset = ImageDataset.from_folder(args.data, args.size)
    make_writable_folder(args.out.parent)
    judge = train_judge(dataset)
    judge.save_pretrained(args.out)
    print(f"the judge recognises {judge.config.accuracy:.1%} of pictures that it has not seen; saved to {args.out}")


def run_evaluate(args):
    """Print the scores as JSON; those of the second judge, if there is one, stand under "second_judge"."""
    pipe = ClassConditionedPipeline.from_pretrained(args.weights).to(best_device())
    if args.judge:
        judges = [Classifier.from_pretrained(args.judge)]
    else:
        judges = [load_classifier(pipe.config.dataset, second) for second in (False, True)]
    scores = evaluate_by(judges, pipe, args.count, args.seeds, args.steps, args.guidance)
    print(json.dumps(scores[0] | dict(zip(("second_judge",), scores[1:])), indent=1))


if __name__ == "__main__":
    sys.exit(main())
