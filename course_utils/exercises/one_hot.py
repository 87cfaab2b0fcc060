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
    praise="Nothing here is learned. The first convolution gets the label as it is, and learns what to do with it.",
    hints=(
        "Start with one row for each label: 1 in the place of its class, 0 elsewhere.",
        "`torch.nn.functional.one_hot` makes such rows. Look at their dtype, and at the function's second argument.",
        "Then continue as in notebook 2: add two axes, and expand them to height and width.",
    ),
    draw_arguments=draw_labels,
    mistakes=(
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels, n), h, w).long(),
            "A convolution needs floats, but `one_hot` returns whole numbers.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels), h, w),
            "The number of channels must not depend on which labels are in the batch.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels, n), w, h),
            "Height and width are swapped.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot((labels + 1) % n, n), h, w),
            "The 1 is in the channel of the next class: classes are counted from 0.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels, n + 1), h, w),
            "There is one channel too many: labels 0 to num_classes - 1 need num_classes channels.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels, n), h, w).transpose(0, 1),
            "The axes are in the wrong order: the batch comes first, then the channels.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels[:1].expand(len(labels)), n), h, w),
            "Every picture gets the first picture's label.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(F.one_hot(labels, n), 1, 1),
            "There is no height and width yet: every pixel needs the label.",
        ),
        Mistake(
            lambda labels, n, h, w: F.one_hot(labels, n).float(),
            "There is no height and width yet: every pixel needs the label.",
        ),
        Mistake(
            lambda labels, n, h, w: channels_of(labels[:, None] / n, h, w).expand(-1, n, -1, -1),
            "That is the label as a number: it tells the network that a 2 lies between a 1 and a 3.",
        ),
    ),
)

parameter_difference = NumberExercise(
    name="parameter_difference",
    solution_text="""\
first_convolution = (10 - 4) * 32 * 3 * 3  # one-hot: ten channels for the class in place of four
table = 10 * 4  # but no learned table
parameter_difference = first_convolution - table""",
    praise="Compared with an embedding of size 10, one-hot saves exactly the table.",
    hints=(
        "One part of the network grows, another part disappears. Which parts are they?",
        "The first convolution (32 filters of 3 x 3) reads more channels. The table of ten rows disappears.",
        "Six more channels, each with 32 x 9 weights; minus the ten rows of four numbers.",
    ),
    slips={
        1728: "The convolution is right. Which part of the embedding network is missing in the one-hot network?",
        -1688: "The size is right, but the sign is wrong: the question is how many *more* the one-hot network has.",
        1768: "You added the table, but the one-hot network does not have it.",
        1788: "That compares sizes 10 and 4 of an embedding. A one-hot network has no table at all.",
        -40: "That is the table only. The first convolution changes, too.",
        40: "That is the table only. The first convolution changes, too.",
        2840: "That counts the convolution as if all ten channels were new. The embedding had four channels before.",
        2880: "That counts the convolution as if all ten channels were new. The embedding had four channels before.",
    },
)

identity_embedding = FunctionExercise(
    name="identity_embedding",
    solution_text="""\
import torch
from torch import nn


def identity_embedding(num_classes):
    return nn.Embedding.from_pretrained(torch.eye(num_classes), freeze=True)""",
    praise="One-hot is an embedding of size num_classes. Its table is the identity, and it is not trained.",
    hints=(
        "Which table has one row for each class, and in that row a 1 in the class's own place?",
        "`torch.eye` makes that table. And the table must not be trained.",
        "`nn.Embedding.from_pretrained(table, freeze=...)`, or set `weight.requires_grad` yourself.",
    ),
    draw_arguments=lambda generator, trial: ((10, 2, 7, 3, 26, 4, 5, 12)[trial],),
    mistakes=(
        Mistake(
            lambda n: nn.Embedding.from_pretrained(torch.eye(n), freeze=False),
            "The table is right, but training would change it.",
        ),
        Mistake(
            lambda n: nn.Embedding.from_pretrained(torch.zeros(n, n)),
            "All rows are equal: the network cannot tell the classes apart.",
        ),
        Mistake(
            lambda n: nn.Embedding.from_pretrained(torch.ones(n, n)),
            "All rows are equal: the network cannot tell the classes apart.",
        ),
        Mistake(lambda n: nn.Embedding.from_pretrained(torch.eye(n).flip(0)), "The ones are on the other diagonal."),
        Mistake(lambda n: nn.Embedding.from_pretrained(torch.eye(n + 1)), "There is one class too many: count from 0."),
    ),
    trials=8,
)
