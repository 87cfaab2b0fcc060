"""Network and sampler in one object: labels in, pictures out."""

import inspect
import json
import os
import shutil
import tempfile
from pathlib import Path

from diffusers import DiffusionPipeline, ImagePipelineOutput
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from course_utils.data import SOURCES
from course_utils.model import ClassConditionedUnet
from course_utils.sampling import SCHEDULERS, check_sampling, sample
from course_utils.storage.files import make_writable_folder
from course_utils.storage.weights import PRETRAINED_FOLDER, check_settings, read_settings
from course_utils.validation import in_one_line, quoted

BUNDLED_WEIGHTS = ("mnist", "mnist-concat", "fashion_mnist", "mnist-untuned")
TRAINING_REPORT = "training.json"
SAVED_DEFAULTS = ("dataset", "num_inference_steps", "guidance_scale", "guidance_start")  # they travel with the weights
OUTPUT_TYPES = ("pil", "np", "pt")
INDEX_FILE, SCHEDULER_FILE = "model_index.json", "scheduler/scheduler_config.json"
DOWNLOADED = (
    INDEX_FILE,
    SCHEDULER_FILE,
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "README.md",
)
# What a saved scheduler may say beside its class's defaults.
SCHEDULER_CHOICES = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction"),
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "thresholding": (True, False),
    "clip_sample": (True, False),
}


class ClassConditionedPipeline(DiffusionPipeline):
    """Draws pictures of the classes it is asked for.

    Args:
        unet: a trained `ClassConditionedUnet`.
        scheduler: a scheduler of `make_scheduler` with the prediction type that the network was trained with.
        dataset: "mnist" or "fashion_mnist"; it decides the class names and who judges the pictures.
        num_inference_steps, guidance_scale: what is used when a call names none.
        guidance_start: share of the steps before guidance sets in, 0 .. 1. All of these are saved with the weights.

    Raises:
        ValueError: for an unknown data set, or defaults that could draw nothing.
    """

    def __init__(
        self,
        unet,
        scheduler,
        dataset: str = "mnist",
        num_inference_steps: int = 10,
        guidance_scale: float = 1.0,
        guidance_start: float = 0.0,
    ):
        super().__init__()
        defaults = dict(
            dataset=dataset,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_start=guidance_start,
        )
        check_defaults(scheduler, **defaults)
        if guidance_scale != 1:
            _ = unet.null_label  # says so now, not at the first picture, if there is no "no class"
        self.register_modules(unet=unet.eval(), scheduler=scheduler)
        self.register_to_config(**defaults)

    @property
    def class_names(self) -> list[str]:
        """One name a label."""
        return list(SOURCES[self.config.dataset].class_names)

    def __call__(self, class_labels, num_inference_steps=None, guidance_scale=None, generator=None, output_type="pil"):
        """Draw one picture for each label.

        Args:
            class_labels: N labels, 0 .. num_classes - 1.
            num_inference_steps: 1 .. 1000; None for the default that came with the weights.
            guidance_scale: 1 is off; None for the default that came with the weights.
            generator: a `torch.Generator`; the same state gives the same pictures.
            output_type: "pil" (a list of PIL images), "np" (float32 (N, 28, 28, 1) in [0, 1], ink = 1) or "pt"
                (a tensor (N, 1, 28, 28) in the same range).

        Returns:
            An `ImagePipelineOutput`; the pictures are its `images`.

        Raises:
            ValueError: for bad labels, settings or output type.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(
                f"unknown output_type {output_type!r}: expected one of {', '.join(map(repr, OUTPUT_TYPES))}."
            )
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        start = self.config.guidance_start
        pictures = sample(self.unet, self.scheduler, class_labels, steps, scale, generator, guidance_start=start)
        pictures = (pictures + 1) / 2  # (N, 1, 28, 28) in [0, 1]
        if output_type == "pt":
            return ImagePipelineOutput(images=pictures)
        array = pictures.permute(0, 2, 3, 1).numpy()  # (N, 28, 28, 1)
        return ImagePipelineOutput(images=array if output_type == "np" else self.numpy_to_pil(array))

    def save_pretrained(self, save_directory):
        """Write network, scheduler and defaults in diffusers' layout: all of it, or nothing.

        Raises:
            OSError: if the folder cannot be written to.
        """
        folder = Path(save_directory)
        make_writable_folder(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".incoming-") as incoming:
            super().save_pretrained(incoming, safe_serialization=True)
            for part in Path(incoming).iterdir():
                if part.is_dir():
                    shutil.copytree(part, folder / part.name, copy_function=os.replace, dirs_exist_ok=True)
                else:
                    os.replace(part, folder / part.name)

    @classmethod
    def from_pretrained(cls, name) -> "ClassConditionedPipeline":
        """Load weights from the course, from a folder or from the Hugging Face Hub.

        Only JSON and safetensors files are opened, and nothing in them is executed.

        Args:
            name: "mnist", "fashion_mnist" or "mnist-concat" (bundled); or a folder; or a Hub id "owner/name".

        Raises:
            FileNotFoundError: if there are no weights by that name or in that folder.
            ValueError: if they are damaged.
        """
        folder = find_weights(str(name))
        try:
            # Weights saved before there was a guidance_start are guided from the start.
            index = {"guidance_start": 0.0} | read_settings(folder / INDEX_FILE)
            scheduler = load_scheduler(folder / SCHEDULER_FILE)
            check_index(index, cls.__name__, scheduler)
        except ValueError as error:
            reason = in_one_line(error)
            raise ValueError(f"the settings in {folder} are damaged ({reason}): copy or train them again.") from error
        unet = ClassConditionedUnet.from_pretrained(folder / "unet")
        return cls(unet, scheduler, **{name: index[name] for name in SAVED_DEFAULTS})


def check_defaults(scheduler, dataset, num_inference_steps, guidance_scale, guidance_start):
    """Refuse an unknown data set and impossible defaults.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if not isinstance(dataset, str) or dataset not in SOURCES:
        raise ValueError(f"unknown data set {quoted(dataset)}: expected one of {', '.join(map(repr, SOURCES))}.")
    check_sampling(scheduler, num_inference_steps, guidance_scale, guidance_start)


def check_index(index: dict, class_name: str, scheduler):
    """Refuse a `model_index.json` of another pipeline or of other parts; no class that it names is ever imported.

    Raises:
        ValueError: with what was found and what was expected.
    """
    parts = {
        "unet": [ClassConditionedUnet.__module__, ClassConditionedUnet.__name__],
        "scheduler": ["diffusers", type(scheduler).__name__],
    }
    check_settings(index, class_name, (*parts, *SAVED_DEFAULTS))
    for name, expected in parts.items():
        if index.get(name) != expected:
            raise ValueError(f"{name} is {quoted(index.get(name))}, expected {expected}")
    check_defaults(scheduler, *(index.get(name) for name in SAVED_DEFAULTS))


def find_weights(name: str) -> Path:
    """The folder that a name stands for; a Hub id is downloaded first.

    Raises:
        FileNotFoundError: if there is none.
    """
    if name in BUNDLED_WEIGHTS:
        return PRETRAINED_FOLDER / name
    if Path(name).is_dir():
        return Path(name)
    known = f"expected one of {', '.join(map(repr, BUNDLED_WEIGHTS))}, a folder, or a Hub id such as 'owner/name'"
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise FileNotFoundError(f"there are no weights called {name!r} and no such folder: {known}.")
    try:
        return Path(snapshot_download(name, allow_patterns=list(DOWNLOADED)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(f"there is no folder {name!r}, and the Hub gave no such weights: {known}.") from error


def bundled_losses(name: str) -> list[float]:
    """The loss of every training step of bundled weights.

    Raises:
        FileNotFoundError: for a name that is not bundled.
    """
    if name not in BUNDLED_WEIGHTS:
        raise FileNotFoundError(
            f"there are no bundled weights called {name!r}: expected one of {', '.join(map(repr, BUNDLED_WEIGHTS))}."
        )
    return json.loads((PRETRAINED_FOLDER / name / TRAINING_REPORT).read_text(encoding="utf-8"))["losses"]


def load_scheduler(file: Path):
    """Make a scheduler from its saved settings; only the course's own kinds are known, and little may be changed.

    Raises:
        OSError: if the file is not there or cannot be read.
        ValueError: for another kind of scheduler, or settings that it would not be safe or useful to follow.
    """
    settings = read_settings(file)
    kinds = {kind.__name__: kind for kind, _ in SCHEDULERS.values()}
    name = settings.get("_class_name")
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(f"unknown scheduler {quoted(name)}, expected one of {', '.join(kinds)}")
    own = inspect.signature(kinds[name]).parameters
    # One kind made from another's settings (`from_config`) keeps what it does not know, and does not follow it.
    others = {setting for kind in kinds.values() for setting in inspect.signature(kind).parameters}
    check_settings(settings, name, (*own, *sorted(others - set(own))))
    followed = {setting: value for setting, value in settings.items() if setting in own}
    for setting, value in followed.items():
        check_choice(setting, value, own[setting].default)
    return kinds[name](**followed)


def check_choice(setting: str, value, default):
    """Refuse a scheduler's setting that is neither the default nor one of the choices.

    Raises:
        ValueError: with what was found and what was expected.
    """
    choices = SCHEDULER_CHOICES.get(setting, (default,))
    if type(value) is not type(choices[0]) or value not in choices:
        raise ValueError(f"{setting} is {quoted(value)}, expected one of {quoted(choices)}")
