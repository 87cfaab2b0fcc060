"""For maintainers: execute the notebooks, and check that what is committed fits together.

    python -m tools.authoring execute [NAME ...] [--preset laptop]
    python -m tools.authoring pair [NAME ...]
    python -m tools.authoring check
    python -m tools.authoring repository [OWNER/NAME]

The `.py` file of a notebook is its source; the `.ipynb` beside it is made from it.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from jupytext.combine import map_outputs_to_inputs
from jupytext.config import load_jupytext_configuration_file
from nbclient import NotebookClient
from PIL import Image

from course_utils.settings import PRESETS
from course_utils.storage.files import written_whole
from tools import addresses
from tools.addresses import (
    ADDRESSED_FILES,
    FIRST_LINES,
    GITHUB,
    first_cell,
    origin,
    readdressed,
    repository,
    set_repository,
    with_badge,
)

NOTEBOOKS_FOLDER = addresses.REPOSITORY_ROOT / "notebooks"
LARGEST_NOTEBOOK = 1_000_000  # bytes; GitHub shows nothing of much larger ones
PICTURE = "image/png"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# What front ends note in a cell about one run of it, or about the screen. All else is somebody's, such as nbgrader's.
OF_ONE_RUN = ("execution", "ExecuteTime", "executionInfo", "outputId", "collapsed", "scrolled", "lines_to_next_cell")


def kept_metadata(cell) -> dict:
    """A cell's metadata but for what differs from run to run."""
    return {key: value for key, value in cell.metadata.items() if key not in OF_ONE_RUN}


def sources(notebook) -> list[tuple]:
    """What makes a notebook, without its outputs: (type, source, metadata) of each cell."""
    return [(cell.cell_type, cell.source, kept_metadata(cell)) for cell in notebook.cells]


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def fingerprint(parts: list) -> str:
    """A hash of texts or outputs."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fingerprints(notebook) -> dict[str, str]:
    """Of the code and of the outputs that it made: `execute` stores both, and only it."""
    return {
        "code_sha256": fingerprint([cell.source for cell in code_cells(notebook)]),
        "outputs_sha256": fingerprint([cell.outputs for cell in code_cells(notebook)]),
    }


def is_stored(notebook, name: str) -> bool:
    """Whether one of a notebook's fingerprints is as `execute` stored it."""
    return notebook.metadata.get("course", {}).get(name) == fingerprints(notebook)[name]


def is_fresh(notebook) -> bool:
    """Whether a notebook's outputs are those that `execute` wrote for the code that it holds."""
    return is_stored(notebook, "code_sha256") and is_stored(notebook, "outputs_sha256")


def execute(source: Path, preset: str):
    """Run a notebook from its `.py` file, and write the `.ipynb` beside it with its outputs."""
    notebook = read_script(source)
    take_over(notebook, read_paired(source))
    environment = os.environ | {"COURSE_PRESET": preset, "PYTHONPATH": str(addresses.REPOSITORY_ROOT)}
    # In a folder of its own beside the notebooks', so that what a learner's runs have left there does not show.
    with tempfile.TemporaryDirectory(dir=source.parent.parent, prefix=".executing-") as folder:
        place = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=place).execute(env=environment)
    normalise(notebook)
    notebook.metadata["course"] = fingerprints(notebook) | {"preset": preset}
    write_pair(notebook, source)


def pair(source: Path):
    """Write the `.ipynb` from its `.py` file without running it, as after a change of prose.

    Cells whose code is unchanged keep their outputs; `check` still tells if any code has changed since they were made.
    """
    notebook, earlier = read_script(source), read_paired(source)
    by_execute = is_stored(earlier, "outputs_sha256")
    take_over(notebook, earlier)
    made = {cell.id: cell for cell in code_cells(earlier)}
    for cell in code_cells(notebook):
        if cell.id in made and cell.source == made[cell.id].source:
            cell.outputs, cell.execution_count = made[cell.id].outputs, made[cell.id].execution_count
    normalise(notebook)
    if "course" in earlier.metadata:
        notebook.metadata["course"] = earlier.metadata["course"]
        if by_execute:
            notebook.metadata["course"]["outputs_sha256"] = fingerprints(notebook)["outputs_sha256"]
    write_pair(notebook, source)


def renew(source: Path):
    """Give a notebook and its pair the present badge and first cell, which come from pyproject.toml.

    The outputs stay, and count as fresh if they did: in this repository no first cell changes what is computed.
    """
    script = read_script(source)
    renew_opening(script, source.stem)
    write_script(script, source)
    if not source.with_suffix(".ipynb").exists():
        return
    notebook = read_paired(source)
    fresh = is_fresh(notebook)
    renew_opening(notebook, source.stem)
    if fresh:
        notebook.metadata["course"] |= fingerprints(notebook)
    write_notebook(notebook, source)


def renew_opening(notebook, name: str):
    """Put the present badge and first cell in place of earlier ones."""
    if notebook.cells[0].cell_type == "markdown":
        notebook.cells[0].source = with_badge(notebook.cells[0].source, name)
    first = code_cells(notebook)[0]
    if first.source.startswith(FIRST_LINES):
        first.source = first_cell()


def publish(name: str | None):
    """Write the repository's name, and what is made from pyproject.toml, wherever they stand.

    Raises:
        ValueError: if `name` is not OWNER/NAME, or is None and git's origin is not on GitHub.
    """
    set_repository(origin() if name is None else name)
    for path in addressed_files():
        text = readdressed(path.read_text(encoding="utf-8"))
        with written_whole(path) as file:
            file.write_text(text, encoding="utf-8")
    for source in notebook_sources():
        renew(source)


def addressed_files() -> list[Path]:
    """The files beside the notebooks that name the repository."""
    return [addresses.REPOSITORY_ROOT / name for name in ADDRESSED_FILES]


def as_script(notebook) -> str:
    """The text of a notebook's `.py` file, by the settings that Jupytext finds beside it."""
    layout = load_jupytext_configuration_file(str(NOTEBOOKS_FOLDER / "jupytext.toml"))
    return jupytext.writes(notebook, fmt="py:percent", config=layout)


def read_script(source: Path):
    """A notebook from its `.py` file, without what Jupytext notes about the file."""
    notebook = jupytext.read(source)
    notebook.metadata.pop("jupytext", None)
    for cell in notebook.cells:
        cell.metadata = kept_metadata(cell)
    return notebook


def read_paired(source: Path):
    """The notebook beside a `.py` file; an empty one if there is none."""
    path = source.with_suffix(".ipynb")
    return nbformat.read(path, as_version=4) if path.exists() else nbformat.v4.new_notebook()


def write_pair(notebook, source: Path):
    """Write both files of a notebook, each whole or not at all."""
    write_script(notebook, source)
    write_notebook(notebook, source)


def write_script(notebook, source: Path):
    """Write the `.py` file where it would change."""
    text = as_script(notebook)
    if source.read_text(encoding="utf-8") != text:
        with written_whole(source) as file:
            file.write_text(text, encoding="utf-8")


def write_notebook(notebook, source: Path):
    """Write the `.ipynb` file."""
    with written_whole(source.with_suffix(".ipynb")) as file:
        nbformat.write(notebook, file)


def take_over(notebook, earlier):
    """Give the cells of a `.py` file what only their earlier `.ipynb` holds: ids, attachments and others' metadata.

    So a new run changes only what is new, and what another tool has written there, such as nbgrader, is not lost. Tags
    are the course's own: those of the `.py` file count.
    """
    for cell, number in zip(notebook.cells, map_outputs_to_inputs(notebook.cells, earlier.cells)):
        if number is None:
            continue
        before = earlier.cells[number]
        others = {key: value for key, value in before.metadata.items() if key != "tags"}
        cell.metadata = nbformat.from_dict(others | cell.metadata)
        cell.update({key: before[key] for key in ("id", "attachments") if key in before})


def normalise(notebook):
    """Remove what differs from run to run, and what cannot be shown without a kernel."""
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec",) if key in notebook.metadata}
    for cell in notebook.cells:
        cell.metadata = kept_metadata(cell)
    for cell in code_cells(notebook):
        cell.outputs = merge_streams([output for output in cell.outputs if WIDGET_VIEW not in output.get("data", {})])
        for output in cell.outputs:
            if PICTURE in output.get("data", {}):
                output.data[PICTURE] = with_palette(output.data[PICTURE])


def with_palette(png: str) -> str:
    """A picture in 256 colours, which takes a third of the bytes; one that has a palette already stays as it is.

    Args:
        png: in base64, as notebooks store it.
    """
    image = Image.open(io.BytesIO(base64.b64decode(png)))
    if image.mode == "P":
        return png
    buffer = io.BytesIO()
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def merge_streams(outputs: list) -> list:
    """Join pieces of printed text, and keep of a progress bar what is left on the screen at its end."""
    merged = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.output_type == "stream":
            output.text = "\n".join(line.rsplit("\r", 1)[-1] for line in output.text.split("\n"))
    return merged


def problems(source: Path) -> list[str]:
    """What is wrong with a notebook and its pair, a sentence each; an empty list if nothing is."""
    paired = source.with_suffix(".ipynb")
    if not paired.exists():
        return [f"{paired.name} is missing."]
    text, script, notebook = source.read_text(encoding="utf-8"), read_script(source), read_paired(source)
    found = {
        "has no YAML header": not text.startswith("# ---\n"),
        "differs from its .py file": sources(script) != sources(notebook),
        "has a .py file that Jupytext lays out otherwise": text != as_script(script),
        "does not open with a title and the course's badge": not script.cells
        or script.cells[0].source != with_badge(script.cells[0].source, source.stem),
        f"is larger than {LARGEST_NOTEBOOK:,} bytes": paired.stat().st_size > LARGEST_NOTEBOOK,
        **problems_of_outputs(notebook),
    }
    return [f"{source.stem} {problem}." for problem, is_there in found.items() if is_there]


def problems_of_outputs(notebook) -> dict[str, bool]:
    """What can be wrong with an `.ipynb` file, and whether it is."""
    code = code_cells(notebook)
    outputs = [output for cell in code for output in cell.outputs]
    return {
        "is paired by its metadata, so that JupyterLab may overwrite it": "jupytext" in notebook.metadata,
        "has widget metadata, which GitHub refuses": "widgets" in notebook.metadata,
        "has a widget among its outputs, which shows nothing without a kernel": any(
            WIDGET_VIEW in output.get("data", {}) for output in outputs
        ),
        "has an error among its outputs": any(output.output_type == "error" for output in outputs),
        "has no outputs": not outputs,
        "has outputs of other code": not is_stored(notebook, "code_sha256"),
        "has outputs that `execute` did not write": not is_stored(notebook, "outputs_sha256"),
        "was not run from top to bottom": [cell.execution_count for cell in code] != list(range(1, len(code) + 1)),
        "does not use the kernel python3": notebook.metadata.get("kernelspec", {}).get("name") != "python3",
        "does not begin with the course's first cell": not code or code[0].source != first_cell(),
    }


def notebook_sources() -> list[Path]:
    """The notebooks' `.py` files, in order."""
    return sorted(NOTEBOOKS_FOLDER.glob("[0-9]*.py"))


def chosen_sources(names: list[str]) -> list[Path]:
    """The notebooks of these names, or all of them if none is named.

    Raises:
        ValueError: for a name that no notebook has.
    """
    known = {source.stem: source for source in notebook_sources()}
    for name in names:
        if name not in known:
            raise ValueError(f"there is no notebook {name!r}: expected one of {', '.join(known)}.")
    return [known[name] for name in names or known]


def differences() -> list[str]:
    """What does not fit together in the whole course, a sentence each."""
    found = [problem for source in notebook_sources() for problem in problems(source)]
    for path in addressed_files():
        if path.read_text(encoding="utf-8") != readdressed(path.read_text(encoding="utf-8")):
            found.append(f"{path.name} has another repository or version than pyproject.toml.")
    return found


def execute_all(sources: list[Path], preset: str, again: bool):
    """Execute notebooks, and say how long each took; fresh ones only if they are to run `again`."""
    for source in sources:
        if not again and is_done(source, preset):
            print(f"{source.stem}: fresh, skipped", flush=True)
            continue
        start = time.perf_counter()
        execute(source, preset)
        print(f"{source.stem}: {time.perf_counter() - start:.0f} s", flush=True)


def is_done(source: Path, preset: str) -> bool:
    """Whether a notebook needs no execution: in order, and made at this preset."""
    if problems(source):
        return False
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4).metadata["course"]["preset"] == preset


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.authoring", description="Execute, check and publish the notebooks."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("execute", help="run notebooks from their .py files and store the outputs")
    command.add_argument("names", nargs="*", help="such as 01_data; default: all whose outputs are not fresh")
    command.add_argument("--preset", default="laptop", choices=PRESETS)
    command = commands.add_parser(
        "pair", help="write notebooks from their .py files, keeping outputs of unchanged code"
    )
    command.add_argument("names", nargs="*", help="such as 01_data; default: all")
    commands.add_parser("check", help="say what does not fit together")
    command = commands.add_parser("repository", help="write the repository's name and the version wherever they stand")
    command.add_argument("name", nargs="?", help="OWNER/NAME on GitHub; default: git's origin")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input is answered by one line on stderr and exit status 2."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    if args.command == "check":
        found = differences()
        print("\n".join(found) or "all notebooks are in order")
        return 1 if found else 0
    try:
        if args.command == "repository":
            publish(args.name)
            print(f"the course is at {GITHUB}{repository()}")
        elif args.command == "pair":
            for source in chosen_sources(args.names):
                pair(source)
        else:
            execute_all(chosen_sources(args.names), args.preset, again=bool(args.names))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
