"""For maintainers: measure the challenge's pars anew.

python -m tools.pars
"""

import json
from dataclasses import replace

from course_utils.challenge import PARS_FILE, card_line, score
from course_utils.data import load_dataset
from course_utils.model import ClassConditionedUnet, flops_per_image
from course_utils.pipeline import TRAINING_REPORT, ClassConditionedPipeline
from course_utils.recipes import RECIPES, TRAIN_IMAGES, Recipe, recipe_flops
from course_utils.settings import Settings, course_settings
from course_utils.storage.files import written_whole
from course_utils.storage.weights import PRETRAINED_FOLDER

FEW_STEPS = dict(sampler="ddim", num_inference_steps=50)  # the example's own 1000 steps would take hours


def make_pars(settings: Settings) -> list[dict]:
    """Measure the rows to be beaten: the example's settings, the fast track, and the best known."""
    dataset = load_dataset("fashion_mnist")
    if dataset.is_sample:
        raise FileNotFoundError("FashionMNIST could not be downloaded, and the pars are trained on its images.")
    rows = [score_best_known()]
    for name, recipe in par_recipes(settings).items():
        pipe, run = recipe.train(dataset, device=settings.device)
        flops = recipe_flops(recipe, len(dataset), run.images_seen)
        rows.append(score(name, pipe, run.images_seen, flops, run.seconds, "laptop") | dict(seed=0))
    return sorted(rows, key=lambda row: row["flops"])


def score_best_known() -> dict:
    """The bundled weights, whose training and fine-tuning both count; the discriminator's operations are left out."""
    pipe = ClassConditionedPipeline.from_pretrained("fashion_mnist")
    report = json.loads((PRETRAINED_FOLDER / "fashion_mnist" / TRAINING_REPORT).read_text(encoding="utf-8"))
    tuning = report["tuning"]
    flops = recipe_flops(RECIPES[report["recipe"]], TRAIN_IMAGES, report["images_seen"])
    evaluations = tuning["steps"] + 0.5  # of the network an image: half of the images are noised and learned from, too
    flops += tuning["images_seen"] * evaluations * flops_per_image(pipe.unet)
    images, seconds = (report[name] + tuning[name] for name in ("images_seen", "seconds"))
    return score("the best known", pipe, images, flops, seconds, "laptop")


def par_recipes(settings: Settings) -> dict[str, Recipe]:
    """The pars that are trained on as many images as a learner's run at this preset."""
    example = RECIPES["course"].for_images(settings.train_images)
    return {
        "the example's settings, small network": replace(example, make_model=ClassConditionedUnet.fast, **FEW_STEPS),
        "the fast track": RECIPES["fast"].for_images(settings.train_images),
    }


if __name__ == "__main__":
    measured = make_pars(course_settings("laptop"))
    with written_whole(PARS_FILE) as par_file:
        par_file.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    print(json.dumps([card_line(row) for row in measured], indent=1))
