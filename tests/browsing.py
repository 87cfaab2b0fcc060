"""What the tests with a browser share: a Jupyter server on a copy of the course, and what can be seen on its pages."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
import torch

from course_utils.classifier import load_classifier
from tools import authoring

ROOT = Path(__file__).parent.parent
ARTIFACTS = ROOT / "artifacts"
DESKTOP, PHONE = {"width": 1280, "height": 1000}, {"width": 390, "height": 844}
PATIENCE = 240_000  # milliseconds: several notebooks run at a time, maybe on a busy machine

CONNECTED = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"
ALL_RUN = """() => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.textContent.trim());
    return prompts.length > 0 && prompts.every(text => /^\\[\\d+\\]:?$/.test(text));
}"""
PANELS = ".class-picker, .noise-slider, .embedding-mixer, .guidance-slider"

# The middle of each of the picture's 28 x 28 fields, 0 .. 255.
PIXELS = """panel => {
    const image = document.querySelector(`${panel} img`);
    if (!image?.complete || !image.naturalWidth) return null;
    const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const side = canvas.height / 28, pixels = [];
    for (let y = 0; y < 28; y++) for (let x = 0; x < canvas.width / side; x++)
        pixels.push(context.getImageData((x + 0.5) * side, (y + 0.5) * side, 1, 1).data[0]);
    return pixels;
}"""

# How high the page must be to show all cells at once: those out of sight are laid out only when they come into sight.
NOTEBOOK_HEIGHT = """() => {
    const cells = [...document.querySelectorAll('.jp-Notebook .jp-Cell')];
    document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0;
    return Math.ceil(cells.at(-1).getBoundingClientRect().bottom - cells[0].getBoundingClientRect().top) + 150;
}"""

# Outputs and prose that reach beyond the screen, where no bar lets a reader scroll them.
OVERFLOWING = """() => [...document.querySelectorAll('.jp-OutputArea-output *, .jp-MarkdownOutput *')].filter(element => {
    const box = element.getBoundingClientRect();
    if (!box.width || box.right <= innerWidth + 1) return false;
    for (let up = element; up && !up.matches('.jp-Cell'); up = up.parentElement)
        if (['auto', 'scroll'].includes(getComputedStyle(up).overflowX)) return false;
    return true;
}).map(element => element.outerHTML.slice(0, 200))"""

# Buttons whose words are cut off, and sliders too short to be dragged.
CRAMPED = """() => [
    ...[...document.querySelectorAll('button.jupyter-button')].filter(button => button.scrollWidth > button.clientWidth),
    ...[...document.querySelectorAll('.noUi-target')].filter(track => track.offsetWidth && track.offsetWidth < 100),
].map(element => element.outerHTML.slice(0, 200))"""

# Texts of outputs, prose and panels (not the colours that JupyterLab itself gives code) whose contrast with what lies under them is under 3 (WCAG, for large text).
UNREADABLE = """() => {
    const channels = color => (color.match(/[\\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(x => x / 255).map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = element => {
        for (let up = element; up; up = up.parentElement) {
            const color = channels(getComputedStyle(up).backgroundColor);
            if (color.length === 3 || color[3] > 0.5) return color;
        }
        return [255, 255, 255];
    };
    const texts = [...document.querySelectorAll('.jp-OutputArea-output *, .jp-MarkdownOutput *')].filter(element =>
        element.offsetWidth && !element.closest('option, mjx-assistive-mml, pre code') &&
        [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()));
    return texts.filter(element => {
        const [high, low] = [light(channels(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05) < 3;
    }).map(element => `${element.tagName}: ${element.textContent.slice(0, 60)}`);
}"""


class Jupyter(NamedTuple):
    """A running Jupyter server, with JupyterLab and Notebook 7."""

    address: str
    folder: Path


def unavailable(reason: str):
    """Skip for those who have no browser; fail where the check must run."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def chromium():
    """A browser without a window."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright is not installed: pip install playwright")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if not path:
        unavailable("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


def copy_of_the_course(folder: Path):
    """The course as a learner has it who takes the weights that come with it, as notebook 3 offers.

    The notebooks are made from their sources: what a learner has answered and saved plays no part.
    """
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "course_utils", folder / "course_utils", ignore=ignored)
    (folder / "notebooks").mkdir()
    for path in (*ROOT.glob("notebooks/[0-9]*.py"), ROOT / "notebooks" / "jupytext.toml"):
        text = path.read_text(encoding="utf-8")
        assert text.count("train_here = True") == path.name.startswith("03_")
        text = text.replace("train_here = True", "train_here = False")
        (folder / "notebooks" / path.name).write_text(text, encoding="utf-8")
    for source in folder.glob("notebooks/*.py"):
        nbformat.write(authoring.read_script(source), source.with_suffix(".ipynb"))


@contextmanager
def jupyter_server(folder: Path):
    """A Jupyter server on a copy of the course, at the smoke preset."""
    copy_of_the_course(folder)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    options = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    options += [f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=", "--ServerApp.password="]
    options += ["--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options]
    environment = os.environ | {"COURSE_PRESET": "smoke", "JUPYTER_CONFIG_DIR": str(folder / "config")}
    environment["OMP_NUM_THREADS"] = "1"  # kernels that compute at once with two threads each wait for each other
    with open(folder / "server.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for_server(address, server, folder / "server.log")
            yield Jupyter(address, folder)
        finally:
            server.terminate()
            server.wait(20)


def wait_for_server(address: str, server, log: Path):
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=2)
            return
        except OSError:
            assert server.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.5)
    pytest.fail(f"JupyterLab does not answer: {log.read_text(encoding='utf-8')[-2000:]}")


def new_page(browser, viewport: dict = DESKTOP):
    """A page, and the list to which its errors will be added."""
    page, errors = browser.new_page(viewport=viewport), []
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return page, errors


def open_and_run(page, jupyter: Jupyter, name: str, command: str = "notebook:run-all-cells"):
    """Open a notebook in JupyterLab, and ask for all its cells, or what else `command` says."""
    page.goto(f"{jupyter.address}/lab/tree/notebooks/{name}.ipynb?reset")
    page.wait_for_function(CONNECTED)
    execute(page, command)


def write_notebook(jupyter: Jupyter, name: str, sources: list[str]):
    """Put a notebook of a test's own beside the course's."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # without it Lab asks which one
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, jupyter.folder / "notebooks" / f"{name}.ipynb")


def execute(page, command: str, wait: bool = False, **arguments):
    """A command of JupyterLab's; `wait` until it is done."""
    done = "window.jupyterapp.commands.execute(command, given)"
    page.evaluate(
        f"([command, given]) => {f'{done}.then(() => null)' if wait else f'void {done}'}", [command, arguments]
    )


def save_screen(page, name: str, height: int = 0):
    """Keep what the page shows as an artifact; all of a page that is made so high for it."""
    ARTIFACTS.mkdir(exist_ok=True)
    before = page.viewport_size
    if height:
        page.set_viewport_size(before | {"height": height})
        page.wait_for_timeout(300)
    page.screenshot(path=ARTIFACTS / f"{name}.png")
    if height:
        page.set_viewport_size(before)


def lay_out(page) -> int:
    """The height of the whole notebook, whose cells have all been laid out: each that comes into sight may grow."""
    before = page.viewport_size
    for _ in range(4):
        height = min(page.evaluate(NOTEBOOK_HEIGHT), 32_000)
        page.set_viewport_size(before | {"height": height})
        page.wait_for_timeout(200)
    page.set_viewport_size(before)
    return height


def assert_no_errors(page):
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").all_text_contents() == []
    assert page.get_by_text("Error displaying widget").count() == 0


def status_of(page, panel: str = ".class-picker") -> str:
    """What the panel says in words."""
    return page.locator(f"{panel} > .widget-label").text_content()


def wait_for_status(page, beginning: str, panel: str = ".class-picker"):
    """Wait until the panel says what it has drawn."""
    script = "([label, start]) => document.querySelector(label)?.textContent.startsWith(start)"
    page.wait_for_function(script, arg=[f"{panel} > .widget-label", beginning], timeout=60_000)


def picture(page, panel: str = ".class-picker") -> list[int]:
    """The picture's pixels, 28 rows of them, 0 .. 255, as the browser shows them."""
    return page.wait_for_function(PIXELS, arg=panel).json_value()


def next_picture(page, before: list[int], panel: str = ".class-picker") -> list[int]:
    """The picture once it differs from an earlier one: the browser shows it after its message has come."""
    differs = f"""([panel, before]) => {{
        const now = ({PIXELS})(panel);
        return now && now.join() !== before.join() ? now : null;
    }}"""
    return page.wait_for_function(differs, arg=[panel, before], timeout=20_000).json_value()


def recognised(pictures: list[list[int]]) -> list[int]:
    """The digits that the bundled classifier sees in pictures from the page, where ink is dark and paper is white."""
    images = 1 - torch.tensor(pictures).view(-1, 1, 28, 28) / 127.5
    with torch.inference_mode():
        return load_classifier("mnist")(images).argmax(1).tolist()


def drag(page, share: float, panel: str = ".class-picker", release: bool = True):
    """Take the handle with the mouse, and pull it to a share of the track."""
    handle = page.locator(f"{panel} .noUi-handle").first.bounding_box()
    track = page.locator(f"{panel} .noUi-target").first.bounding_box()
    height = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, height)
    page.mouse.down()
    page.mouse.move(track["x"] + share * track["width"], height, steps=5)
    if release:
        page.mouse.up()


def press(page, key: str, part: str = ".class-picker-slider"):
    """Press a key on a slider's handle."""
    page.locator(f"{part} .noUi-handle").first.focus()
    page.keyboard.press(key)
