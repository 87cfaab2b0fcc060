import io
import warnings

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from course_utils import plotting
from course_utils.data import ImageDataset, load_sample
from course_utils.display import show_source, table
from course_utils.sampling import make_scheduler

SCORES = dict(class_accuracy=0.9, excess_distance=0.2)
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


def test_the_mean_of_the_losses_begins_anew_with_each_stage():
    losses = [1.0] * 30 + [3.0] * 20
    each, first, second = plotting.loss_curve(losses, stages=(30, 20)).axes[0].lines
    assert list(each.get_ydata()) == losses and set(first.get_ydata()) == {1.0} and set(second.get_ydata()) == {3.0}
    assert second.get_xdata()[0] == 31 and second.get_xdata()[-1] == 50
    _, whole = plotting.loss_curve(losses, window=40).axes[0].lines
    assert whole.get_ydata()[-1] == pytest.approx((20 * 1 + 20 * 3) / 40)


def test_confusion_counts_percent_of_a_row():
    texts = [text.get_text() for text in plotting.confusion([[3, 1], [0, 2]], ["a", "b"]).axes[0].texts]
    assert texts == ["75", "25", "100"]


def test_table_and_source():
    text = table([{"name": "a", "share": 0.12345, "count": 12345}]).data
    assert "| a | 0.123 | 12,345 |" in text
    text = table([{"name": "a|b\nc", "share": 1}]).data
    assert text.splitlines()[2] == "| a\\|b c | 1 |"  # a learner's name breaks no table
    with pytest.raises(ValueError, match="one row"):
        table([])
    assert "def make_scheduler" in show_source(make_scheduler).data


def test_quality_is_shown_in_percent_and_as_excess_distance():
    accuracy, distance = plotting.quality_by_steps(CURVES).axes
    assert accuracy.lines[0].get_ydata().tolist() == [50, 90] and distance.lines[0].get_ydata().tolist() == [0.2, 0.2]


def test_ladder_says_seconds_and_multiples():
    texts = [text.get_text() for text in plotting.ladder({"a": 7200, "b": 90, "c": 0.05}).axes[0].texts]
    assert texts == ["a: 2 h", "b: 90 s, 80 times as fast", "c: 50 ms, 144,000 times as fast"]


def own(names, per_class=2, side=28) -> ImageDataset:
    """A few noisy pictures per class."""
    labels = torch.arange(len(names) * per_class) % len(names)
    return ImageDataset(torch.rand(len(labels), side, side, generator=torch.Generator().manual_seed(0)), labels, names)


ODD_NAMES = [
    "",
    "$x$ and $\\bad$",
    "$",
    "100 % wool_^{",
    "two\nlines",
    "x" * 300,
    "many words " * 20,
    "nul\x00\x1b",
    "\ud800",
]
OWN_CLASSES = {
    "one": ["only"],
    "two": ["a", "b"],
    "odd": ODD_NAMES,
    "letters": list("abcdefghijklmnopqrstuvwxyz"),
    "words": [f"word number {i}" for i in range(26)],
    "hundred": [str(i) for i in range(100)],
}
PLOTS_BY_CLASS = {
    "dataset_grid": lambda names: plotting.dataset_grid(own(names)),
    "image_grid": lambda names: plotting.image_grid(torch.rand(len(names), 1, 16, 16), len(names), names, [names[-1]]),
    "confusion": lambda names: plotting.confusion(torch.eye(len(names)).tolist(), names),
    "embedding_map": lambda names: plotting.embedding_map(torch.randn(len(names), 5), names),
    "class_channels": lambda names: plotting.class_channels(
        torch.eye(len(names))[:, :, None, None].expand(-1, -1, 16, 16)[0]
    ),
    "spread_over_seeds": lambda names: plotting.spread_over_seeds({name: [0.1, 0.2] for name in names[:10]}, "percent"),
    "denoising_strip": lambda names: plotting.denoising_strip(
        torch.rand(3, len(names[:9]), 1, 20, 20), [1, 2, 3], names[:9]
    ),
}


@pytest.mark.parametrize("classes", OWN_CLASSES)
@pytest.mark.parametrize("plot", PLOTS_BY_CLASS)
def test_figures_of_any_classes_names_and_sizes(plot, classes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of what does not fit, and of what it cannot write
        figure = PLOTS_BY_CLASS[plot](OWN_CLASSES[classes])
        picture = Image.open(io.BytesIO(figure.png()))
    assert max(picture.size) < 1300 and "\\$" not in plotting.figure_in_words(figure)


def test_a_figure_takes_a_font_that_has_the_names_script(monkeypatch):
    monkeypatch.setattr(plotting, "OTHER_SCRIPTS", ("No Such Font", "STIXGeneral"))
    figure = plotting.dataset_grid(own(["ж", "b"]))
    figure.png()
    families = {text.get_text(): text.get_fontfamily() for text in figure.axes[0].get_xticklabels()}
    assert families["ж"] == ["sans-serif", "STIXGeneral"] and families["b"] == ["sans-serif"]


def test_a_class_with_fewer_pictures_than_rows_leaves_paper():
    ds = own(["a", "b", "c"]).subset([0, 3, 1])  # two of a, one of b, none of c
    drawn = plotting.dataset_grid(ds).axes[0].images[0].get_array()
    blank = [[bool((drawn[r : r + 28, c : c + 28] == 1).all()) for c in (0, 28, 56)] for r in (0, 28, 56)]
    assert blank == [[False, False, True], [False, True, True], [True, True, True]]
    assert torch.equal(torch.as_tensor(drawn[28:56, :28]), 1 - ds.images[1, 0].float() / 255)  # its second a


def test_titles_of_own_data():
    ds = own(["a", "b"])
    assert plotting.dataset_grid(ds).axes[0].get_title() == ""
    ds.name = "my $ shapes"
    assert "my $ shapes" in plotting.figure_in_words(plotting.dataset_grid(ds))
    assert plotting.dataset_grid(own(OWN_CLASSES["hundred"])).axes[0].get_title() == "(26 of 100 classes)"


@pytest.mark.parametrize("wrong, words", [("mnist", "load_dataset"), (torch.zeros(3), "expected an ImageDataset")])
def test_what_is_no_data_set_is_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        plotting.dataset_grid(wrong)
    with pytest.raises(ValueError, match="rows is 0"):
        plotting.dataset_grid(own(["a"]), rows=0)


def test_more_lines_than_colours_are_all_drawn():
    losses = {name: torch.rand(5) + 0.1 for name in "abcde"}
    assert len(plotting.timestep_losses(losses).axes[0].lines) == 5
    assert len(plotting.quality_by_steps({name: CURVES["ddim"] for name in "abcde"}).axes[0].lines) == 5


def test_names_of_columns_are_written_so_that_they_do_not_overlap():
    for names in (
        OWN_CLASSES["words"],
        OWN_CLASSES["letters"],
        plotting.short_names(load_sample("fashion_mnist").class_names),
    ):
        figure = plotting.image_grid(torch.rand(len(names), 1, 28, 28), len(names), names)
        figure.png()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
        assert all(left.x1 <= right.x0 + 2 for left, right in zip(boxes, boxes[1:]))
