"""The exercises of notebook 6: what a training costs, and which clothes a model has learned."""

import torch

from course_utils.exercises.exercise import FunctionExercise, Mistake

training_flops = FunctionExercise(
    name="training_flops",
    solution_text="""\
def training_flops(steps, batch_size, forward_flops):
    images = steps * batch_size
    return 3 * forward_flops * images  # forward once; backward costs about twice as much again""",
    praise="This count is the same on every machine. Seconds are not.",
    hints=(
        "How many images go through the network, if repeats are counted?",
        "Each image goes forward once and backward once. Backward alone costs about twice as much as forward.",
    ),
    draw_arguments=lambda generator, trial: (
        int(torch.randint(1, 5000, (), generator=generator)),
        int(torch.randint(1, 256, (), generator=generator)),
        int(torch.randint(10**6, 10**9, (), generator=generator)),
    ),
    mistakes=(
        Mistake(lambda steps, batch, flops: steps * batch * flops, "That counts forward only."),
        Mistake(
            lambda steps, batch, flops: 2 * steps * batch * flops,
            "Backward alone costs about twice as much as forward. Count forward, too.",
        ),
        Mistake(
            lambda steps, batch, flops: 3 * steps * flops,
            "Each step takes a whole batch through the network, not one image.",
        ),
        Mistake(lambda steps, batch, flops: 3 * batch * flops, "That is the cost of a single step."),
        Mistake(
            lambda steps, batch, flops: steps * batch,
            "That is the number of images. How many operations does each image cost?",
        ),
    ),
)


def draw_confusion(generator, trial):
    """Arguments for `class_recall`: counts, int64, with no empty row."""
    size = (10, 3, 10, 4, 7, 10, 2, 5)[trial]
    return (torch.randint(0, 20, (size, size), generator=generator) + torch.eye(size, dtype=torch.int64) * 15,)


class_recall = FunctionExercise(
    name="class_recall",
    solution_text="""\
def class_recall(confusion):
    return confusion.diag() / confusion.sum(dim=1)  # recognised as asked for, of all that were asked for""",
    praise="A mean can hide one bad class. The recall of each class shows it.",
    hints=(
        "The rows are the classes asked for. How many pictures of a class were asked for?",
        "The counts on the diagonal are the pictures that were recognised as the class asked for.",
        "Divide the diagonal by the sum of each row.",
    ),
    draw_arguments=draw_confusion,
    mistakes=(
        Mistake(
            lambda confusion: confusion.diag() / confusion.sum(0),
            "That divides by the sum of each column: the pictures that *look like* a class. This is called precision.",
        ),
        Mistake(
            lambda confusion: confusion.diag() / confusion.sum(),
            "That divides by the number of all pictures, of every class together.",
        ),
        Mistake(
            lambda confusion: (confusion.diag().sum() / confusion.sum()).item(),
            "That is the class accuracy, which is one number. Return a number for each class.",
        ),
        Mistake(
            lambda confusion: confusion.diag().sum() / confusion.sum(),
            "That is the class accuracy, which is one number. Return a number for each class.",
        ),
        Mistake(lambda confusion: confusion.diag(), "Those are counts. The result must be shares."),
        Mistake(
            lambda confusion: 100 * confusion.diag() / confusion.sum(1),
            "Those are percentages. The result must be shares, between 0 and 1.",
        ),
        Mistake(
            lambda confusion: confusion / confusion.sum(1, keepdim=True),
            "That is the whole table as shares. Take its diagonal.",
        ),
    ),
)
