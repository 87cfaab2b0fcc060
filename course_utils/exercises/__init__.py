"""The course's exercises: each has `check(answer)`, `hint()` and `solution()`.

`OF_NOTEBOOK` lists them by notebook, in the order in which it asks them; `summary(4)` says how far the learner has come.
"""

from course_utils.display import show_text
from course_utils.exercises.challenge import class_recall, training_flops
from course_utils.exercises.embedding_size import between, extra_parameters
from course_utils.exercises.network import concatenation, conditioned_unet, input_channels
from course_utils.exercises.noise import add_noise, cosine_alphas_cumprod
from course_utils.exercises.one_hot import identity_embedding, one_hot_channels, parameter_difference
from course_utils.exercises.sampling import ddim_step, ddpm_step, guided, predicted_x0, sample_loop
from course_utils.exercises.training import diagnoses, training_loss, training_step

OF_NOTEBOOK = {
    1: (cosine_alphas_cumprod, add_noise),
    2: (input_channels, concatenation, conditioned_unet),
    3: (training_loss, training_step, predicted_x0, ddim_step, ddpm_step, guided, sample_loop, diagnoses),
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
