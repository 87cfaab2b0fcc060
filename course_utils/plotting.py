"""Figures: grids of pictures, losses, the way from noise to picture, confusion."""

import io
import textwrap
from itertools import accumulate, cycle

import torch
import torch.nn.functional as F
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter

from course_utils.data import check_image_dataset
from course_utils.pictures import on_paper, tiled
from course_utils.validation import check_whole_number

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # from Okabe and Ito's palette, distinct for colour-blind eyes
TITLES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
MOST_COLUMNS = 26  # more classes side by side could not be seen
MOST_CHANNELS = 25
LONGEST_NAME = 20  # characters of a class's name in a figure
# Fonts for scripts that matplotlib's own font lacks, on Linux, Windows and macOS; a figure takes those that are there.
OTHER_SCRIPTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Arial Unicode MS",
)


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself, without pyplot, which is not safe in a widget's thread."""

    def png(self) -> bytes:
        """The figure as a PNG file."""
        buffer = io.BytesIO()
        FigureCanvasAgg(self)
        use_fonts_for_every_script(self)
        self.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.1)
        return buffer.getvalue()

    def _repr_png_(self) -> tuple[bytes, dict]:
        return self.png(), {"alt": figure_in_words(self)}  # what nbconvert and nbviewer give those who cannot see it


def use_fonts_for_every_script(figure: Figure):
    """Let what is not plain English be written in whatever fonts this machine has for it."""
    foreign = [text for text in figure.findobj(Text) if not text.get_text().isascii()]
    if foreign:
        installed = set(font_manager.get_font_names())
        for text in foreign:
            text.set_fontfamily(["sans-serif", *(font for font in OTHER_SCRIPTS if font in installed)])


def name_label(name, longest: int = LONGEST_NAME) -> str:
    """A class's name for a figure: each line not too long, nothing that cannot be printed, and no mathematics."""
    lines = ["".join(c if c.isprintable() else " " for c in line).strip() for line in str(name).split("\n")]
    lines = [line if len(line) <= longest else line[: longest - 1] + "…" for line in lines]
    return "\n".join(lines).replace("$", r"\$")  # between two dollars matplotlib expects a formula


def one_line(name, longest: int = LONGEST_NAME) -> str:
    """A class's name on one line, for a figure."""
    return name_label(" ".join(str(name).split()), longest)


def figure_in_words(figure: Figure) -> str:
    """What a figure shows, from its titles and labels."""
    parts = [figure.get_suptitle()]
    for axes in figure.axes:
        parts += [axes.get_title(), axes_in_words(axes)]
    return ". ".join(part for part in parts if part).replace(r"\$", "$")


def axes_in_words(axes) -> str:
    """What one part of a figure shows: labels, names of lines or of rows and columns, and what is written in it."""
    legend, texts = axes.get_legend(), [text.get_text() for text in axes.texts]
    parts = [f"{axes.get_ylabel()} against {axes.get_xlabel()}" if axes.get_ylabel() else axes.get_xlabel()]
    parts += [", ".join(text.get_text() for text in legend.get_texts()) if legend else ""]
    if axes.images:
        for name, labels in (("columns", axes.get_xticklabels()), ("rows", axes.get_yticklabels())):
            names = " ".join(label.get_text().replace("\n", " ") for label in labels)
            parts.append(f"{name} {names}" if names else "")
    elif texts:
        parts.append(", ".join(texts))
    return ": ".join(part for part in parts if part)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, with a white ground of its own so that dark themes do not swallow its text."""
    return NotebookFigure(figsize=(width, height), layout="constrained", facecolor="white")


def show_pictures(axes, pictures: torch.Tensor, columns: int):
    """Tile square pictures (N, 1, H, H) in [0, 1] on one axes, as dark ink on white paper."""
    axes.imshow(on_paper(tiled(pictures, columns)).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def image_grid(pictures: torch.Tensor, columns: int, column_names=None, row_names=None, title: str = "") -> Figure:
    """A grid of pictures.

    Args:
        pictures: (N, 1, 28, 28) in [0, 1], row after row.
        columns: pictures a row.
        column_names, row_names: labels of the columns (at the top) and rows.
        title: above it all.
    """
    rows, side = -(-len(pictures) // columns), pictures.shape[-1]
    cell = min(0.75, 8.5 / columns)  # inches
    names, above = name_style(column_names, cell)
    row_names = None if row_names is None else [name_label(name) for name in row_names]
    beside = 0.1 if row_names is None else max(0.9, 0.1 * longest_line(row_names))
    figure = new_figure(cell * columns + beside, cell * rows + above + (0.35 if title else 0))
    axes = figure.add_subplot()
    show_pictures(axes, pictures, columns)
    if column_names is not None:
        axes.set_xticks([side * (i + 0.5) for i in range(columns)], **names)
        axes.xaxis.tick_top()
    if row_names is not None:
        axes.set_yticks([side * (i + 0.5) for i in range(rows)], row_names, fontsize=12)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title)
    return figure


def name_style(column_names, cell: float) -> tuple[dict, float]:
    """How the names of columns of a width in inches are written, and the height in inches that they take.

    A name that is too wide for its column is written smaller, and if it were too small then, upwards.
    """
    if column_names is None:
        return {}, 0.1
    labels = [name_label(name) for name in column_names]
    inches = 0.095 * longest_line(labels)  # of the widest line at 12 points
    size = min(12, 12 * cell / max(inches, 0.1))
    if size >= 8:
        lines = 1 + max(label.count("\n") for label in labels)
        return dict(labels=labels, fontsize=size), 0.15 + 0.2 * lines
    labels = [one_line(name) for name in column_names]
    size = min(12, max(7, 60 * cell))
    return dict(labels=labels, fontsize=size, rotation=90), 0.15 + 0.008 * size * longest_line(labels)


def longest_line(names: list[str]) -> int:
    """Characters of the longest line of all names."""
    return max((len(line) for name in names for line in name.split("\n")), default=0)


def dataset_grid(dataset, rows: int = 3) -> Figure:
    """The first few images of each class, a column per class; a class that has fewer leaves paper.

    Args:
        dataset: an `ImageDataset`; of more than 26 classes the first 26 are shown.
        rows: images per class, 1 .. 100.
    """
    check_image_dataset(dataset)
    check_whole_number("rows", rows, 1, 100)
    names, count = dataset.class_names[:MOST_COLUMNS], len(dataset.class_names)
    pictures = torch.zeros(rows, len(names), *dataset.images.shape[1:])  # (rows, columns, 1, H, H)
    for label in range(len(names)):
        few = torch.nonzero(dataset.labels == label)[:rows, 0]
        pictures[: len(few), label] = dataset.images[few].float() / 255
    title = f"{TITLES.get(dataset.name, one_line(dataset.name))}{dataset.note}"
    title += f" ({len(names)} of {count} classes)" if len(names) < count else ""
    return image_grid(pictures.flatten(0, 1), len(names), short_names(names), title=title.strip())


def short_names(names) -> list[str]:
    """Names with their words on lines of their own, so that they fit above narrow columns."""
    return [
        "\n".join(textwrap.wrap(str(name), 9, max_lines=3, placeholder="…", break_on_hyphens=False)) for name in names
    ]


def loss_curve(losses: list[float], window: int = 100, title: str = "Loss", stages=()) -> Figure:
    """The loss of every step, and its running mean over the last `window` steps.

    Args:
        losses: of each step.
        window: steps.
        title: above it.
        stages: steps of each stage of the training; the mean begins anew with each.
    """
    figure = new_figure(5.5, 3.3)
    axes = figure.add_subplot()
    axes.plot(range(1, len(losses) + 1), losses, color=BLUE, alpha=0.3, linewidth=0.8, label="each step")
    lengths = [*stages, len(losses) - sum(stages)]
    label = f"mean of the last {window}"
    for first, part in zip([0, *accumulate(lengths)], torch.tensor(losses).split(lengths)):
        if len(part):
            axes.plot(
                range(first + 1, first + len(part) + 1),
                running_means(part, window),
                color=BLUE,
                linewidth=2,
                label=label,
            )
            label = None
    axes.set(xlabel="training step", ylabel="mean squared error", yscale="log", title=title)
    axes.legend(frameon=False)
    return figure


def running_means(values: torch.Tensor, window: int) -> torch.Tensor:
    """The mean of each value and those before it, of `window` at most."""
    totals = torch.cat((torch.zeros(1), values.double().cumsum(0)))
    ends = torch.arange(1, len(values) + 1)
    starts = (ends - window).clamp(min=0)
    return (totals[ends] - totals[starts]) / (ends - starts)


def timestep_losses(
    losses: dict[str, torch.Tensor], num_train_timesteps: int = 1000, title: str = "Loss by timestep"
) -> Figure:
    """Loss by band of timesteps, one line a model: `{"trained": tensor (bands,), ...}`."""
    figure = new_figure(5.5, 3.3)
    axes = figure.add_subplot()
    for (name, values), color, marker in zip(losses.items(), cycle((ORANGE, BLUE, "black")), cycle("os^")):
        width = num_train_timesteps / len(values)
        axes.plot([(i + 0.5) * width for i in range(len(values))], values, color=color, marker=marker, label=name)
    axes.set(
        xlabel="timestep t (0: hardly any noise, 999: nothing but noise)", ylabel="mean squared error of the noise"
    )
    axes.set(yscale="log", title=title)
    axes.legend(frameon=False)
    return figure


def noise_levels(noise_scheduler) -> Figure:
    """How much of the picture and how much noise there is at each timestep."""
    kept = noise_scheduler.alphas_cumprod
    figure = new_figure(5.5, 3.3)
    axes = figure.add_subplot()
    axes.plot(kept.sqrt(), color=BLUE, label="factor of the picture")
    axes.plot((1 - kept).sqrt(), color=ORANGE, linestyle="--", label="factor of the noise")
    axes.set(xlabel="timestep t", ylabel="factor", title="What x_t is made of")
    axes.legend(frameon=False)
    return figure


def denoising_strip(
    paths: torch.Tensor, steps: list[int], row_names=None, title: str = "From noise to picture"
) -> Figure:
    """The way from noise to picture, one picture a row.

    Args:
        paths: (steps, N, 1, 28, 28) in [-1, 1].
        steps: a name for each column.
        row_names: a name for each row.
    """
    pictures = paths.transpose(0, 1).flatten(0, 1)  # (N * steps, 1, 28, 28)
    return image_grid((pictures.clamp(-1, 1) + 1) / 2, len(steps), [str(step) for step in steps], row_names, title)


def confusion(counts, class_names, title: str = "") -> Figure:
    """Classes asked for (rows) against classes recognised (columns), as percent of each row."""
    share = torch.tensor(counts).float()
    share = 100 * share / share.sum(1, keepdim=True).clamp(min=1)
    names = [one_line(name) for name in class_names]
    inches = 5.2 * min(1.9, max(1, len(names) / 12))  # more classes get a larger figure, and then smaller numbers
    size = min(10, 270 / len(names))  # points
    figure = new_figure(inches + 0.3, inches)
    axes = figure.add_subplot()
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=100)
    for row, column in torch.nonzero(share.round()).tolist() if size > 4 else ():
        color = "white" if share[row, column] > 50 else "black"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=color, fontsize=size)
    rotated = 45 if longest_line(names) > 2 else 0
    places = range(0, len(names), 1 + len(names) // 60)  # of very many classes, some are named
    named = dict(labels=[names[i] for i in places], fontsize=max(size, 6))
    axes.set_xticks(places, rotation=rotated, ha="right" if rotated else "center", **named)
    axes.set_yticks(places, **named)
    axes.set(xlabel="recognised as", ylabel="asked for", title=title or "Percent of each row")
    return figure


def class_channels(channels: torch.Tensor, title: str = "") -> Figure:
    """The extra input channels of one picture: (channels, H, W), each of one value, which is written on it.

    Of more than 25 channels the first 25 are shown.
    """
    if len(channels) > MOST_CHANNELS:
        title, channels = f"{title} ({MOST_CHANNELS} of {len(channels)} channels)".strip(), channels[:MOST_CHANNELS]
    columns = min(len(channels), 5)
    rows = -(-len(channels) // columns)
    figure = new_figure(1.1 * columns, 1.35 * rows + 0.4)
    limit = max(channels.abs().max().item(), 2.0)  # the same colours for most embeddings, so that they compare
    for i, channel in enumerate(channels):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(channel.numpy(), cmap="PuOr", vmin=-limit, vmax=limit)
        axes.text(
            *((side - 1) / 2 for side in reversed(channel.shape)),
            f"{channel[0, 0]:.2f}",
            ha="center",
            va="center",
            fontsize=12,
            bbox=dict(facecolor="white", edgecolor="none"),
        )
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"channel {i + 1}", fontsize=11)
    figure.suptitle(title)
    return figure


def spread_over_seeds(
    groups: dict[str, list[float]],
    ylabel: str,
    title: str = "",
    percent: bool = False,
    lines: dict[str, float] | None = None,
) -> Figure:
    """One column per group: a dot for each seed's result, and a line at their mean.

    Args:
        groups: results by the group's name.
        percent: the results are shares of 1, to be shown in percent.
        lines: values to compare with, by name: a dashed line each, through all columns.
    """
    factor = 100 if percent else 1
    figure = new_figure(5.5, 3.3)
    axes = figure.add_subplot()
    for column, values in enumerate(groups.values()):
        heights = [factor * value for value in values]
        mean = sum(heights) / len(heights)
        axes.plot([column - 0.25, column + 0.25], [mean, mean], color=ORANGE, linewidth=2)
        axes.plot([column] * len(heights), heights, "o", color=BLUE, alpha=0.7, markersize=8)
    axes.plot([], [], "o", color=BLUE, label="one seed")
    axes.plot([], [], color=ORANGE, linewidth=2, label="mean")
    for style, (name, value) in zip(cycle(("--", ":", "-.")), (lines or {}).items()):
        axes.axhline(factor * value, color="black", linewidth=1, linestyle=style, label=name_label(name))
    names = [name_label(name) for name in groups]
    crowded = longest_line(names) * len(names) > 50  # characters that fit under the figure
    upwards = dict(rotation=45, ha="right") if crowded else {}
    axes.set_xticks(range(len(groups)), names, **upwards)
    axes.set(ylabel=ylabel, title=title)
    if percent:
        axes.set_ylim(0, 103)
    axes.legend(frameon=False)
    return figure


def embedding_map(vectors: torch.Tensor, names, title: str = "") -> Figure:
    """Where the classes' vectors lie, each marked by its name.

    Vectors of one number lie on a line, of two on a plane; of longer ones the two directions are shown in which
    they differ most (their principal components).

    Args:
        vectors: (classes, C).
    """
    vectors, labels = on_a_plane(vectors.detach().float().cpu())
    flat = not vectors[:, 1].any()
    figure = new_figure(5.5, 1.6) if flat else new_figure(5.5, 5)
    axes = figure.add_subplot()
    names = [one_line(name) for name in names]
    if longest_line(names) <= 2:
        inside = dict(ha="center", va="center", color="white", fontsize=13, fontweight="bold")
    else:
        inside = dict(xytext=(0, 7), textcoords="offset points", ha="center", va="bottom", fontsize=11)
    axes.scatter(*vectors.T, s=60 if "xytext" in inside else 420, color=BLUE)
    for point, name in zip(vectors.tolist(), names):
        axes.annotate(name, point, **inside)
    axes.margins(0.15)
    axes.set(xlabel=labels[0], ylabel=labels[1], title=title)
    if flat:
        axes.set_yticks([])
    else:
        axes.set_aspect("equal", adjustable="datalim")
    return figure


def on_a_plane(vectors: torch.Tensor) -> tuple[torch.Tensor, tuple[str, str]]:
    """Vectors (classes, C) as points (classes, 2), and what the two axes are."""
    if vectors.shape[1] <= 2:
        labels = ("the number", "") if vectors.shape[1] == 1 else ("first number", "second number")
        return F.pad(vectors, (0, 2 - vectors.shape[1])), labels
    scores, strengths, _ = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    missing = (0, max(0, 2 - len(strengths)))  # a single class has a single direction
    points, variances = F.pad((scores * strengths)[:, :2], missing), F.pad(strengths**2, missing)
    shares = 100 * variances / variances.sum().clamp(min=1e-12)
    return points, tuple(f"direction {i + 1} ({shares[i]:.0f} % of the variance)" for i in range(2))


def plain_numbers(axis):
    """1, 2, 5, 10, 20, ... along a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def cost_and_quality(rows: list[dict], pars: set[str]) -> Figure:
    """Quality against the cost of training, in two views, with the frontier; the numbers are those of the score card.

    One view is above the other, so that a phone can show them.

    Args:
        rows: in the order of their cost; "name", "flops", "class_accuracy" and "excess_distance" of each.
        pars: names of the rows that are pars.
    """
    figure = new_figure(5.5, 6.6)
    views = (
        ("class_accuracy", 100, "recognised (percent)", max),
        ("excess_distance", 1, "excess distance (0: real)", min),
    )
    for place, (key, factor, ylabel, better) in enumerate(views, 1):
        axes = figure.add_subplot(2, 1, place)
        costs, values = [row["flops"] / 1e12 for row in rows], [factor * row[key] for row in rows]
        best = [better(values[: i + 1]) for i in range(len(values))]
        axes.step(
            [*costs, max(costs) * 2], [*best, best[-1]], where="post", color="gray", linestyle="--", label="frontier"
        )
        for number, (row, cost, value) in enumerate(zip(rows, costs, values), 1):
            is_par = row["name"] in pars
            axes.plot(cost, value, "s" if is_par else "o", color=ORANGE if is_par else BLUE, markersize=16)
            axes.annotate(str(number), (cost, value), ha="center", va="center", color="white", fontweight="bold")
        axes.plot([], [], "s", color=ORANGE, label="par")
        axes.plot([], [], "o", color=BLUE, label="your run")
        axes.set(xscale="log", xlabel="training, TFLOP", ylabel=ylabel)
        plain_numbers(axes.xaxis)
        axes.margins(0.15)
        if key == "excess_distance":
            distance_axis(axes)
    axes.legend(frameon=False)
    return figure


def quality_by_steps(curves: dict[str, dict[int, dict]], title: str = "") -> Figure:
    """Quality against the number of sampling steps, one line a sampler, in two views, one above the other.

    Args:
        curves: by the sampler's name, what `evaluate` returned for each number of steps.
    """
    figure = new_figure(5.5, 6.6)
    views = (("class accuracy (percent)", "class_accuracy", 100), ("excess distance (0: real)", "excess_distance", 1))
    for place, (ylabel, key, factor) in enumerate(views, 1):
        axes = figure.add_subplot(2, 1, place)
        for (name, results), color, marker in zip(curves.items(), cycle((ORANGE, BLUE, GREEN)), cycle("os^")):
            values = [factor * scores[key] for scores in results.values()]
            axes.plot(list(results), values, color=color, marker=marker, label=name)
        steps = sorted({count for results in curves.values() for count in results})
        axes.set(xscale="log", xlabel="steps per picture", ylabel=ylabel)
        axes.minorticks_off()
        axes.set_xticks(steps, [str(count) for count in steps])
        axes.xaxis.set_minor_formatter(NullFormatter())
    distance_axis(axes)
    axes.legend(frameon=False)
    figure.suptitle(title)
    return figure


def distance_axis(axes):
    """A y axis for excess distances: in proportion up to 0.1, which includes 0 and a little less, logarithmic above."""
    axes.set_yscale("symlog", linthresh=0.1, subs=(2, 5))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.axhline(0, color="gray", linewidth=1)


def copies(pictures: torch.Tensor, train_images: torch.Tensor, check: dict, count: int = 10) -> Figure:
    """Pictures above the training images that are nearest to them, those that are nearest of all first.

    Args:
        pictures: float (N, 1, H, W) in [0, 1].
        train_images: uint8 (M, 1, H, W).
        check: what `check_for_copies` returned for them.
        count: pictures to show, at most.
    """
    order = check["distances"].argsort()[:count]
    nearest = train_images[check["positions"][order]].float() / 255
    return image_grid(torch.cat((pictures[order], nearest)), len(order), row_names=("drawn", "nearest\nin training"))


def ladder(seconds: dict[str, float], title: str = "") -> Figure:
    """How long each rung takes, from the slowest to the fastest, and how many times as fast as the first it is.

    Args:
        seconds: by the rung's name, in order.
    """
    first = next(iter(seconds.values()))
    figure = new_figure(5.5, 0.7 * len(seconds) + 0.9)
    axes = figure.add_subplot()
    colors = [ORANGE] + [BLUE] * (len(seconds) - 1)
    axes.barh(range(len(seconds)), list(seconds.values()), height=0.4, color=colors)
    left = min(seconds.values()) / 3  # bars need something to be seen of, on an axis without a zero
    for place, (name, value) in enumerate(seconds.items()):
        times = f", {first / value:,.0f} times as fast" if place else ""
        axes.text(left, place - 0.3, f"{name}: {in_time_units(value)}{times}", va="bottom")
    axes.set(xscale="log", xlabel="seconds", title=title, yticks=[])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(left, first * 2)
    axes.set_ylim(len(seconds) - 0.6, -0.8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure


def in_time_units(seconds: float) -> str:
    """Such as "3.4 h", "2.1 min", "14 s" or "98 ms"."""
    for limit, size, unit in ((3600, 3600, "h"), (120, 60, "min"), (1, 1, "s")):
        if seconds >= limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{1000 * seconds:.3g} ms"
