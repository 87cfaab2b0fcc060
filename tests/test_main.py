import json

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils import data
from course_utils.__main__ import label_of, main
from course_utils.data import load_sample
from course_utils.pictures import picture_grid
from course_utils.pipeline import ClassConditionedPipeline


@pytest.fixture
def sample_data(monkeypatch):
    """The bundled sample in the data sets' place, so that a training takes seconds."""
    monkeypatch.setattr("course_utils.__main__.load_dataset", lambda name: load_sample(name))


def test_train_tune_sample_evaluate(tmp_path, sample_data, capsys):
    out = tmp_path / "weights"
    assert main(["train", "--preset", "smoke", "--out", str(out)]) == 0
    assert "256 images" in capsys.readouterr().out
    report = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert report["images_seen"] == 256 and len(report["losses"]) == 4 and report["recipe"] == "fast"
    assert ClassConditionedPipeline.from_pretrained(out).config.dataset == "mnist"

    png = tmp_path / "pictures" / "grid.png"
    assert (
        main(["sample", "--weights", str(out), "--digit", "3", "--count", "4", "--steps", "2", "--out", str(png)]) == 0
    )
    width, height = Image.open(png).size
    assert width == 4 * height

    tuned = tmp_path / "tuned"
    command = ["tune", "--weights", str(out), "--steps", "3", "--batches", "2", "--optimizer", "muon"]
    assert main([*command, "--out", str(tuned)]) == 0
    assert json.loads((tuned / "training.json").read_text(encoding="utf-8")).items() >= report.items()
    tuning = json.loads((tuned / "training.json").read_text(encoding="utf-8"))["tuning"]
    assert (tuning["weights"], tuning["optimizer"], tuning["images_seen"]) == (str(out), "muon", 64)
    assert len(tuning["losses"]) == 2
    config = ClassConditionedPipeline.from_pretrained(tuned).config
    assert (config.num_inference_steps, config.guidance_scale) == (3, 1.0)

    capsys.readouterr()
    assert main(["evaluate", "--weights", str(out), "--count", "20", "--steps", "2", "--seeds", "2"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert 0 <= scores["class_accuracy"] <= 1 and scores["excess_distance"] > 1 and scores["seeds"] == [0, 1]
    assert scores["second_judge"]["judge_accuracy"] != scores["judge_accuracy"]


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


@pytest.mark.parametrize(
    "ending, kind",
    [
        ("png", "PNG"),
        ("jpg", "JPEG"),
        ("JPEG", "JPEG"),
        ("webp", "WEBP"),
        ("bmp", "BMP"),
        ("gif", "GIF"),
        ("pdf", "PDF"),
    ],
)
def test_pictures_are_laid_out_in_rows_of_ten_in_the_format_of_the_ending(tmp_path, tiny_pipe, ending, kind):
    tiny_pipe.save_pretrained(tmp_path / "tiny")
    out = tmp_path / "new" / f"grid.{ending}"
    assert (
        main(["sample", "--weights", str(tmp_path / "tiny"), "--digit", "3", "--count", "23", "--out", str(out)]) == 0
    )
    if kind == "PDF":
        assert out.read_bytes().startswith(b"%PDF")
    else:
        image = Image.open(out)
        assert image.format == kind and image.size == (10 * 224, 3 * 224)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_many_pictures_make_no_huge_image(tmp_path, monkeypatch):
    monkeypatch.setattr(
        ClassConditionedPipeline, "__call__", lambda pipe, labels, *_: Drawn(torch.rand(len(labels), 1, 28, 28))
    )
    for count, size in ((400, (2240, 40 * 224)), (5710, (280, 571 * 28))):
        out = str(tmp_path / "grid.png")
        assert main(["sample", "--weights", "mnist", "--digit", "3", "--count", str(count), "--out", out]) == 0
        assert Image.open(out).size == size


class Drawn:
    """What a pipeline returns."""

    def __init__(self, images):
        self.images = images


def test_a_grid_shows_the_pictures_in_order():
    pictures = torch.arange(12).view(12, 1, 1, 1).expand(12, 1, 28, 28) / 12
    grid = np.asarray(picture_grid(pictures, 10))
    shown = [grid[112 + 224 * (i // 10), 112 + 224 * (i % 10)] for i in range(20)]
    assert shown == [round(255 * i / 12) for i in range(12)] + [0] * 8


@pytest.mark.parametrize(
    "option, text", [("--class", "Sneaker"), ("--class", "sneaker"), ("--digit", "7"), ("--class", "7")]
)
def test_a_class_may_be_named_or_numbered(tmp_path, capsys, option, text):
    out = str(tmp_path / "x.png")
    assert main(["sample", "--weights", "fashion_mnist", option, text, "--count", "1", "--out", out]) == 0
    assert capsys.readouterr().out.startswith("1 x Sneaker in /")


def test_where_names_are_numbers_they_are_what_counts():
    assert [label_of(text, ["7", "3", "0"]) for text in ("7", "3", "0", "1")] == [0, 1, 2, 1]


@pytest.mark.parametrize("arguments", [["--weights", "mnist", "--steps", "0"], ["--weights", "damaged"]])
def test_a_refused_fine_tuning_leaves_older_checkpoints_alone(tmp_path, monkeypatch, sample_data, arguments):
    monkeypatch.chdir(tmp_path)
    ClassConditionedPipeline.from_pretrained("mnist").save_pretrained("damaged")
    (tmp_path / "damaged" / "training.json").write_text("{", encoding="utf-8")
    checkpoint = tmp_path / "out" / "checkpoints" / "checkpoint-000100.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("hours of work", encoding="utf-8")
    assert main(["tune", *arguments, "--batches", "1", "--out", "out"]) == 2
    assert checkpoint.exists()


def test_unknown_choices_exit_with_status_2():
    for arguments in (
        ["train", "--dataset", "cifar", "--out", "x"],
        ["train", "--recipe", "slow", "--out", "x"],
        ["draw"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2


def test_names_of_the_data_sets_are_offered():
    assert set(data.SOURCES) == {"mnist", "fashion_mnist"}
