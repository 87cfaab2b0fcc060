"""Reading files that a stranger may have written: settings and weights are checked before anything is made of them."""

import inspect
import json
import os
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors

from course_utils.validation import in_one_line, quoted

PRETRAINED_FOLDER = Path(__file__).parent.parent / "pretrained"  # the weights that come with the course
LARGEST_SETTINGS = 100_000  # bytes; ours have about one thousand
LARGEST_HEADER = 1_000_000  # bytes; the header of the example's network has 30,000
DTYPE_NAMES = {torch.float32: "F32", torch.int64: "I64"}  # as a safetensors header spells them


class StrictModel(ModelMixin, ConfigMixin):
    """A diffusers model that loads from a local folder of safetensors only, and only when everything fits."""

    @classmethod
    def from_pretrained(cls, folder) -> "StrictModel":
        """Load what `save_pretrained` wrote; the model comes back in eval mode.

        No memory is taken for the network before the settings make sense and the weights' names, shapes and types fit.

        Args:
            folder: holds `config.json` and `diffusion_pytorch_model.safetensors`. Nothing else is opened, nothing in
                them is executed, and no network is asked.

        Raises:
            FileNotFoundError: if the folder does not hold both files.
            OSError: if they cannot be read.
            ValueError: if they are damaged or do not fit together.
        """
        try:
            settings = read_settings(Path(folder) / CONFIG_NAME)
            check_settings(settings, cls.__name__, inspect.signature(cls).parameters)
            with torch.device("meta"):  # shapes without memory
                model = cls(**{name: value for name, value in settings.items() if not name.startswith("_")})
            weights = read_weights(Path(folder) / SAFETENSORS_WEIGHTS_NAME, model.state_dict())
        except ValueError as error:
            reason = in_one_line(error)
            raise ValueError(
                f"the weights in {folder} are damaged or do not fit ({reason}): copy or train them again."
            ) from error
        model.load_state_dict(weights, assign=True)
        return model.eval()


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


def read_settings(file: Path) -> dict:
    """The settings in a JSON file.

    Raises:
        OSError: if the file is not there or cannot be read.
        ValueError: if it is too large, or not one JSON object in which every name appears once.
    """
    with opened(file) as stream:
        text = stream.read(LARGEST_SETTINGS + 1)
    if len(text) > LARGEST_SETTINGS:
        raise ValueError(f"{file.name} has more than {LARGEST_SETTINGS:,} bytes, too many for settings")
    settings = parse_json(text, file.name)
    if not isinstance(settings, dict):
        raise ValueError(f"{file.name} holds no settings")
    return settings


def parse_json(text: bytes, name: str):
    """What a JSON text says.

    Raises:
        ValueError: if it is not JSON, is nested too deeply, or names something twice.
    """
    try:
        return json.loads(text, object_pairs_hook=each_name_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not the JSON it should be: {in_one_line(error)}") from error


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


def read_weights(file: Path, expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; its header is compared with what is expected before anything else is read.

    Args:
        file: the safetensors file.
        expected: a tensor, with or without memory ("meta"), of the shape and dtype of each that must be there.

    Raises:
        OSError: if the file is not there or cannot be read.
        ValueError: if it is damaged, does not hold exactly the tensors expected, or holds NaN or infinity.
    """
    with opened(file) as stream:
        size, start = os.fstat(stream.fileno()).st_size, stream.read(8)
        header_size = int.from_bytes(start, "little")
        if len(start) < 8 or header_size > min(LARGEST_HEADER, size - 8):
            raise ValueError(f"{file.name} does not start as a safetensors file does")
        header = stream.read(header_size)
        check_header(parse_json(header, f"the header of {file.name}"), expected)
        right_size = 8 + header_size + sum(tensor.nbytes for tensor in expected.values())
        if size != right_size:
            raise ValueError(f"{file.name} has {size:,} bytes, expected {right_size:,}")
        content = start + header + stream.read(right_size)
    try:
        weights = parse_safetensors(content)
    except SafetensorError as error:
        raise ValueError(in_one_line(error)) from error
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ValueError(f"the tensor {quoted(name)} contains NaN or infinity")
    return weights


def check_header(header, expected: dict[str, torch.Tensor]):
    """Refuse a safetensors header that does not announce exactly the tensors expected.

    Raises:
        ValueError: with the first difference.
    """
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise ValueError("the header of the weights describes no tensors")
    for name in header.keys() - expected.keys() - {"__metadata__"}:
        raise ValueError(f"the weights hold a tensor {quoted(name)} that the network does not have")
    for name, tensor in expected.items():
        if name not in header:
            raise ValueError(f"the weights hold no tensor {name!r}")
        found, wanted = header[name].get("dtype"), DTYPE_NAMES[tensor.dtype]
        if found != wanted or header[name].get("shape") != list(tensor.shape):
            shape = quoted(header[name].get("shape"))
            raise ValueError(f"the tensor {name!r} is {quoted(found)} {shape}, expected {wanted!r} {[*tensor.shape]}")
