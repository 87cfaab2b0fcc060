"""Muon: an optimizer that moves a matrix of weights equally far in every direction that its slopes point to."""

import torch

# Parts that take in pictures, timesteps and labels, or put out pictures: AdamW moves them, as the authors advise.
OUTER_PARTS = {"conv_in", "conv_out", "class_emb", "class_embedding", "time_embedding"}
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial that `orthogonalized` iterates, from the authors


class Muon(torch.optim.AdamW):
    """AdamW for a network's biases and outer parts, Muon for the matrices inside (Jordan et al., 2024).

    AdamW scales each number's slope by itself. Muon sees the matrix that a layer is (a convolution: one row for each of
    its outputs), and replaces the averaged slopes by the orthogonal matrix closest to them: directions that most images
    agree on no longer drown those that few ask for (https://kellerjordan.github.io/posts/muon).

    Args:
        model: a `ClassConditionedUnet`.
        learning_rate, betas: of AdamW.
        matrix_learning_rate: of Muon; a step changes a square matrix's singular values by about as much.
        momentum: of Muon, the decay a step of the average of its slopes.
        weight_decay: decoupled, of both.
    """

    def __init__(self, model, learning_rate, betas, matrix_learning_rate, momentum=0.95, weight_decay=0.0):
        by_shape, others = {}, []
        for name, weights in model.named_parameters():
            if weights.ndim > 1 and not OUTER_PARTS & set(name.split(".")):
                by_shape.setdefault(weights.flatten(1).shape, []).append(weights)
            else:
                others.append(weights)
        groups = [dict(params=others, matrices=False)]
        for matrices in by_shape.values():  # those of one shape take each step together
            groups.append(dict(params=matrices, matrices=True, lr=matrix_learning_rate, betas=(momentum, betas[1])))
        super().__init__(groups, learning_rate, betas, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self):
        """Move all weights one step; the matrices' slopes are used up."""
        for group in self.param_groups:
            if group["matrices"]:
                self.move_matrices(group, [weights for weights in group["params"] if weights.grad is not None])
        super().step()  # AdamW leaves alone what has no slopes

    def move_matrices(self, group: dict, matrices: list[torch.Tensor]):
        """Move those matrices of a group, all of one shape, that have slopes."""
        if not matrices:
            return
        directions = orthogonalized(torch.stack([self.averaged_slopes(weights, group) for weights in matrices]))
        rows, columns = directions.shape[1:]
        distance = group["lr"] * max(1, rows / columns) ** 0.5
        for weights, direction in zip(matrices, directions, strict=True):
            weights.mul_(1 - group["lr"] * group["weight_decay"])
            weights.sub_(direction.view_as(weights), alpha=distance)
            weights.grad = None

    def averaged_slopes(self, weights: torch.Tensor, group: dict) -> torch.Tensor:
        """The moving average of a matrix's slopes, with Nesterov's look ahead: (rows, columns)."""
        state, momentum = self.state[weights], group["betas"][0]
        if not state:  # by the names that AdamW looks for when it is loaded
            state.update(step=torch.zeros(()), exp_avg=torch.zeros_like(weights))
        state["step"] += 1
        state["exp_avg"].lerp_(weights.grad, 1 - momentum)
        return weights.grad.lerp(state["exp_avg"], momentum).flatten(1)


def orthogonalized(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Matrices with the same singular vectors, and all singular values near 1 (0.7 .. 1.2), by a Newton-Schulz iteration.

    Args:
        matrices: (N, rows, columns).
        iterations: five suffice for matrices that are not extremely flat.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalized(matrices.mT, iterations).mT
    first, third, fifth = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), x, beta=first)
    return x
