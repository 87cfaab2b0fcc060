import io

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from course_utils import plotting
from course_utils.data import load_sample
from course_utils.display import show_source, table
from course_utils.sampling import make_scheduler

SCORES = dict(class_accuracy=0.9, frechet_distance=0.4, frechet_floor=0.2)
CURVES = {name: {2: SCORES | dict(class_accuracy=0.5), 10: SCORES} for name in ("ddim", "unipc")}
FIGURES = {
    "dataset_grid": lambda: plotting.dataset_grid(load_sample("fashion_mnist")),
    "image_grid": lambda: plotting.image_grid(
        torch.rand(7, 1, 28, 28), 3, list("abc"), ["one", "two", "three"], "Title"
    ),
    "loss_curve": lambda: plotting.loss_curve([1.0 / (i + 1) for i in range(300)]),
    "one loss": lambda: plotting.loss_curve([1.0]),
    "timestep_losses": lambda: plotting.timestep_losses({"a": torch.rand(10) + 0.1, "b": torch.rand(10) + 0.1}),
    "noise_levels": lambda: plotting.noise_levels(make_scheduler()),
    "denoising_strip": lambda: plotting.denoising_strip(torch.rand(4, 2, 1, 28, 28), [1, 2, 3, 4], ["3", "5"]),
    "confusion": lambda: plotting.confusion(torch.eye(10).mul(5).int().tolist(), list("0123456789"), "Title"),
    "spread_over_seeds": lambda: plotting.spread_over_seeds({"a": [0.1, 0.2], "b": [0.5]}, "percent", percent=True),
    "embedding_map": lambda: plotting.embedding_map(torch.randn(10, 4), list("0123456789"), "Title"),
    "embedding_map of single numbers": lambda: plotting.embedding_map(torch.randn(10, 1), list("0123456789")),
    "small pictures": lambda: plotting.image_grid(torch.rand(20, 1, 14, 14), 10, list("0123456789")),
    "quality_by_steps": lambda: plotting.quality_by_steps(CURVES, "Title"),
    "ladder": lambda: plotting.ladder({"hours": 10_000, "minutes": 100, "an instant": 0.05}, "Title"),
    "class_channels": lambda: plotting.class_channels(torch.randn(4, 1, 1).expand(4, 28, 28), "Title"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_shows_itself_as_a_picture(name):
    picture = Image.open(io.BytesIO(FIGURES[name]().png()))
    assert 200 < picture.width < 1100 and 100 < picture.height < 1100
    assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.parametrize("name", FIGURES)
def test_figure_says_in_words_what_it_shows(name):
    bundle, metadata = DisplayFormatter().format(FIGURES[name]())
    assert "image/png" in bundle and len(metadata["image/png"]["alt"].split()) > 3


def test_words_are_those_of_titles_labels_and_legends():
    grid = plotting.image_grid(torch.rand(4, 1, 28, 28), 2, ["a", "b"], ["one", "two"], "Title")
    assert plotting.figure_in_words(grid) == "Title. columns a b: rows one two"
    words = plotting.figure_in_words(plotting.loss_curve([1.0, 0.5], title="Title"))
    assert words == "Title. mean squared error against training step: each step, mean of the last 100"
    assert "a: 2 h, b: 90 s, 80 times as fast" in plotting.figure_in_words(plotting.ladder({"a": 7200, "b": 90}))


def test_grid_puts_pictures_row_after_row():
    pictures = torch.zeros(4, 1, 28, 28)
    pictures[1] = 1  # the first row's second
    drawn = plotting.image_grid(pictures, 2).axes[0].images[0].get_array()
    assert drawn[:28, 28:].max() == 0 and drawn[:28, :28].min() == 1 and drawn[28:].min() == 1  # ink is black


def test_sample_says_in_its_title_what_it_is():
    assert "not real" in plotting.dataset_grid(load_sample("mnist")).axes[0].get_title()


def test_real_images_get_a_plain_title(stripes):
    assert plotting.dataset_grid(stripes).axes[0].get_title() == "MNIST"


def test_losses_take_a_title():
    assert plotting.loss_curve([1.0], title="Mine").axes[0].get_title() == "Mine"
    assert plotting.timestep_losses({"a": torch.ones(3)}, title="Mine").axes[0].get_title() == "Mine"


def test_confusion_counts_percent_of_a_row():
    texts = [text.get_text() for text in plotting.confusion([[3, 1], [0, 2]], ["a", "b"]).axes[0].texts]
    assert texts == ["75", "25", "100"]


def test_table_and_source():
    text = table([{"name": "a", "share": 0.12345, "count": 12345}]).data
    assert "| a | 0.123 | 12,345 |" in text
    with pytest.raises(ValueError, match="one row"):
        table([])
    assert "def make_scheduler" in show_source(make_scheduler).data


def test_quality_is_shown_in_percent_and_floors():
    accuracy, distance = plotting.quality_by_steps(CURVES).axes
    assert accuracy.lines[0].get_ydata().tolist() == [50, 90] and distance.lines[0].get_ydata().tolist() == [2, 2]


def test_ladder_says_seconds_and_multiples():
    texts = [text.get_text() for text in plotting.ladder({"a": 7200, "b": 90, "c": 0.05}).axes[0].texts]
    assert texts == ["a: 2 h", "b: 90 s, 80 times as fast", "c: 50 ms, 144,000 times as fast"]
