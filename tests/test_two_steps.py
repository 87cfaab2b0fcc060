import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from course_utils.data import ImageDataset, scale_to_model
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.processes import OneProcess
from course_utils.sampling import make_scheduler
from course_utils.storage.checkpoints import CheckpointFolder
from course_utils.training import OPTIMIZERS, Trainer, TrainingConfig
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
    config = AdversarialConfig(batch_size=10, max_steps=90, learning_rate=2e-3, ema_decay=0.9, diffusion_weight=0.0)
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


def test_the_discriminator_learns_the_classes_of_real_pictures(stripes):
    trainer = tiny_trainer(stripes, replace(SHORT, max_steps=100, mismatch_weight=1.0))
    real, labels = scale_to_model(stripes.images[:10]), stripes.labels[:10]
    for _ in range(40):
        trainer.discriminator_step(real, torch.rand_like(real), labels)
    assert torch.equal(trainer.discriminator(real).argmax(1), labels)


def score_of_class(discriminator, pictures, labels):
    """The discriminator's score of each picture as one of its class, one by one: (N,)."""
    return torch.stack([discriminator(one[None])[0, label] for one, label in zip(pictures, labels)])


@pytest.mark.parametrize("step, penalties", [(0, 2.0), (1, 0.0), (2, 2.0)])
def test_the_discriminators_loss_is_the_formula(stripes, step, penalties):
    """Relativistic, with R1 and R2 (arXiv:2501.05441) at every other step, there twice, and with other classes."""
    config = replace(SHORT, gradient_penalty=3.0, mismatch_weight=0.7)
    trainer, copy_of = tiny_trainer(stripes, config), tiny_trainer(stripes, config)
    trainer.step = step
    real, labels = scale_to_model(stripes.images[3:8]), stripes.labels[3:8]
    drawn = torch.rand(real.shape, generator=torch.Generator().manual_seed(0))
    discriminator, others = copy_of.discriminator, copy_of.other_labels(labels)
    weights = list(discriminator.parameters())
    trainer.discriminator_optimizer = torch.optim.SGD(trainer.discriminator.parameters(), lr=1.0)
    comparison = trainer.discriminator_step(real, drawn, labels)

    pictures = torch.cat((real, drawn)).requires_grad_()
    of_real, of_drawn = (score_of_class(discriminator, half, labels) for half in pictures.chunk(2))
    expected = F.softplus(of_drawn - of_real).mean()
    assert comparison == pytest.approx(expected.item(), rel=1e-5)
    expected = expected + 0.7 * F.softplus(score_of_class(discriminator, pictures[:5], others) - of_real).mean()
    r1, r2 = (
        sum(torch.autograd.grad(score, pictures, create_graph=True)[0].square().sum() for score in scores) / len(scores)
        for scores in (of_real, of_drawn)
    )
    expected = expected + penalties * 3.0 / 2 * (r1 + r2)
    for gradient, before, after in zip(
        torch.autograd.grad(expected, weights), weights, trainer.discriminator.parameters(), strict=True
    ):
        torch.testing.assert_close(before - after, gradient, rtol=1e-3, atol=1e-6)


def test_the_networks_loss_is_relativistic(stripes):
    """Each drawn picture is compared with a real one of its class (arXiv:1807.00734), and only the network learns."""
    trainer = tiny_trainer(stripes)
    real, labels = scale_to_model(stripes.images[:10]), stripes.labels[:10]
    drawn = torch.rand(real.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scores = [score_of_class(trainer.discriminator, pictures, labels) for pictures in (real, drawn)]
    expected = sum(math.log1p(math.exp(r - d)) for r, d in zip(*(one.tolist() for one in scores))) / 10
    loss = trainer.adversarial_loss(real, drawn, labels)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(F.softplus(-scores[1]).mean().item(), rel=1e-4)  # the other usual loss
    (gradient,) = torch.autograd.grad(loss, drawn)
    assert (gradient.abs().sum((1, 2, 3)) > 0).all()


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


def test_a_fine_tuning_of_other_weights_does_not_go_on(stripes, tmp_path):
    fine_tune(tiny_pipe(), stripes, SHORT, "cpu", progress=False, checkpoint_dir=tmp_path)
    other = tiny_pipe()
    with torch.no_grad():
        other.unet.model.conv_in.bias += 1
    with pytest.raises(ValueError, match="the checksum of the starting weights"):
        fine_tune(other, stripes, SHORT, "cpu", progress=False, checkpoint_dir=tmp_path)


@pytest.mark.parametrize("rate", [1e3, 1e8, 1e30, 1e300])
def test_a_discriminator_that_diverges_stops_the_training_with_advice(stripes, rate):
    config = replace(SHORT, discriminator_learning_rate=rate, max_steps=30)
    with pytest.raises(FloatingPointError, match="discriminator learning rate .*lower .*discriminator_learning_rate"):
        fine_tune(tiny_pipe(), stripes, config, "cpu", progress=False)


def test_a_network_that_diverges_is_not_blamed_on_the_discriminator(stripes):
    trainer = tiny_trainer(stripes)
    with torch.no_grad():
        trainer.model.model.conv_out.weight.fill_(math.nan)
    with pytest.raises(
        FloatingPointError, match=r"drawn pictures became nan at step 1 \(learning rate .*: lower learning"
    ):
        trainer.training_step()


def test_a_step_keeps_to_the_device_of_the_processes(stripes, monkeypatch):
    """On the device "meta", any tensor that was left on the CPU is an error, as it would be on a GPU."""
    monkeypatch.setattr("course_utils.model.check_class_labels", lambda labels, num_classes: labels)
    monkeypatch.setattr(torch.Tensor, "item", lambda tensor: 0.0)  # there are no numbers there
    trainer = tiny_trainer(stripes)
    trainer.model.to("meta")
    trainer.discriminator.to("meta")
    trainer.processes = OneProcess("meta")
    real, labels = trainer.next_batch()
    drawn = trainer.draw(labels)
    trainer.discriminator_optimizer = torch.optim.SGD(trainer.discriminator.parameters())
    trainer.discriminator_step(real, drawn.detach(), labels)
    loss = trainer.adversarial_loss(real, drawn, labels) + trainer.loss(real, labels)
    loss.backward()
    assert drawn.device.type == loss.device.type == "meta"


def test_what_cannot_be_fine_tuned_is_refused(stripes):
    small = ImageDataset(stripes.images[:, :, :16, :16], stripes.labels, stripes.class_names, "mnist")
    elevens = ImageDataset(stripes.images, stripes.labels + 1, [*stripes.class_names, "10"], "mnist")
    for changed, words in (
        (dict(pipe=tiny_pipe("epsilon")), "predicts 'epsilon', expected 'v_prediction'"),
        (dict(pipe=tiny_pipe().unet), "expected a ClassConditionedPipeline"),
        (dict(pipe="mnist"), "pipe is 'mnist', expected a ClassConditionedPipeline"),
        (dict(dataset=small), "have 16x16 pixels, but the network draws 28x28"),
        (dict(dataset=elevens), "class_labels contains 10"),
        (dict(dataset="mnist"), "the data set is 'mnist', expected an ImageDataset"),
        (dict(config=TrainingConfig()), "expected AdversarialConfig"),
        (dict(device="tpu9"), "device is 'tpu9'"),
    ):
        parts = dict(pipe=tiny_pipe(), dataset=stripes, config=SHORT, device="cpu") | changed
        with pytest.raises(ValueError, match=words):
            fine_tune(**parts, progress=False)
