"""The page that holds the whole idea, held to the package: the same losses, weights and pictures, bit for bit."""

import pytest
import torch

from course_utils import minimal
from course_utils.data import load_sample, scale_to_model
from course_utils.model import ClassConditionedUnet
from course_utils.sampling import make_scheduler, sample
from course_utils.training import TrainingConfig, train

LABELS = torch.tensor([3, 8, 0])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def few():
    """Forty pictures, so that two epochs take two steps each."""
    dataset = load_sample("mnist")
    dataset.images, dataset.labels = dataset.images[:40], dataset.labels[:40]
    return dataset


def same_networks(**options):
    """The page's network and the package's with the same weights."""
    torch.manual_seed(0)
    network = minimal.ConditionedUnet(**options)
    twin = ClassConditionedUnet(**options)
    twin.load_state_dict(network.state_dict())
    return network, twin


def test_the_network_is_the_examples():
    network, twin = same_networks()
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_708_201
    x, t = torch.randn(3, 1, 28, 28, generator=seeded()), torch.tensor([0, 500, 999])
    with torch.no_grad():
        assert torch.equal(network(x, t, LABELS), twin(x, t, LABELS))


@pytest.mark.parametrize("label_dropout", [0.0, 0.3])
def test_training_gives_the_same_losses_and_weights(few, label_dropout):
    network, twin = same_networks(unconditional=label_dropout > 0)
    losses = list(
        minimal.train(
            network, scale_to_model(few.images), few.labels, num_epochs=2, batch_size=32, label_dropout=label_dropout
        )
    )
    config = TrainingConfig(num_epochs=2, batch_size=32, label_dropout=label_dropout)
    run = train(twin, few, make_scheduler("ddpm"), config, device="cpu", progress=False)
    assert losses == run.losses and len(losses) == 4
    weights = network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in twin.state_dict().items())


@pytest.mark.parametrize(
    "sampler, steps, guidance, prediction_type",
    [
        ("ddpm", 1000, 1.0, "epsilon"),
        ("ddpm", 1000, 2.0, "v_prediction"),
        ("ddim", 4, 1.0, "epsilon"),
        ("ddim", 10, 3.0, "v_prediction"),
        ("ddim", 1, 1.0, "v_prediction"),
    ],
)
def test_sampling_gives_the_same_pictures(sampler, steps, guidance, prediction_type):
    torch.manual_seed(0)
    model = ClassConditionedUnet(
        unconditional=True, block_out_channels=(4, 4), norm_num_groups=2, attention_levels=(), attention_head_dim=4
    ).eval()
    drawn = list(minimal.sample(model, LABELS, steps, guidance, seeded(), prediction_type, sampler))
    expected = sample(model, make_scheduler(sampler, prediction_type), LABELS, steps, guidance, seeded())
    assert len(drawn) == steps and torch.equal(drawn[-1].clamp(-1, 1), expected)


def test_the_cosine_schedule_and_the_noise_are_those_of_diffusers():
    scheduler, alphas_cumprod = make_scheduler("ddpm"), minimal.cosine_alphas_cumprod()
    assert torch.equal(alphas_cumprod, scheduler.alphas_cumprod)
    images, noise, t = torch.randn(5, 1, 28, 28), torch.randn(5, 1, 28, 28), torch.tensor([0, 1, 400, 998, 999])
    assert torch.equal(minimal.add_noise(images, noise, t, alphas_cumprod), scheduler.add_noise(images, noise, t))


def test_the_velocity_loss_is_that_of_diffusers():
    images, noise, t = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8), torch.tensor([0, 10, 500, 999])
    velocity = make_scheduler("ddpm", "v_prediction").get_velocity(images, noise, t)
    assert torch.equal(minimal.add_noise(noise, -images, t, minimal.cosine_alphas_cumprod()), velocity)
