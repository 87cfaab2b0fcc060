import io
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from PIL import Image

from course_utils import watching
from course_utils.data import ImageDataset
from course_utils.recipes import RECIPES, Recipe
from course_utils.sampling import make_scheduler, sample
from course_utils.training import Trainer, TrainingConfig, has_page, train
from course_utils.two_steps import AdversarialConfig, AdversarialTrainer
from course_utils.watching import Preview, TrainingPanel, duration, next_picture
from tiny import make_tiny_model

FAST = TrainingConfig.fast(batch_size=20, num_epochs=2)  # six steps of `stripes`
TWO_STAGES = Recipe(make_tiny_model, ((16, FAST), (28, FAST)), "v_prediction", "dpmsolver++", 2, 1.5)


@pytest.fixture
def eager(monkeypatch):
    """Draw after every step."""
    monkeypatch.setattr(watching, "SECONDS_BETWEEN_PICTURES", 0.0)
    monkeypatch.setattr(watching, "next_picture", lambda *seconds: 0.0)


@pytest.fixture
def pictures(monkeypatch) -> list[np.ndarray]:
    """All pictures that any panel showed."""
    shown_pictures, original = [], TrainingPanel.draw

    def draw(panel):
        original(panel)
        shown_pictures.append(np.asarray(Image.open(io.BytesIO(panel.image.value))))

    monkeypatch.setattr(TrainingPanel, "draw", draw)
    return shown_pictures


def assert_same_weights(model, other):
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("config", [FAST, replace(FAST, ema_decay=None, label_dropout=0.0, optimizer="adamw")])
def test_a_watched_training_gives_the_same_weights(stripes, eager, pictures, config):
    """To the bit; and torch's own random numbers are not touched."""
    recipe = replace(TWO_STAGES, stages=((16, config), (28, config)))
    alone_pipe, alone = recipe.train(stripes, device="cpu", progress=False)
    before = torch.get_rng_state()
    panel = TrainingPanel(recipe.shares(len(stripes)))
    pipe, run = recipe.train(stripes, device="cpu", progress=panel.watch)
    assert torch.equal(torch.get_rng_state(), before)
    assert run.losses == alone.losses and not run.interrupted
    assert_same_weights(pipe.unet, alone_pipe.unet)
    assert len(pictures) == 2 * (6 + 2)  # of each stage before the first step, after each, and at the end
    assert panel.progress.value == pytest.approx(1) and panel.status.value.startswith("6 steps taken, loss ")
    assert not hasattr(panel, "preview")  # which holds the trainer


def test_each_stage_is_drawn_in_its_size(stripes, eager, pictures):
    """16 x 16 pictures are enlarged 14 times, those of 28 x 28 eight times: each pixel is a block of its size."""
    TWO_STAGES.train(stripes, device="cpu", progress=TrainingPanel([0.4, 0.6]).watch)
    for picture, scale in ((pictures[0], 14), (pictures[-1], 8)):
        assert picture.shape == (224, 2240)
        assert (picture == picture[::scale, ::scale].repeat(scale, 0).repeat(scale, 1)).all()
    assert (pictures[0] != pictures[5]).any()


def test_what_is_drawn_is_what_will_be_returned(stripes):
    """The moving average of the weights, not the weights of the moment; the same noise each time."""
    trainer = Trainer(make_tiny_model(), stripes, make_scheduler("ddpm", "v_prediction"), FAST)
    preview = Preview(trainer)
    steps = list(trainer)
    drawn = preview.draw()
    assert len(steps) == 6 and torch.equal(drawn, preview.draw()) and drawn.min() >= 0 and drawn.max() <= 1
    scheduler, generator = make_scheduler("dpmsolver++", "v_prediction"), torch.Generator().manual_seed(0)
    model = trainer.finish().model
    assert torch.equal(drawn, sample(model, scheduler, list(range(10)), 6, 2.0, generator) / 2 + 0.5)


@pytest.mark.parametrize("classes", [3, 26])
def test_own_pictures_show_the_first_ten_classes_at_most(classes):
    dataset = ImageDataset(torch.randint(0, 255, (52, 1, 28, 28), dtype=torch.uint8), torch.arange(52) % classes)
    model = make_tiny_model(num_classes=classes, unconditional=False)
    trainer = Trainer(model, dataset, make_scheduler(), TrainingConfig(batch_size=26))
    assert Preview(trainer).draw().shape == (min(classes, 10), 1, 28, 28)


def test_fine_tuning_is_drawn_by_its_own_sampler(stripes):
    model = make_tiny_model(sample_size=28)
    trainer = AdversarialTrainer(model, stripes, make_scheduler("ddpm", "v_prediction"), AdversarialConfig())
    scheduler, scales = trainer.sampling()
    assert type(scheduler).__name__ == "DDIMScheduler" and scales == [1.0, 1.0]
    assert Preview(trainer).draw().shape == (10, 1, 28, 28)


def watched(panel, step: int, event):
    """`panel.watch`, with something that happens after so many steps."""

    def watch(trainer):
        for taken in panel.watch(trainer):
            if taken.step == step:
                event()
            yield taken

    return watch


def test_stop_keeps_what_was_learned(stripes, tmp_path):
    """As Ctrl-C does: the step at hand is taken, the later stages are left out, and a checkpoint is written."""
    panel = TrainingPanel([0.4, 0.6])
    pipe, run = TWO_STAGES.train(stripes, 0, tmp_path, device="cpu", progress=watched(panel, 2, panel.stop.click))
    assert panel.stopped and run.interrupted and len(run.losses) == 3
    assert panel.status.value.startswith("stopped after step 3 of 6, loss ")
    assert panel.progress.value == pytest.approx(0.2)
    whole_pipe, whole = TWO_STAGES.train(stripes, device="cpu", progress=False)
    assert run.losses == whole.losses[:3]
    with pytest.raises(AssertionError):
        assert_same_weights(pipe.unet, TWO_STAGES.untrained(stripes).unet)
    resumed_pipe, _ = TWO_STAGES.train(stripes, 0, tmp_path, device="cpu", progress=TrainingPanel([0.4, 0.6]).watch)
    assert_same_weights(resumed_pipe.unet, whole_pipe.unet)


def test_the_panel_says_that_ctrl_c_stopped_the_training(stripes):
    panel = TrainingPanel([0.4, 0.6])
    ctrl_c = watched(panel, 2, lambda: signal.raise_signal(signal.SIGINT))
    _, run = TWO_STAGES.train(stripes, device="cpu", progress=ctrl_c)
    assert run.interrupted and len(run.losses) == 2 and not panel.stopped
    assert panel.status.value.startswith("stopped after step 2 of 6, loss ")


def test_an_error_in_drawing_is_shown_and_the_training_goes_on(stripes, monkeypatch):
    def fail(preview):
        raise RuntimeError("the ink is dry.")

    monkeypatch.setattr(Preview, "draw", fail)
    panel = TrainingPanel()
    run = train(make_tiny_model(), stripes, make_scheduler(), FAST, "cpu", panel.watch)
    assert len(run.losses) == 6 and panel.image.value == b""
    assert panel.status.value.endswith("; no picture could be drawn: the ink is dry")


def test_a_training_that_breaks_down_says_so_and_shows_what_is_left(stripes):
    panel, config = TrainingPanel(), TrainingConfig(learning_rate=1e30, batch_size=20)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(make_tiny_model(), stripes, make_scheduler(), config, "cpu", panel.watch)
    assert panel.status.value.startswith("stopped after step ")
    assert panel.status.value.endswith("no picture could be drawn: the network's numbers are no longer finite")


def test_the_slower_the_drawing_the_rarer():
    """And a slow one is made up for."""
    assert next_picture(trained=60.0, drawing=0.5, took=0.01) == 62.0
    assert next_picture(trained=60.0, drawing=1.8, took=0.3) == pytest.approx(70)
    assert next_picture(trained=60.0, drawing=3.3, took=0.3) == pytest.approx(120)


def test_pictures_come_at_intervals_of_training(stripes, pictures):
    """As if each were drawn in 0.285 s, and each step took a second; what a checkpoint holds counts for nothing."""
    panel = TrainingPanel()
    trainer = Trainer(make_tiny_model(), stripes, make_scheduler(), replace(FAST, num_epochs=10))
    trainer.seconds = 500.0
    steps, seen = panel.watch(trainer), []
    for number in range(29):
        next(steps)
        panel.due = next_picture(0.0, 0.285 * len(pictures), 0.0)
        seen.append(len(pictures))
        trainer.seconds = 501.0 + number
    assert seen == [1] * 10 + [2] * 9 + [3] * 10


def test_times_are_said_as_exactly_as_one_wants_to_know_them():
    assert [duration(seconds) for seconds in (0.4, 99, 130, 5000, 9000)] == ["0 s", "99 s", "2 min", "83 min", "2.5 h"]


def test_time_left_counts_all_stages(stripes, monkeypatch):
    """Small pictures first: half of the steps, and less than half of the time."""
    assert RECIPES["course"].shares(60_000) == [1.0]
    small, whole = RECIPES["fast"].shares(60_000)
    assert small + whole == pytest.approx(1) and small / whole == pytest.approx(400 * 46 / (240 * 100), rel=0.02)
    monkeypatch.setattr(watching, "duration", lambda seconds: f"{seconds:.0f} s")
    panel = TrainingPanel([0.25, 0.75])
    for trainer in (Trainer(make_tiny_model(), stripes, make_scheduler(), FAST) for _ in range(2)):
        for step in panel.watch(trainer):
            panel.started -= 1000.0  # as if each step took so much longer
            words = panel.words(trainer)
            assert words.startswith(f"step {step.step} of 6, part {panel.stage + 1} of 2: loss ")
            left = int(words.split("about ")[1].split()[0])
            elapsed, done = 1000 * (panel.stage * 6 + step.step), panel.done(trainer)
            assert left == pytest.approx(elapsed * (1 - done) / done, rel=0.02, abs=1)


def test_outside_a_notebook_there_is_a_bar(stripes, capsys):
    assert not has_page()
    run = train(make_tiny_model(), stripes, make_scheduler(), FAST, "cpu")
    bar = capsys.readouterr().err
    assert len(run.losses) == 6 and "training: 100%" in bar and "6/6" in bar and "loss " in bar
    train(make_tiny_model(), stripes, make_scheduler(), FAST, "cpu", progress=False)
    assert capsys.readouterr().err == ""


def test_several_processes_show_a_bar(monkeypatch):
    """One that `notebook_launcher` started believes to be in the notebook."""
    shell = type("Shell", (), {"kernel": object()})()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    assert has_page()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not has_page()


def test_a_kernel_that_hears_no_click_shows_no_button(monkeypatch):
    """Such as Colab's, whose ipykernel receives nothing while a cell runs."""
    monkeypatch.setattr(watching, "get_ipython", lambda: type("Shell", (), {"kernel": object()})())
    panel = TrainingPanel()
    assert panel.stop not in panel.row.children and "(■)" in panel.row.children[1].value
    with panel.on_the_page():
        pass
    assert panel.row.children == (panel.progress,)


# A notebook whose first cell trains, for a minute or until Stop, while others wait.
TRAIN = """
from course_utils.data import load_sample
from course_utils.sampling import make_scheduler
from course_utils.training import TrainingConfig, train
from tiny import make_tiny_model
order, config = ["before"], TrainingConfig(batch_size=4, max_steps=3000, num_epochs=3000)
run = train(make_tiny_model(), load_sample("mnist"), make_scheduler("ddpm", "v_prediction"), config, "cpu")
order.append(f"trained {run.interrupted}")
"""


@pytest.fixture(scope="module")
def client():
    """The client of a kernel that knows the course and its tests."""
    here = Path(__file__).parent
    paths = os.pathsep.join((str(here), str(here.parent)))
    manager, client = start_new_kernel(env=os.environ | {"PYTHONPATH": paths})
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_stop_is_heard_while_the_cell_runs_and_the_next_cells_keep_their_order(client):
    widgets, statuses = {}, []

    def hear(message):
        content = message["content"]
        state = content.get("data", {}).get("state", {})
        if message["msg_type"] == "comm_open":
            widgets[content["comm_id"]] = state
        if message["msg_type"] == "comm_msg" and "loss" in str(state.get("value")) and not statuses:
            statuses.append(state["value"])
            for number in (1, 2):
                client.execute(f"order.append('cell {number}')")
            click()

    def click():
        (button,) = (name for name, state in widgets.items() if state.get("_model_name") == "ButtonModel")
        press = {"method": "custom", "content": {"event": "click"}}
        message = client.session.msg("comm_msg", {"comm_id": button, "data": press})
        client.shell_channel.send(message)
        client.execute("order.append('cell 3')")

    assert client.execute_interactive(TRAIN, timeout=100, output_hook=hear)["content"]["status"] == "ok"
    printed = []
    client.execute_interactive("print(order)", timeout=100, output_hook=printed.append)
    (text,) = (message["content"]["text"] for message in printed if message["msg_type"] == "stream")
    assert eval(text) == ["before", "trained True", "cell 1", "cell 2", "cell 3"] and statuses
