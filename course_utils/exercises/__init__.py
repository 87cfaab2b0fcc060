"""The course's exercises: each has `check(answer)`, `hint()` and `solution()`.

`ALL` lists them in the order in which the notebooks ask them.
"""

from course_utils.exercises.challenge import class_recall, training_flops
from course_utils.exercises.embedding_size import between, concatenation, extra_parameters, input_channels
from course_utils.exercises.one_hot import identity_embedding, one_hot_channels, parameter_difference

ALL = (
    input_channels,
    concatenation,
    extra_parameters,
    between,
    one_hot_channels,
    parameter_difference,
    identity_embedding,
    training_flops,
    class_recall,
)
