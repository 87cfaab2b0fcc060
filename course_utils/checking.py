"""The setup, looked at piece by piece: `python -m course_utils check`.

Nothing outside the standard library is imported before it is needed, so that a broken setup can still be described.
"""

import importlib
import importlib.metadata
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

PYTHON_FLOOR = (3, 10)
PACKAGE = "class-conditional-diffusion-course"
REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
# Major versions whose front ends (in JupyterLab, in Jupyter Notebook) draw the widgets of an ipywidgets.
FRONT_ENDS = {7: dict(jupyterlab_widgets=1, widgetsnbextension=3), 8: dict(jupyterlab_widgets=3, widgetsnbextension=4)}
SECONDS_TO_WAIT = 5  # for a mirror of a data set


class Amiss(Exception):
    """A need that is not met: what was found, and what to do."""


def check_python() -> Iterator[str]:
    """The version of Python."""
    found, floor = sys.version.split()[0], ".".join(map(str, PYTHON_FLOOR))
    if sys.version_info < PYTHON_FLOOR:
        raise Amiss(f"Python is {found}, expected {floor} or newer: install one, and make a new environment with it.")
    yield f"Python {found}"


def requirements() -> list[str]:
    """What a clone needs, as its requirements.txt has it; of an installed package, what its notebooks import."""
    if REQUIREMENTS.is_file():
        lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line and not line.startswith("#")]
    return [line for line in importlib.metadata.requires(PACKAGE) or () if "extra ==" not in line]


def install(*needs: str) -> str:
    """The command that puts a setup in order: in a clone all of it together, or else these needs."""
    what = [f'-r "{REQUIREMENTS}"'] if REQUIREMENTS.is_file() else [f'"{need}"' for need in needs or requirements()]
    return f"run `python -m pip install --upgrade {' '.join(what)}`"


def package_name(requirement: str) -> str:
    """Such as "torch" of "torch>=2.6"."""
    return re.match(r"[\w-]+", requirement).group()


def check_package(requirement: str) -> Iterator[str]:
    """One package, against the versions that are asked for."""
    name = package_name(requirement)
    asked = requirement.removeprefix(name)
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise Amiss(f"{name} is not installed, expected {requirement}: {install(requirement)}.") from None
    from packaging.specifiers import SpecifierSet

    if not SpecifierSet(asked).contains(found, prereleases=True):
        raise Amiss(f"{name} is {found}, expected {requirement}: {install(requirement)}.")
    yield f"{name} {found}"


def check_imports() -> Iterator[str]:
    """Whether the large packages can be imported, which tells if their parts fit together."""
    for names in (("torch", "torchvision"), ("diffusers",), ("ipywidgets",)):
        for name in names:
            try:
                importlib.import_module(name)
            except Exception as error:  # whatever a broken package raises, it is the finding
                again = f"run `python -m pip install --force-reinstall {' '.join(names)}`"
                raise Amiss(f"{name} cannot be imported ({first_line(error)}): {again}.") from error
    yield "torch, torchvision, diffusers and ipywidgets can be imported"


def check_widgets() -> Iterator[str]:
    """The front ends that draw widgets."""
    major = int(importlib.metadata.version("ipywidgets").split(".")[0])
    for name, expected in FRONT_ENDS.get(major, FRONT_ENDS[max(FRONT_ENDS)]).items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            command = "run `python -m pip install --upgrade jupyterlab ipywidgets`"
            raise Amiss(f"{name} is not installed, so no slider would be drawn: {command}.") from None
        if int(found.split(".")[0]) != expected:
            raise Amiss(
                f"{name} is {found}, but ipywidgets {major} needs {expected}, or no slider is drawn: "
                f"run `python -m pip install --upgrade ipywidgets {name}`, and reload the page."
            )
    yield f"widgets can be drawn (ipywidgets {major} and its front ends)"


def check_data() -> Iterator[str]:
    """The data: on disk, or to be downloaded, or at least the bundled sample."""
    from course_utils.data import SOURCES, data_folder, load_dataset, load_sample
    from course_utils.storage.files import make_writable_folder

    root = data_folder()
    for name in SOURCES:
        try:
            yield f"{name}: {len(load_dataset(name, root=root, download=False)):,} images in {root}"
        except FileNotFoundError:
            try:
                make_writable_folder(root)
            except OSError as error:
                raise Amiss(
                    f"{str(error).rstrip('.')}, and set COURSE_DATA_DIR to it; till then a sample stands in."
                ) from error
            if answers(SOURCES[name].mirrors):
                yield f"{name} will be downloaded to {root} when it is first asked for"
            else:
                yield f"{name} cannot be downloaded now: {len(load_sample(name)):,} bundled sample pictures stand in"


def answers(mirrors: list[str]) -> bool:
    """Whether one of a data set's addresses can be reached."""
    from http.client import HTTPException
    from urllib.request import urlopen

    for mirror in mirrors:
        try:
            urlopen(f"{mirror}train-labels-idx1-ubyte.gz", timeout=SECONDS_TO_WAIT).close()
            return True
        except (OSError, HTTPException):
            continue
    return False


def check_weights() -> Iterator[str]:
    """The bundled weights, and the seconds a picture takes."""
    import torch

    from course_utils.pipeline import BUNDLED_WEIGHTS, ClassConditionedPipeline
    from course_utils.settings import best_device

    device = best_device()
    yield f"device: {torch.cuda.get_device_name() if device == 'cuda' else device}, {torch.get_num_threads()} CPU threads"
    for name in BUNDLED_WEIGHTS:
        pipe = ClassConditionedPipeline.from_pretrained(name).to(device)
        pipe([3])  # the first call is slower than those that follow
        start = time.perf_counter()
        pipe([3])
        yield f"weights {name}: a picture in {time.perf_counter() - start:.2f} s"


Check = Callable[[], Iterator[str]]


def checks() -> dict[str, Check]:
    """All checks by what they look at, in the order in which one need builds on another."""
    packages = {requirement: partial(check_package, requirement) for requirement in requirements()}
    others = {"imports": check_imports, "widgets": check_widgets, "data": check_data, "weights": check_weights}
    return {"Python": check_python} | packages | others


def findings(name: str, check: Check) -> Iterator[tuple[bool, str]]:
    """What a check finds, and whether it is well; nothing comes after what is not."""
    try:
        for finding in check():
            yield True, finding
    except (Amiss, ValueError, OSError) as amiss:  # the course's own errors say what to do
        yield False, str(amiss)
    except Exception as error:
        yield False, f"{name} could not be checked ({first_line(error)}): {install()}."


def first_line(error: Exception) -> str:
    """An error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def main() -> int:
    """Print a line for each need; return 0 if all are met, else 1."""
    met = True
    for name, check in checks().items():
        for is_well, finding in findings(name, check):
            print("OK   " if is_well else "FAIL ", finding, flush=True)
            met = met and is_well
    return 0 if met else 1
