"""Writing to disk so that nothing is lost: folders tried out first, files that appear whole or not at all."""

import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path


def make_writable_folder(folder: Path):
    """Make a folder and make sure, before any long work, that it can be written to.

    Raises:
        OSError: if it cannot; of the subclass, and with the errno, that the system gave.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        sentence = f"cannot write to {folder} ({error.strerror}): name a folder that you may write to."
        refusal = type(error)(sentence)
        refusal.errno = error.errno
        raise refusal from error


@contextmanager
def written_whole(path: Path):
    """A path to write to in a file's place; the file is replaced when all is written, and kept as it was if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path):
    """Make sure that a file's new name survives a power cut, where the system can; the file is in place either way."""
    with suppress(OSError):  # Windows, and some network folders, cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
