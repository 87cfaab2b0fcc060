import re
import sys
from pathlib import Path

import pytest

from course_utils import authoring

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {"torch": "pytorch"}


def requirements() -> dict[str, str]:
    """Each required package and its versions, as requirements.txt has them."""
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    return dict(re.fullmatch(r"([\w-]+)(\S*)", line).groups() for line in lines)


def test_conda_environment_asks_for_the_same():
    lines = re.findall(r"^  - (\S+)$", (ROOT / "environment.yml").read_text().split("dependencies:")[1], re.MULTILINE)
    conda = dict(re.fullmatch(r"([\w-]+)(\S*)", line).groups() for line in lines)
    assert conda.pop("python") == ">=3.10"
    assert conda == {CONDA_NAMES.get(name, name): versions for name, versions in requirements().items()}


def test_floors_are_no_higher_than_colabs():
    colab = dict(torch="2.11", torchvision="0.26", diffusers="0.39", ipywidgets="7.7.1", matplotlib="3.10")
    for name, has in colab.items():
        floor = re.search(r">=([\d.]+)", requirements()[name]).group(1)
        assert [int(part) for part in floor.split(".")] <= [int(part) for part in has.split(".")], name


def test_nothing_is_imported_that_is_not_required():
    standard = {"pil": "pillow", "ipython": "jupyterlab", "traitlets": "ipywidgets", "nbformat": "nbclient"}
    imported = set()
    for path in (ROOT / "course_utils").glob("*.py"):
        imported |= set(re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
    others = {name.lower() for name in imported} - set(sys.stdlib_module_names) - {"course_utils"}
    assert {standard.get(name, name) for name in others} <= set(requirements())


@pytest.mark.parametrize("page", ["README.md", *(f"notebooks/{path.name}" for path in authoring.notebook_sources())])
def test_relative_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    targets += re.findall(r'src="([^":]+)"', (ROOT / page).read_text())
    assert targets
    for target in targets:
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_bundled_weights_are_safetensors_and_small():
    files = [path for path in (ROOT / "course_utils" / "pretrained").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md"}
    assert sum(path.stat().st_size for path in files) < 25_000_000
