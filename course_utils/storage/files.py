"""Writing to disk so that nothing is lost: folders tried out first, files and folders that appear whole or not at all."""

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

INCOMING = ".incoming"  # in a folder: files that are being written; worth nothing if they are still there later
SAVED = ".saved"  # in a folder: files that are written, and that count as its own until they are moved to their places


def path_of(path) -> Path:
    """Any path that comes in, as an absolute one, with `~` replaced by the home folder.

    Raises:
        ValueError: if it is no path.
    """
    if not isinstance(path, (str, os.PathLike)) or "\0" in os.fspath(path):
        raise ValueError(f"{path!r} is no path, expected the name of a file or folder.")
    return Path(os.path.expanduser(path)).absolute()


def make_writable_folder(folder: Path):
    """Make a folder and make sure, before any long work, that it can be written to.

    Raises:
        OSError: if it cannot; of the subclass, and with the errno, that the system gave.
    """
    with refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def refusing(folder: Path):
    """Say in one sentence what the system has against writing to a folder.

    Raises:
        OSError: of the subclass, and with the errno, that the system gave.
    """
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # a sentence already
            raise
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        advice = "free some space, or name a folder elsewhere" if full else "name a folder that you may write to"
        refusal = type(error)(f"cannot write to {folder} ({error.strerror}): {advice}.")
        refusal.errno = error.errno
        raise refusal from error


@contextmanager
def written_whole(path: Path):
    """A path to write to in a file's place; the file is replaced when all is written, and kept as it was if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        sync_file(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def folder_written_whole(folder: Path):
    """An empty folder to write to; its files take their places in `folder` when all are written: all of them, or none.

    Other files in `folder` stay as they are. One renaming decides: before it, a folder interrupted at any point is as
    it was; after it, `saved_file` finds each new file, whether or not it has been moved to its place yet.

    Raises:
        OSError: if something cannot be written.
    """
    make_writable_folder(folder)
    incoming = folder / INCOMING
    with refusing(folder):
        move_saved_files(folder)  # those of an interrupted save
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        try:
            yield incoming
            for path in incoming.rglob("*"):
                sync_folder(path) if path.is_dir() else sync_file(path)
            sync_folder(incoming)
            os.replace(incoming, folder / SAVED)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        sync_folder(folder)
        move_saved_files(folder)


def move_saved_files(folder: Path):
    """Move the files of a finished save to their places."""
    saved = folder / SAVED
    if saved.is_symlink() or not saved.is_dir():  # nothing is moved from where a link may lead
        return
    for file in [path for path in saved.rglob("*") if not path.is_dir()]:
        place = folder / file.relative_to(saved)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)
        sync_folder(place.parent)
    shutil.rmtree(saved)
    sync_folder(folder)


def saved_file(folder: Path, name: str) -> Path:
    """Where a folder's file is: in its place, or still among the files of a save that was interrupted."""
    waiting = folder / SAVED / name
    return waiting if waiting.exists() else folder / name


def sync_file(path: Path):
    """Make sure that a file's content survives a power cut."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path):
    """Make sure that a file's new name survives a power cut, where the system can; the file is in place either way."""
    with suppress(OSError):  # Windows, and some network folders, cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
