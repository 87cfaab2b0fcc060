"""The exercises of notebook 4: how a class's numbers become channels, and what lies between two classes."""

import torch
from torch import nn

from course_utils.exercises.exercise import FunctionExercise, Mistake, NumberExercise

input_channels = FunctionExercise(
    name="input_channels",
    solution_text="""\
def input_channels(class_emb_size):
    return 1 + class_emb_size  # the noisy picture, and a channel for each number""",
    praise="Only the very first convolution notices the size: everything after it stays as it was.",
    hints=(
        "What does `concatenate` below put together? Count its channels.",
        "The picture is grey: how many channels does it have before anything is put beside it?",
    ),
    draw_arguments=lambda generator, trial: ((1, 2, 4, 10, 16, 3, 64, 7)[trial],),
    mistakes=(
        Mistake(lambda size: size, "The noisy picture itself needs room, too."),
        Mistake(lambda size: 3 + size, "Our pictures are grey, not red, green and blue."),
        Mistake(lambda size: 5, "That fits the example's size only."),
        Mistake(lambda size: 10 + size, "The number of classes does not enter: a picture has one class."),
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
    praise="`expand` repeats without copying: the memory for the channels is only spent in `cat`.",
    hints=(
        "Two steps: give the vectors a height and a width, then put them beside the pictures.",
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
            "The channels for the class hold only zeros: the vectors' numbers do not arrive.",
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
        Mistake(lambda x, v: x + spread(v, *x.shape[-2:]).sum(1, keepdim=True), "Added is not concatenated."),
    ),
)

extra_parameters = NumberExercise(
    name="extra_parameters",
    solution_text="""\
rows = 10 * (10 - 4)  # each of ten classes gets six more numbers
first_convolution = (10 - 4) * 32 * 3 * 3  # six more channels, seen by 32 filters of 3 x 3
extra_parameters = rows + first_convolution""",
    praise="A thousandth of the network: whatever the size changes, it is not the network's capacity.",
    hints=(
        "Two places grow: the table of the classes' numbers, and the convolution that reads the channels.",
        "The example's first convolution has 32 filters of 3 x 3 for every channel that comes in.",
        "Six more columns in a table of ten rows; and six more input channels for 32 filters of nine weights.",
    ),
    slips={
        60: "That is what the table grows by; something reads those numbers, and grows too.",
        1728: "That is what the first convolution grows by; the numbers themselves are kept somewhere, too.",
        6: "That many more channels; how many weights does each bring with it?",
        100: "That is the whole table of size 10, without what reads it.",
        3520: "That counts the convolution as if all its channels were new.",
        2980: "That counts all of size 10; asked is how many more than with size 4.",
        252: "Each new channel is read by all of the 32 filters of the first convolution.",
    },
)


def draw_two_classes(generator, trial):
    """Arguments for `between`: a table, two of its rows, and a share."""
    rows, size = 10, int(torch.randint(2, 8, (), generator=generator))
    table = nn.Embedding.from_pretrained(torch.randn(rows, size, generator=generator))
    start, end = torch.randperm(rows, generator=generator)[:2].tolist()
    return table, start, end, (0.25, 0.0, 1.0, 0.7, 0.1, 0.9, 0.5, 0.3)[trial]


between = FunctionExercise(
    name="between",
    solution_text="""\
def between(embedding, start, end, share):
    first, second = embedding.weight[start], embedding.weight[end]  # (C,) each
    return (1 - share) * first + share * second""",
    praise="It is what `torch.lerp` computes; nothing in the network knows that no class lives there.",
    hints=(
        "A row of `embedding.weight` is a class's vector.",
        "At share 0 it is the first row, at share 1 the second, and halfway it is their mean.",
        "A weighted sum of the two rows, with weights that add up to 1.",
    ),
    draw_arguments=draw_two_classes,
    mistakes=(
        Mistake(
            lambda table, start, end, share: share * table.weight[start] + (1 - share) * table.weight[end],
            "Start and end are swapped: share 0 is the start.",
        ),
        Mistake(
            lambda table, start, end, share: (table.weight[start] + table.weight[end]) / 2,
            "That is halfway, whatever the share.",
        ),
        Mistake(
            lambda table, start, end, share: table.weight[start] + share * table.weight[end],
            "The first row keeps its full weight, so that the sum grows too long.",
        ),
        Mistake(
            lambda table, start, end, share: table.weight[int((1 - share) * start + share * end)],
            "You mixed the labels: that gives another class's row, not a mixture of two rows.",
        ),
        Mistake(
            lambda table, start, end, share: table.weight[round((1 - share) * start + share * end)],
            "You mixed the labels: that gives another class's row, not a mixture of two rows.",
        ),
        Mistake(
            lambda table, start, end, share: ((1 - share) * table.weight[start] + share * table.weight[end])[None],
            "There is an axis too many: wanted is one vector, not a batch of them.",
        ),
        Mistake(
            lambda table, start, end, share: (
                (1 - share) * table.weight[:, min(start, table.embedding_dim - 1)]
                + share * table.weight[:, min(end, table.embedding_dim - 1)]
            ),
            "Those are columns of the table; a class is a row.",
        ),
    ),
)
