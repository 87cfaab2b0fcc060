import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from course_utils.storage import files
from course_utils.storage.files import (
    folder_written_whole,
    make_writable_folder,
    move_saved_files,
    path_of,
    saved_file,
    written_whole,
)

NAMES = ("index.json", "unet/config.json", "unet/weights")
OWN = ("README.md", "checkpoints/step-1.pt", "unet/notes.txt")  # files in the same folder that a save is not about
# What writing a folder asks of the system, and what may fail in it.
CALLS = [(os, "replace"), (os, "fsync"), (os, "mkdir"), (os, "rmdir"), (os, "open"), (files, "open")]


def test_a_file_appears_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "new" / "notes.txt"
    with written_whole(path) as file:
        file.write_text("first", encoding="utf-8")
        assert not path.exists()
    with pytest.raises(RuntimeError), written_whole(path) as file:
        file.write_text("half of the sec", encoding="utf-8")
        raise RuntimeError("interrupted")
    assert path.read_text(encoding="utf-8") == "first"
    assert [found.name for found in path.parent.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match="^cannot write to .*name a folder that you may write to") as refusal:
        make_writable_folder(tmp_path / "file" / "folder")
    assert refusal.value.errno == errno.ENOTDIR
    make_writable_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def write_all(folder: Path, text: str):
    with folder_written_whole(folder) as incoming:
        for name in NAMES:
            (incoming / name).parent.mkdir(exist_ok=True)
            (incoming / name).write_text(text, encoding="utf-8")


def texts(folder: Path) -> set[str]:
    """What the files of a save say, wherever they are: one text if they are of one save."""
    return {saved_file(folder, name).read_text(encoding="utf-8") for name in NAMES}


@pytest.fixture
def folder(tmp_path):
    """A folder with a save in it, and files beside it."""
    write_all(tmp_path / "mine", "old")
    for name in OWN:
        (tmp_path / "mine" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_text("own", encoding="utf-8")
    return tmp_path / "mine"


def everything_is_there(folder: Path, *allowed: set[str]):
    assert texts(folder) in allowed
    assert {(folder / name).read_text(encoding="utf-8") for name in OWN} == {"own"}


def test_a_folder_is_replaced_and_what_else_is_in_it_stays(folder):
    write_all(folder, "new")
    everything_is_there(folder, {"new"})
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == sorted(NAMES + OWN)


@pytest.mark.parametrize("module, name", CALLS, ids=[name for _, name in CALLS])
def test_a_save_that_fails_at_any_call_leaves_the_old_files_or_the_new_ones(folder, monkeypatch, module, name):
    for number in itertools.count():
        failing = FailsOnce(getattr(module, name, open), number)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, failing, raising=False)
            try:
                write_all(folder, "new")
            except OSError as error:
                assert "free some space" in str(error) and error.errno == errno.ENOSPC
        everything_is_there(folder, {"old"}, {"new"})
        write_all(folder, "old")  # an interrupted save is in nobody's way
        everything_is_there(folder, {"old"})
        assert not (folder / files.SAVED).exists() and not (folder / files.INCOMING).exists()
        if not failing.failed:  # it is not called so often
            break
    assert number > 0


class FailsOnce:
    """A function that finds the disk full at one of its calls."""

    def __init__(self, function, number: int):
        self.function, self.left, self.failed = function, number, False

    def __call__(self, *args, **options):
        self.left -= 1
        if self.left == -1:
            self.failed = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.function(*args, **options)


KILLED = """
import os, sys
from pathlib import Path
import test_files as t

def dies(event, args):
    if event in ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove") and t.SAVING:
        t.SAVING[0] -= 1
        if t.SAVING[0] == 0:
            os._exit(9)

sys.addaudithook(dies)
for moment in range(int(sys.argv[2]), 1000):
    if os.fork() == 0:
        t.SAVING.append(moment)
        t.write_all(Path(sys.argv[1]), "new")
        os._exit(0)
    killed = os.waitstatus_to_exitcode(os.wait()[1]) == 9
    t.everything_is_there(Path(sys.argv[1]), {"old"}, {"new"})
    t.write_all(Path(sys.argv[1]), "old")
    t.everything_is_there(Path(sys.argv[1]), {"old"})
    if not killed:
        break
print(moment)
"""
SAVING = []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_save_that_is_killed_at_any_moment_leaves_the_old_files_or_the_new_ones(folder):
    command = [sys.executable, "-c", KILLED, str(folder), "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) > 20


def test_nothing_is_moved_from_where_a_link_leads(folder, tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "letter").write_text("private", encoding="utf-8")
    (folder / files.SAVED).symlink_to(tmp_path / "private")
    move_saved_files(folder)
    assert (tmp_path / "private" / "letter").exists() and not (folder / "letter").exists()


def test_paths_are_absolute_and_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert path_of("~/mine") == tmp_path / "home" / "mine" == path_of(Path("~") / "mine")
    assert path_of("mine") == tmp_path / "mine" == path_of(tmp_path / "mine")
    assert path_of("~no-such-user/mine") == tmp_path / "~no-such-user" / "mine"


@pytest.mark.parametrize("path", [None, 5, "a\0b", b"mine", ["mine"]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ValueError, match="is no path"):
        path_of(path)
