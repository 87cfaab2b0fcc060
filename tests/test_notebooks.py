"""The notebooks of the course: what their sources hold, that they run, and that what is committed is in order."""

import ast
import os
import re
import shutil
import subprocess

import jupytext
import pytest
from nbclient import NotebookClient

from course_utils import exercises, minimal
from course_utils.exercises.exercise import ChoicesExercise, NumberExercise
from tools import addresses, authoring

NOTEBOOKS = authoring.notebook_sources()
STUBS = {f"exercise-{exercise.name}": exercise for exercise in exercises.ALL}


def stubs_of(source):
    """The exercises of a notebook and the cells for their answers: [(exercise, cell)]."""
    cells = jupytext.read(source).cells
    return [(STUBS[tag], cell) for cell in cells for tag in cell.metadata.get("tags", ()) if tag in STUBS]


def is_for_an_answer(cell) -> bool:
    return any(tag in STUBS for tag in cell.metadata.get("tags", ()))


EXERCISE_NOTEBOOKS = [source for source in NOTEBOOKS if stubs_of(source)]


def is_as_committed(source) -> bool:
    """Whether a notebook and its pair are as git has them; a learner who has run and saved one has changed it."""
    files = [str(source), str(source.with_suffix(".ipynb"))]
    git = ["git", "-C", str(addresses.REPOSITORY_ROOT), "status", "--porcelain", "--", *files]
    run = subprocess.run(git, capture_output=True, text=True, encoding="utf-8") if shutil.which("git") else None
    return run is not None and run.returncode == 0 and run.stdout == ""


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_in_order_and_made_at_the_preset_laptop(source):
    """For maintainers: what is committed. A learner's own work in a notebook is left to the learner."""
    if not is_as_committed(source) and not os.environ.get("CI"):
        pytest.skip(f"{source.stem} is not as git has it, so it is yours; maintainers run tools.authoring check")
    assert authoring.problems(source) == [], "for maintainers: run `python -m tools.authoring execute`"
    assert authoring.read_paired(source).metadata["course"]["preset"] == "laptop"


def test_what_is_named_and_published_is_that_of_the_project():
    for path in authoring.addressed_files():
        text = path.read_text(encoding="utf-8")
        assert text == addresses.readdressed(text), f"for maintainers: {path.name} needs `tools.authoring repository`"


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_header_title_badge_and_first_cell_and_says_no_format(source):
    """What must hold before it is executed: of its source alone."""
    script = authoring.read_script(source)
    assert source.read_text(encoding="utf-8") == authoring.as_script(script)
    assert "formats" not in source.read_text(encoding="utf-8").split("# %%")[0]
    assert script.metadata.kernelspec.name == "python3"
    assert script.cells[0].source == addresses.with_badge(script.cells[0].source, source.stem)
    assert authoring.code_cells(script)[0].source == addresses.first_cell()


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_plain_python_and_holds_no_model_or_loop(source):
    """A learner's own answer may be a class, and has a cell for it."""
    cells = [cell for cell in authoring.code_cells(jupytext.read(source)) if not is_for_an_answer(cell)]
    tree = ast.parse("\n".join(cell.source for cell in cells))
    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    calls = [
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert classes == [] and "backward" not in calls and "step" not in calls


def test_every_exercise_is_asked_in_order():
    asked = [exercise.name for source in EXERCISE_NOTEBOOKS for exercise, _ in stubs_of(source)]
    assert asked == [exercise.name for exercise in exercises.ALL]


def exercise_texts(source):
    """The prose of each exercise of a notebook: [(exercise, text)]."""
    prose = "\n".join(cell.source for cell in jupytext.read(source).cells if cell.cell_type == "markdown")
    parts = re.split(r"^## Exercise \d+: ", prose, flags=re.MULTILINE)[1:]
    return list(zip([exercise for exercise, _ in stubs_of(source)], parts, strict=True))


@pytest.mark.parametrize("source", EXERCISE_NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_says_what_it_asks_and_gives_no_solution_away(source):
    """The Help notes come after the check, where a learner has seen the messages that they explain."""
    parts = ("*Difficulty*: ●", "*Minutes*: ", "*You learn*: ", "*Expected output*: ", ".hint()", ".solution()")
    for exercise, text in exercise_texts(source):
        assert [part for part in parts if part not in text] == [], exercise.name
        task = text.partition(".hint()")[0]
        assert "<summary>Help: " not in task and "<summary>Solution" not in text, exercise.name
        assert exercise.solution_text not in text
        assert [line for line in telling_lines(exercise.solution_text) if line in task] == [], exercise.name


def telling_lines(code: str) -> list[str]:
    """The lines of a solution that give it away, where they stand in a text."""
    lines = [line.split("#")[0].strip() for line in code.splitlines()]
    return [line for line in lines if len(line) > 20 and not line.startswith(("import ", "from ", "def ", "class "))]


@pytest.mark.parametrize("source", EXERCISE_NOTEBOOKS, ids=lambda path: path.stem)
def test_every_mistake_that_a_checker_knows_has_a_help_note(source):
    for exercise, text in exercise_texts(source):
        summaries = " ".join(re.findall("<summary>Help: (.*)</summary>", text))
        quoted = [words.strip(".").lower() for words in re.findall('"(.*?)"', summaries)]
        known = (
            exercise.slips.values()
            if isinstance(exercise, NumberExercise)
            else [m.says for m in getattr(exercise, "mistakes", ())]
        )
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
def test_untouched_stubs_are_valid_and_not_attempted(source):
    """So that an unanswered notebook goes on: to its end, as `pytest --nbmake notebooks` finds."""
    text = source.read_text(encoding="utf-8")
    for exercise, cell in stubs_of(source):
        namespace = dict(vars(minimal)) | {"exercises": exercises}
        exec(cell.source, namespace)
        assert exercise.judge(namespace[exercise.name]).status == "not attempted"
        goes_on = f".right_or_reference({exercise.name})" in text
        used_again = not isinstance(exercise, (NumberExercise, ChoicesExercise)) and exercise.name != "input_channels"
        assert goes_on or not used_again
