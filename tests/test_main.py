import errno
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from course_utils.__main__ import main
from course_utils.classifier import TrainingPlan
from course_utils.data import load_sample
from course_utils.own_pictures import draw_shapes
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.training import Trainer

TRAIN = ["train", "--preset", "smoke", "--allow-sample"]
TUNE = ["tune", "--weights", "mnist", "--batches", "1", "--allow-sample"]


@pytest.fixture
def sample_data(monkeypatch):
    """The bundled sample in the data sets' place, so that a training takes seconds."""
    monkeypatch.setattr("course_utils.__main__.load_dataset", lambda name: load_sample(name))


@pytest.fixture
def no_step(monkeypatch):
    """A training that takes a step fails the test: what is refused, is refused before."""
    monkeypatch.setattr(Trainer, "next_batch", lambda self: pytest.fail("a step was taken"))


def refused(arguments, capsys) -> str:
    """The one line with which a command is refused, after a progress bar where there was one."""
    assert main([str(argument) for argument in arguments]) == 2
    bars, _, error = capsys.readouterr().err.strip().rpartition("\n")
    assert error.startswith("error: ") and "error" not in bars
    return error


def files(folder) -> dict:
    """All files in a folder with their content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_train_tune_sample_evaluate(tmp_path, sample_data, capsys):
    out = tmp_path / "weights"
    assert main([*TRAIN, "--out", str(out)]) == 0
    assert "256 images, 64 per step" in capsys.readouterr().out
    report = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert report["images_seen"] == 256 and len(report["losses"]) == 4 and report["recipe"] == "fast"
    assert report["is_sample"] is True
    assert ClassConditionedPipeline.from_pretrained(out).config.dataset == "mnist"

    png = tmp_path / "pictures" / "grid.png"
    assert (
        main(["sample", "--weights", str(out), "--digit", "3", "--count", "4", "--steps", "2", "--out", str(png)]) == 0
    )
    width, height = Image.open(png).size
    assert width == 4 * height

    tuned = tmp_path / "tuned"
    command = ["tune", "--weights", str(out), "--steps", "3", "--batches", "2", "--optimizer", "muon", "--allow-sample"]
    assert main([*command, "--out", str(tuned)]) == 0
    assert json.loads((tuned / "training.json").read_text(encoding="utf-8")).items() >= report.items()
    tuning = json.loads((tuned / "training.json").read_text(encoding="utf-8"))["tuning"]
    assert (tuning["weights"], tuning["optimizer"], tuning["images_seen"]) == (str(out), "muon", 64)
    assert len(tuning["losses"]) == 2 and tuning["is_sample"] is True
    config = ClassConditionedPipeline.from_pretrained(tuned).config
    assert (config.num_inference_steps, config.guidance_scale) == (3, 1.0)

    capsys.readouterr()
    assert main(["evaluate", "--weights", str(out), "--count", "20", "--steps", "2", "--seeds", "2"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert 0 <= scores["class_accuracy"] <= 1 and scores["excess_distance"] > 1 and scores["seeds"] == [0, 1]
    assert scores["second_judge"]["judge_accuracy"] != scores["judge_accuracy"]


@pytest.mark.parametrize("command", [TRAIN, TUNE])
def test_the_sample_never_passes_for_the_real_images(tmp_path, sample_data, no_step, capsys, command):
    out = tmp_path / "weights"
    error = refused([*command[:-1], "--out", out], capsys)
    assert "mnist could not be loaded" in error and "--allow-sample" in error and not files(tmp_path)


@pytest.mark.parametrize("command", [TRAIN, TUNE])
def test_nothing_trained_is_lost_unasked(tmp_path, sample_data, no_step, capsys, command):
    """Checkpoints, weights or both, of this kind of training or the other: only --overwrite gives them up."""
    checkpoint = {"train": "stage-1", "tune": "tuning"}
    other = {"train": "tuning", "tune": "stage-1"}
    for number, (kept, options, words) in enumerate(
        [
            (f"checkpoints/{checkpoint[command[0]]}/checkpoint-000100.pt", [], "--resume to go on"),
            (f"checkpoints/{other[command[0]]}/checkpoint-000100.pt", [], "--overwrite to start anew"),
            (f"checkpoints/{other[command[0]]}/checkpoint-000100.pt", ["--resume"], "give --overwrite to start anew"),
            ("checkpoints/checkpoint-000100.pt", ["--resume"], "give --overwrite to start anew"),
            ("model_index.json", [], "holds trained weights: give --overwrite"),
            ("model_index.json", ["--resume"], "holds trained weights: give --overwrite"),
            ("training.json", [], "holds trained weights: give --overwrite"),
        ]
    ):
        out = tmp_path / str(number)
        (out / kept).parent.mkdir(parents=True)
        (out / kept).write_text("hours of work", encoding="utf-8")
        before = files(tmp_path)
        assert words in refused([*command, *options, "--out", out], capsys)
        assert files(tmp_path) == before


@pytest.mark.parametrize(
    "command",
    [
        [*TRAIN[:-1], "--overwrite"],  # the sample is not allowed
        [*TRAIN, "--overwrite", "--epochs", "0"],
        [*TRAIN, "--overwrite", "--seed", str(2**65)],
        [*TUNE[:-1], "--overwrite"],
        [*TUNE, "--overwrite", "--steps", "0"],
        ["tune", "--weights", "damaged", "--overwrite", "--allow-sample"],
    ],
)
def test_what_is_refused_overwrites_nothing(tmp_path, monkeypatch, sample_data, no_step, capsys, command):
    monkeypatch.chdir(tmp_path)
    ClassConditionedPipeline.from_pretrained("mnist").save_pretrained("damaged")
    (tmp_path / "damaged" / "training.json").write_text("{", encoding="utf-8")
    for name in ("model_index.json", "checkpoints/stage-0/checkpoint-000100.pt"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("hours of work", encoding="utf-8")
    before = files(tmp_path)
    refused([*command, "--out", "out"], capsys)
    assert files(tmp_path) == before


def test_overwrite_starts_anew_and_resume_goes_on(tmp_path, sample_data, capsys):
    out = tmp_path / "weights"
    strangers = [out / "checkpoints" / name for name in ("notes.txt", "stage-0/checkpoint-best.pt")]
    assert main([*TRAIN, "--out", str(out), "--resume"]) == 0  # from the start, and says so
    assert "holds no checkpoint to go on from" in capsys.readouterr().err
    for stranger in strangers:
        stranger.write_text("mine", encoding="utf-8")
    weights = (out / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert "--resume" in refused([*TRAIN, "--seed", "1", "--out", out], capsys)
    assert "seed=0" in refused([*TRAIN, "--seed", "1", "--out", out, "--resume"], capsys)
    assert main([*TRAIN, "--seed", "1", "--out", str(out), "--overwrite"]) == 0
    assert (out / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() != weights
    assert main([*TRAIN, "--seed", "1", "--out", str(out), "--resume"]) == 0  # nothing is left to do
    assert all(stranger.read_text(encoding="utf-8") == "mine" for stranger in strangers)


@pytest.mark.parametrize("command", [TRAIN, TUNE])
def test_a_disk_without_room_is_refused_before_training(tmp_path, monkeypatch, sample_data, no_step, capsys, command):
    def full(folder, size):
        assert size > 10_000_000
        raise OSError("there is no room")

    monkeypatch.setattr("course_utils.__main__.require_room", full)
    assert "there is no room" in refused([*command, "--out", tmp_path / "weights"], capsys)


@pytest.mark.parametrize("command", [TRAIN, TUNE])
def test_a_save_that_fails_names_the_checkpoint_and_resume_saves(tmp_path, monkeypatch, sample_data, capsys, command):
    def full(self, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "weights"
    with monkeypatch.context() as disk:
        disk.setattr(ClassConditionedPipeline, "save_pretrained", full)
        error = refused([*command, "--out", out], capsys)
    assert "could not be saved" in error and "No space left on device" in error and "--resume" in error
    checkpoint = Path(re.search("the last checkpoint is (.*.pt):", error)[1])
    assert checkpoint.is_file() and checkpoint.parent.name in ("stage-1", "tuning")
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "next_batch", lambda self: pytest.fail("a step was taken"))
        assert main([*command, "--out", str(out), "--resume"]) == 0
    assert ClassConditionedPipeline.from_pretrained(out)


@pytest.mark.parametrize(
    "content",
    [b"[]", b"7", b"null", b'"x"', b"{", b"", b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 500 + b"1" + b"}" * 500]
    + [b'{"losses": ' + b"[" * 50 + b"]" * 50 + b"}", b'{"a": 1, "a": 2}', b" " * 10_000_001, b"1" * 5000],
    ids=range(13),
)
def test_a_strange_report_is_refused_before_fine_tuning(tmp_path, sample_data, no_step, capsys, content):
    ClassConditionedPipeline.from_pretrained("mnist").save_pretrained(tmp_path / "strange")
    (tmp_path / "strange" / "training.json").write_bytes(content)
    error = refused(["tune", "--weights", tmp_path / "strange", "--allow-sample", "--out", tmp_path / "out"], capsys)
    assert "training.json" in error and "train the weights again" in error and len(error) < 600


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["sample", "--weights", "cifar", "--digit", "3", "--out", "x.png"], "no weights called 'cifar'"),
        (["sample", "--weights", "mnist", "--digit", "10", "--out", "x.png"], "from 0 to 9"),
        (["sample", "--weights", "mnist", "--digit", "-1", "--out", "x.png"], "from 0 to 9"),
        (["sample", "--weights", "mnist", "--digit", "3", "--steps", "0", "--out", "x.png"], "from 1 to 1000"),
        (["sample", "--weights", "mnist", "--digit", "3", "--steps", "5000", "--out", "x.png"], "from 1 to 1000"),
        (["sample", "--weights", "mnist", "--digit", "3", "--count", "0", "--out", "x.png"], "from 1 to 5710"),
        (["sample", "--weights", "mnist", "--digit", "3", "--count", "99999", "--out", "x.png"], "from 1 to 5710"),
        (["sample", "--weights", "mnist", "--digit", "3", "--out", "x.txt"], "ends in '.txt'"),
        (["sample", "--weights", "mnist", "--digit", "3", "--out", "x"], "ends in ''"),
        (["sample", "--weights", "fashion_mnist", "--class", "Boot", "--out", "x.png"], "T-shirt, Trouser"),
        (["sample", "--weights", "mnist", "--digit", "3", "--guidance-start", "2", "--out", "x.png"], "from 0 to 1"),
        (["evaluate", "--weights", ".", "--count", "20"], "model_index.json"),
        (["evaluate", "--weights", "mnist", "--count", "1"], "count is 1"),
        (["train", "--epochs", "0", "--out", "weights"], "num_epochs"),
        (["sample", "--weights", "mnist", "--digit", "3", "--out", "file/x.png"], "cannot write to"),
        (["train", "--out", "file/weights"], "cannot write to"),
        (["tune", "--weights", "cifar", "--out", "weights"], "no weights called 'cifar'"),
        (["tune", "--weights", "mnist", "--steps", "0", "--out", "weights"], "num_inference_steps is 0"),
        (["tune", "--weights", "mnist", "--batches", "0", "--out", "weights"], "max_steps is 0"),
        (["tune", "--weights", "mnist", "--out", "file/weights"], "cannot write to"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, monkeypatch, sample_data, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and words in error and "\n" not in error
    assert not list(tmp_path.glob("**/*.png")) and not list(tmp_path.glob("**/*.safetensors"))


def test_unknown_choices_exit_with_status_2():
    for arguments in (
        ["train", "--dataset", "cifar", "--out", "x"],
        ["train", "--recipe", "slow", "--out", "x"],
        ["draw"],
        ["train", "--out", "x", "--resume", "--overwrite"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2


def test_own_pictures_are_trained_drawn_and_judged(tmp_path, monkeypatch, capsys):
    """From a folder of pictures to scores by a judge of one's own, with the names of the folders."""
    monkeypatch.setattr("course_utils.classifier.TrainingPlan", lambda epochs: TrainingPlan((8, 8, 8), epochs=2))
    draw_shapes(tmp_path / "shapes", per_class=12)
    weights, judge = tmp_path / "mine", tmp_path / "judge"
    assert main(["train", "--data", str(tmp_path / "shapes"), "--preset", "smoke", "--out", str(weights)]) == 0
    pipe = ClassConditionedPipeline.from_pretrained(weights)
    assert pipe.class_names == ["circle", "cross", "square", "star", "triangle"] and pipe.config.dataset == "shapes"
    out = tmp_path / "stars.png"
    assert main(["sample", "--weights", str(weights), "--class", "star", "--steps", "1", "--out", str(out)]) == 0
    assert "star" in capsys.readouterr().out and out.exists()
    error = refused(["evaluate", "--weights", weights, "--count", "20"], capsys)
    assert "no judge for 'shapes'" in error and "course_utils judge" in error
    assert main(["judge", "--data", str(tmp_path / "shapes"), "--out", str(judge)]) == 0
    assert "pictures that it has not seen" in capsys.readouterr().out
    evaluate = ["evaluate", "--weights", str(weights), "--judge", str(judge), "--count", "20", "--steps", "1"]
    assert main(evaluate) == 0
    scores = json.loads(capsys.readouterr().out)
    assert len(scores["recall"]) == 5 and "second_judge" not in scores
    assert "there already" in refused(["judge", "--data", tmp_path / "shapes", "--out", judge], capsys)
