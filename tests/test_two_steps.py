from dataclasses import replace

import pytest
import torch

from course_utils.data import ImageDataset, scale_to_model
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import make_scheduler
from course_utils.storage.checkpoints import CheckpointFolder
from course_utils.training import OPTIMIZERS, Trainer
from course_utils.two_steps import AdversarialConfig, AdversarialTrainer, Discriminator, as_class, fine_tune
from tiny import make_tiny_model

SHORT = AdversarialConfig(batch_size=20, max_steps=6)


def tiny_pipe(prediction_type="v_prediction", **changes) -> ClassConditionedPipeline:
    """An untrained pipeline, the same each time; `changes` are arguments of its network."""
    model = make_tiny_model(**{"conditioning": "time", "attention_levels": (), **changes})
    return ClassConditionedPipeline(model, make_scheduler("dpmsolver++", prediction_type), "mnist", 4, 1.5)


def tiny_trainer(stripes, config=SHORT) -> AdversarialTrainer:
    return AdversarialTrainer(tiny_pipe().unet, stripes, make_scheduler("ddpm", "v_prediction"), config)


def wrong_by(pipe, dataset, shift=0) -> float:
    """Mean distance of drawn pictures from the only picture there is of the class asked for, or of another."""
    labels = torch.arange(10)
    pictures = pipe(labels, generator=torch.Generator().manual_seed(0), output_type="pt").images
    wanted = scale_to_model(dataset.images[(labels + shift) % 10]) / 2 + 0.5  # the first ten are of the ten classes
    return (pictures - wanted).abs().mean().item()


def test_pictures_come_nearer_to_real_ones_of_the_class_asked_for(stripes):
    pipe = tiny_pipe()
    untuned = ClassConditionedPipeline(pipe.unet, make_scheduler("ddim", "v_prediction"), "mnist", 2)
    before = wrong_by(untuned, stripes)
    config = AdversarialConfig(batch_size=20, max_steps=90, learning_rate=2e-3, ema_decay=0.9, diffusion_weight=0.0)
    tuned, run = fine_tune(pipe, stripes, config, "cpu", progress=False)
    assert wrong_by(tuned, stripes) < 0.5 * before
    assert wrong_by(tuned, stripes) < 0.7 * wrong_by(tuned, stripes, shift=5)


def test_gradients_come_back_through_every_step(stripes):
    trainer, predictions = tiny_trainer(stripes, replace(SHORT, num_inference_steps=3)), []
    trainer.network.register_forward_hook(lambda network, inputs, output: predictions.append(output))
    trainer.network.register_forward_hook(lambda network, inputs, output: output.retain_grad())
    trainer.draw(torch.arange(10)).square().sum().backward()
    assert len(predictions) == 3 and all(prediction.grad.abs().sum() > 0 for prediction in predictions)


def test_what_is_tuned_is_what_draws(stripes):
    trainer = tiny_trainer(stripes)
    drawn = trainer.draw(torch.arange(10)).detach()
    assert drawn.shape == (10, 1, 28, 28) and drawn.abs().max() <= 1
    pipe, _ = fine_tune(tiny_pipe(), stripes, replace(SHORT, num_inference_steps=3, max_steps=1), "cpu", progress=False)
    assert (pipe.config.num_inference_steps, pipe.config.guidance_scale, pipe.config.dataset) == (3, 1.0, "mnist")
    assert type(pipe.scheduler) is type(trainer.sampler) and dict(pipe.scheduler.config) == dict(trainer.sampler.config)


def test_the_discriminator_judges_each_class_by_itself():
    torch.manual_seed(0)
    judgements = Discriminator(num_classes=10)(torch.randn(4, 1, 28, 28))
    assert judgements.shape == (4, 10)
    labels = torch.tensor([3, 0, 9, 3])
    assert torch.equal(
        as_class(judgements, labels), torch.stack([judgements[i, label] for i, label in enumerate(labels)])
    )


def test_the_discriminator_learns_to_tell_classes_of_real_pictures_apart(stripes):
    trainer = tiny_trainer(stripes, replace(SHORT, max_steps=100, mismatch_weight=1.0))
    real, labels = scale_to_model(stripes.images), stripes.labels
    for _ in range(40):
        trainer.discriminator_step(real, torch.rand_like(real), labels)
    assert torch.equal(trainer.discriminator(real).argmax(1), labels)


def test_other_labels_are_other_labels(stripes):
    labels = torch.arange(10).repeat(200)
    others = tiny_trainer(stripes).other_labels(labels)
    assert not (others == labels).any() and set(others.tolist()) == set(range(10))


def test_the_network_goes_on_learning_its_old_loss(stripes, monkeypatch):
    seen = []
    original = Trainer.loss
    monkeypatch.setattr(Trainer, "loss", lambda self, *batch: seen.append(len(batch[1])) or original(self, *batch))
    tiny_trainer(stripes).training_step()
    assert seen == [10]  # half of the batch


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fine_tuning_goes_on_from_a_checkpoint(stripes, tmp_path, optimizer):
    config = replace(SHORT, optimizer=optimizer)
    whole_pipe, whole = fine_tune(tiny_pipe(), stripes, config, "cpu", progress=False)
    trainer = tiny_trainer(stripes, config)
    for _ in range(3):
        trainer.training_step()
    CheckpointFolder(tmp_path).write(3, trainer.state_dict())
    pipe, run = fine_tune(tiny_pipe(), stripes, config, "cpu", progress=False, checkpoint_dir=tmp_path)
    assert run.losses == whole.losses and run.images_seen == 120
    for a, b in zip(whole_pipe.unet.parameters(), pipe.unet.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="gradient_penalty"):
        other = replace(config, gradient_penalty=1.0)
        fine_tune(tiny_pipe(), stripes, other, "cpu", progress=False, checkpoint_dir=tmp_path)


def test_a_discriminator_that_diverges_stops_the_training_with_advice(stripes):
    config = replace(SHORT, discriminator_learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        fine_tune(tiny_pipe(), stripes, config, "cpu", progress=False)


def test_what_cannot_be_fine_tuned_is_refused(stripes, monkeypatch):
    small = ImageDataset(stripes.images[:, :, :16, :16], stripes.labels, stripes.class_names, "mnist")
    for pipe, dataset, config, words in (
        (tiny_pipe("epsilon"), stripes, SHORT, "predicts 'epsilon', expected 'v_prediction'"),
        (tiny_pipe(), small, SHORT, "draws 28x28 pixels and the data set has 16x16"),
        (tiny_pipe(), stripes, replace(SHORT, num_inference_steps=0), "num_inference_steps is 0"),
        (tiny_pipe(), stripes, replace(SHORT, num_inference_steps=51), "from 1 to 50"),
    ):
        with pytest.raises(ValueError, match=words):
            fine_tune(pipe, dataset, config, "cpu", progress=False)
