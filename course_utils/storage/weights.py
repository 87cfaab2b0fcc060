"""Reading files that a stranger may have written: settings and weights are checked before anything is made of them."""

import inspect
import json
import os
import re
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open

from course_utils.storage.files import folder_written_whole, path_of, saved_file
from course_utils.validation import in_one_line, quoted

PRETRAINED_FOLDER = Path(__file__).parent.parent / "pretrained"  # the weights that come with the course
LARGEST_SETTINGS = 100_000  # bytes; ours have about one thousand
LARGEST_HEADER = 1_000_000  # bytes; the header of the example's network has 30,000
FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}


class StrictModel(ModelMixin, ConfigMixin):
    """A diffusers model that loads from a local folder of safetensors only, and only when everything fits."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        subfolder: str | None = None,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        use_safetensors: bool | None = None,
        **kwargs,
    ) -> "StrictModel":
        """Load what `save_pretrained` wrote; the model comes back on the CPU, in eval mode.

        No memory is taken for the network before the settings make sense and the weights' names, shapes and types fit.

        Args:
            pretrained_model_name_or_path: a folder, with `config.json` and `diffusion_pytorch_model.safetensors`.
                Nothing else is opened, nothing in them is executed, and the internet is not asked.
            subfolder: where in that folder they are: "unet" in the folder of a pipeline.
            torch_dtype: of the weights in memory; default: float32, as in diffusers, however they were saved.
            variant: as it was given to `save_pretrained`; it is part of the file's name.
            use_safetensors: True or None; there is no other way.
            kwargs: `dtype` is another name for `torch_dtype`; `cache_dir`, `token`, `revision` and `local_files_only`
                play no part for a folder.

        Raises:
            FileNotFoundError: if the folder does not hold both files.
            OSError: if they cannot be read.
            ValueError: if they are damaged or do not fit together, or for other keywords.
        """
        dtype = check_dtype(torch_dtype or kwargs.pop("dtype", None))
        check_keywords(kwargs.keys() - {"cache_dir", "token", "revision", "local_files_only"}, use_safetensors)
        folder = path_of(pretrained_model_name_or_path)
        inside = f"{subfolder}/" if subfolder else ""
        if not subfolder:
            check_is_not_a_pipeline(folder)
        try:
            settings = read_settings(saved_file(folder, inside + CONFIG_NAME))
            check_settings(settings, cls.__name__, inspect.signature(cls).parameters)
            with torch.device("meta"):  # shapes without memory
                model = cls(**{name: value for name, value in settings.items() if not name.startswith("_")})
            weights = read_weights(saved_file(folder, inside + weights_name(variant)), model.state_dict(), dtype)
        except ValueError as error:
            reason = in_one_line(error)
            raise ValueError(
                f"the weights in {folder / inside} are damaged or do not fit ({reason}): copy or train them again."
            ) from error
        model.load_state_dict(weights, assign=True)
        return model.eval()

    def save_pretrained(
        self,
        save_directory,
        is_main_process: bool = True,
        save_function=None,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str = "10GB",
        push_to_hub: bool = False,
        **kwargs,
    ):
        """Write `config.json` and the weights to a folder: both of them, or nothing.

        Args:
            save_directory: made if it is missing; other files in it stay as they are.
            safe_serialization: True; a pickle is never written.
            variant: goes into the weights' file name, as in diffusers.
            max_shard_size: the weights must fit into one file of that size.
            push_to_hub: upload them, too, to `repo_id` or a repository with the folder's name.
            is_main_process, save_function, kwargs: as in diffusers.

        Raises:
            OSError: if the folder cannot be written to.
            ValueError: for a pickle, or weights in several files.
        """
        check_keywords((), safe_serialization)
        folder = path_of(save_directory)
        with folder_written_whole(folder) as incoming, as_os_errors():
            super().save_pretrained(
                incoming, is_main_process, save_function, variant=variant, max_shard_size=max_shard_size
            )
            if not (incoming / weights_name(variant)).exists():
                raise ValueError(f"the weights need more than max_shard_size {max_shard_size!r}, expected one file.")
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), variant=variant, **kwargs)


def weights_name(variant: str | None) -> str:
    """The weights' file name, as diffusers spells it: "fp16" makes `diffusion_pytorch_model.fp16.safetensors`.

    Raises:
        ValueError: if the variant is no part of a file's name.
    """
    if variant is None:
        return SAFETENSORS_WEIGHTS_NAME
    if not isinstance(variant, str) or not re.fullmatch(r"[\w-]{1,50}", variant):
        raise ValueError(f"variant is {quoted(variant)}, expected a word such as 'fp16'.")
    return SAFETENSORS_WEIGHTS_NAME.replace(".safetensors", f".{variant}.safetensors")


def check_dtype(dtype) -> torch.dtype:
    """The dtype that was asked for, or float32.

    Raises:
        ValueError: if weights cannot have it.
    """
    if dtype is not None and dtype not in FLOATS.values():
        raise ValueError(f"torch_dtype is {quoted(dtype)}, expected one of {', '.join(map(str, FLOATS.values()))}.")
    return dtype or torch.float32


def check_keywords(unknown, safetensors):
    """Refuse keywords of diffusers' that would be followed by nobody, and pickles.

    Args:
        unknown: names of the keywords that nobody follows.
        safetensors: what was said of the format: False asks for a pickle.

    Raises:
        ValueError: with the first of them.
    """
    for name in sorted(unknown):
        raise ValueError(f"the keyword {name!r} is not understood here: leave it out.")
    if safetensors not in (True, None):
        raise ValueError(
            f"weights are kept in safetensors only, because a pickle can run anything: found {quoted(safetensors)} for "
            "safe_serialization or use_safetensors, expected True."
        )


def check_is_not_a_pipeline(folder: Path):
    """Refuse a folder that holds no model itself, but a sub-folder that does.

    Raises:
        FileNotFoundError: with the sub-folder's name.
    """
    if saved_file(folder, CONFIG_NAME).exists():
        return
    for config in sorted(folder.glob(f"*/{CONFIG_NAME}")):
        raise FileNotFoundError(
            f"{folder} holds no {CONFIG_NAME}, but {config.parent} does: "
            f"add subfolder={config.parent.name!r} to load the model there."
        )


@contextmanager
def as_os_errors():
    """A full disk is an OSError, whatever safetensors calls it.

    Raises:
        OSError: with the system's number and words.
    """
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else 0, in_one_line(error)) from error


@contextmanager
def opened(file: Path):
    """A regular file, open for reading bytes; a link to one will do, as in the Hub's cache.

    Raises:
        OSError: FileNotFoundError if there is none (a folder or a device is none), and whatever else goes wrong.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file.parent} holds no {file.name}: give a folder that save_pretrained has written, with weights in "
            "safetensors (a pickle, such as .bin, .pt or .ckpt, is never opened)."
        )
    try:
        with open(file, "rb") as stream:
            yield stream
    except OSError as error:
        raise OSError(f"cannot read {file} ({error.strerror}): give a folder whose files you may read.") from error


def read_settings(file: Path, largest: int = LARGEST_SETTINGS) -> dict:
    """The settings in a JSON file of at most so many bytes.

    Raises:
        OSError: if the file is not there or cannot be read.
        ValueError: if it is too large, or not one JSON object in which every name appears once.
    """
    with opened(file) as stream:
        text = stream.read(largest + 1)
    if len(text) > largest:
        raise ValueError(f"{file.name} has more than {largest:,} bytes, too many for settings")
    try:
        settings = json.loads(text, object_pairs_hook=each_name_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} is not the JSON it should be: {in_one_line(error)}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file.name} holds no settings")
    return settings


def each_name_once(pairs: list[tuple]) -> dict:
    """A JSON object as a dict, where the same name twice is an error and not a puzzle."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{quoted(max(names, key=names.count))} appears more than once")
    return dict(pairs)


def check_settings(settings: dict, class_name: str, known):
    """Refuse settings of another class, or with a name that is not in `known`; those with an underscore are notes.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if settings.get("_class_name") != class_name:
        raise ValueError(f"the settings are those of {quoted(settings.get('_class_name'))}, expected {class_name!r}")
    for name in settings:
        if name not in known and not name.startswith("_"):
            raise ValueError(f"unknown setting {quoted(name)}, expected some of {', '.join(known)}")


def read_weights(file: Path, expected: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; its header is compared with what is expected before anything else is read.

    Args:
        file: the safetensors file.
        expected: a tensor, with or without memory ("meta"), of the shape and kind of each that must be there.
        dtype: what the floats among them become.

    Raises:
        OSError: if the file is not there or cannot be read.
        ValueError: if it is damaged, does not hold exactly the tensors expected, or holds NaN or infinity.
    """
    size = check_header_size(file)
    try:
        with safe_open(file, "pt", device="cpu") as stored:
            check_tensors(stored, expected)
            # Copies: the tensors themselves are the file's own bytes, and change when somebody writes to it.
            weights = {
                name: stored.get_tensor(name).to(dtype if tensor.is_floating_point() else torch.int64, copy=True)
                for name, tensor in expected.items()
            }
    except SafetensorError as error:
        raise ValueError(
            f"{file.name} has {size:,} bytes and describes no tensors that fill them: {in_one_line(error)}"
        ) from error
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ValueError(f"the tensor {quoted(name)} contains NaN or infinity")
    return weights


def check_header_size(file: Path) -> int:
    """Refuse a header that is too large: safetensors parses up to 100 MB of it, which takes many times the memory.

    Returns:
        The size of the file, in bytes.

    Raises:
        OSError: if the file is not there or cannot be read.
        ValueError: if it is too large.
    """
    with opened(file) as stream:
        size, header = os.fstat(stream.fileno()).st_size, int.from_bytes(stream.read(8), "little")
    if header > LARGEST_HEADER:
        raise ValueError(f"{file.name} announces a header of {header:,} bytes, expected at most {LARGEST_HEADER:,}")
    return size


def check_tensors(stored, expected: dict[str, torch.Tensor]):
    """Refuse a safetensors file, opened, that does not hold exactly the tensors expected.

    Raises:
        ValueError: with the first difference.
    """
    names = set(stored.keys())
    for name in sorted(names - expected.keys()):
        raise ValueError(f"the weights hold a tensor {quoted(name)} that the network does not have")
    for name, tensor in expected.items():
        if name not in names:
            raise ValueError(f"the weights hold no tensor {name!r}")
        kinds = tuple(FLOATS) if tensor.is_floating_point() else ("I64",)
        entry = stored.get_slice(name)
        kind, shape = entry.get_dtype(), entry.get_shape()
        if kind not in kinds or shape != list(tensor.shape):
            wanted = kind if kind in kinds else kinds[0]
            raise ValueError(f"the tensor {name!r} is {kind!r} {shape}, expected {wanted!r} {[*tensor.shape]}")
