import json
import os

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from course_utils.model import ClassConditionedUnet, check_class_labels, flops_per_image
from tiny import make_tiny_model


class ExampleUnet(nn.Module):
    """The network of the Hugging Face example, written down independently of the course's."""

    def __init__(self):
        super().__init__()
        self.class_emb = nn.Embedding(10, 4)
        self.model = UNet2DModel(
            sample_size=28,
            in_channels=5,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )

    def forward(self, x, t, labels):
        channels = self.class_emb(labels).view(len(x), 4, 1, 1).expand(len(x), 4, 28, 28)
        return self.model(torch.cat([x, channels], dim=1), t).sample


def noisy_batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 1, 28, 28, generator=generator), torch.tensor([0, 500, 999]), torch.tensor([0, 7, 9])


def test_default_network_is_the_examples():
    example, ours = ExampleUnet().eval(), ClassConditionedUnet().eval()
    assert sum(parameter.numel() for parameter in ours.parameters()) == 1_708_201
    ours.load_state_dict(example.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(ours(*noisy_batch()), example(*noisy_batch()), atol=1e-6, rtol=0)


def test_one_hot_equals_an_identity_embedding():
    one_hot = make_tiny_model(conditioning="one_hot", unconditional=False)
    embedding = make_tiny_model(class_emb_size=10, unconditional=False)
    embedding.model.load_state_dict(one_hot.model.state_dict())
    nn.init.eye_(embedding.class_emb.weight)
    torch.testing.assert_close(one_hot(*noisy_batch()), embedding(*noisy_batch()))


@pytest.mark.parametrize("conditioning", ["embedding", "one_hot", "time"])
def test_label_changes_the_output_and_null_label_is_a_label_of_its_own(conditioning):
    model = make_tiny_model(conditioning=conditioning)
    x, t = torch.randn(1, 1, 28, 28), torch.tensor(500)
    with torch.no_grad():
        outputs = [model(x, t, torch.tensor([label])) for label in (3, 7, model.null_label)]
    assert outputs[0].shape == (1, 1, 28, 28)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4
    assert (outputs[0] - outputs[2]).abs().max() > 1e-4


def test_one_hot_tells_nothing_for_no_class():
    model = make_tiny_model(conditioning="one_hot")
    channels = model.class_channels(torch.tensor([3, model.null_label]), 28, 28)
    assert channels.shape == (2, 10, 28, 28)
    assert channels[0, 3].eq(1).all() and channels[0].sum() == 28 * 28
    assert channels[1].eq(0).all()


def test_with_zero_init_every_block_hands_on_what_it_was_given_and_the_network_predicts_zero():
    model, seen = make_tiny_model(zero_init=True, conditioning="time"), []
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    plain = [module for module in model.modules() if isinstance(module, ResnetBlock2D) and not module.conv_shortcut]
    for module in (*attentions, *plain):
        module.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        assert model(*noisy_batch()).abs().max() == 0
    assert len(seen) == len(attentions) + len(plain) > 6
    for before, after in seen:
        torch.testing.assert_close(after, before)


def test_without_zero_init_it_does_not_start_at_zero():
    with torch.no_grad():
        assert make_tiny_model()(*noisy_batch()).abs().max() > 0


@pytest.mark.parametrize("conditioning", ["embedding", "one_hot", "time"])
def test_the_network_is_one_graph(conditioning):
    torch._dynamo.reset()
    model = make_small_graph(conditioning)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(*noisy_batch()), model(*noisy_batch()))
        x, _, labels = noisy_batch()
        torch.testing.assert_close(compiled(x, 500, labels.tolist()), model(x, 500, labels))


def test_the_network_can_be_exported_for_batches_of_any_size():
    model, batch = make_small_graph("time"), torch.export.Dim("batch", min=2, max=63)  # diffusers' UNet splits at 64
    exported = torch.export.export(model, noisy_batch(), dynamic_shapes=({0: batch}, {0: batch}, {0: batch})).module()
    larger = [torch.cat((part, part)) for part in noisy_batch()]
    with torch.no_grad():
        torch.testing.assert_close(exported(*larger), model(*larger))


def make_small_graph(conditioning):
    sizes = dict(block_out_channels=(4, 4), norm_num_groups=2, attention_levels=(), attention_head_dim=4)
    return make_tiny_model(conditioning=conditioning, **sizes).eval()


@pytest.mark.parametrize("conditioning", ["embedding", "one_hot", "time"])
def test_the_network_runs_on_the_device_and_in_the_dtype_of_its_weights(conditioning):
    model = make_tiny_model(conditioning=conditioning)
    flops = flops_per_image(model)
    x, t, labels = noisy_batch()
    for dtype in (torch.float64, torch.bfloat16):
        assert model.to(dtype)(x.to(dtype), t, labels).dtype == model.dtype == dtype
        assert flops_per_image(model) == flops
    elsewhere = model.to("meta")
    assert elsewhere(x.to("meta", torch.bfloat16), 5, [0, 7, 9]).device.type == "meta"
    assert flops_per_image(elsewhere) == flops


@pytest.mark.parametrize("t", [500, torch.tensor(500), torch.tensor([500, 500, 500])])
@pytest.mark.parametrize("labels", [[0, 7, 9], torch.tensor([0, 7, 9], dtype=torch.uint8)])
def test_timesteps_and_labels_may_come_in_several_forms(tiny_model, t, labels):
    x, _, expected_labels = noisy_batch()
    with torch.no_grad():
        torch.testing.assert_close(tiny_model(x, t, labels), tiny_model(x, torch.full((3,), 500), expected_labels))
        assert torch.equal(tiny_model(sample=x, timestep=t, class_labels=labels), tiny_model(x, t, labels))


def test_network_without_null_label_says_so():
    with pytest.raises(ValueError, match="unconditional=True"):
        _ = ClassConditionedUnet().null_label


@pytest.mark.parametrize(
    "labels", [-1, 10, 2.5, "three", ["3"], [[1, 2]], [], None, [True], [1, True], [1, float("nan")]]
)
def test_bad_labels_are_refused_in_one_sentence(labels):
    with pytest.raises(ValueError, match="whole numbers from 0 to 9") as error:
        check_class_labels(labels, 10)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "shape, labels, words",
    [
        ((2, 1, 28, 28), [3], "1 class_labels for 2 pictures"),
        ((2, 1, 28, 28), [[3], [4]], "expected \\(B,\\) of whole numbers"),
        ((2, 1, 28, 28), [3.0, 4.0], "expected \\(B,\\) of whole numbers"),
        ((2, 1, 28, 28), [True, False], "expected \\(B,\\) of whole numbers"),
        ((2, 1, 27, 28), [3, 4], "multiples of 4"),
        ((2, 3, 28, 28), [3, 4], "expected \\(B, 1, 28, 28\\)"),
        ((28, 28), [3], "expected \\(B, 1, 28, 28\\)"),
    ],
)
@pytest.mark.parametrize("conditioning", ["embedding", "one_hot", "time"])
def test_inputs_that_do_not_fit_together_are_refused(conditioning, shape, labels, words):
    model = make_tiny_model(conditioning=conditioning)
    with pytest.raises(ValueError, match=words):
        model(torch.zeros(shape), torch.tensor(5), torch.tensor(labels))


@pytest.mark.parametrize("labels", [3, [3, 3], torch.tensor([3, 7]), [3.0], torch.tensor(5, dtype=torch.uint8)])
def test_good_labels_become_int64(labels):
    assert check_class_labels(labels, 10).dtype == torch.int64


@pytest.mark.parametrize(
    "changes",
    [
        dict(conditioning="channels"),
        dict(num_classes=0),
        dict(class_emb_size=-4),
        dict(class_emb_size=10**9),
        dict(block_out_channels=(32, 64, 64, 64)),
        dict(block_out_channels=(10**6,)),
        dict(norm_num_groups=7),
        dict(layers_per_block=0),
    ],
)
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        ClassConditionedUnet(**changes)


def test_weights_come_back_in_eval_mode(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    again = ClassConditionedUnet.from_pretrained(tmp_path)
    assert not again.training
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    for name, value in tiny_model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


def test_folder_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no config.json"):
        ClassConditionedUnet.from_pretrained(tmp_path)


def test_a_pickle_is_not_opened(tmp_path, tiny_model):
    with pytest.raises(ValueError, match="a pickle can run anything"):
        tiny_model.save_pretrained(tmp_path, safe_serialization=False)
    tiny_model.save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(tiny_model.state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="safetensors"):
        ClassConditionedUnet.from_pretrained(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.999])
def test_truncated_weights(tmp_path, tiny_model, kept):
    tiny_model.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match="damaged") as error:
        ClassConditionedUnet.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '{"block_out_channels": 5}', '{"num_classes": 1e9}', '{"layers_per_block": 2}']
)
def test_damaged_or_unfitting_config(tmp_path, tiny_model, text):
    tiny_model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        ClassConditionedUnet.from_pretrained(tmp_path)


def test_config_says_what_the_network_is(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["conditioning"] == "embedding" and config["unconditional"] is True


def test_with_class_vectors_draws_what_it_is_told(tiny_model):
    rows = tiny_model.class_emb.weight.detach()
    mixed = tiny_model.with_class_vectors(torch.stack((rows[3], (rows[3] + rows[8]) / 2)))
    x, t = torch.randn(1, 1, 28, 28), torch.tensor(500)
    with torch.no_grad():
        assert torch.equal(mixed(x, t, [0]), tiny_model(x, t, [3]))
        assert not torch.equal(mixed(x, t, [1]), tiny_model(x, t, [3]))
        assert torch.equal(mixed(x, t, [mixed.null_label]), tiny_model(x, t, [tiny_model.null_label]))
    assert mixed.config.num_classes == 2 and tiny_model.config.num_classes == 10


def test_with_class_vectors_refuses_what_does_not_fit(tiny_model):
    for shape in ((2, 3), (4,), (0, 4)):
        with pytest.raises(ValueError, match="vectors has shape"):
            tiny_model.with_class_vectors(torch.zeros(shape))
    with pytest.raises(ValueError, match="only an 'embedding'"):
        make_tiny_model(conditioning="one_hot").with_class_vectors(torch.zeros(1, 4))


@pytest.mark.parametrize("size", [0, -14, 15, 14.0, True, 10**9])
def test_impossible_picture_sizes_are_refused(size):
    with pytest.raises(ValueError, match="sample_size"):
        ClassConditionedUnet.small(sample_size=size)


def test_sizes_may_be_numpys_and_can_be_saved(tmp_path):
    count, flag = np.array([1, 2, 4])[2], np.array([True])[0]
    model = make_tiny_model(
        num_classes=np.int64(3),
        class_emb_size=count,
        layers_per_block=np.uint8(1),
        block_out_channels=np.array([4, 4]),
        norm_num_groups=np.int16(2),
        attention_levels=(np.int64(1),),
        attention_head_dim=np.int32(4),
        unconditional=flag,
        zero_init=np.bool_(False),
        sample_size=np.array(14),
    )
    model.save_pretrained(tmp_path)
    config = ClassConditionedUnet.from_pretrained(tmp_path).config
    assert (config.num_classes, config.class_emb_size, config.unconditional, config.sample_size) == (3, 4, True, 14)
    assert list(config.block_out_channels) == [4, 4]


@pytest.mark.parametrize("name", ["num_classes", "layers_per_block", "norm_num_groups", "unconditional"])
@pytest.mark.parametrize("value", [np.float64(2.0), "2", None, [2], np.array([2, 2]), np.str_("2"), 2.5])
def test_what_is_no_size_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} is .*expected (a whole number|True or False)"):
        make_tiny_model(**{name: value})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_saved_in_another_dtype_come_back_in_the_one_asked_for(tmp_path, tiny_model, dtype):
    tiny_model.to(dtype).save_pretrained(tmp_path)
    assert ClassConditionedUnet.from_pretrained(tmp_path).dtype == torch.float32  # as diffusers does
    again = ClassConditionedUnet.from_pretrained(tmp_path, torch_dtype=dtype)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in tiny_model.state_dict().items())
    assert ClassConditionedUnet.from_pretrained(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_weights_load_whatever_the_defaults_of_dtype_and_device(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        again = ClassConditionedUnet.from_pretrained(tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert {(value.dtype, value.device.type) for value in again.parameters()} == {(torch.float32, "cpu")}
    x, t, labels = noisy_batch()
    with torch.no_grad():
        assert torch.equal(again(x, t, labels), tiny_model.eval()(x, t, labels))


def test_loaded_weights_are_no_part_of_the_file(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    again = ClassConditionedUnet.from_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    with open(file, "r+b") as stream:
        stream.seek(-40_000, os.SEEK_END)
        stream.write(bytes(40_000))
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_keywords_of_diffusers_are_followed_or_refused(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "mine" / "part", variant="fp16")
    known = dict(use_safetensors=True, local_files_only=True, cache_dir=None, token=None, revision=None)
    ClassConditionedUnet.from_pretrained(tmp_path / "mine", subfolder="part", variant="fp16", **known)
    for keywords, words in (
        (dict(use_safetensors=False), "a pickle can run anything"),
        (dict(torch_dtype=torch.int8), "torch_dtype is torch.int8"),
        (dict(torch_dtype="auto"), "torch_dtype is 'auto'"),
        (dict(variant="../x"), "variant is '../x'"),
        (dict(device_map="auto"), "the keyword 'device_map'"),
    ):
        with pytest.raises(ValueError, match=words):
            ClassConditionedUnet.from_pretrained(
                tmp_path / "mine", **{"subfolder": "part", "variant": "fp16"} | keywords
            )
    with pytest.raises(FileNotFoundError, match="holds no diffusion_pytorch_model.safetensors"):
        ClassConditionedUnet.from_pretrained(tmp_path / "mine", subfolder="part")
    with pytest.raises(ValueError, match="expected one file"):
        tiny_model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_pipelines_folder_says_where_the_network_is(tmp_path, tiny_pipe):
    tiny_pipe.save_pretrained(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match="add subfolder='unet'"):
        ClassConditionedUnet.from_pretrained(tmp_path / "mine")
    ClassConditionedUnet.from_pretrained(tmp_path / "mine", subfolder="unet")
