import ast
import os
import re
from types import SimpleNamespace

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_utils import exercises
from course_utils.exercises.exercise import NumberExercise
from tools import addresses, authoring

NOTEBOOKS = authoring.notebook_sources()
STUBS = {f"exercise-{exercise.name}": exercise for exercise in exercises.ALL}


def stubs_of(source):
    """The exercises of a notebook and the cells for their answers: [(exercise, cell)]."""
    cells = jupytext.read(source).cells
    return [(STUBS[tag], cell) for cell in cells for tag in cell.metadata.get("tags", ()) if tag in STUBS]


EXERCISE_NOTEBOOKS = [source for source in NOTEBOOKS if stubs_of(source)]


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_in_order(source):
    assert authoring.problems(source) == []


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_plain_python_and_holds_no_model_or_loop(source):
    tree = ast.parse(source.read_text(encoding="utf-8"))
    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    calls = [
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert classes == [] and "backward" not in calls and "step" not in calls


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_pictures_in_the_notebook_are_those_of_a_laptop(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert notebook.metadata["course"]["preset"] == "laptop"


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS][:3] == ["01_data", "02_conditioned_unet", "03_training_and_sampling"]


def test_every_exercise_is_asked_in_order():
    asked = [exercise.name for source in EXERCISE_NOTEBOOKS for exercise, _ in stubs_of(source)]
    assert asked == [exercise.name for exercise in exercises.ALL]


def exercise_texts(source):
    """The prose of each exercise of a notebook: [(exercise, text)]."""
    prose = "\n".join(cell.source for cell in jupytext.read(source).cells if cell.cell_type == "markdown")
    parts = re.split(r"^## Exercise \d+: ", prose, flags=re.MULTILINE)[1:]
    return list(zip([exercise for exercise, _ in stubs_of(source)], parts, strict=True))


@pytest.mark.parametrize("source", EXERCISE_NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_says_what_it_asks_and_folds_its_solution(source):
    for exercise, text in exercise_texts(source):
        for needed in ("*Difficulty*: ●", "*Minutes*: ", "*You learn*: ", "*Expected output*: ", ".hint()"):
            assert needed in text, f"{exercise.name} has no {needed}"
        folded = f"<details><summary>Solution</summary>\n\n```python\n{exercise.solution_text}\n```\n</details>"
        assert folded in text, f"{exercise.name}'s solution differs from the one that is tested"


@pytest.mark.parametrize("source", EXERCISE_NOTEBOOKS, ids=lambda path: path.stem)
def test_every_mistake_that_a_checker_knows_has_a_help_note(source):
    for exercise, text in exercise_texts(source):
        summaries = " ".join(re.findall("<summary>Help: (.*)</summary>", text))
        quoted = [words.strip(".").lower() for words in re.findall('"(.*?)"', summaries)]
        known = exercise.slips.values() if isinstance(exercise, NumberExercise) else [m.says for m in exercise.mistakes]
        assert [says for says in known if not any(words in says.lower() for words in quoted)] == []


def run_smoke(notebook, folder):
    """Run a notebook's cells in a folder, at the smoke preset; returns all that they printed or displayed."""
    environment = os.environ | {"COURSE_PRESET": "smoke", "PYTHONPATH": str(addresses.REPOSITORY_ROOT)}
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute(env=environment)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.get("text", "") + output.get("data", {}).get("text/markdown", "") for output in outputs)


@pytest.mark.parametrize("source", EXERCISE_NOTEBOOKS, ids=lambda path: path.stem)
def test_solved_notebook_runs_and_every_answer_is_correct(source, tmp_path):
    notebook = jupytext.read(source)
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", ()):
            if tag in STUBS:
                cell.source = STUBS[tag].solution_text
    shown = run_smoke(notebook, tmp_path)
    assert shown.count("✔ Correct.") == len(stubs_of(source))
    assert "reference answer" not in shown and "Not attempted" not in shown


@pytest.mark.parametrize("source", EXERCISE_NOTEBOOKS, ids=lambda path: path.stem)
def test_unanswered_notebook_says_so_and_goes_on(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    shown = str([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    assert shown.count("Not attempted yet") == len(stubs_of(source))
    functions = [exercise for exercise, _ in stubs_of(source) if not isinstance(exercise, NumberExercise)]
    assert shown.count("reference answer") >= len(functions) - 1  # `input_channels` is not used again


HEADER = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""


@pytest.fixture
def pair(tmp_path):
    """A tiny notebook that is in order: its .py and what to change in its .ipynb."""
    source = tmp_path / "01_tiny.py"
    cells = [
        f"# %% [markdown]\n# # Title\n#\n# {addresses.badge('01_tiny')}\n",
        f"# %%\n{authoring.first_cell()}\n",
        "# %%\nprint(6 * 7)\n",
    ]
    source.write_text(HEADER + "\n".join(cells), encoding="utf-8")
    authoring.execute(source, "smoke")

    def change(edit):
        notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        edit(notebook)
        nbformat.write(notebook, source.with_suffix(".ipynb"))

    return SimpleNamespace(source=source, change=change)


def test_execute_makes_a_notebook_in_order_and_changes_nothing_the_second_time(pair):
    assert authoring.problems(pair.source) == []
    first = pair.source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert "42" in first
    authoring.execute(pair.source, "smoke")
    assert pair.source.with_suffix(".ipynb").read_text(encoding="utf-8") == first


def drift(notebook):
    notebook.cells[0].source = "# Another title"


def stale(notebook):
    notebook.cells[2].source = "print(6 * 8)"


def widgets(notebook):
    notebook.metadata["widgets"] = {authoring.WIDGET_VIEW: {}}


def widget_output(notebook):
    notebook.cells[2].outputs.append(new_output("display_data", {authoring.WIDGET_VIEW: {}}))


def error(notebook):
    notebook.cells[2].outputs.append(new_output("error", ename="ValueError", evalue="no", traceback=[]))


def unexecuted(notebook):
    for cell in notebook.cells[1:]:
        cell.outputs, cell.execution_count = [], None


def kernel(notebook):
    notebook.metadata["kernelspec"]["name"] = "my-venv"


def large(notebook):
    notebook.cells[2].outputs.append(new_output("stream", text="x" * authoring.LARGEST_NOTEBOOK))


@pytest.mark.parametrize(
    "edit, found",
    [
        (drift, "differs from its .py"),
        (stale, "outputs of other code"),
        (widgets, "widget metadata"),
        (widget_output, "a widget among its outputs"),
        (error, "an error among its outputs"),
        (unexecuted, "has no outputs"),
        (kernel, "kernel python3"),
        (large, "is larger than"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_wrong_is_found(pair, edit, found):
    pair.change(edit)
    assert found in " ".join(authoring.problems(pair.source))


def test_missing_header_and_first_cell_are_found(pair):
    pair.source.write_text("# %%\nprint(1)\n", encoding="utf-8")
    authoring_problems = " ".join(authoring.problems(pair.source))
    assert "YAML header" in authoring_problems and "differs" in authoring_problems
    pair.change(lambda notebook: notebook.cells.pop(1))
    assert "first cell" in " ".join(authoring.problems(pair.source))


def test_pair_takes_new_prose_and_keeps_the_outputs(pair):
    pair.source.write_text(
        pair.source.read_text(encoding="utf-8").replace("# Title", "# A better title"), encoding="utf-8"
    )
    assert "differs" in " ".join(authoring.problems(pair.source))
    authoring.pair(pair.source)
    assert authoring.problems(pair.source) == []


def test_pair_drops_the_output_of_changed_code_and_check_says_so(pair):
    pair.source.write_text(pair.source.read_text(encoding="utf-8").replace("6 * 7", "6 * 8"), encoding="utf-8")
    authoring.pair(pair.source)
    assert "42" not in "".join(
        str(cell.get("outputs")) for cell in nbformat.read(pair.source.with_suffix(".ipynb"), 4).cells
    )
    assert "outputs of other code" in " ".join(authoring.problems(pair.source))


def test_pair_without_an_earlier_notebook_has_no_outputs(pair):
    pair.source.with_suffix(".ipynb").unlink()
    authoring.pair(pair.source)
    assert "has no outputs" in " ".join(authoring.problems(pair.source))


def test_check_exits_1_and_says_what_is_wrong(pair, monkeypatch, capsys):
    monkeypatch.setattr(authoring, "NOTEBOOKS_FOLDER", pair.source.parent)
    assert authoring.main(["check"]) == 0
    pair.change(drift)
    assert authoring.main(["check"]) == 1
    assert "01_tiny differs from its .py file." in capsys.readouterr().out


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        authoring.main(["execute", "99_nothing"])
    assert "there is no notebook '99_nothing'" in capsys.readouterr().err


def test_a_failing_notebook_leaves_the_earlier_one(pair):
    before = pair.source.with_suffix(".ipynb").read_text(encoding="utf-8")
    pair.source.write_text(pair.source.read_text(encoding="utf-8").replace("6 * 7", "6 / 0"), encoding="utf-8")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        authoring.execute(pair.source, "smoke")
    assert pair.source.with_suffix(".ipynb").read_text(encoding="utf-8") == before


def test_normalise_keeps_pictures_and_the_end_of_progress_bars():
    bar = [new_output("stream", name="stderr", text=text) for text in ("\r10%", "\r50%", "\r100%\n")]
    picture = new_output("display_data", {"image/png": "AAAA"})
    widget = new_output("display_data", {authoring.WIDGET_VIEW: {}, "text/plain": "IntSlider()"})
    cell = new_code_cell(
        "1", outputs=[*bar, picture, widget], metadata={"execution": {"iopub.status.idle": "now"}, "tags": ["a"]}
    )
    notebook = new_notebook(
        cells=[new_markdown_cell("x"), cell], metadata={"widgets": {}, "language_info": {"name": "python"}}
    )
    authoring.normalise(notebook)
    assert [output.get("text", "picture") for output in notebook.cells[1].outputs] == ["100%\n", "picture"]
    assert notebook.metadata == {} and notebook.cells[1].metadata == {"tags": ["a"]}
