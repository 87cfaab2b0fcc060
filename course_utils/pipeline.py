"""Network and sampler in one object: labels in, pictures out."""

import inspect
import json
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from huggingface_hub import model_info, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from course_utils.data import SOURCES
from course_utils.model import ClassConditionedUnet
from course_utils.sampling import SCHEDULERS, check_sampling, sample
from course_utils.storage.files import folder_written_whole, path_of, saved_file
from course_utils.storage.weights import (
    PRETRAINED_FOLDER,
    as_os_errors,
    check_dtype,
    check_keywords,
    check_settings,
    read_settings,
    weights_name,
)
from course_utils.validation import in_one_line, quoted

BUNDLED_WEIGHTS = ("mnist", "mnist-concat", "fashion_mnist", "mnist-untuned")
TRAINING_REPORT = "training.json"
SAVED_DEFAULTS = ("dataset", "num_inference_steps", "guidance_scale", "guidance_start")  # they travel with the weights
OUTPUT_TYPES = ("pil", "np", "pt")
INDEX_FILE, SCHEDULER_FILE = "model_index.json", "scheduler/scheduler_config.json"
LARGEST_INDEX = 2_000_000  # bytes; a thousand long class names need as much
LARGEST_DOWNLOAD = 500_000_000  # bytes of one file; the example's network has 7 million
LONGEST_NAME = 100  # characters of a data set's or a class's name
# Whatever library the Hub's client speaks through, its errors have the same base as the Hub's own.
HUB_ERRORS = (HFValidationError, OSError, *HfHubHTTPError.__bases__)
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

    It is loaded by its own `from_pretrained`: `DiffusionPipeline.from_pretrained` looks for the classes that a folder
    names in diffusers itself, where those of a course cannot be.

    Args:
        unet: a trained `ClassConditionedUnet`.
        scheduler: a scheduler of `make_scheduler` with the prediction type that the network was trained with.
        dataset: "mnist", "fashion_mnist", or the name of a data set of your own, on one line; it decides who judges the
            pictures.
        num_inference_steps, guidance_scale: what is used when a call names none.
        guidance_start: share of the steps before guidance sets in, 0 .. 1.
        class_names: one name for each class; None for those of a known data set, or else the labels' numbers. All of
            these are saved with the weights.

    Raises:
        ValueError: for a name that is none, another number of names than of classes, or defaults that could draw nothing.
    """

    def __init__(
        self,
        unet,
        scheduler,
        dataset: str = "mnist",
        num_inference_steps: int = 10,
        guidance_scale: float = 1.0,
        guidance_start: float = 0.0,
        class_names: list[str] | None = None,
    ):
        super().__init__()
        defaults = check_defaults(scheduler, dataset, num_inference_steps, guidance_scale, guidance_start)
        class_names = check_class_names(class_names, unet.config.num_classes)
        if defaults["guidance_scale"] != 1:
            _ = unet.null_label  # says so now, not at the first picture, if there is no "no class"
        self.register_modules(unet=unet.eval(), scheduler=scheduler)
        self.register_to_config(**defaults, class_names=class_names)

    @property
    def class_names(self) -> list[str]:
        """One name for each label."""
        count = self.unet.config.num_classes
        source = SOURCES.get(self.config.dataset)
        known = source.class_names if source and len(source.class_names) == count else map(str, range(count))
        return list(self.config.class_names or known)

    def with_unet(self, unet, **changes) -> "ClassConditionedPipeline":
        """A pipeline around another network, with this one's scheduler, defaults and class names.

        Args:
            unet: a `ClassConditionedUnet`.
            changes: arguments of `ClassConditionedPipeline` to use in place of this one's.
        """
        settings = {name: self.config[name] for name in (*SAVED_DEFAULTS, "class_names")}
        return type(self)(unet, self.scheduler, **settings | changes)

    def __call__(
        self,
        class_labels,
        num_inference_steps=None,
        guidance_scale=None,
        generator=None,
        output_type="pil",
        guidance_start=None,
    ):
        """Draw one picture for each label.

        Args:
            class_labels: N labels, 0 .. num_classes - 1.
            num_inference_steps: 1 .. 1000; None for the default that came with the weights.
            guidance_scale: 1 is off; None for the default that came with the weights.
            generator: a `torch.Generator` for all pictures, or a list with one for each; the same states give the same
                pictures. `course_utils.sampling.sample` says what depends on what.
            output_type: "pil" (a list of PIL images), "np" (float32 (N, 28, 28, 1) in [0, 1], ink = 1) or "pt"
                (a tensor (N, 1, 28, 28) in the same range).
            guidance_start: share of the steps before guidance sets in, 0 .. 1; None for the default.

        Returns:
            An `ImagePipelineOutput`; the pictures are its `images`, float32 on the CPU whatever the network's dtype.

        Raises:
            ValueError: for bad labels, settings, generators or output type.
        """
        if not isinstance(output_type, str) or output_type not in OUTPUT_TYPES:
            expected = ", ".join(map(repr, OUTPUT_TYPES))
            raise ValueError(f"unknown output_type {quoted(output_type)}: expected one of {expected}.")
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        start = self.config.guidance_start if guidance_start is None else guidance_start
        pictures = sample(self.unet, self.scheduler, class_labels, steps, scale, generator, guidance_start=start)
        pictures = (pictures + 1) / 2  # (N, 1, 28, 28) in [0, 1]
        if output_type == "pt":
            return ImagePipelineOutput(images=pictures)
        array = pictures.permute(0, 2, 3, 1).numpy()  # (N, 28, 28, 1)
        return ImagePipelineOutput(images=array if output_type == "np" else self.numpy_to_pil(array))

    def save_pretrained(
        self,
        save_directory,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **kwargs,
    ):
        """Write network, scheduler and defaults in diffusers' layout: all of it, or nothing.

        Args:
            save_directory: made if it is missing; other files in it, such as checkpoints, stay as they are.
            safe_serialization: True; a pickle is never written.
            variant: goes into the weights' file name, as in diffusers.
            max_shard_size: the weights must fit into one file of that size.
            push_to_hub: upload it, too, to `repo_id` or a repository with the folder's name.
            kwargs: as in diffusers' `push_to_hub`.

        Raises:
            OSError: if the folder cannot be written to; what was in it is still there.
            ValueError: for a pickle, or weights in several files.
        """
        check_keywords((), safe_serialization)
        folder = path_of(save_directory)
        with folder_written_whole(folder) as incoming, as_os_errors():
            super().save_pretrained(incoming, variant=variant, max_shard_size=max_shard_size)
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), variant=variant, **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        cache_dir=None,
        token=None,
        **kwargs,
    ) -> "ClassConditionedPipeline":
        """Load weights from a folder, from the course or from the Hugging Face Hub.

        Only JSON and safetensors files are opened, and nothing in them is executed.

        Args:
            pretrained_model_name_or_path: a folder; or "mnist", "fashion_mnist", "mnist-concat" or "mnist-untuned"
                (bundled), unless there is such a folder with weights here; or a Hub id "owner/name".
            torch_dtype: of the weights in memory; default: float32, as in diffusers, however they were saved.
            variant: as it was given to `save_pretrained`.
            use_safetensors: True or None; there is no other way.
            revision, local_files_only, cache_dir, token: for the Hub, as in diffusers.
            kwargs: `dtype` is another name for `torch_dtype`; all else is refused.

        Raises:
            FileNotFoundError: if there are no weights by that name or in that folder.
            ValueError: if they are damaged, too large to download, or for other keywords.
        """
        dtype = check_dtype(torch_dtype or kwargs.pop("dtype", None))
        check_keywords(kwargs, use_safetensors)
        hub = dict(revision=revision, local_files_only=local_files_only, cache_dir=cache_dir, token=token)
        folder = find_weights(pretrained_model_name_or_path, variant, **hub)
        index, scheduler = read_pipeline_settings(folder, cls.__name__)
        unet = ClassConditionedUnet.from_pretrained(folder, "unet", dtype, variant)
        try:
            return cls(unet, scheduler, **index)
        except ValueError as error:
            raise damaged(folder, error) from error


def read_pipeline_settings(folder: Path, class_name: str) -> tuple[dict, object]:
    """The defaults that a folder's index names, and its scheduler.

    Raises:
        OSError: if a file is not there or cannot be read.
        ValueError: if they are damaged.
    """
    try:
        # Weights saved before there was a guidance_start are guided from the start.
        index = {"guidance_start": 0.0, "class_names": None}
        index |= read_settings(saved_file(folder, INDEX_FILE), LARGEST_INDEX)
        scheduler = load_scheduler(saved_file(folder, SCHEDULER_FILE))
        check_index(index, class_name, scheduler)
    except ValueError as error:
        raise damaged(folder, error) from error
    return {name: index[name] for name in (*SAVED_DEFAULTS, "class_names")}, scheduler


def damaged(folder: Path, error: ValueError) -> ValueError:
    """What is wrong with a folder's settings, as an error to raise."""
    return ValueError(f"the settings in {folder} are damaged ({in_one_line(error)}): copy or train them again.")


def check_defaults(scheduler, dataset, num_inference_steps, guidance_scale, guidance_start) -> dict:
    """Refuse a name that no data set can have, and impossible defaults; returns them by name, in Python's own types.

    Raises:
        ValueError: with what was found and what was expected.
    """
    # It becomes part of file names: no slashes.
    if (
        not isinstance(dataset, str)
        or len(dataset) > LONGEST_NAME
        or not dataset.isprintable()
        or set("/\\") & {*dataset}
    ):
        raise ValueError(
            f"unknown data set {quoted(dataset)}: expected {', '.join(map(repr, SOURCES))}, or a name of your own on one "
            f"line, without slashes, of at most {LONGEST_NAME} characters."
        )
    steps, scale, start = check_sampling(scheduler, num_inference_steps, guidance_scale, guidance_start)
    return dict(dataset=dataset, num_inference_steps=steps, guidance_scale=scale, guidance_start=start)


def check_class_names(class_names, num_classes: int) -> list[str] | None:
    """Refuse names that are not one for each class; returns them as a list.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if class_names is None:
        return None
    if not isinstance(class_names, (list, tuple)) or not all(isinstance(name, str) for name in class_names):
        raise ValueError(f"class_names is {quoted(class_names)}, expected a list of {num_classes} names.")
    if len(class_names) != num_classes:
        raise ValueError(f"class_names has {len(class_names)} names, expected {num_classes}, one for each class.")
    longest = max(class_names, key=len)
    if len(longest) > LONGEST_NAME:
        raise ValueError(f"class_names holds {quoted(longest)}, expected names of at most {LONGEST_NAME} characters.")
    return list(class_names)


def check_index(index: dict, class_name: str, scheduler):
    """Refuse a `model_index.json` of another pipeline or of other parts; no class that it names is ever imported.

    Raises:
        ValueError: with what was found and what was expected.
    """
    parts = {
        "unet": [ClassConditionedUnet.__module__, ClassConditionedUnet.__name__],
        "scheduler": ["diffusers", type(scheduler).__name__],
    }
    check_settings(index, class_name, (*parts, *SAVED_DEFAULTS, "class_names"))
    for name, expected in parts.items():
        if index.get(name) != expected:
            raise ValueError(f"{name} is {quoted(index.get(name))}, expected {expected}")
    check_defaults(scheduler, *(index.get(name) for name in SAVED_DEFAULTS))


def find_weights(name, variant: str | None = None, **hub) -> Path:
    """The folder that a name stands for; a Hub id is downloaded first.

    Args:
        name: a folder, a bundled name or a Hub id. A folder with weights wins over a bundled name.
        variant: which weights to download.
        hub: `revision`, `local_files_only`, `cache_dir` and `token`, for the Hub.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is too large to download.
    """
    folder = path_of(str(name))
    if saved_file(folder, INDEX_FILE).exists():
        return folder
    if str(name) in BUNDLED_WEIGHTS:
        return PRETRAINED_FOLDER / str(name)
    if folder.is_dir():
        return folder
    known = f"expected one of {', '.join(map(repr, BUNDLED_WEIGHTS))}, a folder, or a Hub id such as 'owner/name'"
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise FileNotFoundError(f"there are no weights called {str(name)!r} and no folder {folder}: {known}.")
    try:
        return download(str(name), variant, **hub)
    except HUB_ERRORS as error:
        raise FileNotFoundError(
            f"there is no folder {folder}, and the Hub gave no such weights ({in_one_line(error)}): {known}."
        ) from error


def download(name: str, variant=None, revision=None, local_files_only=False, cache_dir=None, token=None) -> Path:
    """Fetch the files of a pipeline from the Hub, or find them in its cache, where there is no internet.

    Raises:
        ValueError: if one of them is too large; nothing is fetched then.
        OSError: if they cannot be had (or an error of the Hub's client, one of `HUB_ERRORS`).
    """
    files = [INDEX_FILE, SCHEDULER_FILE, "unet/config.json", f"unet/{weights_name(variant)}", "README.md"]
    try:
        siblings = (
            () if local_files_only else model_info(name, revision=revision, files_metadata=True, token=token).siblings
        )
    except HUB_ERRORS:
        siblings, local_files_only = (), True  # what an earlier call has fetched is as good
    for file in siblings:
        if file.rfilename in files and (file.size or 0) > LARGEST_DOWNLOAD:
            raise ValueError(
                f"{file.rfilename} in {name} has {file.size:,} bytes, expected at most {LARGEST_DOWNLOAD:,}: download it "
                "yourself if you want it."
            )
    where = dict(revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only)
    return Path(snapshot_download(name, allow_patterns=files, **where))


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
