"""A real browser drives the course as a learner does: opens each notebook, runs it, drags, presses keys, looks."""

import random
import re

import pytest

from browsing import (
    ALL_RUN,
    CONNECTED,
    CRAMPED,
    OVERFLOWING,
    PANELS,
    PHONE,
    ROOT,
    UNREADABLE,
    assert_no_errors,
    chromium,
    drag,
    execute,
    jupyter_server,
    lay_out,
    new_page,
    next_picture,
    open_and_run,
    picture,
    press,
    recognised,
    save_screen,
    status_of,
    unavailable,
    wait_for_status,
    write_notebook,
)

NOTEBOOKS = sorted(path.stem for path in ROOT.glob("notebooks/[0-9]*.py"))
DATA, TRAINING, EMBEDDING, CLOTHES = (
    "01_data",
    "03_training_and_sampling",
    "04_embedding_size",
    "06_fashion_mnist_challenge",
)

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
from course_utils.pictures import png_bytes
from course_utils.widgets import ClassPicker
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

# A training that would take hours, and what a learner does next: Run All sends all cells at once.
TRAINING_NOTEBOOK = [
    """import torch
from course_utils.data import load_sample
from course_utils.model import ClassConditionedUnet
from course_utils.recipes import Recipe
from course_utils.training import TrainingConfig
config = TrainingConfig.fast(num_epochs=10**6, batch_size=8)
model = ClassConditionedUnet(block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4, unconditional=True)
before = model.class_emb.weight.detach().clone()
recipe = Recipe(lambda: model, ((28, config), (28, config)), "v_prediction", "dpmsolver++", 6, 2.0)""",
    """pipe, run = recipe.train(load_sample("mnist"), device="cpu")""",
    """learned = not torch.equal(model.class_emb.weight, before)
print(f"ended early: {run.interrupted}, after {len(run.losses)} steps, learned: {learned}")""",
]

# Notebook 7's own, on every notebook.
ERRORS_OF_NOTEBOOK_7 = {
    "Cannot read properties of undefined (reading 'schema')",
    "Command 'filebrowser:open-path' not registered.",
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    with jupyter_server(tmp_path_factory.mktemp("course")) as server:
        yield server


class Pages:
    """JupyterLab's pages with the course's notebooks, each run once; the next one runs while one is being looked at."""

    def __init__(self, browser, jupyter):
        self.browser, self.jupyter, self.pages, self.errors = browser, jupyter, {}, {}
        self.saved = set()

    def start(self, name: str):
        if name not in self.pages:
            self.pages[name], self.errors[name] = new_page(self.browser)
            open_and_run(self.pages[name], self.jupyter, name)

    def get(self, name: str):
        """The page with a notebook, all of whose cells have run."""
        self.start(name)
        for following in NOTEBOOKS[NOTEBOOKS.index(name) + 1 :][:1]:
            self.start(following)
        self.pages[name].wait_for_function(ALL_RUN)
        return self.pages[name]

    def with_panel(self, name: str, panel: str):
        """The same, with a panel in sight: JupyterLab lays out only cells that are."""
        page = self.get(name)
        lay_out(page)
        enter_cell_of_panel(page, panel)
        return page


@pytest.fixture(scope="module")
def pages(browser, jupyter):
    return Pages(browser, jupyter)


@pytest.fixture
def training(pages):
    """Notebook 3, its panel in sight."""
    return pages.with_panel(TRAINING, ".class-picker")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_runs_and_can_be_read(pages, name):
    """In JupyterLab's light theme, and in its dark one with all hints unfolded."""
    page = pages.get(name)
    lay_out(page)
    assert_no_errors(page)
    source = (ROOT / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
    panels = len(re.findall(r"^(?:ClassPicker|NoiseSlider|EmbeddingMixer|GuidanceSlider)\(", source, re.MULTILINE))
    assert page.locator(PANELS).count() == panels
    for panel in page.locator(PANELS).all():
        assert panel.locator("img").evaluate("image => image.complete && image.naturalHeight") == 224
        assert panel.locator("> .widget-label").text_content()
    for theme, kind in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "desktop")):
        execute(page, "apputils:change-theme", wait=True, theme=theme)
        page.wait_for_function("dark => document.body.dataset.jpThemeLight !== String(dark)", arg=kind == "dark")
        page.evaluate("open => document.querySelectorAll('details').forEach(x => { x.open = open })", kind == "dark")
        save_screen(page, f"{name}-{kind}", lay_out(page))
        assert page.evaluate(UNREADABLE) == [], kind
    assert pages.errors[name] == []


def notebook_7(pages, name: str):
    """A notebook that has been run in JupyterLab, opened in Notebook 7 on a phone, with the kernel still there."""
    if name not in pages.saved:  # a second time JupyterLab might ask about what Notebook 7 has saved in between
        execute(pages.get(name), "docmanager:save", wait=True)
        pages.saved.add(name)
    page, errors = new_page(pages.browser, PHONE)
    page.goto(f"{pages.jupyter.address}/notebooks/notebooks/{name}.ipynb")
    if page.locator("body.jp-ThemedContainer, body[data-notebook]").count() == 0:
        unavailable("Notebook 7 is not installed: pip install notebook")
    page.wait_for_function(CONNECTED)
    return page, errors


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_fits_on_a_phone(pages, name):
    """In Notebook 7, which shows one document without JupyterLab's frame."""
    page, errors = notebook_7(pages, name)
    panels = pages.get(name).locator(PANELS).count()
    page.wait_for_function(
        "([panels, count]) => document.querySelectorAll(panels).length === count", arg=[PANELS, panels]
    )
    save_screen(page, f"{name}-phone", lay_out(page))
    assert_no_errors(page)
    assert page.evaluate(OVERFLOWING) == page.evaluate(CRAMPED) == []
    assert set(errors) <= ERRORS_OF_NOTEBOOK_7
    page.close()


def test_the_picture_shows_the_digit_that_the_slider_says(training):
    """By arrow keys, mouse, menu, other noise and much guidance: the classifier recognises all but an odd one."""
    page, asked, drawn = training, [], []

    def note(label: int, before: list[int]):
        wait_for_status(page, f"digit {label}, drawn in ")
        asked.append(label)
        drawn.append(next_picture(page, before))

    wait_for_status(page, "digit 0,")
    for label in range(1, 10):
        before = picture(page)
        press(page, "ArrowRight")
        note(label, before)
    for label in (2, 7, 0, 9, 4):
        before = picture(page)
        drag(page, label / 9)
        note(label, before)
    for label in (5, 6, 7, 8, 3):
        before = picture(page)
        press(page, "Home")
        for _ in range(label):
            press(page, "ArrowRight")
        note(label, before)
        before, status = picture(page), status_of(page)
        page.locator(".class-picker-resample").click()
        page.wait_for_function("old => document.querySelector('.class-picker-status').textContent !== old", arg=status)
        note(label, before)
    seen = recognised(drawn)
    right = sum(label == digit for label, digit in zip(asked, seen))
    assert len(asked) == 24 and right >= 22, f"{right} of {len(asked)} recognised: asked for {asked}, recognised {seen}"


def test_guidance_steps_and_menu(training):
    page = training
    page.locator(".class-picker-unfold").click()
    press(page, "Home")
    press(page, "ArrowRight")
    wait_for_status(page, "digit 1,")
    drawn = []
    for part, key in (("guidance", "End"), ("steps", "End"), ("steps", "Home"), ("guidance", "Home")):
        before = picture(page)
        press(page, key, f".class-picker-{part}")
        drawn.append(next_picture(page, before))
        wait_for_status(page, "digit 1, drawn in ")
    assert recognised(drawn[:2]) == [1, 1]  # at full guidance
    press(page, "PageUp", ".class-picker-steps")
    before = next_picture(page, drawn[-1])
    press(page, "PageUp", ".class-picker-guidance")  # at 0 the label plays no part
    before = next_picture(page, before)
    page.locator(".class-picker-chooser select").focus()
    page.keyboard.press("7")
    wait_for_status(page, "digit 7,")
    assert page.locator(".class-picker-slider .noUi-handle").get_attribute("aria-valuetext") == "7"
    next_picture(page, before)
    page.locator(".class-picker .jupyter-widget-Collapse-header").click()
    page.locator(".class-picker-more").wait_for(state="hidden")
    assert_no_errors(page)


def tab_to(page, selector: str):
    """Press Tab until something is reached: a few times, for there is little in between."""
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.closest(selector) !== null", selector):
            return
    pytest.fail(f"five Tabs do not reach {selector}")


def enter_cell_of_panel(page, panel: str = ".class-picker"):
    """Stand on the panel's cell in command mode, as the arrow keys would bring one there."""
    script = """panel => {
        const notebook = window.jupyterapp.shell.currentWidget.content;
        notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.node.querySelector(panel));
        void notebook.scrollToItem(notebook.activeCellIndex);
        notebook.mode = 'command';
        notebook.activate();
    }"""
    page.evaluate(script, panel)
    page.locator(panel).first.wait_for()


def test_the_panel_by_keyboard_alone(training):
    page = training
    enter_cell_of_panel(page)
    tab_to(page, ".class-picker-slider .noUi-handle")
    before = picture(page)
    page.keyboard.press("End")
    wait_for_status(page, "digit 9,")
    before = next_picture(page, before)
    tab_to(page, ".class-picker-resample")
    for key in ("Space", "Enter"):
        page.keyboard.press(key)
        before = next_picture(page, before)
    tab_to(page, ".class-picker-unfold")
    assert page.locator(".class-picker-guidance").is_hidden()
    page.keyboard.press("Space")
    page.locator(".class-picker-guidance").wait_for()
    for part in ("guidance", "steps"):
        tab_to(page, f".class-picker-{part} .noUi-handle")
        page.keyboard.press("End")
        before = next_picture(page, before)
    tab_to(page, ".class-picker-chooser select")
    page.keyboard.press("Home")  # JupyterLab keeps the arrows up and down for its cells
    wait_for_status(page, "digit 0,")
    next_picture(page, before)


def test_what_a_screen_reader_is_told(training):
    """A slider of ipywidgets has a value but no name, and its pictures no text: the line below says both in words."""
    panel = training.locator(".class-picker")
    press(training, "Home")
    press(training, "ArrowRight")
    wait_for_status(training, "digit 1, drawn in ")
    handle = panel.get_by_role("slider").first
    values = [handle.get_attribute(f"aria-value{end}") for end in ("min", "max", "now", "text")]
    assert values == ["0.0", "9.0", "1.0", "1"]
    for button in ("Resample", "More"):
        assert panel.get_by_role("button", name=button).count() == 1
    tree = panel.aria_snapshot()
    assert tree.index("text: digit") < tree.index("slider") < tree.index("img") < tree.index("digit 1, drawn in")
    assert panel.get_by_role("combobox", name="digit").count() == 1


def test_the_panels_cell_run_again_shows_one_panel(training):
    page = training
    old = page.locator(".class-picker").element_handle()
    enter_cell_of_panel(page)
    execute(page, "notebook:run-cell")
    page.wait_for_function("old => !old.isConnected", arg=old)
    page.locator(".class-picker").wait_for()
    assert_one_panel(page)
    before = picture(page)
    press(page, "End")
    wait_for_status(page, "digit 9,")
    next_picture(page, before)


def test_noise_slider(pages):
    panel = ".noise-slider"
    page = pages.with_panel(DATA, panel)
    before, status = picture(page, panel), status_of(page, panel)
    assert status == "t = 0: 1.000 x picture + 0.006 x noise"
    press(page, "End", panel)
    wait_for_status(page, "t = 999: 0.000 x picture + 1.000 x noise", panel)
    noise = next_picture(page, before, panel)
    drag(page, 0.5, panel)
    halfway = next_picture(page, noise, panel)
    press(page, "Home", panel)
    wait_for_status(page, status, panel)
    next_picture(page, halfway, panel)


def test_embedding_mixer(pages):
    panel = ".embedding-mixer"
    page = pages.with_panel(EMBEDDING, panel)
    before = picture(page, panel)
    press(page, "Home", panel)
    wait_for_status(page, "100% of 3, 0% of 8", panel)
    three = next_picture(page, before, panel)
    drag(page, 1, panel)
    wait_for_status(page, "0% of 3, 100% of 8", panel)
    eight = next_picture(page, three, panel)
    page.locator(f"{panel} select").nth(1).select_option("5")
    wait_for_status(page, "0% of 3, 100% of 5", panel)
    five = next_picture(page, eight, panel)
    page.locator(f"{panel} button").click()
    next_picture(page, five, panel)
    assert status_of(page, panel).endswith("(seed 1)")


def test_slider_with_names(pages):
    page = pages.with_panel(CLOTHES, ".class-picker")
    wait_for_status(page, "class T-shirt, drawn in ")
    before = picture(page)
    press(page, "ArrowRight")
    wait_for_status(page, "class Trouser, drawn in ")
    trouser = next_picture(page, before)
    picker = page.locator(".class-picker").first  # the second one draws the learner's own pictures
    assert picker.locator(".class-picker-slider .widget-readout").text_content() == "Trouser"
    drag(page, 1)
    wait_for_status(page, "class Ankle boot, drawn in ")
    next_picture(page, trouser)
    picker.locator(".class-picker-unfold").click()
    assert picker.get_by_role("combobox", name="class").input_value() == "Ankle boot"


def test_notebook_7_continues_with_the_panel(pages):
    """Opened anew, the panel is there, and its cell run again there, too."""
    page, errors = notebook_7(pages, TRAINING)
    page.locator(".class-picker-status").wait_for()
    page.locator(".class-picker-status").scroll_into_view_if_needed()
    for _ in range(2):
        press(page, "Home")
        wait_for_status(page, "digit 0,")
        before = picture(page)
        drag(page, 1)
        wait_for_status(page, "digit 9,")
        before = next_picture(page, before)
        page.locator(".class-picker-resample").click()
        next_picture(page, before)
        old = page.locator(".class-picker").element_handle()
        enter_cell_of_panel(page)
        execute(page, "notebook:run-cell")
        page.wait_for_function("old => !old.isConnected", arg=old)
        page.locator(".class-picker-status").wait_for()
    assert_one_panel(page)
    assert set(errors) <= ERRORS_OF_NOTEBOOK_7
    page.close()


def prompts(page) -> list[str]:
    return [text.strip() for text in page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()]


def last_output(page) -> re.Match:
    """What the last cell printed, once it has: status, hash of the picture, training steps."""
    page.wait_for_function("document.querySelector('.jp-Notebook').textContent.includes(' training steps so far')")
    pattern = r"(digit \d, drawn in [^;]*); picture (\d+); (\d+) training steps so far"
    return re.search(pattern, page.locator(".jp-Notebook").text_content())


def assert_one_panel(page):
    assert_no_errors(page)
    assert page.locator(".class-picker").count() == 1
    assert page.locator("img.class-picker-image, .class-picker-image img").count() == 1


@pytest.fixture
def busy(browser, jupyter):
    """A page with a panel and, under it, a cell that trains until a file called `stop` appears; and that file."""
    write_notebook(jupyter, "busy", BUSY_NOTEBOOK)
    stop = jupyter.folder / "notebooks" / "stop"
    stop.unlink(missing_ok=True)
    page, errors = new_page(browser)
    open_and_run(page, jupyter, "busy", "notebook:run-cell-and-select-next")
    wait_for_status(page, "digit 0,")
    press(page, "ArrowRight")
    wait_for_status(page, "digit 1,")
    execute(page, "notebook:run-all-below")
    yield page, stop
    stop.touch()
    save_screen(page, "busy")
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()
    assert not errors


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


def test_a_kernel_restart_in_the_middle_of_a_drag(browser, jupyter):
    write_notebook(jupyter, "restart", BUSY_NOTEBOOK[:1])
    page, _ = new_page(browser)
    open_and_run(page, jupyter, "restart")
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
    wait_for_status(page, "digit 0,")
    drag(page, 1)
    wait_for_status(page, "digit 9,")
    assert_one_panel(page)
    page.close()


def test_training_panel_draws_while_the_cell_runs_and_stop_ends_it(browser, jupyter):
    panel = ".training-panel"
    write_notebook(jupyter, "watching", TRAINING_NOTEBOOK)
    page, errors = new_page(browser)
    open_and_run(page, jupyter, "watching")
    wait_for_status(page, "step ", panel)
    before = picture(page, panel)
    next_picture(page, before, panel)
    wait_for_words(page, r"^step \\d+ of [\\d,]+, part 1 of 2: loss \\d\\.\\d{4}, about [\\d.]+ h left$", panel)
    save_screen(page, "training-panel")
    assert page.evaluate(CRAMPED) == page.evaluate(UNREADABLE) == []
    assert prompts(page)[1:] == ["[*]:", "[*]:"]
    page.get_by_role("button", name="Stop").click()
    wait_for_status(page, "stopped after step ", panel)
    page.wait_for_function(ALL_RUN)
    save_screen(page, "training-panel-stopped")
    assert [int(number) for text in prompts(page) for number in re.findall(r"\d+", text)] == [1, 2, 3]
    said = page.locator(".jp-OutputArea-output pre").last.text_content()
    assert re.fullmatch(r"ended early: True, after \d+ steps, learned: True\n?", said)
    assert page.get_by_role("button", name="Stop").count() == 0 and not errors
    assert_no_errors(page)
    page.close()


def wait_for_words(page, pattern: str, panel: str):
    """Wait until the panel's status matches a regular expression."""
    script = f"panel => new RegExp('{pattern}').test(document.querySelector(`${{panel}} > .widget-label`)?.textContent)"
    page.wait_for_function(script, arg=panel, timeout=60_000)
