"""What other systems do, simulated: another encoding than UTF-8, no writable home, another working directory, no PATH."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [
    path for folder in ("course_utils", "tools", "tests", "notebooks", "site") for path in (ROOT / folder).rglob("*.py")
]
READERS = ("read_text", "write_text")
OPENERS = ("open", "fdopen", "TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile")
BINARY_OPENERS = ("Image", "gzip", "urllib", "webbrowser", "zipfile", "wave")  # whose `open` is no text file's
PROCESSES = ("run", "Popen", "check_output", "check_call", "call")
# As on Windows in Western Europe: what is printed, and what is read without a word about it, is not UTF-8.
NOT_UTF_8 = dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="cp1252")


def depends_on_the_locale(call: ast.Call) -> bool:
    """Whether a call reads or writes text in whatever encoding the system prefers."""
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given or None in given:
        return False
    if name in READERS:
        return not (name == "read_text" and call.args)
    if name in PROCESSES:
        return any(getattr(given.get(key), "value", False) for key in ("text", "universal_newlines"))
    return name in OPENERS and is_for_text(call, name, given.get("mode"))


def is_for_text(call: ast.Call, name: str, mode) -> bool:
    """Whether a file is opened for text, as far as its mode is written out."""
    owner = getattr(getattr(call.func, "value", None), "id", None)
    if owner in BINARY_OPENERS or (owner == "os" and name == "open"):
        return False
    takes_path = isinstance(call.func, ast.Name) or owner in ("io", "os")  # `Path.open` takes the mode first
    position = 1 if name in ("open", "fdopen") and takes_path else 0
    mode = mode or (call.args[position] if len(call.args) > position else None)
    if mode is None:
        return name in ("open", "fdopen")
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value


def without_encoding(text: str) -> list[int]:
    """The lines of a Python text that depend on the system's encoding."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return sorted(call.lineno for call in calls if depends_on_the_locale(call))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_all_text_is_read_and_written_in_an_encoding_that_is_named(path):
    assert without_encoding(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        *("open(path)", "open(path, 'w')", "open(path, mode='r+')", "path.open()", "path.open('a')", "io.open(path)"),
        *("path.read_text()", "path.write_text('x')", "path.write_text(data=text)", "os.fdopen(1, 'w')"),
        *("subprocess.run(command, text=True)", "Popen(command, universal_newlines=True)"),
        *("tempfile.NamedTemporaryFile('w')", "tempfile.TemporaryFile(mode='w+')"),
    ],
)
def test_a_line_that_depends_on_the_locale_is_found(line):
    assert without_encoding(f"1 + 1\n{line}") == [2]


@pytest.mark.parametrize(
    "line",
    [
        *("open(path, 'rb')", "open(path, encoding='utf-8')", "path.open('wb')", "Image.open(path)", "gzip.open(path)"),
        *("path.read_text(encoding='utf-8')", "path.read_text('utf-8')", "path.read_bytes()", "os.open(path, flags)"),
        *("subprocess.run(command)", "subprocess.run(command, text=True, encoding='utf-8')", "open(path, **options)"),
        *("tempfile.TemporaryFile()", "tempfile.TemporaryFile('wb')", "run(text=False)"),
    ],
)
def test_a_line_that_does_not_is_left_alone(line):
    assert without_encoding(line) == []


def run_python(*arguments, cwd=ROOT, **environment) -> subprocess.CompletedProcess:
    """Python with the course in reach, somewhere, in some environment; what it prints is not decoded yet."""
    environment = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1") | environment
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True)


@pytest.mark.skipif(sys.platform == "win32", reason="a home is found by another variable there")
def test_the_setup_is_described_without_home_path_and_utf_8_from_another_folder(tmp_path):
    run = run_python("-m", "course_utils", "check", cwd=tmp_path, HOME="/dev/null", XDG_CACHE_HOME="", PATH="",
                     COURSE_DATA_DIR=str(tmp_path / "größer"), **NOT_UTF_8)  # fmt: skip
    lines = run.stdout.decode("cp1252").splitlines()
    assert b"Traceback" not in run.stderr and len(lines) > 20
    assert [line for line in lines if not line.startswith("OK    ")] == []


def test_a_verdict_can_be_printed_where_its_signs_cannot(tmp_path):
    """A checker's mark is not in every encoding; the words are what counts."""
    code = "from course_utils import exercises\nexercises.extra_parameters.check(1788)\nexercises.between.hint()"
    run = run_python("-c", code, cwd=tmp_path, **NOT_UTF_8)
    assert run.returncode == 0, run.stderr.decode("utf-8", "replace")
    assert b"Correct." in run.stdout and b"Hint 1" in run.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such modes there")
def test_others_may_read_what_the_authoring_tool_writes(tmp_path):
    """Under the usual umask; a notebook that only its author can read is no use on a shared machine."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_one.py").write_text("# %% [markdown]\n# # Title\n\n# %%\n1 + 1\n", encoding="utf-8")
    code = (
        "import os, sys; from pathlib import Path; from tools import authoring; os.umask(0o022)\n"
        "authoring.pair(Path(sys.argv[1]))"
    )
    run = run_python("-c", code, str(tmp_path / "notebooks" / "01_one.py"))
    assert run.returncode == 0, run.stderr.decode("utf-8", "replace")
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in (tmp_path / "notebooks").iterdir()}
    assert modes == {".py": 0o644, ".ipynb": 0o644}
