"""The exercises of notebook 5: one-hot channels, and the embedding that they are."""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.exercises.exercise import FunctionExercise, Mistake, NumberExercise


def draw_labels(generator, trial):
    """Arguments for `one_hot_channels`; the labels rarely hold the highest class, and the picture is not square."""
    num_classes = (10, 10, 10, 4, 7, 10, 3, 26)[trial]
    count = int(torch.randint(2, 6, (), generator=generator))
    labels = torch.randint(num_classes, (count,), generator=generator)
    labels[: len(labels) - 1].clamp_(max=num_classes - 2)
    labels[-1] = 1  # never all of one class
    labels[0] = 0
    height, width = (int(torch.randint(low, low + 4, (), generator=generator)) for low in (3, 8))
    return labels, num_classes, height, width


def channels_of(rows, height, width):
    """(B, C) to (B, C, height, width), as float32."""
    return rows.float()[:, :, None, None].expand(-1, -1, height, width)


one_hot_channels = FunctionExercise(
    name="one_hot_channels",
    solution_text="""\
from torch.nn import functional as F


def one_hot_channels(class_labels, num_classes, height, width):
    rows = F.one_hot(class_labels, num_classes).float()  # (B, num_classes)
    return rows[:, :, None, None].expand(-1, -1, height, width)""",
    praise="Nothing in it is learned: the label is handed over as it is, and the first convolution makes sense of it.",
    hints=(
        "Start with a row for each label: a one in the place of its class, zeros elsewhere.",
        "`torch.nn.functional.one_hot` makes such rows; look at what dtype they have, and at its second argument.",
        "Then as in notebook 4: add two axes, and expand them to height and width.",
    ),
    draw_arguments=draw_labels,
    mistakes=(
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels, n), h, w).long(),
            "A convolution wants floats: `one_hot` makes whole numbers.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels), h, w),
            "The number of channels must not depend on which labels happen to be in the batch.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels, n), w, h),
            "Height and width are swapped.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot((labels + 1) % n, n), h, w),
            "The one stands a place too far: classes are counted from 0.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels, n + 1), h, w),
            "There is a channel too many: labels 0 to num_classes - 1 need num_classes channels.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels, n), h, w).transpose(0, 1),
            "The axes are mixed up: the batch comes first, then the channels.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels[:1].expand(len(labels)), n), h, w),
            "Every picture gets the first picture's label.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels, n), 1, 1),
            "They have no height and width yet: every pixel must be told.",
        ),
        Mistake(
            lambda labels, n, h, w: F.one_hot(labels, n).float(),
            "They have no height and width yet: every pixel must be told.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(labels[:, None] / n, h, w).expand(-1, n, -1, -1),
            "That is the label as a number: it says that a 2 lies between a 1 and a 3.",
        ),
    ),
)

parameter_difference = NumberExercise(
    name="parameter_difference",
    solution_text="""\
first_convolution = (10 - 4) * 32 * 3 * 3  # one-hot: ten channels for the class in place of four
table = 10 * 4  # but no learned table
parameter_difference = first_convolution - table""",
    praise="And compared with an embedding of size 10 it saves exactly the table, which one-hot does not learn.",
    hints=(
        "One side grows, the other disappears: which parts of the network are these?",
        "The first convolution (32 filters of 3 x 3) reads more channels; the table of ten rows is gone.",
        "Six more channels, each with 32 x 9 weights; less the ten rows of four numbers.",
    ),
    slips={
        1728: "The convolution is right; what does the one-hot network do without?",
        -1688: "The size is right; the sign is not: asked is how many *more* the one-hot network has.",
        1768: "The table was added; the one-hot network does not have it.",
        1788: "That compares sizes 10 and 4 of an embedding; one-hot has no table at all.",
        -40: "That is the table; the first convolution changes, too.",
        40: "That is the table; the first convolution changes, too.",
        2840: "That counts the convolution as if all ten channels were new; four were there before.",
        2880: "That counts the convolution as if all ten channels were new; four were there before.",
    },
)

identity_embedding = FunctionExercise(
    name="identity_embedding",
    solution_text="""\
import torch
from torch import nn


def identity_embedding(num_classes):
    return nn.Embedding.from_pretrained(torch.eye(num_classes), freeze=True)""",
    praise="One-hot is an embedding of size num_classes whose table is fixed; only the training differs.",
    hints=(
        "Which table has a row for each class, and in that row a one in the class's own place?",
        "`torch.eye`; and the table must not be trained.",
        "`nn.Embedding.from_pretrained(table, freeze=...)`, or set `weight.requires_grad` yourself.",
    ),
    draw_arguments=lambda generator, trial: ((10, 2, 7, 3, 26, 4, 5, 12)[trial],),
    mistakes=(
        Mistake(
            lambda n: nn.Embedding.from_pretrained(torch.eye(n), freeze=False),
            "The table is right, but training would change it.",
        ),
        Mistake(lambda n: nn.Embedding.from_pretrained(torch.zeros(n, n)), "All rows are alike: which class is which?"),
        Mistake(lambda n: nn.Embedding.from_pretrained(torch.ones(n, n)), "All rows are alike: which class is which?"),
        Mistake(lambda n: nn.Embedding.from_pretrained(torch.eye(n).flip(0)), "The ones stand on the other diagonal."),
        Mistake(lambda n: nn.Embedding.from_pretrained(torch.eye(n + 1)), "There is a class too many: count from 0."),
    ),
    trials=8,
)
