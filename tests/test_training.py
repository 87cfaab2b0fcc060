import math
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler

from course_utils.data import ImageDataset
from course_utils.sampling import make_scheduler
from course_utils.storage.checkpoints import CheckpointFolder
from course_utils.training import Trainer, TrainingConfig, running_mean, train
from tiny import make_tiny_model

FAST = TrainingConfig.fast(batch_size=20, num_epochs=4)


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


def test_moving_average_is_what_comes_out(stripes):
    plain, averaged = (
        train(
            make_tiny_model(),
            stripes,
            make_scheduler(),
            TrainingConfig(num_epochs=3, batch_size=30, ema_decay=decay),
            "cpu",
            False,
        )
        for decay in (None, 0.9)
    )
    assert plain.losses == averaged.losses
    assert any(
        not torch.equal(a, b) for a, b in zip(plain.model.parameters(), averaged.model.parameters(), strict=True)
    )


def test_learning_rate_goes_up_and_comes_down(stripes):
    trainer = Trainer(make_tiny_model(), stripes, make_scheduler(), TrainingConfig.fast(batch_size=3, num_epochs=2))
    rates = []
    for _ in range(trainer.total_steps):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
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
    model, rate = make_tiny_model(), trainer.lr_scheduler.get_last_lr()[0]
    with pytest.raises(FloatingPointError, match=rf"{words} \(learning rate {rate:g}\): lower learning_rate"):
        train(model, stripes, make_scheduler(), config, "cpu", progress=False, checkpoint_dir=tmp_path)
    good = trainer.model.state_dict()
    assert all(torch.equal(weights, good[name]) for name, weights in model.state_dict().items())
    assert CheckpointFolder(tmp_path).newest()["step"] == 3


def test_weights_that_are_no_numbers_are_never_kept(stripes, tmp_path, monkeypatch):
    monkeypatch.setattr("course_utils.training.CHECKPOINT_SECONDS", 0)
    config = TrainingConfig(learning_rate=math.inf, batch_size=20)
    with pytest.raises(FloatingPointError, match="no longer finite after step 1"):
        train(make_tiny_model(), stripes, make_scheduler(), config, "cpu", progress=False, checkpoint_dir=tmp_path)
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


def test_a_checkpoint_of_another_training_is_refused(stripes, tmp_path):
    short = replace(FAST, max_steps=1)
    train(make_tiny_model(), stripes, make_scheduler(), short, "cpu", progress=False, checkpoint_dir=tmp_path)
    fewer = ImageDataset(stripes.images[:50], stripes.labels[:50], stripes.class_names, stripes.name)
    for model, dataset, noise_scheduler, words in (
        (make_tiny_model(), fewer, make_scheduler(), r"dataset.images.shape=\[60, 1, 28, 28\]"),
        (make_tiny_model(), stripes, make_scheduler("ddpm", "v_prediction"), "prediction_type='epsilon'"),
        (make_tiny_model(layers_per_block=2), stripes, make_scheduler(), "a network of other sizes"),
    ):
        with pytest.raises(ValueError, match=words):
            train(model, dataset, noise_scheduler, short, "cpu", progress=False, checkpoint_dir=tmp_path)


def test_a_diverging_training_stops_with_advice(stripes):
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(
            make_tiny_model(),
            stripes,
            make_scheduler(),
            TrainingConfig(learning_rate=math.inf, batch_size=20),
            "cpu",
            progress=False,
        )


@pytest.mark.parametrize(
    "changes",
    [
        dict(num_epochs=0),
        dict(batch_size=2.5),
        dict(learning_rate=-1),
        dict(adam_beta2=1.0),
        dict(lr_schedule="cosine"),
        dict(optimizer="sgd"),
        dict(label_dropout=1.5),
        dict(ema_decay=1),
        dict(max_steps=0),
    ],
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        TrainingConfig(**changes)


def test_parts_that_do_not_fit_are_refused(stripes):
    with pytest.raises(ValueError, match="knows only 5 classes"):
        train(make_tiny_model(num_classes=5), stripes, make_scheduler(), progress=False)
    with pytest.raises(ValueError, match="no images"):
        train(
            make_tiny_model(),
            ImageDataset(stripes.images[:0], stripes.labels[:0], ()),
            make_scheduler(),
            progress=False,
        )
    with pytest.raises(ValueError, match="prediction_type"):
        train(make_tiny_model(), stripes, DDPMScheduler(prediction_type="sample"), progress=False)
    with pytest.raises(ValueError, match="unconditional=True"):
        train(make_tiny_model(unconditional=False), stripes, make_scheduler(), FAST, progress=False)
