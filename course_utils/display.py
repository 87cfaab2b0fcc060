"""What a notebook shows beside figures: source code, text and tables."""

import inspect
import sys
import textwrap

from IPython import get_ipython
from IPython.display import Markdown, display


def show_source(thing) -> Markdown:
    """The source of a function, method or class, from the module that runs, so that it can never be out of date."""
    source = textwrap.dedent(inspect.getsource(thing))
    return Markdown(f"From `{thing.__module__}`:\n```python\n{source}```")


def show_text(text: str):
    """Show Markdown: rendered in a notebook, as it is elsewhere, with `?` for what the terminal cannot show."""
    if get_ipython() is None:
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding))
    else:
        display(Markdown(text.encode("utf-8", "replace").decode("utf-8")))


def table(rows: list[dict]) -> Markdown:
    """Rows with the same keys as a table; numbers are shown with three significant digits.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("a table needs at least one row.")
    lines = [list(rows[0]), ["---"] * len(rows[0])] + [[in_words(value) for value in row.values()] for row in rows]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def mean_and_range(values: list[float], form: str) -> str:
    """The mean, and from where to where the values go, such as "0.21 (0.18 to 0.24)".

    Args:
        form: how a number is written, such as ".2f" or ".0%".
    """
    mean, low, high = (format(value, form) for value in (sum(values) / len(values), min(values), max(values)))
    return f"{mean} ({low} to {high})"


def in_words(value) -> str:
    """A cell's text."""
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else " ".join(str(value).split("\n")).replace("|", "\\|")
