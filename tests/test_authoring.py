"""The maintainers' commands: publishing the course elsewhere, and executing only what is stale."""

import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

from tools import addresses, authoring

ROOT = Path(__file__).parent.parent
SOURCES = authoring.notebook_sources()


@pytest.fixture
def course(tmp_path, monkeypatch) -> Path:
    """A copy of all that names the repository, where the commands work."""
    for name in ("pyproject.toml", "requirements.txt", *addresses.ADDRESSED_FILES):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    for source in SOURCES:
        shutil.copy(source, tmp_path / "notebooks")
        shutil.copy(source.with_suffix(".ipynb"), tmp_path / "notebooks")
    monkeypatch.setattr(addresses, "REPOSITORY_ROOT", tmp_path)
    monkeypatch.setattr(authoring, "NOTEBOOKS_FOLDER", tmp_path / "notebooks")
    return tmp_path


def outputs(folder: Path) -> list:
    return [[cell.get("outputs") for cell in nbformat.read(path, 4).cells] for path in sorted(folder.glob("*.ipynb"))]


def refused(arguments: list[str], capsys) -> str:
    """What a command says before it exits with status 2."""
    with pytest.raises(SystemExit) as stop:
        authoring.main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err.strip()


def test_the_committed_course_is_in_order():
    assert authoring.differences() == []


def test_publishing_under_the_same_name_changes_nothing(course):
    before = {path: path.read_text(encoding="utf-8") for path in course.rglob("*") if path.is_file()}
    assert authoring.main(["repository", addresses.repository()]) == 0
    assert {path: path.read_text(encoding="utf-8") for path in course.rglob("*") if path.is_file()} == before


def test_publishing_elsewhere_rewrites_every_address_and_keeps_outputs(course):
    earlier, made = addresses.repository(), outputs(course / "notebooks")
    assert authoring.main(["repository", "ada/my-course"]) == 0
    assert authoring.differences() == []
    assert outputs(course / "notebooks") == made
    for path in course.rglob("*.*"):
        assert earlier not in path.read_text(encoding="utf-8"), path
    for source in SOURCES:
        for path in (course / "notebooks" / source.name, course / "notebooks" / f"{source.stem}.ipynb"):
            assert (
                f"colab.research.google.com/github/ada/my-course/blob/main/notebooks/{source.stem}.ipynb"
                in path.read_text(encoding="utf-8")
            )
            assert "https://github.com/ada/my-course" in path.read_text(encoding="utf-8")
    assert "https://github.com/ada/my-course" in (course / "README.md").read_text(encoding="utf-8")
    assert (
        yaml.safe_load((course / "CITATION.cff").read_text(encoding="utf-8"))["repository-code"]
        == "https://github.com/ada/my-course"
    )


def test_stale_outputs_do_not_become_fresh(course):
    notebook = nbformat.read(course / "notebooks" / "01_data.ipynb", 4)
    notebook.metadata["course"]["code_sha256"] = "of other code"
    nbformat.write(notebook, course / "notebooks" / "01_data.ipynb")
    authoring.main(["repository", "ada/my-course"])
    assert authoring.differences() == ["01_data has outputs of other code."]


def test_a_notebook_without_badge_and_outputs_gets_a_badge(course):
    source = course / "notebooks" / "01_data.py"
    source.with_suffix(".ipynb").unlink()
    source.write_text(
        source.read_text(encoding="utf-8").replace(f"# {addresses.badge('01_data')}\n#\n", ""), encoding="utf-8"
    )
    assert "colab-badge" not in source.read_text(encoding="utf-8")
    authoring.main(["repository", "ada/my-course"])
    assert source.read_text(encoding="utf-8").count("colab-badge") == 1
    assert authoring.differences() == ["01_data.ipynb is missing."]


def test_a_layout_with_which_jupyterlab_refuses_the_pair_is_noticed_and_mended(course):
    source = course / "notebooks" / "05_one_hot.py"
    text = source.read_text(encoding="utf-8")
    assert text.count("\nsettings\n\n\n# %% ") == 1
    source.write_text(text.replace("\nsettings\n\n\n# %% ", "\nsettings\n\n# %% "), encoding="utf-8")
    assert authoring.differences() == ["05_one_hot has a .py file that Jupytext lays out otherwise."]
    authoring.main(["pair", "05_one_hot"])
    assert authoring.differences() == [] and source.read_text(encoding="utf-8") == text


def test_a_new_version_reaches_first_cells_and_citation(course):
    project = course / "pyproject.toml"
    project.write_text(
        project.read_text(encoding="utf-8").replace(
            f'version = "{addresses.project_value("version")}"', 'version = "7.8.9"'
        ),
        encoding="utf-8",
    )
    assert len(authoring.differences()) == 1 + len(SOURCES)
    authoring.main(["repository", addresses.repository()])
    assert authoring.differences() == []
    assert '"v7.8.9"' in (course / "notebooks" / "01_data.py").read_text(encoding="utf-8")
    assert yaml.safe_load((course / "CITATION.cff").read_text(encoding="utf-8"))["version"] == "7.8.9"


@pytest.mark.parametrize("name", ["README.md", "CITATION.cff", "notebooks/01_data.py"])
def test_an_address_that_differs_is_found(course, name):
    text = (course / name).read_text(encoding="utf-8")
    (course / name).write_text(text.replace(addresses.repository(), "someone/else"), encoding="utf-8")
    assert any(problem.startswith(Path(name).stem) for problem in authoring.differences())


@pytest.mark.parametrize("name", ["foo", "a/b/c", "https://github.com/a/b", "/b", "a/", "a b/c", "-a/b", ""])
def test_a_bad_name_is_one_sentence_and_changes_nothing(course, capsys, name):
    before = (course / "pyproject.toml").read_text(encoding="utf-8")
    error = refused(["repository", "--", name], capsys)
    assert error.startswith("error: ") and "OWNER/NAME" in error and "\n" not in error
    assert (course / "pyproject.toml").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    "address",
    [
        *(
            "https://github.com/ada/my.course",
            "https://github.com/ada/my.course.git",
            "https://me@github.com/ada/my.course",
        ),
        *(
            "git@github.com:ada/my.course.git",
            "ssh://git@github.com/ada/my.course.git",
            "https://github.com/ada/my.course/",
        ),
    ],
)
def test_the_default_is_the_origin(course, address, capsys):
    subprocess.run(["git", "-C", course, "init", "--quiet"], check=True)
    subprocess.run(["git", "-C", course, "remote", "add", "origin", address], check=True)
    assert authoring.main(["repository"]) == 0
    assert addresses.repository() == "ada/my.course"


@pytest.mark.parametrize(
    "address", ["https://example.org/a/b.git", "/srv/git/course", "https://example.org/github.com/a/b"]
)
def test_an_origin_that_is_not_on_github_is_one_sentence(course, address, capsys):
    subprocess.run(["git", "-C", course, "init", "--quiet"], check=True)
    subprocess.run(["git", "-C", course, "remote", "add", "origin", address], check=True)
    assert f"origin is '{address}', which is not on GitHub" in refused(["repository"], capsys)


def test_no_origin_is_one_sentence(course, capsys):
    subprocess.run(["git", "-C", course, "init", "--quiet"], check=True)
    assert refused(["repository"], capsys).startswith("error: git has no remote called origin")


@pytest.fixture
def executed(course, monkeypatch) -> list[str]:
    """The names of the notebooks that are executed, without executing them."""
    names = []
    monkeypatch.setattr(authoring, "execute", lambda source, preset: names.append(source.stem))
    return names


def test_execute_skips_what_is_fresh(executed, course, capsys):
    assert authoring.main(["execute"]) == 0
    assert executed == [] and capsys.readouterr().out.count("fresh, skipped") == len(SOURCES)


def test_execute_runs_what_is_stale_and_goes_on_from_there(executed, course):
    source = course / "notebooks" / "02_conditioned_unet.py"
    source.write_text(source.read_text(encoding="utf-8") + "\n# %%\n6 * 7\n", encoding="utf-8")
    (course / "notebooks" / "03_training_and_sampling.ipynb").unlink()
    authoring.main(["execute"])
    assert executed == ["02_conditioned_unet", "03_training_and_sampling"]


def test_execute_runs_a_fresh_notebook_that_is_named(executed, course):
    authoring.main(["execute", "01_data"])
    assert executed == ["01_data"]


def test_execute_at_another_preset_runs_all(executed, course):
    authoring.main(["execute", "--preset", "smoke"])
    assert executed == [source.stem for source in SOURCES]


def test_citation_has_what_the_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == addresses.project_value("version")
