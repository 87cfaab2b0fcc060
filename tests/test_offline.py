"""Without an internet connection the notebooks run, and their figures say that the images are not the real ones."""

import jupytext
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from course_utils.data import SAMPLE_NOTE
from tools import authoring

# Prints the title of the figure that the cell before has shown.
SHOW_TITLE = "for axes in getattr(Out.get(len(In) - 2), 'axes', [])[:1]: print(f'title: {axes.get_title()}')"
TITLES = {
    "01_data": [f"{title}{SAMPLE_NOTE}" for title in ("MNIST", "Timestep t", "Ten training pairs", "FashionMNIST")],
    "03_training_and_sampling": [f"{title}{SAMPLE_NOTE}" for title in ("Loss of your training", "Loss by timestep")],
}


def cells_with_titles(name):
    """A notebook as far as it shows a data set, with a cell after each that prints its figure's title."""
    notebook = jupytext.read(authoring.NOTEBOOKS_FOLDER / f"{name}.py")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    last = max(i for i, cell in enumerate(code) if "dataset" in cell.source)
    notebook.cells = [new for cell in code[: last + 1] for new in (cell, new_code_cell(SHOW_TITLE))]
    return notebook


@pytest.mark.parametrize("name", TITLES)
def test_without_a_connection_the_titles_say_that_images_are_not_real(name, tmp_path, monkeypatch):
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COURSE_PRESET", "smoke")
    notebook = cells_with_titles(name)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    text = "\n".join(output.get("text", "") for cell in notebook.cells for output in cell.outputs)
    titles = [line.removeprefix("title: ") for line in text.splitlines() if line.startswith("title: ")]
    assert [title for title in dict.fromkeys(titles) if SAMPLE_NOTE in title] == TITLES[name]
    assert "so the bundled sample stands in" in text


@pytest.mark.parametrize("source", authoring.notebook_sources(), ids=lambda path: path.stem)
def test_a_notebook_that_loads_a_data_set_says_what_it_shows(source):
    text = source.read_text(encoding="utf-8")
    assert "load_dataset(" not in text or ".note}" in text or "dataset_grid(" in text
