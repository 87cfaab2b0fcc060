"""The course's exercises: each has `check(answer)`, `hint()` and `solution()`.

`OF_NOTEBOOK` lists them by notebook, in the order in which it asks them; `summary(4)` says how far the learner has come.
"""

from course_utils.display import show_text
from course_utils.exercises.challenge import class_recall, training_flops
from course_utils.exercises.embedding_size import between, concatenation, extra_parameters, input_channels
from course_utils.exercises.one_hot import identity_embedding, one_hot_channels, parameter_difference

OF_NOTEBOOK = {
    2: (input_channels, concatenation),
    4: (extra_parameters, between),
    5: (one_hot_channels, parameter_difference, identity_embedding),
    6: (training_flops, class_recall),
}
ALL = tuple(exercise for exercises in OF_NOTEBOOK.values() for exercise in exercises)


def summary(notebook: int):
    """Show, for each exercise of a notebook, whether it was solved alone, with hints, or after its solution was shown.

    Raises:
        ValueError: for a notebook without exercises.
    """
    if notebook not in OF_NOTEBOOK:
        raise ValueError(f"notebook {notebook!r} has no exercises: expected one of {', '.join(map(str, OF_NOTEBOOK))}.")
    lines = [f"- `{exercise.name}`: {exercise.progress()}" for exercise in OF_NOTEBOOK[notebook]]
    show_text("**Your exercises in this notebook**\n\n" + "\n".join(lines))
