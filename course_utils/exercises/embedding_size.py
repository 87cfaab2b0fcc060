"""The exercises of notebook 4: what the size of an embedding costs, and what lies between two classes."""

import torch
from torch import nn

from course_utils.exercises.exercise import FunctionExercise, Mistake, NumberExercise

extra_parameters = NumberExercise(
    name="extra_parameters",
    solution_text="""\
rows = 10 * (10 - 4)  # each of ten classes gets six more numbers
first_convolution = (10 - 4) * 32 * 3 * 3  # six more channels, seen by 32 filters of 3 x 3
extra_parameters = rows + first_convolution""",
    praise="That is about a thousandth of the network: a larger size adds very few parameters.",
    hints=(
        "Two parts grow: the table of the classes' vectors, and the convolution that reads the channels.",
        "The example's first convolution has 32 filters. Each filter has 3 x 3 weights for every input channel.",
        "The table has ten rows and gets six more columns. Six more channels go into 32 filters of nine weights each.",
    ),
    slips={
        60: "The table grows by this number. The layer that reads those numbers grows, too.",
        1728: "The first convolution grows by this number. But the new numbers must also be stored in a table.",
        6: "That is the number of new channels. How many weights does each of them need?",
        100: "That is the whole table of size 10. It leaves out the layer that reads it.",
        3520: "That counts the convolution as if all its channels were new.",
        2980: "That counts everything at size 10. The question is how many parameters are added to size 4.",
        252: "Each of the 32 filters has 3 x 3 weights for each new channel, not one.",
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
    praise="`torch.lerp` computes the same. The network accepts any vector, also one that belongs to no class.",
    hints=(
        "A row of `embedding.weight` is a class's vector.",
        "At share 0 the result is the first row, at share 1 the second row, and at share 0.5 their mean.",
        "A weighted sum of the two rows, with weights that add up to 1.",
    ),
    draw_arguments=draw_two_classes,
    mistakes=(
        Mistake(
            lambda table, start, end, share: share * table.weight[start] + (1 - share) * table.weight[end],
            "Start and end are swapped: share 0 must give the start.",
        ),
        Mistake(
            lambda table, start, end, share: (table.weight[start] + table.weight[end]) / 2,
            "That is always halfway: it does not depend on `share`.",
        ),
        Mistake(
            lambda table, start, end, share: table.weight[start] + share * table.weight[end],
            "The first row keeps its full weight, so the sum is too long.",
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
            "There is one axis too many: return one vector, not a batch of vectors.",
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
