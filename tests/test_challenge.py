import json
import threading
from dataclasses import replace

import pytest

from course_utils.challenge import JUDGED, Challenge, beats, class_board, verdict, warning
from course_utils.data import load_sample
from course_utils.model import ClassConditionedUnet, flops_per_image
from course_utils.recipes import RECIPES, recipe_flops
from course_utils.settings import course_settings
from course_utils.training import TrainingConfig, TrainingRun
from tiny import make_tiny_model

TINY = replace(
    RECIPES["fast"].with_changes(max_steps=3, batch_size=8), make_model=make_tiny_model, num_inference_steps=2
)
ROW = dict(
    name="a run", images_seen=1000, flops=1e12, seconds=9.0, class_accuracy=0.9, excess_distance=2.0, count=200,
    class_accuracy_range=[0.89, 0.91], excess_distance_range=[1.9, 2.1], judge_accuracy=0.93, seeds=[0, 1, 2, 3, 4],
    recall=[0.9] * 9 + [0.5], class_names=list("abcdefghij"), is_sample=False,
)  # fmt: skip


@pytest.fixture
def challenge(tmp_path):
    return Challenge(course_settings("smoke"), tmp_path / "mine" / "runs.json")


def test_a_run_is_trained_judged_kept_and_shown(challenge, capsys):
    pipe = challenge.submit(1, TINY)  # a name need not be a text
    assert pipe.config.dataset == "fashion_mnist" and len(pipe([0, 9]).images) == 2
    (run,) = challenge.runs()
    assert run["name"] == "1" and run["images_seen"] == 48 and len(run["recall"]) == 10
    small, whole = (flops_per_image(make_tiny_model(), size) for size in (16, 28))
    assert run["flops"] == 24 * small + 24 * whole
    assert 0 <= run["class_accuracy"] <= 1 and run["excess_distance"] > 1
    assert (run["count"], run["seeds"], run["seed"]) == (200, [0, 1, 2, 3, 4], 0)
    assert "48 images" in capsys.readouterr().out and "| 1 |" in challenge.score_card().data


def test_runs_are_still_there_for_the_next_kernel(challenge):
    challenge.keep(ROW)
    again = Challenge(challenge.settings, challenge.file)
    again.keep(ROW | {"name": "another"})
    assert [run["name"] for run in challenge.runs()] == ["a run", "another"]


def test_a_run_that_breaks_down_is_explained_and_loses_no_earlier_one(challenge, capsys):
    challenge.keep(ROW)
    reckless = TINY.with_changes(learning_rate=1e38, max_grad_norm=None, max_steps=30)
    assert challenge.submit("reckless", reckless) is None
    shown = capsys.readouterr().out
    assert "reckless was not scored" in shown and "learning rate" in shown
    assert [run["name"] for run in challenge.runs()] == ["a run"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "1", "[" * 9999, '{"name": 1}', '[{"name": "x"}]', "\0\1"])
def test_a_damaged_file_is_refused_before_training_and_left_as_it_is(challenge, text):
    challenge.file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="move it elsewhere"):
        Challenge(challenge.settings, challenge.file)
    with pytest.raises(ValueError, match="move it elsewhere"):
        challenge.keep(ROW)
    assert challenge.file.read_text(encoding="utf-8") == text


def test_two_notebooks_on_one_file_lose_no_run(challenge):
    def keep_ten(name):
        for number in range(10):
            Challenge(challenge.settings, challenge.file).keep(ROW | {"name": f"{name}{number}"})

    threads = [threading.Thread(target=keep_ten, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run["name"] for run in challenge.runs()}) == 40


def test_to_beat_a_par_takes_no_more_cost_and_both_measures():
    assert beats(ROW, ROW)
    assert beats(ROW | {"flops": 1e11}, ROW)
    for worse in ({"flops": 2e12}, {"class_accuracy": 0.89}, {"excess_distance": 2.1}):
        assert not beats(ROW | worse, ROW)
    assert "*a run*" in verdict(ROW, [ROW]) and "none" in verdict(ROW, [ROW | {"class_accuracy": 0.99}])


@pytest.mark.parametrize("other", [{"count": 999}, {"seeds": [0]}, {"is_sample": True}])
def test_rows_of_other_counts_and_of_the_sample_are_never_compared(other):
    better = ROW | other | {"flops": 1.0, "class_accuracy": 1.0, "excess_distance": 0.0}
    assert not beats(better, ROW)
    assert "not compared with the pars" in verdict(better, [ROW])


def test_every_run_is_judged_as_the_pars_are_at_every_preset(challenge):
    for par in challenge.pars:
        assert (par["count"], len(par["seeds"])) == (JUDGED["count"], JUDGED["seeds"])


def test_a_class_board_is_made_of_exported_lines(challenge, tmp_path):
    challenge.keep(ROW | {"flops": 1e10})
    challenge.keep(ROW | {"class_accuracy": 0.95, "class_accuracy_range": [0.94, 0.96]})
    file = tmp_path / "board.txt"
    file.write_text(f"{challenge.export('a run', 'Ada')}\n\n{challenge.export('a run', ' Böb|x ')}\n", encoding="utf-8")
    lines = class_board(file).data.splitlines()
    assert len(lines) == 2 + 3 + 2
    ada, bob = (next(line for line in lines if name in line) for name in ("Ada: a run", "Böb\\|x: a run"))
    assert "95.0 %" in ada and ada.split("|")[3:] == bob.split("|")[4:], "the newest run of the name"


def test_what_cannot_be_exported_is_named(challenge):
    with pytest.raises(ValueError, match="no run 'first' to export; your runs: none yet"):
        challenge.export("first", "Ada")
    challenge.keep(ROW)
    with pytest.raises(ValueError, match="your runs: 'a run'"):
        challenge.export("first", "Ada")
    for author in ("", "  ", None, 3):
        with pytest.raises(ValueError, match="expected a name for the board"):
            challenge.export("a run", author)


def broken_lines():
    line = json.dumps(ROW)
    yield from (line[:-1], line[:100], "hello", "1", "[]", "null", "[" * 9999, line.replace("0.5", "NaN"))
    for key in set(ROW) - {"judge_accuracy"}:
        yield json.dumps({name: value for name, value in ROW.items() if name != key})
        yield from (json.dumps(ROW | {key: value}) for value in (None, {}, [], [[1]], [None, None]))
    yield json.dumps(ROW | {"recall": [0.5]})
    yield json.dumps(ROW | {"flops": 10**400})


@pytest.mark.parametrize("line", list(broken_lines()))
def test_a_line_that_is_no_exported_run_is_named_by_its_number(line, tmp_path):
    file = tmp_path / "board.txt"
    file.write_text(f"{json.dumps(ROW)}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="board.txt, line 2 is no exported run .*: expected a whole line"):
        class_board(file)


def test_a_board_without_a_file_is_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="one line of Challenge.export per run"):
        class_board(tmp_path / "none.txt")


def test_a_run_on_the_sample_says_so(challenge, monkeypatch, capsys):
    monkeypatch.setattr("course_utils.challenge.load_dataset", load_sample)
    challenge.submit("offline", TINY)
    assert challenge.runs()[0]["is_sample"] and "(trained on the sample)" in challenge.score_card().data
    assert "they were trained on real images" in capsys.readouterr().out


def test_a_run_without_a_step_is_not_warned_of():
    assert warning(TrainingRun(None, TrainingConfig(), losses=[])) == ""


def test_a_loss_that_did_not_fall_is_mentioned():
    run = TrainingRun(None, TrainingConfig(learning_rate=0.5), losses=[1.0] * 100)
    assert "diverged or stood still" in warning(run) and "0.5" in warning(run)
    assert warning(replace(run, losses=[1.0] + [0.2] * 99)) == ""


def test_the_score_card_names_the_worst_class_and_sorts_by_cost(challenge):
    challenge.keep(ROW | {"flops": 1e30, "name": "dear"})
    challenge.keep(ROW)
    lines = challenge.score_card().data.splitlines()
    assert "j 50%" in lines[-1] and "| dear |" in lines[-1]
    assert len(lines) == 2 + 3 + 2  # head, pars, runs


def test_the_frontier_never_gets_worse_with_cost(challenge):
    challenge.keep(ROW)
    accuracy, distance = challenge.plot().axes
    steps = [
        next(line for line in axes.lines if line.get_label() == "frontier").get_ydata() for axes in (accuracy, distance)
    ]
    assert all(a <= b for a, b in zip(steps[0], steps[0][1:]))
    assert all(a >= b for a, b in zip(steps[1], steps[1][1:]))


def test_pars_are_complete(challenge):
    assert len(challenge.pars) == 3
    for par in challenge.pars:
        assert not par["is_sample"]
        assert json.dumps(par) and set(ROW) <= set(par)


def test_backward_costs_about_twice_as_much_as_forward():
    assert flops_per_image(ClassConditionedUnet()) == pytest.approx(3 * 637e6, rel=0.05)


def test_cheap_small_pictures_of_an_early_stage_are_counted_as_such():
    recipe = replace(TINY, stages=((16, TINY.stages[0][1]), (28, TINY.stages[0][1])))
    small, large = (24 * flops_per_image(make_tiny_model(), size) for size in (16, 28))
    assert recipe_flops(recipe, 60_000, 48) == small + large
    assert recipe_flops(recipe, 60_000, 24) == small
