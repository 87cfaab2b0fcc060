"""Record README's animation, the slider in use, in a real browser.

    python tests/record_slider.py

Needs Playwright and Chromium, as the browser tests do.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))

from browsing import (
    DESKTOP,
    PATIENCE,
    ROOT,
    execute,
    jupyter_server,
    open_and_run,
    status_of,
    wait_for_status,
    write_notebook,
)

TARGET = ROOT / "notebooks" / "images" / "slider.gif"
SCALE = 1.5  # pixels of the animation for one of the page
COLORS = 64
GLIDE, HOLD, PAUSE = 60, 240, 900  # milliseconds; drawing a digit takes less than HOLD
CELL = """import sys
sys.path.insert(0, "..")
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.widgets import ClassPicker

picker = ClassPicker(ClassConditionedPipeline.from_pretrained("mnist"))
picker.seed = 4
picker.draw()
picker"""
# A browser without a screen shows no mouse pointer: draw one that follows the mouse.
POINTER = """() => {
    const pointer = document.createElement('div');
    pointer.innerHTML = `<svg width="22" height="30" viewBox="0 0 22 30"><path d="M2 2 L2 24 L8 18.5 L12 27 L15.5 25.5 L11.5 17 L19 17 Z"
        fill="black" stroke="white" stroke-width="1.5"/></svg>`;
    pointer.style.cssText = 'position: fixed; z-index: 9999; pointer-events: none; left: -50px; top: -50px';
    document.body.append(pointer);
    document.addEventListener('mousemove', event => {
        pointer.style.left = `${event.clientX - 2}px`; pointer.style.top = `${event.clientY - 2}px`;
    }, true);
}"""


class Recorder:
    """Takes pictures of the panel, and remembers how long each is to be shown."""

    def __init__(self, page):
        self.page, self.frames, self.durations = page, [], []
        panel = page.locator(".class-picker").bounding_box()
        last = page.locator(".class-picker button").last.bounding_box()
        width = last["x"] + last["width"] - panel["x"]
        self.clip = dict(x=panel["x"] - 8, y=panel["y"] - 4, width=width + 16, height=panel["height"] + 7)

    def take(self, duration: int):
        self.frames.append(Image.open(io.BytesIO(self.page.screenshot(clip=self.clip))).convert("RGB"))
        self.durations.append(duration)

    def save(self, target: Path):
        strip = Image.new("RGB", (self.frames[0].width, 60 * len(self.frames)))
        for i, frame in enumerate(self.frames):
            strip.paste(frame.crop((0, 0, frame.width, 60)), (0, 60 * i))  # the controls, where the colours are
        palette = strip.quantize(COLORS)
        first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames)
        target.parent.mkdir(parents=True, exist_ok=True)
        first.save(target, save_all=True, append_images=others, duration=self.durations, loop=0, optimize=True)


def middle(locator) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def glide(page, recorder: Recorder, to: tuple[float, float], start: tuple[float, float], frames: int = 5):
    """Move the mouse in a few steps, with a frame after each."""
    for i in range(1, frames + 1):
        page.mouse.move(*(a + (b - a) * i / frames for a, b in zip(start, to)))
        recorder.take(GLIDE)


def act(page, recorder: Recorder):
    """Drag from 0 to 9 and back to 3, then take other noise twice."""
    handle, track = page.locator(".class-picker-slider .noUi-handle"), page.locator(".class-picker-slider .noUi-target")
    ends = track.bounding_box()
    start = middle(handle)
    height = start[1]
    glide(page, recorder, start, (start[0] + 120, height + 90))
    page.mouse.down()
    at, track_at = 0, lambda digit: (ends["x"] + ends["width"] * digit / 9, height)
    for digit in (*range(1, 10), *range(8, 2, -1)):
        glide(page, recorder, track_at((at + digit) / 2 - (digit - at) / 10), track_at(at), frames=2)
        page.mouse.move(*track_at(digit))
        wait_for_status(page, f"digit {digit},")
        page.wait_for_timeout(80)
        recorder.take(PAUSE if digit == 9 else HOLD)
        at = digit
    page.mouse.up()
    button = middle(page.locator("button.class-picker-resample"))
    glide(page, recorder, button, (ends["x"] + ends["width"] / 3, height))
    for _ in range(2):
        before = status_of(page)
        page.mouse.down()
        page.mouse.up()
        page.wait_for_function(
            "before => document.querySelector('.class-picker > .widget-label').textContent !== before", arg=before
        )
        page.wait_for_timeout(80)
        recorder.take(2 * HOLD)
    recorder.durations[-1] = PAUSE


def main():
    with (
        tempfile.TemporaryDirectory() as folder,
        jupyter_server(Path(folder)) as jupyter,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        page = browser.new_page(viewport=DESKTOP, device_scale_factor=SCALE)
        page.set_default_timeout(PATIENCE)
        write_notebook(jupyter, "slider", [CELL])
        open_and_run(page, jupyter, "slider")
        page.wait_for_selector(".class-picker")
        wait_for_status(page, "digit 0,")
        execute(page, "application:toggle-left-area")
        page.evaluate(POINTER)
        page.wait_for_timeout(1000)
        recorder = Recorder(page)
        recorder.take(PAUSE)
        act(page, recorder)
        recorder.save(TARGET)
        browser.close()
    print(f"{TARGET.relative_to(ROOT)}: {len(recorder.frames)} frames, {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
