"""The same training on two processes that are really launched: gloo on CPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import is_initialized

import training_process
from course_utils.processes import OneProcess, launched_processes

SCRIPT = str(Path(training_process.__file__))
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() and not os.environ.get("CI"), reason="this torch has no torch.distributed"
)


def launch(launcher, scenario, folder) -> subprocess.CompletedProcess:
    """Run `training_process.py` under a launcher, without a GPU."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", *launcher, SCRIPT, scenario, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, encoding="utf-8")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes got out of all the trainings: a folder, the results of each, what was printed."""
    folder = tmp_path_factory.mktemp("two")
    done = launch(TORCHRUN, "train", folder)
    assert done.returncode == 0, done.stderr
    results = [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]
    return folder, results, done.stdout


def assert_close(result: dict, run):
    """The same training, up to rounding."""
    assert result["losses"][:3] == pytest.approx(run.losses[:3], rel=1e-5)
    assert result["losses"] == pytest.approx(run.losses, rel=1e-3)
    for name, weights in run.model.state_dict().items():
        torch.testing.assert_close(result["weights"][name], weights, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", training_process.CONFIGS)
def test_two_processes_do_the_training_of_one(two, name):
    _, results, _ = two
    assert results[0][name]["processes"] == 2
    assert_close(results[0][name], training_process.train_tiny(training_process.CONFIGS[name]))


def test_two_processes_go_through_all_stages(two):
    assert_close(two[1][0]["stages"], training_process.train_stages())


def test_both_processes_have_the_same_weights_to_the_bit(two):
    _, (first, second), _ = two
    for name in (*training_process.CONFIGS, "stages", "interrupted"):
        assert first[name]["losses"] == second[name]["losses"]
        for key, weights in first[name]["weights"].items():
            assert torch.equal(weights, second[name]["weights"][key]), (name, key)


def test_ctrl_c_in_one_process_stops_both_and_they_go_on_exactly(two):
    _, results, printed = two
    assert results[0]["interrupted"]["losses"] == results[0]["fast"]["losses"]
    for key, weights in results[0]["fast"]["weights"].items():
        assert torch.equal(results[0]["interrupted"]["weights"][key], weights)
    assert printed.count("stopped after 3 of 6 steps") == 2  # once a training, not once a process


def test_one_process_goes_on_where_two_stopped(two):
    folder, results, _ = two
    run = training_process.train_tiny(training_process.FAST, folder / "for one")
    assert run.processes == 1 and run.losses[:3] == results[0]["fast"]["losses"][:3]
    assert_close(results[0]["fast"], run)


def test_the_command_line_writes_and_prints_once(two):
    folder, _, printed = two
    assert printed.count("256 images, 64 per step on 2 processes, in ") == 1
    report = json.loads((folder / "weights" / "training.json").read_text(encoding="utf-8"))
    assert report["processes"] == 2 and len(report["losses"]) == 4


def test_a_process_that_dies_ends_the_others(tmp_path):
    done = launch(TORCHRUN, "fail", tmp_path)  # a hang would run into the time limit of `launch`
    assert done.returncode != 0 and "exitcode  : 3" in done.stderr


def test_processes_that_were_started_differently_are_refused(two):
    assert "seed is 0 in process 0 and 1 in process 1" in two[1][0]["refusal"]


def test_accelerate_launch_on_cpus_says_that_it_starts_one_process(tmp_path):
    done = launch(("accelerate.commands.launch", "--cpu", "--num_processes", "2"), "count", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 at work" in done.stdout and done.stderr.count("torchrun --nproc_per_node 2") == 1


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("course_utils.processes.usable_device", torch.device)  # as if there were that GPU
    with pytest.raises(ValueError, match="2 processes were started on a machine with 1 GPUs"):
        launched_processes("cuda")


def test_one_process_makes_no_accelerator():
    training_process.train_tiny(training_process.FAST)
    assert type(launched_processes("cpu")) is OneProcess and not is_initialized()
