"""Trainings that are killed, interrupted, or run out of disk: nothing is lost, and going on changes no bit."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from course_utils import training
from course_utils.__main__ import main
from course_utils.data import load_sample
from course_utils.processes import SeveralProcesses, interrupt_deferred
from course_utils.sampling import make_scheduler
from course_utils.storage.checkpoints import CheckpointFolder, read_checkpoint
from course_utils.training import Trainer, TrainingConfig, train
from tiny import make_tiny_model
from training_process import STAGES

MOMENTS = ("write", "sync", "rename", "renamed", "remove")
RANDOM_KILLS = 30
CONFIG = TrainingConfig.fast(batch_size=25, num_epochs=3)  # nine steps of `stripes`

needs_fork = pytest.mark.skipif(not hasattr(os, "fork") and not os.environ.get("CI"), reason="needs os.fork")


class TrainingServer:
    """`training_server.py` in a process of its own."""

    def __init__(self):
        command = [sys.executable, str(Path(__file__).with_name("training_server.py"))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert self.process.stdout.readline() == "ready\n"

    def train(self, folder: Path, **options) -> int:
        """Begin a training, or go on with it; returns its exit status, below zero if it was killed."""
        folder.mkdir(exist_ok=True)
        self.process.stdin.write(json.dumps(dict(folder=str(folder), **options)) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def finish(self, folder: Path) -> dict:
        """Train to the end; returns all that came out, the time it took left out."""
        assert self.train(folder) == 0
        return outcome(folder)


@pytest.fixture(scope="module")
def server():
    server = TrainingServer()
    yield server
    server.process.stdin.close()
    server.process.wait()


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory) -> dict:
    """What comes out of a training that nothing disturbs, and the seconds it took."""
    start = time.perf_counter()
    result = server.finish(tmp_path_factory.mktemp("undisturbed"))
    return dict(outcome=result, seconds=time.perf_counter() - start)


def outcome(folder: Path) -> dict:
    """The result and the last checkpoint of each stage; nothing half-written is left."""
    stages = [CheckpointFolder(folder / "checkpoints" / f"stage-{number}") for number in (0, 1)]
    for stage in stages:
        assert sorted(path.name for path in stage.folder.iterdir()) == ["checkpoint-000005.pt", "checkpoint-000006.pt"]
    checkpoints = [{**read_checkpoint(stage.path(6)), "seconds": None} for stage in stages]
    return dict(result=torch.load(folder / "result.pt", weights_only=True), checkpoints=checkpoints)


def assert_same(first, second):
    """Equal to the bit, whatever is nested in what."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype and torch.equal(first, second)
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for name in first:
            assert_same(first[name], second[name])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second):
            assert_same(one, other)
    else:
        assert first == second


@needs_fork
def test_killed_at_random_moments(server, undisturbed, tmp_path):
    kills = trainings = 0
    while kills < RANDOM_KILLS:
        folder = tmp_path / str(trainings)
        status = server.train(folder, kill_after=random.uniform(0, 0.6 * undisturbed["seconds"]))
        assert status in (0, -signal.SIGKILL)
        kills += status != 0
        if status == 0:
            assert_same(outcome(folder), undisturbed["outcome"])
            trainings += 1
    assert_same(server.finish(folder), undisturbed["outcome"])


@needs_fork
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_the_middle_of_a_write(server, undisturbed, tmp_path, moment):
    for count in (1, 2, 3, 4):
        assert server.train(tmp_path, die=moment, at=count) == -signal.SIGKILL
        assert len(list(tmp_path.glob("**/*.partial"))) <= 1
    assert_same(server.finish(tmp_path), undisturbed["outcome"])


@needs_fork
def test_a_finished_training_takes_no_further_step(server, undisturbed, tmp_path):
    server.finish(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("**/checkpoint-*.pt")}
    assert_same(server.finish(tmp_path), undisturbed["outcome"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("**/checkpoint-*.pt")} == before


@needs_fork
def test_files_that_cannot_grow_cost_the_checkpoint_but_not_the_training(server, undisturbed, tmp_path):
    assert server.train(tmp_path, file_size=20_000) == 0
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    assert_same(result["weights"], undisturbed["outcome"]["result"]["weights"])
    assert len(result["warnings"]) == 2, "one for each stage"
    assert "File too large" in result["warnings"][0] and "training goes on" in result["warnings"][0]
    assert not list(tmp_path.glob("checkpoints/*/*"))


# --- in this process -------------------------------------------------------------------------------------------------


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)


@pytest.fixture
def ctrl_c_at_step(monkeypatch):
    """Press Ctrl-C in the middle of a step: `ctrl_c_at_step(3)`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    original = Trainer.loss

    def press(step):
        def interrupted(trainer, *batch):
            if trainer.step + 1 == step:
                signal.raise_signal(signal.SIGINT)
            return original(trainer, *batch)

        monkeypatch.setattr(Trainer, "loss", interrupted)

    yield press
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def train_stripes(stripes, folder=None, config=CONFIG):
    return train(make_tiny_model(), stripes, make_scheduler(), config, "cpu", False, folder)


def test_ctrl_c_keeps_what_was_learned(stripes, ctrl_c_at_step, capsys):
    trainer = Trainer(make_tiny_model(), stripes, make_scheduler(), CONFIG)
    for _ in range(4):
        trainer.training_step()
    ctrl_c_at_step(4)
    run = train_stripes(stripes)
    assert run.interrupted and len(run.losses) == 4 and not run.model.training
    assert "stopped after 4 of 9 steps" in capsys.readouterr().out
    assert_same(dict(run.model.state_dict()), dict(trainer.finish().model.state_dict()))


def test_ctrl_c_and_on(stripes, tmp_path, ctrl_c_at_step, capsys):
    whole = train_stripes(stripes)
    ctrl_c_at_step(4)
    assert train_stripes(stripes, tmp_path).interrupted
    assert f"{tmp_path} goes on from step 4" in capsys.readouterr().out
    resumed = train_stripes(stripes, tmp_path)
    assert not resumed.interrupted and resumed.losses == whole.losses and capsys.readouterr().out == ""
    assert_same(dict(resumed.model.state_dict()), dict(whole.model.state_dict()))


def test_ctrl_c_before_the_first_step(stripes, tmp_path, ctrl_c_at_step, monkeypatch, capsys):
    original = CheckpointFolder.newest
    monkeypatch.setattr(CheckpointFolder, "newest", lambda self: signal.raise_signal(signal.SIGINT) or original(self))
    run = train_stripes(stripes, tmp_path)
    assert run.interrupted and run.losses == []
    assert "after 0 of 9 steps; there is no checkpoint" in capsys.readouterr().out


def test_ctrl_c_in_one_stage_leaves_out_those_after_it(stripes, tmp_path, ctrl_c_at_step):
    whole_pipe, whole = STAGES.train(stripes, device="cpu", progress=False)
    ctrl_c_at_step(4)  # of each stage
    for steps, interrupted in ((4, True), (6 + 4, True), (6 + 6, False)):
        pipe, run = STAGES.train(stripes, checkpoint_dir=tmp_path, device="cpu", progress=False)
        assert run.interrupted == interrupted and run.losses == whole.losses[:steps]
    assert_same(dict(pipe.unet.state_dict()), dict(whole_pipe.unet.state_dict()))


@pytest.mark.parametrize(
    "command, step",
    [
        (["train", "--preset", "smoke"], 1),  # of each of the recipe's two stages
        (["tune", "--weights", "mnist", "--batches", "3"], 2),
    ],
)
def test_ctrl_c_on_the_command_line(tmp_path, monkeypatch, ctrl_c_at_step, capsys, command, step):
    monkeypatch.setattr("course_utils.__main__.load_dataset", load_sample)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command = [*command, "--allow-sample", "--out"]
    assert main([*command, str(whole)]) == 0
    ctrl_c_at_step(step)
    assert main([*command, str(parts)]) == 130
    if command[0] == "train":
        assert main([*command, str(parts), "--resume"]) == 130
    assert "--resume" in capsys.readouterr().err and not (parts / "model_index.json").exists()
    assert main([*command, str(parts), "--resume"]) == 0
    weights = [folder / "unet" / "diffusion_pytorch_model.safetensors" for folder in (whole, parts)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    reports = [json.loads((folder / "training.json").read_text(encoding="utf-8")) for folder in (whole, parts)]
    assert reports[0]["losses"] == reports[1]["losses"]
    assert reports[0].get("tuning", reports[0])["is_sample"] is True


def press_twice(trainer, *batch):
    """In place of a step that hangs."""
    for _ in range(2):
        signal.raise_signal(signal.SIGINT)
    pytest.fail("the second Ctrl-C did not stop")


def test_a_second_ctrl_c_stops_at_once(stripes, tmp_path, ctrl_c_at_step, monkeypatch, every_step, capsys):
    original = Trainer.loss
    monkeypatch.setattr(
        Trainer, "loss", lambda self, *batch: (press_twice if self.step == 4 else original)(self, *batch)
    )
    with pytest.raises(KeyboardInterrupt):
        train_stripes(stripes, tmp_path)
    assert CheckpointFolder(tmp_path).newest()["step"] == 4
    monkeypatch.setattr("course_utils.__main__.load_dataset", load_sample)
    monkeypatch.setattr(Trainer, "loss", press_twice)
    assert main(["train", "--preset", "smoke", "--allow-sample", "--out", str(tmp_path / "weights")]) == 130
    assert capsys.readouterr().err.strip().endswith("interrupted")


def test_two_interrupts_of_one_press_count_once(monkeypatch):
    """torchrun passes on the Ctrl-C that the terminal has sent to its processes already; a press after that counts."""
    pressed, now = [], [100.0]
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(now[0]))
    monkeypatch.setattr("course_utils.processes.time.monotonic", lambda: now[0])
    try:
        with interrupt_deferred(seconds_per_interrupt=SeveralProcesses.seconds_per_interrupt) as interrupt:
            for now[0] in (100.0, 100.1, 104.0, 106.0):
                signal.raise_signal(signal.SIGINT)
                assert interrupt.requested
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [106.0]


def test_where_ctrl_c_is_ignored_it_stays_so(stripes):
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt_deferred() as interrupt:
            signal.raise_signal(signal.SIGINT)
        assert not interrupt.requested and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_leaves_the_global_generator_alone(stripes):
    before = torch.get_rng_state()
    model = make_tiny_model()
    torch.set_rng_state(before)
    train(model, stripes, make_scheduler(), CONFIG, "cpu", False)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_disk_that_fills_up_costs_the_checkpoint_but_not_the_training(stripes, tmp_path, every_step, monkeypatch):
    whole = train_stripes(stripes)
    write = Path.write_bytes

    def fills_up(path, content):
        if path.name >= "checkpoint-000004":
            write(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fills_up)
    with pytest.warns(UserWarning, match="No space left on device.*training goes on") as caught:
        run = train_stripes(stripes, tmp_path)
    assert len(caught) == 1 and run.losses == whole.losses
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-000002.pt", "checkpoint-000003.pt"]
    monkeypatch.undo()
    assert train_stripes(stripes, tmp_path).losses == whole.losses


def test_a_folder_that_cannot_be_written_to_is_refused_before_training(stripes, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setattr(Trainer, "training_step", lambda self: pytest.fail("trained before the folder was tried"))
    with pytest.raises(OSError, match="name a folder that you may write to") as refusal:
        train_stripes(stripes, tmp_path / "file" / "checkpoints")
    assert refusal.value.errno == errno.ENOTDIR


def test_a_damaged_checkpoint_gives_way_to_the_one_before(stripes, tmp_path, every_step):
    whole = train_stripes(stripes, tmp_path)
    last, before = tmp_path / "checkpoint-000009.pt", tmp_path / "checkpoint-000008.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match="checkpoint-000009.pt cannot be read.*goes on from checkpoint-000008.pt"):
        resumed = train_stripes(stripes, tmp_path)
    assert resumed.losses == whole.losses
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train_stripes(stripes, tmp_path).losses == whole.losses
    last.write_bytes(b"")
    before.unlink()
    with pytest.raises(ValueError, match="no earlier one: empty that folder"):
        train_stripes(stripes, tmp_path)
