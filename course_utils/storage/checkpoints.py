"""Checkpoints of a training on disk: numbered by step, written whole, the last two kept."""

import hashlib
import io
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch

from course_utils.storage.files import make_writable_folder, written_whole
from course_utils.validation import in_one_line, quoted

KEPT = 2  # should the newest be damaged, there is the one before it
NAME = re.compile(r"checkpoint-(\d{1,18})\.pt")
PIECE = 2**20  # bytes


class CheckpointFolder:
    """The folder of one training's checkpoints, `checkpoint-000640.pt` after 640 steps.

    Args:
        folder: made if it is missing; what an interrupted write left behind in it is removed.

    Raises:
        ValueError: if `folder` is no name of a folder.
        OSError: if the folder cannot be written to.
    """

    def __init__(self, folder):
        if not isinstance(folder, (str, os.PathLike)):
            raise ValueError(f"checkpoint_dir is {quoted(folder)}, expected the name of a folder.")
        self.folder = Path(folder).expanduser()
        make_writable_folder(self.folder)
        for partial in self.folder.glob("checkpoint-*.pt.partial"):
            partial.unlink(missing_ok=True)

    def by_step(self) -> dict[int, Path]:
        """The checkpoints by their step, ascending; where two names have one number, the one written here counts."""
        named = [(int(name[1]), path) for path in self.folder.iterdir() if (name := NAME.fullmatch(path.name))]
        return dict(sorted(named, key=lambda one: (one[0], one[1] == self.path(one[0]))))

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
        remove(path for other, path in self.by_step().items() if other > step)  # damaged: the training went back
        self.remove_old(step)

    def remove_old(self, newest: int):
        """Remove all but the last two up to a step of which there is a good checkpoint."""
        remove([path for step, path in self.by_step().items() if step <= newest][:-KEPT])

    def newest(self) -> dict | None:
        """The last checkpoint that can be read, with a warning if that is not the last one; None if there is none.

        Raises:
            ValueError: if there are checkpoints, and none of them can be read.
        """
        damaged = []
        for step, path in reversed(self.by_step().items()):
            try:
                state = read_checkpoint(path)
            except (ValueError, OSError) as error:
                damaged.append(f"{path} cannot be read ({in_one_line(error)[:100]})")
                continue
            if damaged:
                warnings.warn(f"{damaged[0]}: training goes on from {path.name} instead.", stacklevel=2)
            self.remove_old(step)  # a killed training may not have come to it
            return state
        if damaged:
            raise ValueError(f"{damaged[0]}, and there is no earlier one: empty that folder to train anew.")
        return None


def remove(paths):
    """Remove files; a folder with a checkpoint's name is not ours, and stays."""
    for path in paths:
        if not path.is_dir():
            path.unlink()


def read_checkpoint(path: Path) -> dict:
    """What was written to a checkpoint; tensors are put on the CPU, and nothing in the file is executed.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if it is not, byte for byte, what was written, or holds anything but named parts.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.save writes a zip file with checksums, which torch.load skips
            damaged = archive.testzip()
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # both readers answer damage with nearly any kind of exception
        raise ValueError(in_one_line(error) or type(error).__name__) from error
    if damaged is not None:
        raise ValueError(f"wrong checksum of {damaged}")
    if not isinstance(state, dict):
        raise ValueError(f"it holds {type(state).__name__}, expected the parts of a training by name")
    return state


def checkpoint_files(folder: Path) -> list[Path]:
    """All checkpoints in a folder and the folders in it, such as those of a recipe's stages; the latest comes last."""
    files = [path for path in folder.glob("**/checkpoint-*.pt") if NAME.fullmatch(path.name)]
    return sorted(files, key=lambda path: (path.parent, int(NAME.fullmatch(path.name)[1])))


def checksum(*tensors: torch.Tensor) -> str:
    """Of the numbers in some tensors, in 12 hexadecimal digits: for the images of MNIST it takes some 30 ms."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:12]


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict):
    """Load an optimizer's state, of which PyTorch itself checks little.

    Raises:
        ValueError: if it is of other weights (what else is raised depends on what is wrong).
    """
    optimizer.load_state_dict(state)
    for weights, averages in optimizer.state.items():
        tensors = [average for average in averages.values() if average.ndim > 0]
        check_shapes(tensors, [weights] * len(tensors))


def check_shapes(tensors: list, expected: list):
    """Refuse tensors of other shapes.

    Raises:
        ValueError: with the first difference.
    """
    for tensor, other in zip(tensors, expected, strict=True):
        if tensor.shape != other.shape:
            raise ValueError(f"it holds an average of shape {list(tensor.shape)} for weights of {list(other.shape)}")


def require_room(folder: Path, size: int):
    """Make sure, before any long work, that so many bytes can be written to a folder.

    Raises:
        OSError: if they cannot, with the errno that the system gave.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:  # free space alone says nothing of quotas and limits
            for _ in range(0, size, PIECE):
                file.write(bytes(PIECE))
    except OSError as error:
        free = shutil.disk_usage(folder).free
        refusal = OSError(
            f"there is no room in {folder} for the {size / 1e6:,.0f} MB of checkpoints and weights ({error.strerror}; "
            f"{free / 1e6:,.0f} MB are free): make room, or name another folder."
        )
        refusal.errno = error.errno
        raise refusal from error
