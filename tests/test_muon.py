import pytest
import torch
from torch import nn

from course_utils.model import ClassConditionedUnet
from course_utils.muon import Muon, orthogonalized
from course_utils.sampling import make_scheduler
from course_utils.training import Trainer, TrainingConfig, train
from tiny import make_tiny_model


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16)])
def test_orthogonalized_keeps_directions_and_evens_out_lengths(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    lengths = left.mT @ orthogonalized(matrices) @ right.mT  # near the identity
    assert (lengths.diagonal(dim1=1, dim2=2) - 1).abs().max() < 0.45
    assert (lengths - torch.diag_embed(lengths.diagonal(dim1=1, dim2=2))).abs().max() < 1e-4


def test_no_slope_means_no_step():
    assert orthogonalized(torch.zeros(2, 4, 9)).abs().max() == 0


def moved_by(optimizer, model) -> dict:
    """How far a step moves each of the weights, whose slopes are all drawn at random."""
    generator = torch.Generator().manual_seed(1)
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    for weights in model.parameters():
        weights.grad = torch.randn(weights.shape, generator=generator)
    optimizer.step()
    return {name: weights.detach() - before[name] for name, weights in model.named_parameters()}


def test_muon_moves_the_matrices_inside_and_adamw_the_rest():
    network = dict(block_out_channels=(8, 16), norm_num_groups=4, attention_levels=(), conditioning="time")
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(ClassConditionedUnet.fast(**network))
    by_muon = moved_by(Muon(models[0], 1e-3, (0.9, 0.99), 1e-2), models[0])
    by_adamw = moved_by(torch.optim.AdamW(models[1].parameters(), 1e-3, (0.9, 0.99), weight_decay=0.0), models[1])
    for name in ("conv_in.weight", "conv_out.weight", "class_embedding.weight", "time_embedding.linear_1.weight"):
        torch.testing.assert_close(by_muon[f"model.{name}"], by_adamw[f"model.{name}"])
    torch.testing.assert_close(by_muon["model.conv_in.bias"], by_adamw["model.conv_in.bias"])
    step = by_muon["model.mid_block.resnets.0.conv1.weight"].flatten(1)  # 16 rows, 144 columns
    assert torch.linalg.svdvals(step).sub(1e-2).abs().max() < 0.45e-2


def test_weights_without_slopes_stay():
    model = nn.Sequential(nn.Linear(4, 4))
    optimizer = Muon(model, 1e-3, (0.9, 0.99), 1e-2)
    before = model[0].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[0].weight, before)


def test_both_learning_rates_rise_and_fall_together(stripes):
    config = TrainingConfig.fast(batch_size=3, num_epochs=1)
    trainer = Trainer(make_tiny_model(), stripes, make_scheduler(), config)
    rates = []
    for _ in range(trainer.total_steps):
        rates.append({group["matrices"]: group["lr"] for group in trainer.optimizer.param_groups})
        trainer.training_step()
    assert max(rate[True] for rate in rates) == pytest.approx(10 * config.learning_rate, rel=0.05)
    assert all(rate[True] == pytest.approx(10 * rate[False]) for rate in rates)


def test_muon_learns_more_from_as_many_images(stripes):
    losses = {}
    for optimizer in ("adamw", "muon"):
        config = TrainingConfig.fast(optimizer=optimizer, batch_size=20, num_epochs=12)
        run = train(make_tiny_model(), stripes, make_scheduler("ddpm", "v_prediction"), config, "cpu", progress=False)
        losses[optimizer] = sum(run.losses[-10:]) / 10
    assert losses["muon"] < losses["adamw"]
