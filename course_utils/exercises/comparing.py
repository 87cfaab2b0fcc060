"""Compare what a learner's function returned with what was wanted, in words."""

import torch


def in_words(thing) -> str:
    """A short description of an object: a tensor by dtype and shape, small things as they are."""
    if isinstance(thing, torch.Tensor):
        return f"a {dtype_name(thing)} tensor of shape {tuple(thing.shape)}"
    if thing is None or isinstance(thing, (bool, int, float)):
        return f"`{thing}`"
    if isinstance(thing, type):
        return f"the class `{thing.__name__}`"
    return f"an object of type `{type(thing).__name__}`"


def dtype_name(tensor: torch.Tensor) -> str:
    """Such as float32."""
    return str(tensor.dtype).removeprefix("torch.")


def difference(found, wanted) -> str:
    """Where two results differ, in words that do not give the wanted values away; "" where they agree."""
    if found is None and wanted is not None:
        return "it returned `None`: is there a `return`"
    if isinstance(wanted, torch.nn.Embedding):
        return embedding_difference(found, wanted)
    if isinstance(wanted, torch.Tensor):
        return tensor_difference(found, wanted)
    return number_difference(found, wanted)


def tensor_difference(found, wanted: torch.Tensor) -> str:
    """See `difference`."""
    if not isinstance(found, torch.Tensor):
        return f"it returned {in_words(found)}, wanted a tensor"
    if found.shape != wanted.shape:
        return f"the shape is {tuple(found.shape)}, wanted {tuple(wanted.shape)}"
    if found.is_floating_point() != wanted.is_floating_point() or found.dtype == torch.bool:
        return f"the dtype is {dtype_name(found)}, wanted {dtype_name(wanted)}"
    differs = ~torch.isclose(found.detach().to(wanted.dtype), wanted.detach(), rtol=1e-4, atol=1e-6, equal_nan=True)
    if differs.any():
        where = tuple(torch.nonzero(differs)[0].tolist())
        return f"the shape is right, but {differs.sum():,} of {differs.numel():,} values are not; the first at {where}"
    return ""


def embedding_difference(found, wanted: torch.nn.Embedding) -> str:
    """See `difference`; whether it will be trained counts, too."""
    if not isinstance(found, torch.nn.Embedding):
        return f"it returned {in_words(found)}, wanted an `nn.Embedding`"
    fault = tensor_difference(found.weight, wanted.weight)
    if fault:
        return f"its weight: {fault}"
    if found.weight.requires_grad != wanted.weight.requires_grad:
        return f"its weight has `requires_grad={found.weight.requires_grad}`, wanted the opposite"
    return ""


def number_difference(found, wanted) -> str:
    """See `difference`."""
    try:
        number = float(found)
    except (TypeError, ValueError, RuntimeError):
        return f"it returned {in_words(found)}, wanted a number"
    if isinstance(found, (bool, str)):
        return f"it returned {in_words(found)}, wanted a number"
    if abs(number - wanted) > 1e-6 * max(1, abs(wanted)):
        return f"it returned {number:,.10g}, which is too {'small' if number < wanted else 'large'}"
    return ""
