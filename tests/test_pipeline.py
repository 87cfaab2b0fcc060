import itertools
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.utils import hub_utils
from PIL import Image

from course_utils.pipeline import BUNDLED_WEIGHTS, ClassConditionedPipeline, bundled_losses
from course_utils.sampling import make_scheduler
from tiny import make_tiny_model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_output_types_show_the_same_pictures(tiny_pipe):
    pil, array, tensor = (
        tiny_pipe([3, 7], generator=seeded(), output_type=kind).images for kind in ("pil", "np", "pt")
    )
    assert [image.size for image in pil] == [(28, 28)] * 2 and isinstance(pil[0], Image.Image) and pil[0].mode == "L"
    assert array.shape == (2, 28, 28, 1) and array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
    assert tensor.shape == (2, 1, 28, 28)
    np.testing.assert_allclose(array[:, :, :, 0], tensor[:, 0].numpy())
    np.testing.assert_allclose(np.asarray(pil[0]) / 255, array[0, :, :, 0], atol=1 / 255)


def test_defaults_travel_with_the_weights(tiny_pipe, tmp_path):
    tiny_pipe.save_pretrained(tmp_path / "mine")
    again = ClassConditionedPipeline.from_pretrained(tmp_path / "mine")
    assert (again.config.num_inference_steps, again.config.guidance_scale, again.config.dataset) == (2, 1.5, "mnist")
    assert type(again.scheduler) is type(tiny_pipe.scheduler)
    assert again.scheduler.config.prediction_type == "v_prediction"
    pictures = [pipe([3], generator=seeded(), output_type="np").images for pipe in (tiny_pipe, again)]
    np.testing.assert_array_equal(*pictures)
    files = [file for _, _, names in os.walk(tmp_path) for file in names]
    assert all(file.endswith((".json", ".safetensors")) for file in files)


def test_weights_saved_before_guidance_could_start_late_are_guided_from_the_start(tiny_pipe, tmp_path):
    tiny_pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text(encoding="utf-8"))
    assert index.pop("guidance_start") == 0.0 and index.pop("class_names") is None
    (tmp_path / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    again = ClassConditionedPipeline.from_pretrained(tmp_path)
    pictures = [pipe([3], generator=seeded(), output_type="np").images for pipe in (tiny_pipe, again)]
    np.testing.assert_array_equal(*pictures)


def test_saving_again_replaces_what_was_saved_and_nothing_else(tiny_pipe, tmp_path):
    tiny_pipe.save_pretrained(tmp_path)
    own = [tmp_path / "README.md", tmp_path / "training.json", tmp_path / "checkpoints" / "checkpoint-000100.pt"]
    for file in own:
        file.parent.mkdir(exist_ok=True)
        file.write_text("hours of work", encoding="utf-8")
    changed = tiny_pipe.with_unet(make_tiny_model(zero_init=True), guidance_scale=3.0)
    changed.save_pretrained(tmp_path)
    assert all(file.read_text(encoding="utf-8") == "hours of work" for file in own)
    names = ["README.md", "checkpoints", "model_index.json", "scheduler", "training.json", "unet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    again = ClassConditionedPipeline.from_pretrained(tmp_path)
    assert again.config.guidance_scale == 3.0 and again.unet.config.zero_init


def test_an_interrupted_save_leaves_the_old_pipeline_or_the_new_one(tiny_pipe, tmp_path, monkeypatch):
    """The new one is smaller and deeper: halves of both would not fit together."""
    new = tiny_pipe.with_unet(make_tiny_model(sample_size=16, layers_per_block=2))
    sizes, replace = [], os.replace
    for moment in itertools.count():
        tiny_pipe.save_pretrained(tmp_path)
        countdown = iter([False] * moment + [True])

        def interrupted(source, target, countdown=countdown):
            if next(countdown, False):
                raise KeyboardInterrupt
            replace(source, target)

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(os, "replace", interrupted)
            new.save_pretrained(tmp_path)
        sizes.append(ClassConditionedPipeline.from_pretrained(tmp_path)([3], output_type="pt").images.shape[-1])
        if next(countdown, False):  # there are not so many replacements
            break
    assert sizes == sorted(sizes, reverse=True) and sizes.count(28) > 1 and sizes.count(16) > 3


def test_it_is_pushed_to_the_hub_as_it_is_saved(tiny_pipe, tmp_path, monkeypatch):
    uploaded = {}

    def upload(self, folder, repo_id, **options):
        names = {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}
        uploaded[repo_id] = (names, options["commit_message"])

    class Card:
        def save(self, file):
            Path(file).write_text("card", encoding="utf-8")

    monkeypatch.setattr(hub_utils, "create_repo", lambda repo_id, **options: Repo(repo_id))
    monkeypatch.setattr(hub_utils, "load_or_create_model_card", lambda *args, **options: Card())
    monkeypatch.setattr(hub_utils, "populate_model_card", lambda card, **options: card)
    monkeypatch.setattr(ClassConditionedPipeline, "_upload_folder", upload)
    tiny_pipe.push_to_hub("me/mnist", commit_message="first")
    tiny_pipe.save_pretrained(tmp_path / "mine", push_to_hub=True, repo_id="me/second", variant="fp16", private=True)
    tiny_pipe.save_pretrained(tmp_path / "third", safe_serialization=True, push_to_hub=True)
    settings = {"model_index.json", "scheduler/scheduler_config.json", "unet/config.json", "README.md"}
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert uploaded["me/mnist"] == (settings | {weights}, "first")
    assert uploaded["me/second"][0] == settings | {weights.replace(".safe", ".fp16.safe")}
    assert "third" in uploaded and (tmp_path / "third" / weights).exists()
    ClassConditionedPipeline.from_pretrained(tmp_path / "mine", variant="fp16")


class Repo:
    """What `create_repo` returns."""

    def __init__(self, repo_id):
        self.repo_id = repo_id


FULL_DISK = """
import resource, sys
from course_utils.pipeline import ClassConditionedPipeline
pipe = ClassConditionedPipeline.from_pretrained(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for part in (pipe, pipe.unet):
    try:
        part.save_pretrained(sys.argv[1])
    except OSError as error:
        print(error.errno, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_full_disk_is_one_sentence_and_keeps_what_was_there(tiny_pipe, tmp_path):
    """As far as safetensors can tell: no file may grow beyond 20 kB."""
    tiny_pipe.save_pretrained(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=120)
    sentences = run.stdout.splitlines()
    assert len(sentences) == 2 and all(sentence.startswith("27 cannot write to /") for sentence in sentences), (
        run.stderr
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_wins_over_a_bundled_name_where_it_holds_weights(tiny_pipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()  # the data set, say
    assert ClassConditionedPipeline.from_pretrained("mnist").config.guidance_scale == 1
    tiny_pipe.save_pretrained("mnist")
    assert ClassConditionedPipeline.from_pretrained("mnist").config.guidance_scale == 1.5
    assert ClassConditionedPipeline.from_pretrained("fashion_mnist").config.dataset == "fashion_mnist"


def test_a_folder_may_be_at_home_and_messages_name_the_whole_path(tiny_pipe, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tiny_pipe.save_pretrained("~/my-digits")
    assert [path.name for path in tmp_path.iterdir()] == ["my-digits"]
    ClassConditionedPipeline.from_pretrained("~/my-digits")
    ClassConditionedPipeline.from_pretrained(Path("~/my-digits"))
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere", "~/nowhere"):
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            ClassConditionedPipeline.from_pretrained(name)


def test_keywords_of_diffusers_are_followed_or_refused(tiny_pipe, tmp_path):
    tiny_pipe.save_pretrained(tmp_path)
    known = dict(use_safetensors=True, local_files_only=True, cache_dir=None, token=None, revision="main")
    assert ClassConditionedPipeline.from_pretrained(tmp_path, **known).dtype == torch.float32
    for keywords, words in (
        (dict(use_safetensors=False), "a pickle can run anything"),
        (dict(torch_dtype="half"), "torch_dtype is 'half'"),
        (dict(subfolder="unet"), "the keyword 'subfolder'"),
        (dict(custom_pipeline="evil"), "the keyword 'custom_pipeline'"),
    ):
        with pytest.raises(ValueError, match=words):
            ClassConditionedPipeline.from_pretrained(tmp_path, **keywords)
    with pytest.raises(FileNotFoundError, match="model.fp16.safetensors"):
        ClassConditionedPipeline.from_pretrained(tmp_path, variant="fp16")
    with pytest.raises(ValueError, match="a pickle can run anything"):
        tiny_pipe.save_pretrained(tmp_path, safe_serialization=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_pipeline_in_another_dtype_draws_and_is_saved(tiny_pipe, tmp_path, dtype):
    pictures = tiny_pipe.to(dtype)([3], generator=seeded(), output_type="np").images
    assert pictures.dtype == np.float32
    tiny_pipe.save_pretrained(tmp_path)
    assert ClassConditionedPipeline.from_pretrained(tmp_path).dtype == torch.float32
    for keyword in ("torch_dtype", "dtype"):
        again = ClassConditionedPipeline.from_pretrained(tmp_path, **{keyword: dtype})
        assert again.dtype == dtype
        np.testing.assert_array_equal(again([3], generator=seeded(), output_type="np").images, pictures)


def test_class_names_travel_with_the_weights(tmp_path):
    names, model = ["cat", "chien", "鳥"], make_tiny_model(num_classes=3)
    pipe = ClassConditionedPipeline(model, make_scheduler(), "my pets", class_names=names)
    pipe.save_pretrained(tmp_path)
    again = ClassConditionedPipeline.from_pretrained(tmp_path)
    assert again.class_names == pipe.class_names == names and again.config.dataset == "my pets"
    assert again.with_unet(make_tiny_model(num_classes=3)).class_names == names
    assert again.with_unet(make_tiny_model(num_classes=1), class_names=None).class_names == ["0"]


def test_without_class_names_those_of_a_known_data_set_count_if_they_fit():
    def names(dataset, count):
        model = make_tiny_model(num_classes=count)
        return ClassConditionedPipeline(model, make_scheduler(), dataset).class_names

    assert names("fashion_mnist", 10)[:2] == ["T-shirt", "Trouser"] and names("mnist", 10) == [*"0123456789"]
    assert names("fashion_mnist", 3) == names("pets", 3) == ["0", "1", "2"]


@pytest.mark.parametrize("names", [["a"] * 9, [], "0123456789", [1] * 10, 5, ["a"] * 9 + ["b" * 101]])
def test_names_that_are_not_one_for_each_class_are_refused(tiny_model, names):
    with pytest.raises(ValueError, match="class_names .*expected") as error:
        ClassConditionedPipeline(tiny_model, make_scheduler(), class_names=names)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_thousand_long_names_are_saved_and_loaded(tmp_path):
    model = make_tiny_model(num_classes=1000, block_out_channels=(4,), norm_num_groups=2, attention_head_dim=4)
    names = ["🦜" * 97 + f"{i:03}" for i in range(1000)]
    ClassConditionedPipeline(model, make_scheduler(), class_names=names).save_pretrained(tmp_path)
    assert ClassConditionedPipeline.from_pretrained(tmp_path).class_names == names


def test_defaults_may_be_numpys_and_can_be_saved(tiny_model, tmp_path):
    numbers = (np.int64(3), np.float32(1.5), np.float64(0.5))
    pipe = ClassConditionedPipeline(tiny_model, make_scheduler("ddim"), "mnist", *numbers)
    pipe.save_pretrained(tmp_path)
    config = ClassConditionedPipeline.from_pretrained(tmp_path).config
    assert (config.num_inference_steps, config.guidance_scale, config.guidance_start) == (3, 1.5, 0.5)
    drawn = [pipe([3], steps, generator=seeded(), output_type="np").images for steps in (3, np.uint8(3))]
    np.testing.assert_array_equal(*drawn)


def test_guidance_may_start_later_than_by_default(tiny_pipe):
    def draw(**options):
        return tiny_pipe([3], 4, 5.0, seeded(), output_type="np", **options).images

    np.testing.assert_array_equal(draw(guidance_start=1), tiny_pipe([3], 4, 1.0, seeded(), output_type="np").images)
    np.testing.assert_array_equal(draw(), draw(guidance_start=0))
    assert (draw(guidance_start=0.5) != draw()).any()


def test_a_generator_for_each_picture(tiny_pipe):
    together = tiny_pipe([3, 7], generator=[seeded(1), seeded(2)], output_type="np").images
    alone = tiny_pipe([7], generator=seeded(2), output_type="np").images
    np.testing.assert_allclose(together[1:], alone, atol=1e-4)


@pytest.mark.parametrize("name", BUNDLED_WEIGHTS)
def test_bundled_weights_draw(name):
    pipe = ClassConditionedPipeline.from_pretrained(name)
    pictures = pipe([3] * 4, generator=seeded(), output_type="np").images
    assert pictures.shape == (4, 28, 28, 1)
    assert 0.02 < pictures.mean() < 0.7, "hardly any ink, or hardly any paper"
    assert len(pipe.class_names) == 10
    losses = bundled_losses(name)
    assert len(losses) > 100 and sum(losses[-100:]) < sum(losses[:100])


def test_concat_weights_are_the_examples_network():
    config = ClassConditionedPipeline.from_pretrained("mnist-concat").unet.config
    assert config.conditioning == "embedding" and config.class_emb_size == 4
    assert tuple(config.block_out_channels) == (32, 64, 64) and config.layers_per_block == 2


@pytest.mark.parametrize("labels", [[-1], [10], [2.5], "three", [[3]]])
def test_bad_labels(tiny_pipe, labels):
    with pytest.raises(ValueError, match="whole numbers from 0 to 9"):
        tiny_pipe(class_labels=labels)


def test_bad_output_type(tiny_pipe):
    for wrong in ("jpeg", None, ["pt"]):
        with pytest.raises(ValueError, match="'pil', 'np', 'pt'"):
            tiny_pipe([3], output_type=wrong)


@pytest.mark.parametrize("name", ["cifar", "./nowhere", "/no/such/folder"])
def test_unknown_weights(name):
    with pytest.raises(FileNotFoundError, match="expected one of 'mnist'"):
        ClassConditionedPipeline.from_pretrained(name)


def test_folder_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="model_index.json"):
        ClassConditionedPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("file", ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_damaged_settings(tiny_pipe, tmp_path, file, text):
    tiny_pipe.save_pretrained(tmp_path)
    (tmp_path / file).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="damaged") as error:
        ClassConditionedPipeline.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_no_class_is_imported_from_a_config(tiny_pipe, tmp_path):
    tiny_pipe.save_pretrained(tmp_path)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"_class_name": "antigravity"}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="unknown scheduler 'antigravity'"):
        ClassConditionedPipeline.from_pretrained(tmp_path)


def test_nothing_is_half_written_where_nothing_can_be(tiny_pipe, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError, match="cannot write to"):
        tiny_pipe.save_pretrained(tmp_path / "file" / "weights")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
