import faulthandler
import io
import os
import random
import threading
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from PIL import Image

from course_utils import minimal
from course_utils.pictures import png_bytes
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import make_scheduler
from course_utils.training import TrainingConfig, train
from course_utils.widgets import PIXEL, ClassPicker, EmbeddingMixer, GuidanceSlider, NoiseSlider
from tiny import make_tiny_model


@pytest.fixture
def quick_pipe() -> ClassConditionedPipeline:
    """A pipeline that draws in milliseconds, for many events."""
    model = make_tiny_model(block_out_channels=(4,), norm_num_groups=2, attention_levels=(), attention_head_dim=4)
    return ClassConditionedPipeline(model, make_scheduler("dpmsolver++", "v_prediction"), "mnist", 1, 1.0)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.fixture
def picker(tiny_pipe):
    return ClassPicker(tiny_pipe)


def test_picker_shows_what_the_pipeline_draws(picker, tiny_pipe):
    picker.slider.value = 3
    expected = tiny_pipe([3], generator=torch.Generator().manual_seed(picker.seed), output_type="pt").images
    assert picker.image.value == png_bytes(expected)
    assert pixels(picker.image.value).shape == (28 * PIXEL, 28 * PIXEL)


def test_picker_draws_with_a_learners_own_loop(tiny_pipe):
    asked = []

    def sample(*arguments):
        asked.append(arguments)
        yield from minimal.sample(*arguments)

    picker = ClassPicker(tiny_pipe, sample=sample)
    picker.slider.value = 3
    network, labels, steps, guidance, generator, prediction_type = asked[-1]
    assert not network.training and labels.tolist() == [3] and isinstance(generator, torch.Generator)
    assert (steps, guidance) == (picker.steps.value, picker.guidance.value)
    assert prediction_type == tiny_pipe.scheduler.config.prediction_type
    generator = torch.Generator().manual_seed(picker.seed)
    *_, x = minimal.sample(network, labels, steps, guidance, generator, prediction_type)
    assert picker.image.value == png_bytes(x.clamp(-1, 1) / 2 + 0.5)


def test_dragging_redraws_and_says_so(picker):
    shown = {}
    for digit in (3, 7, 3):
        picker.slider.value = digit
        assert (
            picker.status.value.startswith(f"digit {digit}, drawn in ") and f"seed {picker.seed}" in picker.status.value
        )
        assert shown.setdefault(digit, picker.image.value) == picker.image.value
    assert shown[3] != shown[7]
    assert picker.slider.continuous_update


def test_resample_draws_the_same_digit_from_other_noise(picker):
    picker.slider.value = 5
    before, seed = picker.image.value, picker.seed
    picker.resample.click()
    assert picker.image.value != before and picker.seed != seed and picker.status.value.startswith("digit 5")


def test_guidance_and_steps_redraw(picker):
    for control, value in ((picker.guidance, 4.0), (picker.steps, 5)):
        before = picker.image.value
        control.value = value
        assert picker.image.value != before


def test_menu_and_slider_go_together(picker):
    picker.chooser.value = 8
    assert picker.slider.value == 8 and picker.status.value.startswith("digit 8")
    picker.slider.value = 2
    assert picker.chooser.value == 2


def test_names_are_shown_and_the_value_stays_the_label(tiny_pipe):
    names = [f"thing {label}" for label in "abcdefghij"]
    picker = ClassPicker(tiny_pipe, names)
    picker.slider.value = 4
    assert picker.status.value.startswith("class thing e")
    assert [name for name, _ in picker.slider.options] == names
    with pytest.raises(ValueError, match="3 names, expected 10"):
        ClassPicker(tiny_pipe, names[:3])


def test_an_error_shows_in_the_panel_and_is_raised(picker, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("the ink is dry")

    monkeypatch.setattr(type(picker.pipe), "__call__", fail)
    with pytest.raises(RuntimeError, match="the ink is dry"):
        picker.draw()
    assert picker.status.value == "Could not draw digit 0: the ink is dry"
    with pytest.raises(RuntimeError, match="the ink is dry"):
        picker.slider.value = 4
    monkeypatch.undo()
    picker.slider.value = 5
    assert picker.status.value.startswith("digit 5")


def test_training_elsewhere_does_not_change_what_is_drawn(picker, tiny_pipe):
    before = picker.image.value
    with torch.no_grad():
        for parameter in tiny_pipe.unet.parameters():
            parameter.add_(1)
    tiny_pipe.unet.train()
    picker.draw()
    assert picker.image.value == before


def test_last_value_wins_from_many_threads(picker):
    def drag(values):
        for value in values:
            picker.slider.value = value

    threads = [threading.Thread(target=drag, args=([i, 9 - i, i],)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown, status = picker.image.value, picker.status.value
    picker.draw()
    assert picker.image.value == shown and status.startswith(f"digit {picker.slider.value},")


def test_guidance_is_off_limits_for_a_network_without_null_label(tiny_pipe):
    pipe = type(tiny_pipe)(make_tiny_model(unconditional=False), make_scheduler("ddim"), "mnist", 2, 1.0)
    assert ClassPicker(pipe).guidance.disabled


def own_pipe(num_classes: int, unconditional: bool = True, **options) -> ClassConditionedPipeline:
    """A pipeline of another number of classes; its names are the panel's."""
    model = make_tiny_model(num_classes=num_classes, unconditional=unconditional)
    return ClassConditionedPipeline(model, make_scheduler("dpmsolver++", "v_prediction"), "mnist", 1, **options)


OWN_NAMES = {
    1: ["only"],
    2: ["", ""],
    3: ["猫 $x$ 100 %", "two\nlines", "x" * 300],
    26: list("abcdefghijklmnopqrstuvwxyz"),
    40: [str(i) for i in range(40)],
}


@pytest.mark.parametrize("names", OWN_NAMES.values(), ids=OWN_NAMES)
def test_every_panel_takes_any_classes_and_names(names):
    pipe, last = own_pipe(len(names)), len(names) - 1
    picker, guidance = ClassPicker(pipe, names), GuidanceSlider(pipe, names)
    mixer = EmbeddingMixer(pipe, end=last, class_names=names)
    picker.slider.value = last
    expected = pipe([last], generator=torch.Generator().manual_seed(picker.seed), output_type="pt").images
    assert picker.image.value == png_bytes(expected) and picker.chooser.value == last
    guidance.slider.value, mixer.slider.value = 3.0, 1.0
    shown = " ".join(names[last].split())[:30]
    for status in (picker.status.value, mixer.status.value):
        assert shown in status and "\n" not in status and len(status) < 120
    assert pixels(guidance.image.value).shape[1] <= 13 * 28 * PIXEL  # many classes take several rows
    assert picker.kind == "class"  # "digit" is for the ten digits


@pytest.mark.parametrize("panel", [ClassPicker, GuidanceSlider, EmbeddingMixer])
@pytest.mark.parametrize("wrong", ["mnist", None, 3, make_tiny_model])
def test_what_is_no_pipeline_gets_one_sentence(panel, wrong):
    with pytest.raises(ValueError, match="expected a pipeline: use ClassConditionedPipeline.from_pretrained") as error:
        panel(wrong)
    assert "\n" not in str(error.value)


def test_labels_that_a_mixer_does_not_have_are_named(tiny_pipe):
    with pytest.raises(ValueError, match="end is 26, expected a whole number from 0 to 9"):
        EmbeddingMixer(tiny_pipe, end=26)


def test_names_are_a_list(tiny_pipe):
    with pytest.raises(ValueError, match="expected a list"):
        ClassPicker(tiny_pipe, "abcdefghij")
    assert ClassPicker(tiny_pipe, np.array(list("abcdefghij"))).names[9] == "j"


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 20.0])
def test_panels_draw_with_every_guidance_that_the_pipeline_takes(scale):
    picker = ClassPicker(own_pipe(3, guidance_scale=scale), list("abc"))
    drawn = picker.pipe([0], generator=torch.Generator().manual_seed(picker.seed), output_type="pt").images
    assert picker.guidance.value == scale and picker.image.value == png_bytes(drawn)
    for slider in (picker.guidance, GuidanceSlider(picker.pipe, list("abc")).slider):
        for beyond in (slider.min - 0.25, slider.max + 0.25):
            with pytest.raises(ValueError, match="guidance_scale"):
                picker.pipe([0], guidance_scale=beyond)


def test_pictures_are_ink_on_paper():
    pictures = torch.zeros(3, 1, 28, 28)
    pictures[2] = 1
    shown = pixels(png_bytes(pictures, columns=2))
    assert shown.shape == (2 * 224, 2 * 224) and (shown[:224] == 255).all()
    assert (shown[224:, :224] == 0).all() and (shown[224:, 224:] == 255).all()  # what is left over is paper


@pytest.mark.parametrize("side", [8, 16, 29, 300])
def test_pictures_of_any_size(side):
    picture = pixels(png_bytes(torch.rand(1, 1, side, side)))
    assert picture.shape[0] == picture.shape[1] == side * max(1, 224 // side)


# What a notebook's page does: many moves of a slider, faster than pictures are drawn.
CELL = """
import time
from test_widgets import ClassPicker, own_pipe
pipe, drawn = own_pipe(10), []
picker = ClassPicker(pipe)
call = type(pipe).__call__
def slow(pipe, labels, *args, **kwargs):
    time.sleep(0.2)
    drawn.append(labels[0])
    return call(pipe, labels, *args, **kwargs)
type(pipe).__call__ = slow
print(picker.slider.model_id)
"""
WAIT = "import asyncio\nwhile not picker.status.value.startswith({!r}): await asyncio.sleep(0.05)"


@pytest.fixture(scope="module")
def kernel():
    """A function that runs a cell in a kernel and returns what it prints; its `kernel` sends what a page sends."""
    here = Path(__file__).parent
    paths = os.pathsep.join((str(here), str(here.parent)))
    manager, client = start_new_kernel(env=os.environ | {"PYTHONPATH": paths})

    def run(cell: str) -> str:
        printed = []

        def hear(message):
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        assert client.execute_interactive(cell, timeout=100, output_hook=hear)["content"]["status"] == "ok"
        return "".join(printed).strip()

    def move(model_id: str, value: int):
        state = {"method": "update", "state": {"value": value}, "buffer_paths": []}
        client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": model_id, "data": state}))

    run.move = move
    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_of_many_moves_that_wait_in_the_kernel_the_last_is_drawn(kernel):
    slider = kernel(CELL).splitlines()[-1]
    for value in (1, 2, 3, 4, 5, 6, 7, 8) * 2 + (9,):
        kernel.move(slider, value)
    kernel(WAIT.format("digit 9,"))
    drawn, status = kernel("print(drawn); print(picker.status.value)").splitlines()
    assert eval(drawn)[-1] == 9 and len(eval(drawn)) < 9 and status.startswith("digit 9, drawn in ")
    moved_by_a_cell = "picker.slider.value = 7; print(picker.status.value)"
    assert kernel(moved_by_a_cell).startswith("digit 7, drawn in ")  # at once


def test_an_error_while_the_page_moves_a_slider_is_shown(kernel):
    slider = kernel(CELL + "type(pipe).__call__ = None").splitlines()[-1]
    kernel.move(slider, 3)
    kernel(WAIT.format("Could not draw digit 3: "))


@pytest.mark.parametrize("images", [torch.rand(3, 28, 28), torch.rand(2, 1, 16, 16).numpy(), torch.rand(20, 1, 32, 32)])
def test_noise_slider_takes_pictures_of_any_kind_and_size(images):
    panel = NoiseSlider(images, make_scheduler())
    panel.slider.value = 500
    assert panel.status.value.startswith("t = 500:")
    clean = NoiseSlider((torch.as_tensor(images) * 255).round().byte(), make_scheduler())
    clean.slider.value = 500
    assert panel.image.value == clean.image.value


def test_noise_slider_names_what_does_not_fit(stripes):
    with pytest.raises(ValueError, match="floats from 0 to 255"):
        NoiseSlider(stripes.images.float(), make_scheduler())
    with pytest.raises(ValueError, match=r"noise_scheduler is 'ddpm', expected make_scheduler\(\)"):
        NoiseSlider(stripes.images, "ddpm")


def test_noise_slider_takes_the_picture_away(stripes):
    panel = NoiseSlider(stripes.images[:10], make_scheduler())
    clean = pixels(panel.image.value).astype(float)
    panel.slider.value = 999
    noisy = pixels(panel.image.value).astype(float)
    assert clean.shape == (28 * PIXEL, 280 * PIXEL)
    truth = png_bytes(stripes.images[:10].float() / 255)
    assert np.abs(clean - pixels(truth)).mean() < 5 < np.abs(noisy - pixels(truth)).mean()
    assert panel.status.value == "t = 999: 0.000 x picture + 1.000 x noise"


def test_guidance_slider_draws_every_class_as_strongly_as_it_says(tiny_pipe):
    panel = GuidanceSlider(tiny_pipe)
    assert panel.status.value.endswith("9: guidance off (seed 0)")
    for strength in (1.0, 4.0):
        panel.slider.value = strength
        generator = torch.Generator().manual_seed(0)
        pictures = tiny_pipe(list(range(10)), guidance_scale=strength, generator=generator, output_type="pt").images
        assert panel.image.value == png_bytes(pictures)
    assert "guidance 4 (seed 0)" in panel.status.value
    before = panel.image.value
    panel.resample.click()
    assert panel.image.value != before and "(seed 1)" in panel.status.value


def test_guidance_slider_needs_a_network_that_knows_no_class():
    pipe = ClassConditionedPipeline(make_tiny_model(unconditional=False), make_scheduler(), "mnist")
    with pytest.raises(ValueError, match="no 'no class' label"):
        GuidanceSlider(pipe)


def test_mixer_draws_the_classes_at_its_ends_and_something_else_between(tiny_pipe):
    mixer = EmbeddingMixer(tiny_pipe, start=3, end=8)
    pictures = {}
    for share in (0.0, 0.5, 1.0):
        mixer.slider.value = share
        pictures[share] = mixer.image.value
    assert len(set(pictures.values())) == 3 and "100% of 8" in mixer.status.value
    generator = torch.Generator().manual_seed(mixer.seed)
    assert pictures[1.0] == png_bytes(tiny_pipe([8], generator=generator, output_type="pt").images)
    mixer.end.value = 5
    assert mixer.image.value != pictures[1.0] and "100% of 5" in mixer.status.value


def test_mixer_resamples_and_uses_the_learners_mixture(tiny_pipe):
    mixer = EmbeddingMixer(tiny_pipe, mix=lambda embedding, start, end, share: embedding.weight[start])
    before = mixer.image.value
    mixer.slider.value = 1.0
    assert mixer.image.value == before
    mixer.resample.click()
    assert mixer.image.value != before


def test_mixer_does_not_swallow_the_learners_exception(tiny_pipe):
    def mix(embedding, start, end, share):
        if share > 0.9:
            raise RuntimeError("no such mixture")
        return embedding.weight[start]

    mixer = EmbeddingMixer(tiny_pipe, mix=mix)
    with pytest.raises(RuntimeError, match="no such mixture"):
        mixer.slider.value = 1.0


def test_small_pictures_fill_the_panel():
    pipe = ClassConditionedPipeline(make_tiny_model(sample_size=16), make_scheduler("ddim"), "mnist", 2, 1.0)
    picker = ClassPicker(pipe)
    assert pixels(picker.image.value).shape == (28 * PIXEL, 28 * PIXEL)


@contextmanager
def training_elsewhere(model, dataset):
    """Train the very network, with the very scheduler, in another thread, for as long as the block takes."""
    stop, failed, steps = threading.Event(), [], []

    def work():
        try:
            while not stop.wait(0.02):  # leaves the machine to the others, too
                config = TrainingConfig(max_steps=2, batch_size=4)
                steps.extend(train(model, dataset, make_scheduler(), config, device="cpu", progress=False).losses)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive() and not failed and steps


@pytest.fixture
def no_hanging():
    """A dead lock prints every thread's stack and ends the tests, instead of waiting for ever."""
    faulthandler.dump_traceback_later(240, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def fire(event, seeds, count: int):
    """Many random events, from the main thread and, with more than one seed, from others at the same time."""
    failed = []

    def shoot(seed):
        generator = random.Random(seed)
        try:
            for _ in range(count):
                event(generator)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=shoot, args=(seed,)) for seed in seeds[1:]]
    for thread in threads:
        thread.start()
    shoot(seeds[0])
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    if failed:
        raise failed[0]


def random_event(picker, generator: random.Random):
    """What a hand, or code, may do to a panel."""
    events = {
        "slider": lambda: setattr(picker.slider, "value", generator.randrange(10)),
        "menu": lambda: setattr(picker.chooser, "value", generator.randrange(10)),
        "guidance": lambda: setattr(picker.guidance, "value", generator.choice([1.0, 1.5, 3.0, 8.0])),
        "steps": lambda: setattr(picker.steps, "value", generator.randrange(1, 3)),
        "resample": picker.resample.click,
        "draw": picker.draw,
    }
    events[generator.choice(["slider"] * 6 + list(events))]()


LETTERS = [f"thing {letter}" for letter in "abcdefghij"]


@pytest.mark.parametrize("names, count", [(None, 250), (LETTERS, 25)], ids=["digits", "names"])
def test_the_last_value_wins_under_fire(quick_pipe, stripes, names, count, no_hanging):
    """1,000 events (100 with names) from four threads at once, while the same network is being trained."""
    picker = ClassPicker(quick_pipe, names)
    with training_elsewhere(quick_pipe.unet, stripes):
        fire(lambda generator: random_event(picker, generator), seeds=[1, 2, 3, 4], count=count)
    shown, status, label = picker.image.value, picker.status.value, picker.slider.value
    fresh = picker.pipe(
        [label], picker.steps.value, picker.guidance.value, torch.Generator().manual_seed(picker.seed), "pt"
    ).images
    assert shown == png_bytes(fresh)
    assert status.startswith(f"{picker.kind} {picker.names[label]}, drawn in ") and f"(seed {picker.seed})" in status
    assert picker.chooser.value == label


def test_noise_slider_under_fire(stripes, tiny_model, no_hanging):
    """1,000 events from four threads at once, while a network is being trained with the same scheduler."""
    scheduler = make_scheduler()
    panel, fresh = (NoiseSlider(stripes.images[:2], scheduler) for _ in range(2))
    with training_elsewhere(tiny_model, stripes):
        fire(lambda generator: setattr(panel.slider, "value", generator.randrange(1000)), [1, 2, 3, 4], 250)
    fresh.slider.value = panel.slider.value
    assert (panel.image.value, panel.status.value) == (fresh.image.value, fresh.status.value)
    assert panel.status.value.startswith(f"t = {panel.slider.value}:")


@pytest.mark.parametrize("kind", ["picker", "noise"])
def test_memory_stays_flat(quick_pipe, stripes, kind):
    """Keeping the picture of each of 60 events would take twice the limit, or more."""
    panel = ClassPicker(quick_pipe) if kind == "picker" else NoiseSlider(stripes.images[:2], make_scheduler())
    tracemalloc.start()
    try:
        grown = []
        for seed in (1, 2):  # the first round fills what Python and its libraries keep for later
            before = tracemalloc.get_traced_memory()[0]
            fire(lambda generator: setattr(panel.slider, "value", generator.randrange(10)), [seed], 60)
            grown.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    assert grown[1] < 60_000


def test_events_that_come_too_late_to_matter_are_not_drawn(picker, monkeypatch, no_hanging):
    drawn, call, first, go_on = [], type(picker.pipe).__call__, threading.Event(), threading.Event()

    def slow(pipe, class_labels, *args, **kwargs):
        drawn.append(class_labels[0])
        first.set()
        assert go_on.wait(30)
        return call(pipe, class_labels, *args, **kwargs)

    monkeypatch.setattr(type(picker.pipe), "__call__", slow)
    threads = [threading.Thread(target=setattr, args=(picker.slider, "value", value)) for value in range(1, 9)]
    threads[0].start()
    assert first.wait(30)
    for thread in threads[1:]:
        thread.start()
    while picker.slider.value != 8:
        pass
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert drawn[0] == 1 and drawn[-1] == 8 and len(drawn) <= 3
    assert picker.status.value.startswith("digit 8,")


def test_an_observer_of_the_picture_may_move_the_slider(picker, no_hanging):
    picker.image.observe(lambda change: setattr(picker.slider, "value", 7), "value")
    picker.slider.value = 3
    assert picker.slider.value == 7 and picker.status.value.startswith("digit 7,") and picker.chooser.value == 7


def test_an_interrupted_drawing_is_made_up_for(picker, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(picker.pipe), "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        picker.slider.value = 4
    monkeypatch.undo()
    picker.update()
    assert picker.status.value.startswith("digit 4,")


def test_more_opens_by_its_button_and_by_its_header(picker):
    """No key reaches an accordion's header, but a button can be pressed with the keyboard."""
    assert not picker.unfold.value and picker.more.layout.display == "none"
    picker.unfold.value = True
    assert picker.more.selected_index == 0 and picker.more.layout.display is None
    picker.more.selected_index = None
    assert not picker.unfold.value and picker.more.layout.display == "none"
