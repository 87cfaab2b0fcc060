import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.pipeline import BUNDLED_WEIGHTS, ClassConditionedPipeline, bundled_losses


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
    assert index.pop("guidance_start") == 0.0
    (tmp_path / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    again = ClassConditionedPipeline.from_pretrained(tmp_path)
    pictures = [pipe([3], generator=seeded(), output_type="np").images for pipe in (tiny_pipe, again)]
    np.testing.assert_array_equal(*pictures)


def test_saving_again_replaces(tiny_pipe, tmp_path):
    for _ in range(2):
        tiny_pipe.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_index.json", "scheduler", "unet"]


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
    with pytest.raises(ValueError, match="'pil', 'np', 'pt'"):
        tiny_pipe([3], output_type="jpeg")


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
