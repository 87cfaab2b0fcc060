"""The exercises of notebook 2: how the class's numbers become channels, and the network around them."""

import inspect

import torch
from torch import nn

from course_utils import minimal
from course_utils.exercises.comparing import in_words, tensor_difference
from course_utils.exercises.exercise import FunctionExercise, Mistake, ProbedExercise

# What a network lacks or has too many, by the difference of its number of parameters.
KNOWN_DIFFERENCES = {
    -40: "the table of the classes' vectors is missing: `nn.Embedding(num_classes, class_emb_size)`.",
    -1152: "the UNet is built for the picture alone: its `in_channels` must count the class's channels, too.",
    -288: "the UNet's `in_channels` is `class_emb_size`: the picture has a channel, too.",
    -1192: "both the table of vectors and its channels are missing.",
}

input_channels = FunctionExercise(
    name="input_channels",
    solution_text="""\
def input_channels(class_emb_size):
    return 1 + class_emb_size  # the noisy picture, and a channel for each number""",
    praise="Only the first convolution depends on the size. All later layers stay the same.",
    hints=(
        "The input of the UNet is the noisy picture and the channels of the class. Count both.",
        "The picture is grey. How many channels does it have before others are joined to it?",
    ),
    draw_arguments=lambda generator, trial: ((1, 2, 4, 10, 16, 3, 64, 7)[trial],),
    mistakes=(
        Mistake(lambda size: size, "The noisy picture itself needs room, too."),
        Mistake(lambda size: 3 + size, "Our pictures are grey, not red, green and blue."),
        Mistake(lambda size: 5, "That fits the example's size only."),
        Mistake(lambda size: 10 + size, "The number of classes does not enter the count: a picture has one class."),
    ),
)


def draw_picture_and_vectors(generator, trial):
    """Arguments for `concatenate`: pictures of a shape that is not square, and a vector each."""
    batch, size, height, width = (int(torch.randint(low, low + 5, (), generator=generator)) for low in (2, 1, 6, 12))
    pictures = torch.randn(batch, 1, height, width, generator=generator)
    return pictures, torch.randn(batch, size, generator=generator)


def spread(vectors, height, width):
    """(B, C) to (B, C, height, width)."""
    return vectors[:, :, None, None].expand(-1, -1, height, width)


concatenation = FunctionExercise(
    name="concatenate",
    solution_text="""\
import torch


def concatenate(pictures, vectors):
    height, width = pictures.shape[-2:]
    channels = vectors[:, :, None, None].expand(-1, -1, height, width)  # (B, C, H, W)
    return torch.cat((pictures, channels), dim=1)  # (B, 1 + C, H, W)""",
    praise="`expand` repeats the numbers without copying them. Only `cat` needs memory for the channels.",
    hints=(
        "Two steps: first give the vectors a height and a width, then join them to the pictures.",
        "Indexing with `None` adds an axis of length one, and `expand` repeats along it.",
        "Shapes: (B, C) becomes (B, C, 1, 1), then (B, C, H, W); `torch.cat` joins along the axis of the channels.",
    ),
    draw_arguments=draw_picture_and_vectors,
    mistakes=(
        Mistake(
            lambda x, v: torch.cat((spread(v, *x.shape[-2:]), x), dim=1),
            "The picture comes first, and the class's channels after it.",
        ),
        Mistake(
            lambda x, v: torch.cat((x, spread(v, *x.shape[-2:]) * 0), dim=1),
            "The channels for the class hold only zeros: the vectors' numbers are lost.",
        ),
        Mistake(
            lambda x, v: torch.cat((x, spread(v[:1], *x.shape[-2:]).expand(len(x), -1, -1, -1)), dim=1),
            "Every picture gets the first picture's vector.",
        ),
        Mistake(
            lambda x, v: torch.cat((x, spread(v.long().to(x.dtype), *x.shape[-2:])), dim=1),
            "The vectors were cut down to whole numbers.",
        ),
        Mistake(lambda x, v: spread(v, *x.shape[-2:]), "The picture is missing."),
        Mistake(
            lambda x, v: x + spread(v, *x.shape[-2:]).sum(1, keepdim=True),
            "The numbers were added to the picture, not concatenated.",
        ),
    ),
)


def find_fault_of_network(network_class):
    """What is wrong with a learner's `ConditionedUnet`, in a sentence; "" where nothing is."""
    if not issubclass(network_class, nn.Module):
        return "`ConditionedUnet` must be a class that begins with `class ConditionedUnet(nn.Module):`."
    for arguments in ({}, dict(num_classes=5, class_emb_size=7)):
        network, reference = network_class(**arguments), minimal.ConditionedUnet(**arguments)
        if ... in (getattr(network, "class_emb", None), getattr(network, "model", None)):
            return ...
        fault = fault_of_parts(network, reference, arguments)
        if fault:
            return fault
    return fault_of_outputs(network, reference)  # of the second pair, whose sizes are not the usual ones


def fault_of_parts(network, reference, arguments: dict) -> str:
    """Whether a learner's network has the parts of the example's."""
    called = f"`ConditionedUnet({', '.join(f'{name}={value}' for name, value in arguments.items())})`"
    for name, kind in (("class_emb", nn.Embedding), ("model", minimal.UNet2DModel)):
        if type(getattr(network, name, None)) is not kind:
            found = in_words(getattr(network, name, None))
            return f"{called} has {found} as `self.{name}`, wanted an object of type `{kind.__name__}`."
    found, wanted = (sum(weight.numel() for weight in one.parameters()) for one in (network, reference))
    if found != wanted:
        known = "are both arguments used?" if arguments else KNOWN_DIFFERENCES.get(found - wanted, "")
        return f"{called} has {found:,} parameters, wanted {wanted:,}{': ' if known else '.'}{known}"
    return fault_of_weights(called, network.state_dict(), reference.state_dict())


def fault_of_weights(called: str, found: dict, wanted: dict) -> str:
    """Whether the weights of the example's network fit into a learner's, by name and shape."""
    extra = sorted({name.split(".")[0] for name in found} - {"class_emb", "model"})
    if extra:
        return f"{called} holds `self.{extra[0]}` as well: only `self.class_emb` and `self.model` should hold numbers."
    for name, value in wanted.items():
        if name not in found or found[name].shape != value.shape:
            return f"{called} has the right number of parameters, but not the example's layers: look at `{name}`."
    return ""


def fault_of_outputs(network, reference) -> str:
    """Whether a learner's network computes what the example's does with the same weights."""
    network.load_state_dict(reference.state_dict())
    labels, generator = torch.tensor([3, 0, 4]), torch.Generator().manual_seed(0)
    x, t = torch.randn(3, 1, 28, 28, generator=generator), torch.tensor([10, 500, 999])
    found = network(x.clone(), t, labels)
    if found is ...:
        return ...
    if hasattr(found, "sample"):
        return "`forward` returns all that the UNet returns: take its `.sample`, the tensor."
    with torch.no_grad():
        fault = tensor_difference(found, reference(x, t, labels))
        if fault and tensor_difference(found, reference(x, t, labels[:1].expand(3))) == "":
            fault = "every picture gets the first picture's class"
        if fault and tensor_difference(found, reference(x, t[:1].expand(3), labels)) == "":
            fault = "every picture gets the first picture's timestep"
        if not fault and tensor_difference(network(x[:1], 500, labels[:1]), reference(x[:1], 500, labels[:1])):
            fault = "one timestep for all pictures, `500`, is not passed on"
    if fault:
        return f"The parts are right, but with the example's weights `forward` gives something else: {fault}."
    return fault_of_gradients(network, found)


def fault_of_gradients(network, found: torch.Tensor) -> str:
    """Whether training can reach both parts of a learner's network."""
    if not found.requires_grad:
        return (
            "The output is right, but it has no gradient, and cannot be trained: is there a `no_grad` or a `.detach()`?"
        )
    weights = {"class_emb": network.class_emb.weight, "model": network.model.conv_in.weight}
    for name, gradient in zip(weights, torch.autograd.grad(found.sum(), weights.values(), allow_unused=True)):
        if gradient is None:
            return (
                f"The output is right, but no gradient reaches `self.{name}`: is there a `.detach()` or a `.tolist()`?"
            )
    return ""


conditioned_unet = ProbedExercise(
    name="ConditionedUnet",
    solution_text=inspect.getsource(minimal.ConditionedUnet),
    praise="1,708,201 parameters, and the example's output to the last bit: this is its network.",
    hints=(
        "`__init__` makes two parts: `self.class_emb`, a table, and `self.model`, a `UNet2DModel`.",
        "The UNet's `in_channels` is what exercise 1 asked for. Exercise 2 is the heart of `forward`.",
        "`forward`: look up the vectors, put them beside the picture as in exercise 2, and return "
        "`self.model(both, timesteps).sample`.",
    ),
    find_fault=find_fault_of_network,
    wanted="class",
    parameters="num_classes=10, class_emb_size=4",
    tried_with=" (also with num_classes=5, class_emb_size=7, and with one timestep for all pictures)",
)
