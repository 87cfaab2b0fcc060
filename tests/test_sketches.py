import io
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from PIL import Image
from scipy.linalg import sqrtm

from course_utils import sketches
from course_utils.model import CONDITIONINGS, ClassConditionedUnet
from course_utils.plotting import ORANGE

LARGEST = SimpleNamespace(  # as far as `check_architecture` goes, and without its millions of weights
    num_classes=1000,
    class_emb_size=512,
    conditioning="embedding",
    block_out_channels=(1024, 1024, 1024),
    layers_per_block=8,
    attention_levels=(0, 1, 2),
    sample_size=256,
)
NETWORKS = {
    "example": ClassConditionedUnet,
    "fast": ClassConditionedUnet.fast,
    "small": lambda: ClassConditionedUnet.small(conditioning="one_hot"),
    "one level": lambda: ClassConditionedUnet(block_out_channels=(32,), attention_levels=(0,), class_emb_size=1),
}
SKETCHES = {
    "unet_diagram": (lambda: sketches.unet_diagram(ClassConditionedUnet()), "skip connections, timestep t, embedding"),
    "unet_diagram of the fast network": (
        lambda: sketches.unet_diagram(ClassConditionedUnet.fast()),
        "noisy picture, prediction, middle, attention, time embedding, one_hot",
    ),
    "unet_diagram of two levels": (lambda: sketches.unet_diagram(NETWORKS["small"]()), "door 1, door 2, door 3"),
    "unet_diagram of one level": (lambda: sketches.unet_diagram(NETWORKS["one level"]()), "1 learned number"),
    "unet_diagram of the largest network": (
        lambda: sketches.unet_diagram(SimpleNamespace(config=LARGEST)),
        "512 learned numbers, 9 skip connections",
    ),
    "sampling_step": (sketches.sampling_step, "DDIM, DDPM, xₜ, predicted x₀, xₜ₋₁, fresh noise, picture"),
    "velocity_circle": (sketches.velocity_circle, "velocity, picture x₀, noise ε, t = 0, t = 999, φ, √ᾱₜ, xₜ = cos φ"),
    "guidance_arrows": (sketches.guidance_arrows, "no class, the class, s = 0, s = 1, s = 2, s = 4"),
    "frechet_clouds": (sketches.frechet_clouds, "real, drawn, same mean, other mean, smaller spread, distance"),
    "flat_channel_through_group_norm": (
        sketches.flat_channel_through_group_norm,
        "before, channel per group, channels per group, flat, noisy picture, 0.30, 0.00",
    ),
}


@pytest.fixture(scope="module", params=SKETCHES)
def sketch(request):
    """A drawn figure, and the parts that its description should name."""
    make, parts = SKETCHES[request.param]
    figure = make()
    FigureCanvasAgg(figure).draw()
    return figure, parts.split(", ")


def written(figure) -> list[Text]:
    """All that is written in a figure and can be seen."""
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


def test_a_sketch_is_a_figure_with_a_title_that_says_in_words_what_it_shows(sketch):
    figure, parts = sketch
    assert isinstance(figure, Figure) and (figure.get_suptitle() or figure.axes[0].get_title())
    bundle, metadata = DisplayFormatter().format(figure)
    words = metadata["image/png"]["alt"]
    assert all(part in words for part in parts) and "$" not in words
    picture = Image.open(io.BytesIO(bundle["image/png"] if isinstance(bundle["image/png"], bytes) else figure.png()))
    assert 400 < picture.width < 700 and 300 < picture.height < 1000


def test_texts_are_large_enough_apart_and_inside(sketch):
    figure, _ = sketch
    boxes = {text: text.get_window_extent() for text in written(figure)}
    assert all(text.get_fontsize() >= 10 for text in boxes)
    for (one, its), (other, others) in itertools.combinations(boxes.items(), 2):
        assert not its.overlaps(others), f"{one.get_text()!r} and {other.get_text()!r} overlap"
    for text, its in boxes.items():
        assert its.x0 >= 0 and its.y0 >= 0 and its.x1 <= figure.bbox.x1 and its.y1 <= figure.bbox.y1, text.get_text()


def framed(figure) -> dict[str, FancyBboxPatch]:
    """The box around each text that is in one."""
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    inside = {
        text: [box for box in boxes if box.get_window_extent().contains(*middle(text))] for text in written(figure)
    }
    return {text: found[0] for text, found in inside.items() if found}


def middle(text) -> tuple[float, float]:
    its = text.get_window_extent()
    return (its.x0 + its.x1) / 2, (its.y0 + its.y1) / 2


def test_what_is_in_a_box_fits_into_it(sketch):
    for text, box in framed(sketch[0]).items():
        inner, outer = text.get_window_extent(), box.get_window_extent()
        assert inner.x0 > outer.x0 and inner.x1 < outer.x1 and inner.y0 > outer.y0 and inner.y1 < outer.y1, text


def measured_sizes(model) -> dict[str, list[str]]:
    """What leaves the parts of a network, recorded by hooks, in the order in which they run."""
    unet, side, recorded = model.model, model.config.sample_size, {}

    def record(name, module):
        def hook(module, args, out):
            size = (out[0] if isinstance(out, tuple) else out).shape[1:]
            recorded.setdefault(name, []).append(" x ".join(map(str, size)))

        module.register_forward_hook(hook)

    unet.conv_in.register_forward_pre_hook(
        lambda module, args: recorded.update(into=" x ".join(map(str, args[0].shape[1:])))
    )
    for arm, blocks in (("down", unet.down_blocks), ("up", unet.up_blocks)):
        for block in blocks:
            record(arm, block.resnets[-1])
            record(f"{arm} handed on", block)
    record("middle", unet.mid_block)
    record("out", unet.conv_out)
    with torch.no_grad():
        model(torch.zeros(1, 1, side, side), 0, [0])
    return recorded


def lines_with(figure, word: str, is_left: bool | None = None) -> list[list[str]]:
    """The texts of one half, or of both, that have a word in them, line by line, from the top to the bottom."""
    half = figure.axes[0].get_xlim()[1] / 2
    found = [text for text in figure.axes[0].texts if word in text.get_text()]
    found = [text for text in found if is_left is None or (text.get_position()[0] < half) == is_left]
    found = [text for text in found if word == "middle" or "middle" not in text.get_text()]
    return [text.get_text().split("\n") for text in sorted(found, key=lambda text: -text.get_position()[1])]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_u_shows_the_sizes_that_the_network_has(name):
    model = NETWORKS[name]()
    figure, sizes = sketches.unet_diagram(model), measured_sizes(model)
    assert [lines[1] for lines in lines_with(figure, "residual block", True)] == sizes["down"]
    assert [lines[1] for lines in lines_with(figure, "residual block", False)] == sizes["up"][::-1]
    assert [lines[0] for lines in lines_with(figure, "halved")] == [
        f"halved: {s}" for s in sizes["down handed on"][:-1]
    ]
    doubled = [f"doubled: {size}" for size in sizes["up handed on"][:-1]]
    assert [lines[0] for lines in lines_with(figure, "doubled")] == doubled[::-1]
    assert lines_with(figure, "middle") == [["middle, 2 residual blocks", *sizes["middle"], "with attention"]]
    assert lines_with(figure, "in all") == [[f"in all: {sizes['into']}"]]
    assert lines_with(figure, "prediction") == [["prediction", *sizes["out"]]]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_u_shows_blocks_attention_and_skip_connections_that_the_network_has(name):
    unet = (model := NETWORKS[name]()).model
    figure = sketches.unet_diagram(model)
    arms = {True: unet.down_blocks, False: [*unet.up_blocks][::-1]}
    for is_left, blocks in arms.items():
        for lines, block in zip(lines_with(figure, "residual block", is_left), blocks, strict=True):
            assert int(lines[0].split()[0]) == len(block.resnets)
            assert ("with attention" in lines) == hasattr(block, "attentions")
    assert len(unet.mid_block.resnets) == 2 and unet.mid_block.attentions[0] is not None
    skips = [lines[0].split()[0] for lines in lines_with(figure, "skip connection")]
    assert skips == [str(len(block.resnets)) for block in unet.up_blocks]  # each takes one of them
    times = [line for line in figure.axes[0].lines if line.get_marker() == "$t$"]
    assert len(times) == len(unet.down_blocks) + len(unet.up_blocks) + 2  # the middle, and where it comes from


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_the_u_opens_the_door_that_the_network_uses(conditioning):
    figure = sketches.unet_diagram(ClassConditionedUnet.small(conditioning=conditioning))
    FigureCanvasAgg(figure).draw()
    doors = {text.get_text(): box for text, box in framed(figure).items() if "door" in text.get_text()}
    assert len(doors) == 3
    for name, (text, box) in zip(CONDITIONINGS, doors.items()):
        assert f'"{name}"' in text and ("used by this network" in text) == (name == conditioning)
        assert (box.get_edgecolor() == to_rgba(ORANGE)) == (name == conditioning)


@pytest.fixture
def arrows(monkeypatch):
    """The arrows that are drawn from now on: (start, end)."""
    drawn, draw = [], sketches.arrow

    def record(axes, start, end, *args, **options):
        drawn.append((np.array(start), np.array(end)))
        draw(axes, start, end, *args, **options)

    monkeypatch.setattr(sketches, "arrow", record)
    return drawn


def test_the_velocity_is_perpendicular_to_the_noisy_picture_and_as_long(arrows):
    sketches.velocity_circle()
    radii = {tuple(end.round(6)) for start, end in arrows if not start.any()}
    velocities = [(start, end - start) for start, end in arrows if start.any()]
    assert {tuple(start.round(6)) for start, _ in velocities} == radii and len(radii) == 3
    for x, v in velocities:
        assert abs(x @ v) < 1e-9 and math.isclose(np.linalg.norm(v), 1) and math.isclose(np.linalg.norm(x), 1)
        phi = math.atan2(x[1], x[0])
        assert np.allclose(v, math.cos(phi) * np.array([0, 1]) - math.sin(phi) * np.array([1, 0]))


def test_guidance_goes_on_along_the_line_from_no_class_to_the_class(arrows):
    sketches.guidance_arrows()
    (start, no_class), (_, the_class), (_, twice), (_, four_times) = arrows
    assert all(np.array_equal(begin, start) for begin, _ in arrows)
    assert np.allclose(twice, no_class + 2 * (the_class - no_class))
    assert np.allclose(four_times, no_class + 4 * (the_class - no_class))


def test_a_ddim_step_stays_on_the_straight_line_to_the_predicted_picture(arrows):
    sketches.sampling_step()
    (here, guess), (begin, following), (_, same_guess), (_, mean), (mean_again, noisy) = arrows
    share = (following - here) / (guess - here)
    assert np.array_equal(here, begin) and math.isclose(*share) and 0 < share[0] < 1
    further = (mean - here) / (same_guess - here)
    assert math.isclose(*further) and further[0] > share[0]
    assert np.array_equal(mean, mean_again) and 0 < np.linalg.norm(noisy - mean) < np.linalg.norm(mean - here)


def test_frechet_distances_are_those_of_the_clouds_that_are_drawn():
    distances = []
    for axes in sketches.frechet_clouds().axes:
        real, drawn = (np.stack(line.get_data(), 1).astype(float) for line in axes.lines if len(line.get_xdata()) > 500)
        covariances = np.cov(real.T), np.cov(drawn.T)
        mixed = sqrtm(covariances[0] @ covariances[1]).real
        distances.append(
            np.square(real.mean(0) - drawn.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * mixed)
        )
        assert axes.get_xlabel() == f"distance {distances[-1]:.2f}"
    assert distances[0] < 0.05 < 0.3 < distances[2] < distances[1]
    assert len({(*axes.get_xlim(), *axes.get_ylim()) for axes in sketches.frechet_clouds().axes}) == 1


def test_frechet_ellipses_hold_the_points_within_two_standard_deviations():
    axes = sketches.frechet_clouds().axes[0]
    points, ellipse = (np.stack(line.get_data(), 1) for line in axes.lines[:2])
    root = np.linalg.inv(np.linalg.cholesky(np.cov(points.T)))
    assert np.allclose(np.linalg.norm((ellipse - points.mean(0)) @ root.T, axis=1), 2, atol=1e-3)


def test_a_flat_channel_is_lost_in_a_group_of_its_own_only():
    figure = sketches.flat_channel_through_group_norm()
    flat, noisy = ([axes.images[0].get_array().data for axes in figure.axes[i::2]] for i in (0, 1))
    assert [axes.texts[0].get_text() for axes in figure.axes[::2]] == [f"{part.mean():.2f}".strip("-") for part in flat]
    assert all(part.std() < 1e-5 for part in flat)
    assert math.isclose(flat[0].mean(), 0.3, abs_tol=1e-6) and abs(flat[1]).max() < 1e-4
    both = np.concatenate((flat[0], noisy[0]))
    assert np.allclose(flat[2], (flat[0] - both.mean()) / both.std(), atol=1e-3)
    assert math.isclose(noisy[1].mean(), 0, abs_tol=1e-5) and math.isclose(noisy[1].std(), 1, abs_tol=1e-3)


def test_sketches_are_the_same_each_time_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    for make in (sketches.frechet_clouds, sketches.flat_channel_through_group_norm):
        assert make().png() == make().png()
    assert torch.equal(torch.get_rng_state(), state)
