"""The exercises of notebook 6: what a training costs, and which clothes a model has learned."""

import torch

from course_utils.exercises.exercise import FunctionExercise, Mistake

training_flops = FunctionExercise(
    name="training_flops",
    solution_text="""\
def training_flops(steps, batch_size, forward_flops):
    images = steps * batch_size
    return 3 * forward_flops * images  # forward once; backward costs about twice as much again""",
    praise="Such a count is the same on every machine, which seconds never are.",
    hints=(
        "How many images go through the network, repeats counted?",
        "Each image goes forward through the network, and backward: that is two products where forward has one.",
    ),
    draw_arguments=lambda generator, trial: (
        int(torch.randint(1, 5000, (), generator=generator)),
        int(torch.randint(1, 256, (), generator=generator)),
        int(torch.randint(10**6, 10**9, (), generator=generator)),
    ),
    mistakes=(
        Mistake(lambda steps, batch, flops: steps * batch * flops, "That is the way forward only."),
        Mistake(
            lambda steps, batch, flops: 2 * steps * batch * flops,
            "Backward costs about twice as much as forward, and forward is to be counted, too.",
        ),
        Mistake(lambda steps, batch, flops: 3 * steps * flops, "A step takes a whole batch through the network."),
        Mistake(lambda steps, batch, flops: 3 * batch * flops, "That is a single step."),
        Mistake(lambda steps, batch, flops: steps * batch, "Those are the images; each costs arithmetic."),
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
    praise="A mean hides its worst class; this does not.",
    hints=(
        "The rows are the classes asked for. How many pictures of a class were asked for?",
        "Those on the diagonal were recognised as what they should be.",
        "The diagonal, divided by the sum of each row.",
    ),
    draw_arguments=draw_confusion,
    mistakes=(
        Mistake(
            lambda confusion: confusion.diag() / confusion.sum(0),
            "That divides by the columns: of all that *look like* a class. It is called precision.",
        ),
        Mistake(
            lambda confusion: confusion.diag() / confusion.sum(),
            "That divides by all pictures, of every class.",
        ),
        Mistake(
            lambda confusion: (confusion.diag().sum() / confusion.sum()).item(),
            "That is the class accuracy, one number; wanted is a number for each class.",
        ),
        Mistake(
            lambda confusion: confusion.diag().sum() / confusion.sum(),
            "That is the class accuracy, one number; wanted is a number for each class.",
        ),
        Mistake(lambda confusion: confusion.diag(), "Those are counts; wanted are shares."),
        Mistake(
            lambda confusion: 100 * confusion.diag() / confusion.sum(1),
            "Those are percentages; wanted are shares of 1.",
        ),
        Mistake(
            lambda confusion: confusion / confusion.sum(1, keepdim=True),
            "That is the whole table as shares; take its diagonal.",
        ),
    ),
)
