"""A real browser drives a real JupyterLab: open notebook 3, run it all, drag the slider, press Resample."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

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
def lab(tmp_path_factory):
    """The address of a JupyterLab on a copy of the course."""
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
            yield address
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
    page.goto(f"{lab}/lab/tree/notebooks/{request.param}.ipynb?reset")
    page.wait_for_function(CONNECTED, timeout=120_000)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(ALL_RUN, timeout=120_000)
    yield page
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{request.param}.png")
    page.close()


def wait_for_status(page, beginning: str):
    """Wait until the panel says what it has drawn."""
    starts = "beginning => document.querySelector('.class-picker-status').textContent.startsWith(beginning)"
    page.wait_for_function(starts, arg=beginning, timeout=30_000)


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
