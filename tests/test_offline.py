"""Every notebook runs without a network, and its figures say that the images are not the real ones."""

import jupytext
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from course_utils import authoring
from course_utils.data import SAMPLE_NOTE

SHOW_TITLE = "for axes in getattr(_, 'axes', [])[:1]: print(f'title: {axes.get_title()}')"
TITLES = {
    "01_data": [
        f"MNIST{SAMPLE_NOTE}",
        f"Timestep t{SAMPLE_NOTE}",
        SAMPLE_NOTE,
        f"FashionMNIST{SAMPLE_NOTE}",
    ],
    "02_conditioned_unet": [],  # shows nothing but what networks draw
    "03_training_and_sampling": [f"Loss{SAMPLE_NOTE}", f"Loss by timestep{SAMPLE_NOTE}"],
}


@pytest.mark.parametrize("source", authoring.notebook_sources(), ids=lambda path: path.stem)
def test_without_a_network_the_titles_say_that_images_are_not_real(source, tmp_path, monkeypatch):
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COURSE_PRESET", "smoke")
    notebook = jupytext.read(source)
    for i in reversed([i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]):
        notebook.cells.insert(i + 1, new_code_cell(SHOW_TITLE))
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    titles = [line.removeprefix("title: ") for text in outputs for line in text.splitlines() if "title: " in line]
    expected = TITLES.get(source.stem, [])
    assert [title for title in dict.fromkeys(titles) if SAMPLE_NOTE in title] == expected
    assert bool(expected) == any("so the bundled sample stands in" in text for text in outputs)
