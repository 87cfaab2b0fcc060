"""A real browser drives a real JupyterLab: open a notebook, run it all, drag the slider, press Resample."""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
ARTIFACTS = ROOT / "artifacts"
CONNECTED = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"
ALL_RUN = """() => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.textContent.trim());
    return prompts.length > 0 && prompts.every(text => /^\\[\\d+\\]:?$/.test(text));
}"""
HASH_OF_PICTURE = """() => {
    const image = document.querySelector('img.class-picker-image, .class-picker-image img');
    const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height).data.reduce((sum, x) => (31 * sum + x) % 1000003, 7);
}"""


# What a learner may do at once: play with the panel while a cell trains the network that it was made from.
BUSY_NOTEBOOK = [
    """import io
from pathlib import Path
import numpy as np, torch
from PIL import Image
from course_utils.data import ImageDataset
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import make_scheduler
from course_utils.training import TrainingConfig, train
from course_utils.widgets import ClassPicker, png_bytes
pipe = ClassConditionedPipeline.from_pretrained("mnist")
picker = ClassPicker(pipe)
picker""",
    """noise = ImageDataset(torch.randint(0, 255, (50, 1, 28, 28), dtype=torch.uint8), torch.arange(50) % 10, pipe.class_names, "mnist")
scheduler, config, steps = make_scheduler("ddpm", "v_prediction"), TrainingConfig(batch_size=8, max_steps=1), 0
while not Path("stop").exists():
    steps += len(train(pipe.unet, noise, scheduler, config, device="cpu", progress=False).losses)""",
    """fresh = torch.Generator().manual_seed(picker.seed)
fresh = picker.pipe([picker.slider.value], picker.steps.value, picker.guidance.value, fresh, "pt").images
assert picker.image.value == png_bytes(fresh), "another picture is shown than the controls say"
number = 7
for x in np.asarray(Image.open(io.BytesIO(picker.image.value)).convert("RGBA")).ravel().tolist():
    number = (31 * number + x) % 1000003
print(f"{picker.status.value}; picture {number}; {steps} training steps so far")""",
]


class Lab(NamedTuple):
    """A running JupyterLab."""

    address: str
    folder: Path


def unavailable(reason: str):
    """Skip for those who have no browser; fail where the check must run."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright is not installed: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        unavailable("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    """A JupyterLab on a copy of the course."""
    folder = tmp_path_factory.mktemp("course")
    for part in ("notebooks", "course_utils"):
        shutil.copytree(
            ROOT / part, folder / part, ignore=shutil.ignore_patterns("runs", "__pycache__", ".ipynb_checkpoints")
        )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    options = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
    ]
    options += ["--IdentityProvider.token=", "--ServerApp.password=", "--LabApp.expose_app_in_browser=True"]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options]
    environment = os.environ | {"COURSE_PRESET": "smoke", "JUPYTER_CONFIG_DIR": str(folder / "config")}
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(address, server, folder / "lab.log")
            yield Lab(address, folder)
        finally:
            server.terminate()
            server.wait(20)


def wait_for(address: str, server, log: Path):
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=2)
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.5)
    pytest.fail(f"JupyterLab does not answer: {log.read_text()[-2000:]}")


@pytest.fixture
def notebook(browser, lab, request):
    """A page with a notebook, all of whose cells have run."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    open_and_run(page, lab, request.param)
    page.wait_for_function(ALL_RUN, timeout=120_000)
    yield page
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{request.param}.png")
    page.close()


@pytest.fixture
def busy(browser, lab):
    """A page with a panel and, under it, a cell that trains until a file called `stop` appears; and that file."""
    cells = [nbformat.v4.new_code_cell(source) for source in BUSY_NOTEBOOK]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # without it Lab asks which one
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), lab.folder / "notebooks" / "busy.ipynb")
    stop, errors = lab.folder / "notebooks" / "stop", []
    stop.unlink(missing_ok=True)
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_and_run(page, lab, "busy", "notebook:run-cell-and-select-next")
    page.wait_for_function("document.querySelector('.class-picker-status')?.textContent.startsWith('digit 0,')")
    press(page, "ArrowRight")
    wait_for_status(page, "digit 1,")
    execute(page, "notebook:run-all-below")
    yield page, stop
    stop.touch()
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / "busy.png")
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()
    assert not errors


def open_and_run(page, lab: Lab, name: str, command: str = "notebook:run-all-cells"):
    """Open a notebook, and ask for all its cells, or what else `command` says."""
    page.set_default_timeout(120_000)
    page.goto(f"{lab.address}/lab/tree/notebooks/{name}.ipynb?reset")
    page.wait_for_function(CONNECTED)
    execute(page, command)


def execute(page, command: str):
    page.evaluate("command => void window.jupyterapp.commands.execute(command)", command)


def wait_for_status(page, beginning: str):
    """Wait until the panel says what it has drawn."""
    starts = "beginning => document.querySelector('.class-picker-status').textContent.startsWith(beginning)"
    page.wait_for_function(starts, arg=beginning, timeout=120_000)


def next_picture(page, before: int) -> int:
    """The hash of the picture once it differs from an earlier one: the browser shows it after its message has come."""
    page.wait_for_function(f"before => ({HASH_OF_PICTURE})() !== before", arg=before, timeout=10_000)
    return page.evaluate(HASH_OF_PICTURE)


def assert_no_errors(page):
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert page.get_by_text("Error displaying widget").count() == 0


@pytest.mark.parametrize("notebook", ["03_training_and_sampling"], indirect=True)
def test_slider_and_resample_redraw_the_digit(notebook):
    page = notebook
    assert_no_errors(page)
    status = page.locator(".class-picker-status")
    status.scroll_into_view_if_needed()
    wait_for_status(page, "digit 0,")
    before = page.evaluate(HASH_OF_PICTURE)

    page.locator(".class-picker-slider .noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    wait_for_status(page, "digit 1,")
    one = next_picture(page, before)

    text = status.text_content()
    page.locator("button.class-picker-resample, .class-picker-resample button").first.click()
    page.wait_for_function(
        "text => document.querySelector('.class-picker-status').textContent !== text", arg=text, timeout=30_000
    )
    assert status.text_content().startswith("digit 1,")
    next_picture(page, one)

    handle = page.locator(".class-picker-slider .noUi-handle").bounding_box()
    track = page.locator(".class-picker-slider .noUi-target").bounding_box()
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + track["width"], handle["y"] + handle["height"] / 2, steps=10)
    page.mouse.up()
    wait_for_status(page, "digit 9,")
    assert_no_errors(page)


@pytest.mark.parametrize("notebook", ["01_data"], indirect=True)
def test_noise_slider_moves(notebook):
    page = notebook
    assert_no_errors(page)
    label = page.locator(".noise-slider .widget-label").last
    page.locator(".noise-slider .noUi-handle").scroll_into_view_if_needed()
    page.locator(".noise-slider .noUi-handle").focus()
    page.keyboard.press("PageUp")
    page.wait_for_function("!document.querySelector('.noise-slider').textContent.includes('t = 0:')", timeout=30_000)
    assert label.is_visible()


def prompts(page) -> list[str]:
    return [text.strip() for text in page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()]


def drag(page, share: float, release: bool = True):
    """Take the handle with the mouse, and pull it to a share of the track."""
    handle = page.locator(".class-picker-slider .noUi-handle").bounding_box()
    track = page.locator(".class-picker-slider .noUi-target").bounding_box()
    height = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, height)
    page.mouse.down()
    page.mouse.move(track["x"] + share * track["width"], height, steps=5)
    if release:
        page.mouse.up()


def press(page, key: str):
    page.locator(".class-picker-slider .noUi-handle").focus()
    page.keyboard.press(key)


def last_output(page) -> re.Match:
    """What the last cell printed, once it has: status, hash of the picture, training steps."""
    page.wait_for_function("document.querySelector('.jp-Notebook').textContent.includes(' training steps so far')")
    pattern = r"(digit \d, drawn in [^;]*); picture (\d+); (\d+) training steps so far"
    return re.search(pattern, page.locator(".jp-Notebook").text_content())


def assert_one_panel(page):
    assert_no_errors(page)
    assert page.locator(".class-picker").count() == 1
    assert page.locator("img.class-picker-image, .class-picker-image img").count() == 1


def test_a_hundred_events_while_a_cell_trains(busy):
    page, stop = busy
    page.wait_for_function("document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')[1].textContent.includes('[*]')")
    generator = random.Random(0)
    for _ in range(99):
        kind = generator.choice(["drag", "key", "key", "resample"])
        if kind == "drag":
            drag(page, generator.random())
        elif kind == "key":
            press(page, generator.choice(["ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown"]))
        else:
            page.locator("button.class-picker-resample, .class-picker-resample button").first.click()
    press(page, "Home")
    press(page, "ArrowRight")
    assert prompts(page)[1].startswith("[*]"), "the training has ended: the events did not come while it ran"
    stop.touch()
    wait_for_status(page, "digit 1,")
    assert int(last_output(page)[3]) > 0
    assert_one_panel(page)


def test_a_kernel_restart_in_the_middle_of_a_drag(browser, lab):
    cell = nbformat.v4.new_code_cell(BUSY_NOTEBOOK[0])
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), lab.folder / "notebooks" / "restart.ipynb")
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    open_and_run(page, lab, "restart")
    page.wait_for_selector(".class-picker-status")
    wait_for_status(page, "digit 0,")
    drag(page, 0.7, release=False)
    wait_for_status(page, "digit 6,")
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.mouse.move(600, 400, steps=5)
    page.mouse.up()
    page.wait_for_function(CONNECTED)
    execute(page, "notebook:clear-all-cell-outputs")
    page.wait_for_selector(".class-picker", state="detached")
    execute(page, "notebook:run-all-cells")
    page.wait_for_selector(".class-picker-status")
    wait_for_status(page, "digit 0,")
    drag(page, 1)
    wait_for_status(page, "digit 9,")
    assert_one_panel(page)
    page.close()
