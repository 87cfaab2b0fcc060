"""A network small enough for tests."""

import torch

from course_utils.model import ClassConditionedUnet


def make_tiny_model(**changes) -> ClassConditionedUnet:
    """An untrained network with the same weights each time; `changes` are arguments of `ClassConditionedUnet`."""
    torch.manual_seed(0)
    arguments = dict(block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4, unconditional=True)
    return ClassConditionedUnet(**{**arguments, **changes})
