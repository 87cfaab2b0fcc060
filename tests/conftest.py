"""What several tests share: a tiny data set and an untrained pipeline."""

import pytest
import torch

from course_utils.data import SOURCES, ImageDataset
from course_utils.model import ClassConditionedUnet
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import make_scheduler
from tiny import make_tiny_model


@pytest.fixture
def stripes() -> ImageDataset:
    """60 pictures of ten classes: a bright row whose height is the label."""
    labels = torch.arange(60) % 10
    images = torch.zeros(60, 1, 28, 28, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        images[i, 0, 2 * label + 4 : 2 * label + 7] = 255
    return ImageDataset(images, labels, SOURCES["mnist"].class_names, "mnist")


@pytest.fixture
def tiny_model() -> ClassConditionedUnet:
    """An untrained network that is small enough for a test."""
    return make_tiny_model()


@pytest.fixture
def tiny_pipe(tiny_model) -> ClassConditionedPipeline:
    scheduler = make_scheduler("dpmsolver++", "v_prediction")
    return ClassConditionedPipeline(tiny_model, scheduler, "mnist", num_inference_steps=2, guidance_scale=1.5)
