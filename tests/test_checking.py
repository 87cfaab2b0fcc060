import importlib.metadata
import os
import re
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from course_utils import checking, data
from course_utils.__main__ import main
from course_utils.pipeline import BUNDLED_WEIGHTS
from tools import addresses

ROOT = Path(__file__).parent.parent


@pytest.fixture
def versions(monkeypatch):
    """Play other versions of packages; None is a package that is not there."""
    real = importlib.metadata.version

    def play(**played):
        def version(name):
            if played.get(name, "") is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return played.get(name) or real(name)

        monkeypatch.setattr(importlib.metadata, "version", version)

    return play


def found_by(check) -> list[tuple[bool, str]]:
    return list(checking.findings("it", check))


def test_a_good_setup_is_all_ok_and_status_0(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(checking, "answers", lambda mirrors: True)
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("OK    ") for line in lines)
    assert sum("a picture in" in line for line in lines) == len(BUNDLED_WEIGHTS)
    for requirement in checking.requirements():
        assert any(re.fullmatch(rf"OK    {re.split('[<>=]', requirement)[0]} [\d.+a-z]+", line) for line in lines)


def test_the_requirements_are_those_of_the_file_or_of_the_installed_package(monkeypatch):
    from_file = checking.requirements()
    assert len(from_file) > 10 and all(">=" in line for line in from_file)
    monkeypatch.setattr(checking, "REQUIREMENTS", ROOT / "nowhere.txt")
    installed = ["torch>=2.6", "tqdm>=4.66", 'pytest<10,>=7.4; extra == "tests"', 'ruff>=0.6; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: installed)
    assert checking.requirements() == ["torch>=2.6", "tqdm>=4.66"]  # Colab, for one, lacks the others


def test_the_advice_can_be_followed_in_a_clone_and_beside_an_installed_package(monkeypatch, versions):
    versions(tqdm=None)
    [(_, in_a_clone)] = found_by(lambda: checking.check_package("tqdm>=4.66"))
    assert Path(re.search(r'-r "(.+)"`', in_a_clone).group(1)).is_file()  # in whatever folder one is
    monkeypatch.setattr(checking, "REQUIREMENTS", ROOT / "nowhere.txt")
    [(_, installed)] = found_by(lambda: checking.check_package("tqdm>=4.66"))
    assert "requirements.txt" not in installed and 'pip install --upgrade "tqdm>=4.66"`' in installed


def test_python_floor_and_package_name_are_those_of_the_project(monkeypatch):
    assert addresses.project_value("requires-python") == ">=" + ".".join(map(str, checking.PYTHON_FLOOR))
    assert addresses.project_value("name") == checking.PACKAGE
    monkeypatch.setattr(checking, "PYTHON_FLOOR", (99, 0))
    [(is_well, finding)] = found_by(checking.check_python)
    assert not is_well and "expected 99.0 or newer" in finding


@pytest.mark.parametrize(
    "requirement, version, is_well",
    [
        ("torch>=2.6", "2.6.0", True),
        ("torch>=2.6", "2.5.1", False),
        ("torch>=2.6", "2.13.0+cpu", True),  # the text "2.13" comes before "2.6"
        ("torch>=2.6", "2.16.0.dev20260101", True),
        ("torch>=2.6", None, False),
        ("pytest>=7.4,<10", "10.0", False),
        ("pytest>=7.4,<10", "9.2.0", True),
        ("ipywidgets>=7.7.1", "7.7.0", False),
    ],
)
def test_versions_are_compared_with_the_floor(versions, requirement, version, is_well):
    versions(**{requirement.split(">")[0]: version})
    [(found, sentence)] = found_by(lambda: checking.check_package(requirement))
    assert found == is_well
    if not is_well:
        assert requirement in sentence and "pip install" in sentence and sentence.endswith(".")


@pytest.mark.parametrize(
    "played, word",
    [
        (dict(ipywidgets="8.1.9", jupyterlab_widgets="3.0.17", widgetsnbextension="4.0.16"), None),
        (dict(ipywidgets="7.7.1", jupyterlab_widgets="1.1.11", widgetsnbextension="3.6.10"), None),
        (dict(ipywidgets="7.7.1", jupyterlab_widgets="3.0.17", widgetsnbextension="3.6.10"), "jupyterlab_widgets"),
        (dict(ipywidgets="8.1.9", jupyterlab_widgets="1.1.11", widgetsnbextension="4.0.16"), "jupyterlab_widgets"),
        (dict(ipywidgets="8.1.9", jupyterlab_widgets="3.0.17", widgetsnbextension="3.6.10"), "widgetsnbextension"),
        (dict(ipywidgets="8.1.9", jupyterlab_widgets=None), "jupyterlab_widgets is not installed"),
        (dict(ipywidgets=None), "ipywidgets"),
    ],
)
def test_front_ends_must_match_ipywidgets(versions, played, word):
    versions(**played)
    [(is_well, sentence)] = found_by(checking.check_widgets)
    assert is_well == (word is None)
    if word:
        assert word in sentence and "pip install" in sentence


def test_without_a_connection_the_bundled_sample_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))

    def no_connection(address, timeout):
        raise urllib.error.URLError("no connection")

    monkeypatch.setattr("urllib.request.urlopen", no_connection)
    found = found_by(checking.check_data)
    assert [is_well for is_well, _ in found] == [True] * len(data.SOURCES)
    assert all("bundled sample" in sentence for _, sentence in found)


def test_a_data_folder_that_cannot_be_written_to_fails(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "file"))
    [(is_well, sentence)] = found_by(checking.check_data)
    assert not is_well and "cannot write to" in sentence


def test_weights_that_do_not_load_fail(monkeypatch, tmp_path):
    monkeypatch.setattr("course_utils.pipeline.PRETRAINED_FOLDER", tmp_path)
    (tmp_path / "mnist").mkdir()
    *_, (is_well, sentence) = found_by(checking.check_weights)
    assert not is_well and "model_index.json" in sentence


@pytest.mark.parametrize("broken", [("packaging",), ("torch", "diffusers", "numpy")])
def test_it_says_so_where_packages_cannot_be_imported(tmp_path, broken):
    for name in broken:
        (tmp_path / f"{name}.py").write_text("raise ImportError('libcuda is\\nnot there')", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "course_utils", "check"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, encoding="utf-8"
    )  # fmt: skip
    assert run.returncode == 1 and "Traceback" not in run.stderr
    lines = run.stdout.splitlines()
    assert all(line.startswith(("OK    ", "FAIL  ")) for line in lines)
    failures = [line for line in lines if line.startswith("FAIL")]
    assert any(broken[0] in line or "ImportError" in line for line in failures)
    assert all(line.endswith(".") and "libcuda is" in line for line in failures)


def test_the_packages_readme_shows_what_it_prints():
    """Each package of the page's example is one that is looked at, in that order; all is well there."""
    readme = (ROOT / "course_utils" / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"## Check your setup.+?```\n(.+?)```", readme, re.DOTALL).group(1).splitlines()
    assert all(line.startswith("OK    ") for line in shown)
    names = [line.split()[1] for line in shown]
    shown_packages = names[1 : names.index("torch,")]
    packages = [checking.package_name(requirement) for requirement in checking.requirements()]
    assert shown_packages == [name for name in packages if name in shown_packages]
