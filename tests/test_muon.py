import copy

import pytest
import torch

from course_utils.muon import Muon, inner_matrices, orthogonalized
from course_utils.sampling import make_scheduler
from course_utils.training import TrainingConfig, make_optimizers, train
from tiny import make_tiny_model


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16)])
def test_orthogonalized_keeps_directions_and_evens_out_lengths(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    lengths = left.mT @ orthogonalized(matrices) @ right.mT  # near the identity
    assert (lengths.diagonal(dim1=1, dim2=2) - 1).abs().max() < 0.45
    assert (lengths - torch.diag_embed(lengths.diagonal(dim1=1, dim2=2))).abs().max() < 1e-4


def test_no_gradient_means_no_step():
    assert orthogonalized(torch.zeros(2, 4, 9)).abs().max() == 0
    weights = torch.nn.Parameter(torch.ones(4, 4))
    Muon([weights], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(weights, torch.ones(4, 4))


def random_steps(optimizer, weights: list, steps: int = 10):
    """Steps along gradients that are drawn at random, the same each time."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for one in weights:
            one.grad = torch.randn(one.shape, generator=generator)
        optimizer.step()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("settings", [{}, dict(momentum=0.5), dict(weight_decay=0.3), dict(lr=0.1, weight_decay=0.0)])
def test_ten_steps_are_those_of_torchs_muon(settings):
    """Of matrices of several shapes, two of them alike; the difference is the other one's bfloat16."""
    settings = dict(lr=0.05, momentum=0.95, weight_decay=0.1) | settings
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in ((6, 6), (40, 5), (5, 40)) * 2]
    ours, theirs = ([torch.nn.Parameter(one.clone()) for one in start] for _ in range(2))
    random_steps(Muon(ours, **settings), ours)
    random_steps(torch.optim.Muon(theirs, **settings), theirs)
    for one, other, before in zip(ours, theirs, start):
        moved = (other - before).norm()
        assert (one - other).norm() < 0.02 * moved, one.shape


def test_a_convolution_is_a_matrix_with_a_row_for_each_output():
    convolution = torch.nn.Parameter(torch.zeros(6, 4, 3, 3))
    matrix = torch.nn.Parameter(torch.zeros(6, 36))
    gradient = torch.randn(6, 36, generator=torch.Generator().manual_seed(0))
    convolution.grad, matrix.grad = gradient.view(6, 4, 3, 3), gradient
    Muon([convolution], lr=0.1).step()
    Muon([matrix], lr=0.1).step()
    assert torch.equal(convolution.flatten(1), matrix) and torch.equal(convolution.grad.flatten(1), gradient)


def test_adamw_moves_the_outer_parts_and_all_that_is_no_matrix():
    model = make_tiny_model(conditioning="time")
    reference = copy.deepcopy(model)
    optimizers = make_optimizers(model, TrainingConfig.fast(learning_rate=1e-2), 0.9, 0.95)
    torchs = torch.optim.AdamW(reference.parameters(), 1e-2, (0.9, 0.99), weight_decay=0.01)
    for optimizer, network in ((optimizers["adamw"], model), (optimizers["muon"], model), (torchs, reference)):
        random_steps(optimizer, list(network.parameters()))
    matrices, others = inner_matrices(model)
    assert {id(one) for one in matrices + others} == {id(one) for one in model.parameters()}
    by_muon = {id(one) for one in matrices}
    for (name, ours), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        outer = any(part in name for part in ("conv_in", "conv_out", "class_embedding", "time_embedding"))
        assert (id(ours) in by_muon) == (ours.ndim > 1 and not outer), name
        if id(ours) not in by_muon:
            torch.testing.assert_close(ours, theirs)


def test_muon_learns_more_from_as_many_images(stripes):
    losses = {}
    for optimizer in ("adamw", "muon"):
        config = TrainingConfig.fast(optimizer=optimizer, batch_size=20, num_epochs=12)
        run = train(make_tiny_model(), stripes, make_scheduler("ddpm", "v_prediction"), config, "cpu", progress=False)
        losses[optimizer] = sum(run.losses[-10:]) / 10
    assert losses["muon"] < losses["adamw"]
