"""Checkpoints of a training on disk: numbered by step, written whole, the last two kept."""

import io
import re
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch

from course_utils.storage.files import make_writable_folder, written_whole

KEPT = 2  # should the newest be damaged, there is the one before it


class CheckpointFolder:
    """The folder of one training's checkpoints, `checkpoint-000640.pt` after 640 steps.

    Args:
        folder: made if it is missing; what an interrupted write left behind in it is removed.

    Raises:
        OSError: if the folder cannot be written to.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        make_writable_folder(self.folder)
        for partial in self.folder.glob("checkpoint-*.pt.partial"):
            partial.unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, ascending."""
        names = [re.fullmatch(r"checkpoint-(\d+)\.pt", path.name) for path in self.folder.iterdir()]
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step:06d}.pt"

    def write(self, step: int, state: dict):
        """Put a checkpoint in place; older ones are removed only when it is whole.

        Args:
            step: the number it gets.
            state: tensors and plain values.

        Raises:
            OSError: if it could not be written; what was there is still there.
        """
        buffer = io.BytesIO()  # torch.save into a file on a full disk raises no OSError
        torch.save(state, buffer)
        with written_whole(self.path(step)) as file:
            file.write_bytes(buffer.getbuffer())
        for later in [other for other in self.steps() if other > step]:  # damaged: the training went back behind it
            self.path(later).unlink()
        self.remove_old(step)

    def remove_old(self, newest: int):
        """Remove all but the last two up to a step of which there is a good checkpoint."""
        for step in [other for other in self.steps() if other <= newest][:-KEPT]:
            self.path(step).unlink()

    def newest(self) -> dict | None:
        """The last checkpoint that can be read, with a warning if that is not the last one; None if there is none.

        Raises:
            ValueError: if there are checkpoints, and none of them can be read.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                state = read_checkpoint(self.path(step))
            except (zipfile.BadZipFile, UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
                damaged.append(f"{self.path(step)} cannot be read ({' '.join(str(error).split())[:100]})")
                continue
            if damaged:
                warnings.warn(f"{damaged[0]}: training goes on from {self.path(step).name} instead.", stacklevel=2)
            self.remove_old(step)  # a killed training may not have come to it
            return state
        if damaged:
            raise ValueError(f"{damaged[0]}, and there is no earlier one: empty that folder to train anew.")
        return None


def read_checkpoint(path: Path) -> dict:
    """What was written to a checkpoint; tensors are put on the CPU, and nothing in the file is executed.

    Raises:
        zipfile.BadZipFile: if the file is not, byte for byte, what was written (others for damage of other kinds).
    """
    with zipfile.ZipFile(path) as archive:  # torch.save writes a zip file with checksums, which torch.load skips
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
    return torch.load(path, map_location="cpu", weights_only=True)
