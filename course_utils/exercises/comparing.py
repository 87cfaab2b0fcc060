"""Compare what a learner's function returned with what was wanted, in words.

What a learner hands over is looked at by its type alone, and turned into Python's or PyTorch's own values before it is
compared: an object that says it equals everything is equal to nothing here.
"""

import math
from copy import deepcopy
from types import FunctionType

import numpy as np
import torch
from torch import nn

from course_utils.validation import quoted

PLAIN_TENSORS = (torch.Tensor, nn.Parameter)  # a subclass may answer what it likes
LARGEST_SHOWN = 10**18  # larger whole numbers are shown by their length


def copied(arguments: tuple) -> tuple:
    """Copies of a function's arguments, of which a function may spoil one without spoiling the others."""
    return tuple(cloned(one) if isinstance(one, torch.Generator) else deepcopy(one) for one in arguments)


def cloned(generator: torch.Generator) -> torch.Generator:
    """A generator that goes on with the same numbers."""
    clone = torch.Generator()
    clone.set_state(generator.get_state())
    return clone


def in_words(thing) -> str:
    """A short description of an object: a tensor by dtype and shape, small things as they are."""
    kind = type(thing)
    if is_plain_tensor(thing):
        name = dtype_name(thing)
        return f"{'an' if name.startswith('int') else 'a'} {name} tensor of shape {tuple(thing.shape)}"
    if kind in (int, float):
        return f"`{number_in_words(thing)}`"
    if thing is None or kind in (bool, complex):
        return f"`{thing}`"
    if thing is ...:
        return "the dots `...`"
    if kind is FunctionType:
        return "a function"
    if kind is str:
        return f"the text `{quoted(thing)}`"
    if issubclass(kind, type):
        return f"the class `{thing.__name__[:60]}`"
    return f"an object of type `{kind.__name__[:60]}`"


def number_in_words(number: int | float) -> str:
    """A number with ten digits at most, or how long it is; Python refuses to write out very long ones."""
    if isinstance(number, int) and abs(number) >= LARGEST_SHOWN:
        return f"{'-' if number < 0 else ''}(about {int(number.bit_length() * math.log10(2)) + 1:,} digits)"
    return f"{number:,}" if isinstance(number, int) else f"{number:,.10g}"


def is_plain_tensor(thing) -> bool:
    """Whether it is a tensor of PyTorch's own kinds whose shape can be read."""
    return type(thing) in PLAIN_TENSORS and not thing.is_nested


def dtype_name(tensor: torch.Tensor) -> str:
    """Such as float32."""
    return str(tensor.dtype).removeprefix("torch.")


def plain_number(thing) -> int | float | None:
    """Any kind of real number as Python's own int or float, also from a tensor or an array of one; else None."""
    if is_plain_tensor(thing):
        is_readable = thing.numel() == 1 and thing.device.type != "meta" and not thing.is_quantized
        thing = thing.detach().to_dense().item() if is_readable else None
    elif type(thing) is np.ndarray or issubclass(type(thing), np.generic):
        array = np.asarray(thing)
        is_real = array.size == 1 and array.dtype.kind in "iuf"
        thing = (array.astype(np.float64) if array.dtype.kind == "f" else array).item() if is_real else None
    if issubclass(type(thing), int) and type(thing) is not bool:
        return int.__index__(thing)
    return float.__float__(thing) if issubclass(type(thing), float) else None


def difference(found, wanted) -> str:
    """Where two results differ, in words that do not give the wanted values away; "" where they agree."""
    if found is None and wanted is not None:
        return "it returned `None`: is there a `return`"
    if isinstance(wanted, nn.Embedding):
        return embedding_difference(found, wanted)
    if isinstance(wanted, torch.Tensor):
        return tensor_difference(found, wanted)
    return number_difference(found, wanted)


def tensor_difference(found, wanted: torch.Tensor) -> str:
    """See `difference`; dtype and device count, too: a network takes its own only."""
    if not is_plain_tensor(found):
        return f"it returned {in_words(found)}, wanted a tensor"
    if found.shape != wanted.shape:
        return f"the shape is {tuple(found.shape)}, wanted {tuple(wanted.shape)}"
    if found.dtype != wanted.dtype:
        return f"the dtype is {dtype_name(found)}, wanted {dtype_name(wanted)}"
    if found.device != wanted.device:
        return f"the tensor is on the device {found.device}, wanted {wanted.device}"
    if found.layout != wanted.layout:
        return f"the tensor's layout is {found.layout}, wanted {wanted.layout}"
    differs = ~torch.isclose(found.detach(), wanted.detach(), rtol=1e-4, atol=1e-6, equal_nan=True)
    if differs.any():
        where = tuple(torch.nonzero(differs)[0].tolist())
        return f"the shape is right, but {differs.sum():,} of {differs.numel():,} values are not; the first at {where}"
    return ""


def embedding_difference(found, wanted: nn.Embedding) -> str:
    """See `difference`; what it gives for each class counts, and whether it will be trained."""
    if type(found) is not nn.Embedding:
        return f"it returned {in_words(found)}, wanted an `nn.Embedding`"
    fault = tensor_difference(found.weight, wanted.weight)
    if fault:
        return f"its weight: {fault}"
    if found.weight.requires_grad != wanted.weight.requires_grad:
        return f"its weight has `requires_grad={found.weight.requires_grad}`, wanted the opposite"
    labels = torch.arange(wanted.num_embeddings)
    fault = tensor_difference(found(labels), wanted(labels))
    return f"its weight is right, but not the vectors that it gives: {fault}" if fault else ""


def number_difference(found, wanted: int | float) -> str:
    """See `difference`."""
    number = plain_number(found)
    if number is None:
        return f"it returned {in_words(found)}, wanted a number"
    if isinstance(number, float) and not math.isfinite(number):
        return f"it returned `{number}`, wanted a finite number"
    tolerance = 1e-6 * max(1, abs(wanted))
    if not wanted - tolerance <= number <= wanted + tolerance:  # compared, not subtracted: an int may be too large
        return f"it returned {number_in_words(number)}, which is too {'small' if number < wanted else 'large'}"
    return ""


def is_unchanged(before, after) -> bool:
    """Whether an argument is as it was before a call: the same values exactly. Numbers cannot change."""
    if isinstance(before, nn.Embedding):
        after = getattr(after, "weight", None)
        return is_plain_tensor(after) and torch.equal(before.weight, after)
    if isinstance(before, torch.Tensor):
        return before.dtype == after.dtype and torch.equal(before, after)
    return True
