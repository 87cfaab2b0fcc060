import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from PIL import Image

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {"torch": "pytorch"}


def requirements() -> dict[str, str]:
    """Each required package and its versions, as requirements.txt has them."""
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    return dict(re.fullmatch(r"([\w-]+)(\S*)", line).groups() for line in lines)


def test_conda_environment_asks_for_the_same():
    lines = re.findall(
        r"^  - (\S+)$", (ROOT / "environment.yml").read_text(encoding="utf-8").split("dependencies:")[1], re.MULTILINE
    )
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
        imported |= set(re.findall(r"^(?:from|import) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    others = {name.lower() for name in imported} - set(sys.stdlib_module_names) - {"course_utils"}
    assert {standard.get(name, name) for name in others} <= set(requirements())


def test_the_floors_that_are_tested_are_those_of_the_requirements():
    script = (ROOT / ".ci" / "floors").read_text(encoding="utf-8")
    derive = re.search(r"^(grep .+ requirements.txt .+) > ", script, re.MULTILINE).group(1)
    pins = subprocess.run(
        ["bash", "-c", derive], cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.split()
    floors = {name: re.search(r">=([\d.]+)", versions).group(1) for name, versions in requirements().items()}
    assert pins == [f"{name}=={floor}" for name, floor in floors.items()]
    assert "- run: .ci/floors" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


def test_a_dev_container_sets_itself_up_as_readme_says():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert f"{container['postCreateCommand']} && .venv/bin/jupyter lab" in (ROOT / "README.md").read_text(
        encoding="utf-8"
    )
    assert container["image"].startswith("python:3.")


def test_windows_gets_the_same_commands():
    """README's commands for PowerShell are those for other systems, but for the folder, the slashes and the `&&`."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in re.findall(r"```bash\n(python3 -m venv .+)\n", readme):
        windows = (
            command.replace("python3 -m venv", "py -m venv")
            .replace(" && ", "; ")
            .replace(".venv/bin/", ".venv\\Scripts\\")
        )
        assert windows.replace("notebooks/01", "notebooks\\01") in readme


def test_hooks_fetch_nothing_and_are_what_ci_runs():
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    entries = " ".join(hook["entry"] for hook in repositories[0]["hooks"])
    assert "ruff check" in entries and "ruff format" in entries and "tools.authoring check" in entries


def test_bundled_weights_are_safetensors_and_small():
    files = [path for path in (ROOT / "course_utils" / "pretrained").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md"}
    assert sum(path.stat().st_size for path in files) < 25_000_000


def test_readmes_animation_moves_and_is_small():
    path = ROOT / "notebooks" / "images" / "slider.gif"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f'<img src="{path.relative_to(ROOT)}"' in readme.split("## Start")[0]
    assert path.stat().st_size < 2_000_000
    with Image.open(path) as animation:
        assert animation.n_frames > 20 and animation.info.get("loop") == 0
        seen, milliseconds = set(), 0
        for frame in range(animation.n_frames):
            animation.seek(frame)
            milliseconds += animation.info["duration"]
            seen.add(hash(animation.convert("L").resize((70, 30)).tobytes()))
    assert len(seen) > 10 and 5_000 < milliseconds < 12_000
