import copy
import math
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from course_utils.data import ImageDataset
from course_utils.processes import OneProcess
from course_utils.sampling import make_scheduler
from course_utils.storage.checkpoints import CheckpointFolder
from course_utils.training import Trainer, TrainingConfig, running_mean, train
from course_utils.two_steps import AdversarialConfig
from tiny import make_tiny_model

FAST = TrainingConfig.fast(batch_size=20, num_epochs=4)
NOT_NUMBERS = (math.nan, math.inf, -math.inf, "1", None, True, [1], 1j, torch.tensor([1.0, 2.0]), 10**400)


def make_smallest_model(**changes):
    """For tests that train many times."""
    return make_tiny_model(**{"block_out_channels": (4, 4), "attention_levels": (), "attention_head_dim": 4, **changes})


def test_defaults_are_the_examples_recipe():
    config = TrainingConfig()
    assert (config.num_epochs, config.batch_size, config.learning_rate) == (10, 128, 1e-3)
    assert config.total_steps(60_000) == 4690
    assert (config.lr_schedule, config.ema_decay, config.label_dropout, config.weight_decay) == ("constant", None, 0, 0)


def test_loss_falls_and_the_label_is_learned(stripes):
    config = TrainingConfig(num_epochs=40, batch_size=20, learning_rate=3e-3)
    noise_scheduler = make_scheduler("ddpm", "v_prediction")
    run = train(
        make_tiny_model(conditioning="time", attention_levels=()),
        stripes,
        noise_scheduler,
        config,
        "cpu",
        progress=False,
    )
    assert running_mean(run.losses) < 0.6 * sum(run.losses[:5]) / 5
    assert run.images_seen == 2400 and len(run.losses) == 120 and run.seconds > 0
    assert not run.model.training
    right, wrong = (label_error(run.model, stripes, noise_scheduler, shift) for shift in (0, 5))
    assert right < wrong


@torch.no_grad()
def label_error(model, dataset, noise_scheduler, shift):
    """Error in nearly pure noise, told the labels, or labels that are off by `shift`."""
    images = dataset.images.float() / 127.5 - 1
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    t = torch.full((len(images),), 900)
    prediction = model(noise_scheduler.add_noise(images, noise, t), t, (dataset.labels + shift) % 10)
    return (prediction - noise_scheduler.get_velocity(images, noise, t)).square().mean()


@pytest.mark.parametrize("config", [TrainingConfig(num_epochs=1, batch_size=32), FAST])
def test_same_seed_same_weights(stripes, config):
    scheduler = make_scheduler("ddpm", "v_prediction")
    first, again = (train(make_tiny_model(), stripes, scheduler, config, "cpu", progress=False) for _ in range(2))
    assert first.losses == again.losses
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_timesteps_reach_both_ends(stripes):
    for config in (TrainingConfig(), FAST):
        trainer = Trainer(make_tiny_model(), stripes, make_scheduler(), config)
        drawn = torch.cat([trainer.draw_timesteps(64) for _ in range(400)])
        assert drawn.min() == 0 and drawn.max() == 999


def test_stratified_timesteps_cover_every_tenth(stripes):
    trainer = Trainer(make_tiny_model(), stripes, make_scheduler(), FAST)
    assert (torch.bincount(trainer.draw_timesteps(50) // 100) == 5).all()


def test_every_image_is_seen_once_an_epoch(stripes):
    trainer = Trainer(make_tiny_model(), stripes, make_scheduler(), TrainingConfig(batch_size=25))
    labels = torch.cat([trainer.next_batch()[1] for _ in range(3)])
    assert (torch.bincount(labels) == 6).all()
    assert len(trainer.next_batch()[1]) == 25


def test_dropped_labels_become_no_class(stripes):
    trainer = Trainer(make_tiny_model(), stripes, make_scheduler(), TrainingConfig(label_dropout=0.5))
    labels = trainer.drop_labels(torch.zeros(10_000, dtype=torch.int64))
    assert set(labels.tolist()) == {0, 10}
    assert 0.45 < (labels == 10).float().mean() < 0.55


def test_the_training_is_the_examples_loop(stripes):
    """The loop of the Hugging Face example, written out in plain PyTorch, gives the same losses and weights.

    In float64, because Adam makes whole steps of the rounding errors of float32 where a gradient is zero.
    """
    run = train(make_smallest_model().double(), stripes, make_scheduler(), TrainingConfig(2, 25), "cpu", progress=False)
    model, noise_scheduler = make_smallest_model().double(), DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    losses = []
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=1e-3), torch.Generator().manual_seed(0)
    for _ in range(2):
        for batch in torch.randperm(60, generator=generator).split(25):
            x, y = stripes.images[batch].double() / 255 * 2 - 1, stripes.labels[batch]
            noise = torch.randn(x.shape, generator=generator).double()
            timesteps = torch.randint(0, 1000, (len(x),), generator=generator)
            loss = F.mse_loss(model(noise_scheduler.add_noise(x, noise, timesteps), timesteps, y), noise)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert run.losses == pytest.approx(losses, rel=1e-9)
    for ours, theirs in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_the_moving_average_is_what_comes_out(stripes):
    """Each step moves it a tenth of the way; the first steps go further, as diffusers' `EMAModel` does."""
    config, averages = TrainingConfig(num_epochs=4, batch_size=30, ema_decay=0.4), None
    trainer = Trainer(make_smallest_model(), stripes, make_scheduler(), config)
    for step, _ in trainer:
        decay = min(0.4, step / (9 + step)) if step > 1 else 0.0
        weights = [parameter.detach().clone() for parameter in trainer.model.parameters()]
        averages = [decay * a + (1 - decay) * w for a, w in zip(averages or weights, weights)]
    assert not torch.equal(averages[0], weights[0])
    for result, average in zip(trainer.finish().model.parameters(), averages, strict=True):
        torch.testing.assert_close(result, average)
    run = train(make_smallest_model(), stripes, make_scheduler(), config, "cpu", progress=False)
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), trainer.model.parameters(), strict=True))


def test_gradients_are_scaled_down_to_the_norm_asked_for(stripes):
    before = make_smallest_model()
    trainer = Trainer(make_smallest_model(), stripes, make_scheduler(), TrainingConfig(max_grad_norm=0.01))
    trainer.optimizers = {"adamw": torch.optim.SGD(trainer.model.parameters(), lr=1.0)}  # moves by the gradient itself
    trainer.lr_schedulers = {"adamw": trainer.make_lr_scheduler(trainer.optimizers["adamw"])}
    trainer.training_step()
    pairs = zip(before.parameters(), trainer.model.parameters(), strict=True)
    assert torch.cat([(b - a).flatten() for a, b in pairs]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_a_trainer_is_iterated_step_by_step(stripes):
    config = TrainingConfig(num_epochs=2, batch_size=25, ema_decay=0.5)
    trainer, steps = Trainer(make_smallest_model(), stripes, make_scheduler(), config), []
    for step in trainer:
        steps.append(step)
        if step.step == 4:
            break
    steps += trainer  # the rest
    run = train(make_smallest_model(), stripes, make_scheduler(), config, "cpu", progress=False)
    assert [number for number, _ in steps] == [1, 2, 3, 4, 5, 6]
    assert [loss for _, loss in steps] == run.losses == trainer.losses
    assert list(trainer) == [] and trainer.seconds > 0


def test_the_learning_rate_goes_up_and_comes_down_and_the_momentum_stays(stripes):
    """That of AdamW and that of Muon alike."""
    config = TrainingConfig.fast(batch_size=3, num_epochs=2)
    trainer, rates = Trainer(make_smallest_model(), stripes, make_scheduler(), config), []
    adamw, muon = (trainer.optimizers[name].param_groups[0] for name in ("adamw", "muon"))
    for _ in range(trainer.total_steps):
        rates.append(adamw["lr"])
        assert muon["lr"] == pytest.approx(10 * adamw["lr"])
        assert adamw["betas"] == (0.85, 0.99) and muon["momentum"] == 0.85
        trainer.training_step()
    assert max(rates) == pytest.approx(2e-3, rel=0.05) and rates.index(max(rates)) < 8
    assert rates[-1] < 0.05 * max(rates)


def test_running_mean_of_few_and_of_many():
    assert running_mean([2.0, 4.0]) == 3.0
    assert running_mean([100.0] * 50 + [1.0] * 100) == 1.0


def test_training_goes_on_from_a_checkpoint(stripes, tmp_path):
    config = TrainingConfig.fast(batch_size=20, num_epochs=3, seed=4)
    scheduler = make_scheduler()
    whole = train(make_tiny_model(), stripes, scheduler, config, "cpu", progress=False)
    trainer = Trainer(make_tiny_model(), stripes, scheduler, config)
    for _ in range(4):
        trainer.training_step()
    CheckpointFolder(tmp_path).write(4, trainer.state_dict())
    resumed = train(make_tiny_model(), stripes, scheduler, config, "cpu", progress=False, checkpoint_dir=tmp_path)
    assert resumed.losses == whole.losses
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="seed=4"):
        train(
            make_tiny_model(),
            stripes,
            scheduler,
            replace(config, seed=5),
            "cpu",
            progress=False,
            checkpoint_dir=tmp_path,
        )


@pytest.fixture
def poisoned_step(monkeypatch):
    """Let the loss of one step be passed through a function: `poisoned_step(4, lambda loss: loss * math.nan)`."""

    def poison(step, change):
        original = Trainer.loss

        def loss(trainer, *batch):
            value = original(trainer, *batch)
            return change(value) if trainer.step + 1 == step else value

        monkeypatch.setattr(Trainer, "loss", loss)

    return poison


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda loss: loss * math.nan, "the loss became nan at step 4"),
        (lambda loss: loss * math.inf, "the loss became inf at step 4"),
        (lambda loss: loss + (loss * 0).sqrt(), "the norm of the gradients became nan at step 4"),
    ],
)
@pytest.mark.parametrize("config", [FAST, TrainingConfig(batch_size=20)])
def test_a_step_that_would_spoil_the_weights_is_not_taken(
    stripes, tmp_path, monkeypatch, poisoned_step, config, change, words
):
    trainer = Trainer(make_tiny_model(), stripes, make_scheduler(), config)
    for _ in range(3):
        trainer.training_step()
    poisoned_step(4, change)
    monkeypatch.setattr("course_utils.training.CHECKPOINT_SECONDS", 0)
    model, rate = make_tiny_model(), trainer.optimizers["adamw"].param_groups[0]["lr"]
    clipping = "" if config.max_grad_norm else ", or set max_grad_norm=1"
    advice = rf"{words} \(learning rate {rate:g}\): lower learning_rate{clipping}\.$"
    with pytest.raises(FloatingPointError, match=advice):
        train(model, stripes, make_scheduler(), config, "cpu", progress=False, checkpoint_dir=tmp_path)
    good = trainer.model.state_dict()
    assert all(torch.equal(weights, good[name]) for name, weights in model.state_dict().items())
    assert CheckpointFolder(tmp_path).newest()["step"] == 3


@pytest.mark.parametrize("kept", [True, False])
def test_weights_that_are_no_numbers_are_never_kept(stripes, tmp_path, monkeypatch, kept):
    monkeypatch.setattr("course_utils.training.CHECKPOINT_SECONDS", 0)
    config = TrainingConfig(learning_rate=1e300, max_steps=1)
    with pytest.raises(FloatingPointError, match="no longer finite after step 1.*lower learning_rate"):
        folder = tmp_path if kept else None
        train(make_smallest_model(), stripes, make_scheduler(), config, "cpu", progress=False, checkpoint_dir=folder)
    assert list(tmp_path.iterdir()) == []


def too_much(loss):
    """Ask this machine's own CPU for more memory than any has."""
    return loss + torch.empty(2**48).sum()


def on_a_gpu(loss):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize("happens", [too_much, on_a_gpu])
def test_out_of_memory_names_the_batch_size_to_try(stripes, poisoned_step, happens):
    poisoned_step(2, happens)
    with pytest.raises(MemoryError, match=r"batch_size=20: try batch_size=10\.$"):
        train(make_tiny_model(), stripes, make_scheduler(), FAST, "cpu", progress=False)
    with pytest.raises(MemoryError, match="batch_size=1: try a smaller network"):
        train(make_tiny_model(), stripes, make_scheduler(), replace(FAST, batch_size=1), "cpu", progress=False)


def test_other_errors_stay_what_they_are(stripes, poisoned_step):
    def fails(loss):
        raise RuntimeError("a bug")

    poisoned_step(1, fails)
    with pytest.raises(RuntimeError, match="a bug"):
        train(make_tiny_model(), stripes, make_scheduler(), FAST, "cpu", progress=False)


def changed_to(dataset, **attributes):
    """A data set some of whose attributes were replaced after it was made."""
    changed = copy.copy(dataset)
    for name, value in attributes.items():
        setattr(changed, name, value)
    return changed


def with_labels(stripes, labels):
    return ImageDataset(stripes.images, labels, stripes.class_names, stripes.name)


def test_a_checkpoint_of_another_training_is_refused(stripes, tmp_path):
    """Rather than its network returned for this one's, or a mixture of both."""
    short, names = replace(FAST, max_steps=1), stripes.class_names
    train(make_tiny_model(), stripes, make_scheduler(), short, "cpu", progress=False, checkpoint_dir=tmp_path)
    fewer = ImageDataset(stripes.images[:50], stripes.labels[:50], names, stripes.name)
    darker = ImageDataset(stripes.images // 2, stripes.labels, names, stripes.name)
    renamed = ImageDataset(stripes.images, stripes.labels, [*names[:-1], "nine"], stripes.name)
    other_noise = DDPMScheduler(beta_schedule="squaredcos_cap_v2", trained_betas=[0.01] * 1000)
    for changed, words in (
        (dict(dataset=fewer), r"dataset.images.shape=\[60, 1, 28, 28\], this training has \[50, 1"),
        (dict(dataset=with_labels(stripes, (stripes.labels + 1) % 10)), "the checksum of dataset.labels"),
        (dict(dataset=darker), "the checksum of dataset.images"),
        (dict(dataset=renamed), "dataset.class_names"),
        (dict(noise_scheduler=make_scheduler("ddpm", "v_prediction")), "prediction_type='epsilon'"),
        (dict(noise_scheduler=other_noise), "the checksum of the noise levels"),
        (dict(model=make_tiny_model(layers_per_block=2)), "model.layers_per_block=1"),
        (dict(model=make_tiny_model(attention_head_dim=4)), "model.attention_head_dim=8"),  # the same sizes
        (dict(config=replace(short, max_steps=2)), "max_steps=1"),
    ):
        parts = dict(model=make_tiny_model(), dataset=stripes, noise_scheduler=make_scheduler(), config=short) | changed
        with pytest.raises(ValueError, match=words):
            train(**parts, device="cpu", progress=False, checkpoint_dir=tmp_path)


def deep(levels=100_000):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_odd_checkpoint_is_one_sentence(stripes, optimizer):
    config = TrainingConfig.fast(batch_size=20, max_steps=2, optimizer=optimizer)
    trainer = Trainer(make_smallest_model(), stripes, make_scheduler(), config)
    good = next(trainer.state_dict() for step, _ in trainer if step == 2)
    odd = [{}, {"identity": {}}, dict(good, identity=dict.fromkeys(good["identity"], deep(50)))]
    odd += [{name: value for name, value in good.items() if name != missing} for missing in good]
    odd += [dict(good, **{name: value}) for name in good for value in (None, -7, "x", deep(), {}, torch.zeros(3))]
    odd += [
        dict(good, step=-1),
        dict(good, step=9),
        dict(good, losses=["a", "b"]),
        dict(good, order=torch.tensor([99])),
    ]
    odd += [dict(good, optimizers={name: {"state": {}, "param_groups": []} for name in good["optimizers"]})]
    damaged = copy.deepcopy(good)
    for averages in damaged["optimizers"][optimizer]["state"].values():
        averages["momentum_buffer" if optimizer == "muon" else "exp_avg"] = torch.zeros(2, 2, 2)
    for state in (*odd, damaged):
        with pytest.raises(ValueError, match="checkpoint") as refusal:
            trainer.load_state_dict(state)
        assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 500
    trainer.load_state_dict(good)


def test_a_diverging_training_stops_with_advice(stripes):
    with pytest.raises(FloatingPointError, match="lower learning_rate, or set max_grad_norm=1"):
        config = TrainingConfig(learning_rate=1e30, batch_size=20)
        train(make_smallest_model(), stripes, make_scheduler(), config, "cpu", progress=False)


WHOLE_NUMBERS = ("num_epochs", "batch_size", "max_steps", "seed", "num_inference_steps")
NUMBERS = {
    "learning_rate": (0, -1),
    "adam_beta2": (1.0, -0.1),
    "weight_decay": (-1e-9,),
    "ema_decay": (1, -0.5),
    "label_dropout": (1.5, -0.5),
    "momentum": (1.0, -0.1),
    "max_grad_norm": (0, -1),
    "discriminator_learning_rate": (0, -1e-3),
    "gradient_penalty": (-1,),
    "mismatch_weight": (-0.1,),
    "diffusion_weight": (-5,),
}
MAY_BE_NONE = ("max_steps", "ema_decay", "max_grad_norm")


@pytest.mark.parametrize("kind", [TrainingConfig, AdversarialConfig])
def test_impossible_settings_are_refused(kind):
    settings = asdict(kind())
    for name in settings:
        wrong = [*NOT_NUMBERS, *NUMBERS.get(name, ())] if name in NUMBERS else [*NOT_NUMBERS, 2.5, "two", 2**64]
        if name in WHOLE_NUMBERS and name != "seed":
            wrong += [0, -1]
        for value in wrong:
            if (value is None and name in MAY_BE_NONE) or (value is True and name == "stratified_timesteps"):
                continue
            with pytest.raises(ValueError, match=f"^{name} is .*, expected ") as refusal:
                kind(**{name: value})
            assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("kind", [TrainingConfig, AdversarialConfig])
def test_numpys_numbers_are_numbers(kind):
    settings = asdict(kind(max_steps=8, ema_decay=0.5, max_grad_norm=1.0, label_dropout=0.25, seed=3))
    as_numpy = {name: value if isinstance(value, str) else np.asarray(value)[()] for name, value in settings.items()}
    config = kind(**as_numpy)
    assert asdict(config) == settings
    assert {type(value) for value in asdict(config).values()} <= {int, float, bool, str}
    assert kind(learning_rate=np.float32(0.5), max_steps=np.uint8(3), weight_decay=Fraction(1, 4)) == kind(
        learning_rate=0.5, max_steps=3, weight_decay=0.25
    )
    for seed in (-(2**63), 2**64 - 1):
        torch.Generator().manual_seed(kind(seed=seed).seed)


def test_each_configuration_has_only_settings_that_play_a_part():
    assert not hasattr(AdversarialConfig(), "lr_schedule") and not hasattr(AdversarialConfig, "fast")
    with pytest.raises(ValueError, match="lr_schedule is 'cosine', expected 'constant' or 'one_cycle'"):
        TrainingConfig(lr_schedule="cosine")


def test_parts_that_do_not_fit_are_refused(stripes, monkeypatch):
    monkeypatch.setattr(Trainer, "training_step", lambda self: pytest.fail("a step was taken"))
    larger = torch.full((60, 1, 32, 32), 255, dtype=torch.uint8)
    pairs = torch.utils.data.TensorDataset(stripes.images, stripes.labels)
    for changed, words in (
        (dict(model=make_tiny_model(num_classes=5)), "knows only 5 classes: class_labels contains 5.*num_classes="),
        (dict(model=None), "model is NoneType, expected a ClassConditionedUnet"),
        (dict(model=torch.nn.Linear(2, 2)), "model is Linear, expected a ClassConditionedUnet"),
        (dict(model=make_tiny_model().half()), "in torch.float16.*train it in float32"),
        (dict(model=make_tiny_model().bfloat16()), "in torch.bfloat16.*train it in float32"),
        (dict(model=make_tiny_model(unconditional=False), config=FAST), "unconditional=True"),
        (dict(dataset=changed_to(stripes, images=stripes.images[:0], labels=stripes.labels[:0])), "no longer fit"),
        (dict(dataset="mnist"), "the data set is 'mnist', expected an ImageDataset"),
        (dict(dataset=None), "the data set is a NoneType, expected an ImageDataset"),
        (dict(dataset=DataLoader(stripes)), "expected an ImageDataset"),
        (dict(dataset=Subset(stripes, range(9))), "expected an ImageDataset"),
        (dict(dataset=pairs), "expected an ImageDataset"),
        (dict(dataset=changed_to(stripes, labels=stripes.labels - 1)), "labels and class_names no longer fit"),
        (dict(dataset=changed_to(stripes, labels=stripes.labels / 3)), "labels are no longer int64"),
        (dict(dataset=changed_to(stripes, labels=F.one_hot(stripes.labels))), "labels are no longer int64"),
        (
            dict(dataset=ImageDataset(larger, stripes.labels)),
            "have 32x32 pixels, but the network draws 28x28: build",
        ),
        (dict(dataset=ImageDataset(larger[..., :30, :30], stripes.labels)), "expected multiples of 4"),
        (dict(noise_scheduler=make_scheduler("ddim")), "is DDIMScheduler, expected a DDPMScheduler"),
        (dict(noise_scheduler=make_scheduler("dpmsolver++")), "is DPMSolverMultistepScheduler, expected a DDPM"),
        (dict(noise_scheduler=make_scheduler("unipc")), "is UniPCMultistepScheduler, expected a DDPMScheduler"),
        (dict(noise_scheduler="ddpm"), "is str, expected a DDPMScheduler"),
        (dict(noise_scheduler=None), "is NoneType, expected a DDPMScheduler"),
        (dict(noise_scheduler=DDPMScheduler(prediction_type="sample")), "prediction_type is 'sample'"),
        (dict(config=AdversarialConfig()), "expected TrainingConfig"),
        (dict(config={"num_epochs": 3}), "expected TrainingConfig"),
        (dict(config={}), "expected TrainingConfig"),
        (dict(device="gpu"), "device is 'gpu', which cannot be used here"),
        (dict(device="cuda:99"), "device is 'cuda:99', which cannot be used here"),
        (dict(device=3.5), "device is 3.5, which cannot be used here"),
        (dict(checkpoint_dir=7), "checkpoint_dir is 7, expected the name of a folder"),
    ):
        parts = dict(model=make_tiny_model(), dataset=stripes, noise_scheduler=make_scheduler(), device="cpu") | changed
        with pytest.raises(ValueError, match=words) as refusal:
            train(**parts, progress=False)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_step_keeps_to_the_device_of_the_processes(stripes, monkeypatch, prediction_type):
    """On the device "meta", any tensor that was left on the CPU is an error, as it would be on a GPU."""
    monkeypatch.setattr("course_utils.model.check_class_labels", lambda labels, num_classes: labels)
    noise_scheduler = make_scheduler("ddpm", prediction_type)
    trainer = Trainer(make_smallest_model(), stripes, noise_scheduler, FAST)
    trainer.model.to("meta")
    trainer.processes = OneProcess("meta")
    loss = trainer.loss(*trainer.next_batch())
    loss.backward()
    assert loss.device.type == "meta" and trainer.generator.device.type == "cpu"
    assert all(parameter.grad.device.type == "meta" for parameter in trainer.model.parameters())
    assert noise_scheduler.alphas_cumprod.device.type == "cpu"  # the caller's own is left as it was


def test_a_network_in_float64_trains(stripes):
    config = TrainingConfig(max_steps=2, ema_decay=0.9)
    double = train(make_smallest_model().double(), stripes, make_scheduler(), config, "cpu", progress=False)
    single = train(make_smallest_model(), stripes, make_scheduler(), config, "cpu", progress=False)
    assert double.losses == pytest.approx(single.losses, rel=1e-4)
    assert next(double.model.parameters()).dtype == torch.float64
