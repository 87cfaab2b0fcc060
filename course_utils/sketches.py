"""Drawings of ideas: the U, one sampling step, the velocity, guidance, the Frechet distance."""

import math

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from course_utils.classifier import mean_and_covariance
from course_utils.data import load_sample, scale_to_model
from course_utils.evaluation import frechet_distance, matrix_square_root
from course_utils.model import CONDITIONINGS
from course_utils.plotting import BLUE, GREEN, ORANGE, new_figure

PALE, PALE_TEXT = "#c0c0c0", "#6e6e6e"  # for what is not in use; the text can still be read on white
LIGHT_BLUE, LIGHT_GREEN, LIGHT_ORANGE = "#e5f1f8", "#d5efe6", "#fbe3d4"
# The U's measures, in inches: a block, a door, the distance of two levels, how much nearer to the middle each level is.
BLOCK_SIZE, DOOR_SIZE, LEVEL_HEIGHT, INSET, UNET_WIDTH = (1.75, 0.76), (2.15, 0.95), 1.16, 0.16, 6.4


def canvas(figure: Figure, xlim, ylim, title: str, place=(1, 1, 1)):
    """A part of a figure to draw on, without axes to be seen: a unit to the right is as long as a unit upwards."""
    axes = figure.add_subplot(*place)
    axes.set(xlim=xlim, ylim=ylim, aspect="equal", xticks=[], yticks=[], title=title)
    axes.axis("off")
    return axes


def arrow(axes, start, end, color="black", width: float = 1.5, bend: str = "arc3", **style):
    """An arrow between two points; `bend` is a connection style of matplotlib."""
    style = dict(arrowstyle="-|>", mutation_scale=9 + 2 * width, shrinkA=0, shrinkB=0) | style
    axes.add_patch(FancyArrowPatch(start, end, color=color, linewidth=width, connectionstyle=bend, **style))


def dot(axes, point, color="black"):
    """A point that something is said about."""
    axes.plot(*point, "o", color=color, markersize=8, zorder=4)


def along(start, end, share: float) -> tuple[float, float]:
    """The point at a share of the way from one point to another; beyond 1 it lies behind the other."""
    return tuple(a + share * (b - a) for a, b in zip(start, end))


# The U


def unet_diagram(model) -> Figure:
    """The U of a `ClassConditionedUnet`: its blocks with their sizes, and where timestep and label enter.

    A block shows the size at which it works, the arrow behind it the size that it hands on. The door by which this
    network is told the class is filled; those of the other conditionings are pale.
    """
    config = model.config
    levels = [
        (channels, config.sample_size // 2**i, i in config.attention_levels)
        for i, channels in enumerate(config.block_out_channels)
    ]
    heights = [2.8 + LEVEL_HEIGHT * i for i in reversed(range(len(levels)))]
    outside = heights[0] + 1.08  # where picture and prediction are
    width, height = UNET_WIDTH, outside + 1.7
    figure = new_figure(width, height + 0.35)
    axes = canvas(figure, (0, width), (0, height), "The U: from a noisy picture to a prediction")
    draw_ends(axes, config, outside, heights[0])
    draw_arm(axes, levels, heights, config.layers_per_block, is_way_down=True)
    draw_middle(axes, levels[-1], heights[-1])
    draw_arm(axes, levels, heights, config.layers_per_block + 1, is_way_down=False)
    draw_skip_connections(axes, heights, several(config.layers_per_block + 1, "skip connection"))
    draw_time(axes)
    draw_doors(axes, config, outside)
    return figure


def several(number: int, thing: str) -> str:
    """Such as "1 residual block" or "2 residual blocks"."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def size_label(channels: int, side: int) -> str:
    """Such as "32 x 28 x 28": channels, height, width."""
    return f"{channels} x {side} x {side}"


def inner_edge(level: int) -> float:
    """How far from the left the blocks of a level's way down end: each level is a step nearer to the middle."""
    return 0.12 + INSET * level + BLOCK_SIZE[0]


def box(axes, center, size, text: str, edge="black", face="white", color="black"):
    """A box with text in its middle."""
    (x, y), (width, height) = center, size
    corner, style = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(corner, width, height, style, edgecolor=edge, facecolor=face, linewidth=1.3))
    axes.text(x, y, text, ha="center", va="center", color=color, linespacing=1.15)


def time_mark(axes, point):
    """The mark of the places where the time embedding enters; a marker and no text, so that it is not read out."""
    axes.plot(*point, "o", color="black", markersize=14, zorder=4, clip_on=False)
    axes.plot(*point, marker="$t$", color="white", markersize=7, zorder=5, linestyle="", clip_on=False)


def draw_block(axes, center, name: str, channels: int, side: int, has_attention: bool, size=BLOCK_SIZE):
    """One level of one arm, or the middle."""
    lines = [name, size_label(channels, side), *["with attention"] * has_attention]
    edge, face = (GREEN, LIGHT_GREEN) if has_attention else (BLUE, LIGHT_BLUE)
    box(axes, center, size, "\n".join(lines), edge, face)


def draw_arm(axes, levels, heights, residual_blocks: int, is_way_down: bool):
    """The blocks of the way down, on the left, or of the way up, on the right."""
    order = range(len(levels)) if is_way_down else reversed(range(len(levels)))
    for i in order:
        x = inner_edge(i) - BLOCK_SIZE[0] / 2
        draw_block(axes, (on_side(x, is_way_down), heights[i]), several(residual_blocks, "residual block"), *levels[i])
        time_mark(axes, (on_side(x - BLOCK_SIZE[0] / 2, is_way_down), heights[i] + BLOCK_SIZE[1] / 2))
        if i > 0:
            draw_change_of_size(axes, levels[i - 1 : i + 1], on_side(x, is_way_down), heights[i], is_way_down)


def draw_change_of_size(axes, levels, x: float, height: float, is_way_down: bool):
    """The arrow between the block of a level and the one above it, and the size that is handed on."""
    (above, large, _), (below, small, _) = levels
    low, high = height + BLOCK_SIZE[1] / 2, height + LEVEL_HEIGHT - BLOCK_SIZE[1] / 2
    middle = (low + high) / 2
    if is_way_down:
        arrow(axes, (x, high), (x, low))
        axes.text(x + 0.1, middle, f"halved: {size_label(above, small)}", ha="left", va="center")
    else:
        arrow(axes, (x, low), (x, high))
        axes.text(x - 0.1, middle, f"doubled: {size_label(below, large)}", ha="right", va="center")


def on_side(x: float, is_left: bool) -> float:
    """A distance from the left, mirrored for the right arm."""
    return x if is_left else UNET_WIDTH - x


def draw_middle(axes, deepest, height: float):
    """The bottom of the U, which always has attention."""
    center, size, bottom = (UNET_WIDTH / 2, 1.7), (2.05, BLOCK_SIZE[1]), height - BLOCK_SIZE[1] / 2
    channels, side, _ = deepest
    draw_block(axes, center, "middle, 2 residual blocks", channels, side, has_attention=True, size=size)
    left, right = (center[0] + sign * size[0] / 2 for sign in (-1, 1))
    arrow(axes, (left - 0.8, bottom), (left, center[1]), bend="angle,angleA=-90,angleB=180,rad=8")
    arrow(axes, (right, center[1]), (right + 0.8, bottom), bend="angle,angleA=0,angleB=-90,rad=8")
    time_mark(axes, (left, center[1] + size[1] / 2))


def draw_skip_connections(axes, heights, name: str):
    """What the way down hands straight over to the way up, level by level."""
    for i, height in enumerate(heights):
        arrow(axes, (inner_edge(i), height), (UNET_WIDTH - inner_edge(i), height), BLUE, 2)
        axes.text(UNET_WIDTH / 2, height + 0.08, name, ha="center", va="bottom", color=BLUE)


def draw_ends(axes, config, outside: float, top_level: float):
    """What goes in, and what comes out."""
    x, size, picture = inner_edge(0) - BLOCK_SIZE[0] / 2, (BLOCK_SIZE[0], 0.54), size_label(1, config.sample_size)
    more = {"embedding": config.class_emb_size, "one_hot": config.num_classes}.get(config.conditioning, 0)
    low, high = top_level + BLOCK_SIZE[1] / 2, outside - size[1] / 2
    box(axes, (x, outside), size, f"noisy picture\n{picture}")
    arrow(axes, (x, high), (x, low))
    axes.text(x + 0.1, (low + high) / 2, f"in all: {size_label(1 + more, config.sample_size)}", va="center")
    box(axes, (UNET_WIDTH - x, outside), size, f"prediction\n{picture}")
    arrow(axes, (UNET_WIDTH - x, low), (UNET_WIDTH - x, high))
    sizes = "all sizes:\nchannels x\nheight x width"
    axes.text(UNET_WIDTH - x, outside + 1.1, sizes, ha="center", va="center", color=PALE_TEXT)


def draw_time(axes):
    """The timestep's way into every block."""
    center, size, start = (3.42, 0.52), (1.75, 0.54), (5.15, 0.52)
    box(axes, center, size, "time embedding,\ninto every block")
    time_mark(axes, (center[0] - size[0] / 2, center[1] + size[1] / 2))
    box(axes, (start[0] + 0.55, start[1]), (1.1, size[1]), "timestep t")
    arrow(axes, start, (center[0] + size[0] / 2, center[1]))


def draw_doors(axes, config, outside: float):
    """The three ways in for the label; the one in use is filled and says so."""
    top, half, more = outside + 1.1, DOOR_SIZE[1] / 2, "more channel"
    around = "angle,angleA=-90,angleB=0,rad=8"
    ways = {
        "embedding": (
            f"{several(config.class_emb_size, 'learned number')},\n{several(config.class_emb_size, more)}",
            (1.1, top),
        ),
        "one_hot": (f"{several(config.num_classes, more)},\none of them all ones", (3.42, top)),
        "time": ("a learned vector, added\nto the time embedding", (1.1, 0.52)),
    }
    ends = (
        ((1.0, top - half), (1.0, outside + 0.27), "arc3"),
        ((3.42, top - half), (inner_edge(0), outside), around),
        ((1.1 + DOOR_SIZE[0] / 2, 0.52), (2.54, 0.52), "arc3"),
    )
    for number, (name, (start, end, bend)) in enumerate(zip(CONDITIONINGS, ends), 1):
        is_open = name == config.conditioning
        text = f'label, door {number}: "{name}"\n{ways[name][0]}' + ("\n(used by this network)" if is_open else "")
        colors = (ORANGE, LIGHT_ORANGE, "black") if is_open else (PALE, "white", PALE_TEXT)
        box(axes, ways[name][1], DOOR_SIZE, text, *colors)
        arrow(axes, start, end, colors[0], 3 if is_open else 1.5, bend)


# Sampling


def sampling_step() -> Figure:
    """One step from x_t to x_(t-1), by DDIM and by DDPM: a sketch, in which pictures are points of the plane."""
    figure = new_figure(5.5, 6.2)
    figure.suptitle("One sampling step", fontsize=14)
    titles = ("DDIM: a part of the way, straight on", "DDPM: farther on, then a little fresh noise")
    for place, title in enumerate(titles, 1):
        axes = canvas(figure, (-0.2, 5.8), (-0.2, 2.9), title, (2, 1, place))
        here, guess = draw_path(axes)
        arrow(axes, here, guess, BLUE, 1.5, linestyle=(0, (4, 3)))
        for point, color in ((here, "black"), (guess, BLUE)):
            dot(axes, point, color)
        axes.text(here[0], here[1] + 0.18, "xₜ", ha="center", fontsize=14)
        axes.text(guess[0] - 0.5, guess[1] + 0.22, "predicted x₀:\nwhat the\nnetwork believes", color=BLUE, fontsize=11)
        draw_step(axes, here, guess, has_fresh_noise=place == 2)
    return figure


def draw_path(axes, share: float = 0.3):
    """A curve of many steps from noise to a picture, and on it x_t, with the picture that its tangent points to."""
    noise, control, picture = (0.0, 2.3), (1.9, 2.3), (5.2, 0.0)
    shares = torch.linspace(0, 1, 11).tolist()
    curve = [along(along(noise, control, s), along(control, picture, s), s) for s in shares]
    axes.plot(*zip(*curve), "o-", color=PALE, markersize=4, zorder=1)
    axes.text(noise[0], noise[1] + 0.2, "noise (t = 999)", color=PALE_TEXT)
    axes.text(picture[0] - 0.25, picture[1] - 0.08, "picture (t = 0)", ha="right", color=PALE_TEXT)
    axes.text(2.45, 0.95, "the way in many steps", ha="right", color=PALE_TEXT)
    here = curve[shares.index(min(shares, key=lambda s: abs(s - share)))]
    return here, along(here, along(control, picture, share), 2.2)


def draw_step(axes, here, guess, has_fresh_noise: bool):
    """The step to x_(t-1): a part of the way to the guess and, for DDPM, noise that is drawn anew."""
    following = along(here, guess, 0.52 if has_fresh_noise else 0.36)
    arrow(axes, here, following, ORANGE, 3)
    if has_fresh_noise:
        mean, following = following, (following[0] + 0.22, following[1] + 0.5)
        axes.add_patch(Circle(mean, math.dist(mean, following), color=LIGHT_GREEN, zorder=0))
        arrow(axes, mean, following, GREEN, 3)
        axes.text(mean[0] - 0.25, mean[1] - 0.85, "fresh noise", ha="center", fontsize=11)
    dot(axes, following, ORANGE)
    axes.text(following[0] + 0.05, following[1] + 0.18, "xₜ₋₁", ha="center", fontsize=14)


def velocity_circle() -> Figure:
    """The way from a picture to noise, a quarter of a circle, and the velocity, the direction along it.

    One unit is a whole picture, or noise of strength 1; all arrows are true to scale.
    """
    figure = new_figure(5.8, 4.2)
    axes = canvas(figure, (-1.15, 1.7), (-0.3, 1.55), "The velocity points along the circle")
    angles = torch.linspace(0, math.pi / 2, 91).tolist()
    axes.plot(*zip(*map(on_circle, angles)), color=BLUE, linewidth=2)
    for phi, color in ((angles[0], PALE), (angles[-1], PALE), (angles[45], ORANGE)):
        arrow(axes, on_circle(phi), velocity_end(phi), color, 3)
    for phi in angles[::15]:
        dot(axes, on_circle(phi), BLUE)
    for phi, color in ((angles[0], PALE_TEXT), (angles[-1], PALE_TEXT), (angles[45], "black")):
        arrow(axes, (0, 0), on_circle(phi), color, shrinkB=4)
    axes.plot(*[[0.25 * value for value in values] for values in zip(*map(on_circle, angles[:46]))], color="black")
    name_velocity(axes)
    return figure


def on_circle(phi: float) -> tuple[float, float]:
    """x_t as a point: how much of the picture, how much of the noise."""
    return math.cos(phi), math.sin(phi)


def velocity_end(phi: float) -> tuple[float, float]:
    """Where v = cos(phi) eps - sin(phi) x_0 ends that begins at x_t."""
    return math.cos(phi) - math.sin(phi), math.sin(phi) + math.cos(phi)


def name_velocity(axes):
    """What is written into the drawing of the velocity."""
    formulas = "xₜ = cos φ · x₀ + sin φ · ε\n\ncos φ = √ᾱₜ\nsin φ = √(1 − ᾱₜ)"
    axes.text(1, -0.07, "picture x₀\n(φ = 0°, t = 0)", ha="center", va="top")
    axes.text(-0.07, 0.94, "noise ε\n(φ = 90°, t = 999)", ha="right", va="top")
    axes.text(0.77, 0.7, "xₜ", fontsize=14)
    axes.text(0.27, 0.09, "φ", fontsize=13)
    axes.text(-1.12, 0.03, formulas, va="bottom", fontsize=11)
    axes.text(0.43, 1.2, "velocity\nv = cos φ · ε − sin φ · x₀", fontsize=11)
    axes.text(1.06, 0.72, "v = ε:\nthe noise")
    axes.text(-0.55, 1.06, "v = −x₀: the picture", ha="center")


def guidance_arrows() -> Figure:
    """The two answers of the network, and the straight line through them on which guidance goes on."""
    figure = new_figure(5.3, 4.2)
    axes = canvas(figure, (0, 5.3), (0, 3.9), "Guidance goes on along a straight line")
    start, no_class, the_class = (0.35, 0.8), (3.35, 0.75), (3.1, 1.4)
    names = {
        0: "s = 0: v(no class)",
        1: "s = 1: v(the class),\nguidance is off",
        2: "s = 2: beyond the class",
        4: "s = 4: far beyond it",
    }
    colors = {0: PALE_TEXT, 1: BLUE, 2: ORANGE, 4: ORANGE}
    axes.plot(*zip(along(no_class, the_class, -0.4), along(no_class, the_class, 4.5)), "--", color=PALE, zorder=1)
    for scale, name in names.items():
        end = along(no_class, the_class, scale)
        arrow(axes, start, end, colors[scale], 2.5, shrinkB=4)
        dot(axes, end, colors[scale])
        axes.text(end[0] + 0.2, end[1], name, va="center")
    dot(axes, start)
    axes.text(start[0], start[1] - 0.2, "xₜ", ha="center", va="top", fontsize=14)
    formula = "v = v(no class) + s · ( v(the class) − v(no class) )"
    axes.text(2.75, 0.08, formula, ha="center", va="bottom", fontsize=11)
    return figure


# Measured


def frechet_clouds() -> Figure:
    """The (squared) Frechet distance of three pairs of clouds, each computed from the points that are shown."""
    generator = torch.Generator().manual_seed(0)
    spread, mean = torch.tensor([[1.0, 0.0], [0.5, 0.7]]), torch.zeros(2)
    cases = (
        ("same mean,\nsame spread", mean, spread),
        ("other mean:\nother shapes", torch.tensor([1.8, -1.6]), spread),
        ("smaller spread:\nall digits alike", mean, 0.4 * spread),
    )
    figure = new_figure(6.4, 3.5)
    figure.suptitle("Frechet distance: how far apart two clouds are", fontsize=13)
    for place, (name, its_mean, its_spread) in enumerate(cases, 1):
        axes = figure.add_subplot(1, 3, place)
        axes.set(xlim=(-3.9, 4.5), ylim=(-4.5, 3.9), aspect="equal", xticks=[], yticks=[])
        axes.set_title(name, fontsize=11)
        real, drawn = torch.randn(2, 1000, 2, generator=generator)
        clouds = {"real": real @ spread.T, "drawn": its_mean + drawn @ its_spread.T}
        distance = frechet_distance(*(part for cloud in clouds.values() for part in mean_and_covariance(cloud)))
        axes.set_xlabel(f"distance {distance:.2f}", fontsize=12)
        for (its_name, cloud), color, marker in zip(clouds.items(), (BLUE, ORANGE), "o^"):
            draw_cloud(axes, cloud, color, marker, its_name)
    figure.axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)
    return figure


def draw_cloud(axes, points: torch.Tensor, color, marker: str, name: str):
    """Points (N, 2), their mean, and the ellipse of their covariance at two standard deviations."""
    mean, covariance = mean_and_covariance(points)
    angles = torch.linspace(0, 2 * math.pi, 100, dtype=torch.float64)
    ellipse = mean + 2 * torch.stack((angles.cos(), angles.sin()), dim=1) @ matrix_square_root(covariance)
    axes.plot(*points.T, marker, color=color, alpha=0.2, markersize=3, markeredgewidth=0)
    axes.plot(*ellipse.T, color=color, linewidth=2)
    axes.plot(*mean, marker, color=color, markersize=9, markeredgecolor="white", label=name)


def flat_channel_through_group_norm() -> Figure:
    """A flat class channel and a noisy picture's channel, before and after `GroupNorm`: computed, not sketched.

    With a group for each channel the flat one becomes 0, whatever the label was; in a group of two it differs from
    its neighbour, and that remains.
    """
    generator = torch.Generator().manual_seed(0)
    digit = scale_to_model(load_sample("mnist").images[3])  # (1, 28, 28)
    noisy = 0.8 * digit + 0.6 * torch.randn(digit.shape, generator=generator)
    channels = torch.cat((torch.full_like(digit, 0.3), noisy))[None]  # (1, 2, 28, 28)
    columns = {"before": channels}
    with torch.no_grad():
        columns["GroupNorm, one\nchannel per group"] = torch.nn.GroupNorm(2, 2)(channels)
        columns["GroupNorm, two\nchannels per group"] = torch.nn.GroupNorm(1, 2)(channels)
    remarks = ("flat class channel", "the label is lost", "the label remains")
    figure = new_figure(5.6, 4.4)
    figure.suptitle("A flat channel on its way through GroupNorm", fontsize=13)
    for place, (name, (flat, picture)) in enumerate(zip(columns, (both[0] for both in columns.values())), 1):
        axes, value = figure.add_subplot(2, 3, place), f"{round(flat.mean().item(), 2) + 0.0:.2f}"
        axes.set_title(name, fontsize=11)
        show_values(axes, flat, "PuOr", f"{remarks[place - 1]}: {value}")
        axes.text(13.5, 13.5, value, ha="center", va="center", fontsize=14)
        show_values(figure.add_subplot(2, 3, 3 + place), picture, "Greys", "noisy picture")
    return figure


def show_values(axes, channel: torch.Tensor, colors: str, name: str):
    """A channel (28, 28) as a small picture: 0 is the middle of its colours, and -2 and 2 are their ends."""
    axes.imshow(channel.numpy(), cmap=colors, vmin=-2, vmax=2, interpolation="nearest")
    axes.set(xticks=[], yticks=[], xlabel=name)
