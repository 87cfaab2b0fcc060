"""Muon: an optimizer that moves a matrix of weights equally far in every direction that its gradients point to."""

import torch

# Parts that take in pictures, timesteps and labels, or put out pictures: AdamW moves them, as the authors advise.
OUTER_PARTS = {"conv_in", "conv_out", "class_emb", "class_embedding", "time_embedding"}
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial that `orthogonalized` iterates, from the authors


class Muon(torch.optim.Optimizer):
    """Replaces the averaged gradients of each matrix by the orthogonal matrix closest to them (Jordan et al., 2024).

    AdamW scales the gradient of each number by itself. Muon sees the matrix that a layer is (a convolution: one row for
    each of its outputs), so that directions that most images agree on no longer drown those that few ask for
    (https://kellerjordan.github.io/posts/muon).

    Each step is that of `torch.optim.Muon`, which cannot be used here: it takes matrices of two dimensions only, and so no
    convolutions, and it computes in bfloat16, which is slow on most CPUs, one matrix at a time.

    Args:
        matrices: weights (rows, columns) or (rows, ...), of which all dimensions after the first are columns.
        lr: learning rate; a step changes the singular values of a square matrix by about as much.
        momentum: decay per step of the average of the gradients, with Nesterov's look ahead.
        weight_decay: decoupled, as AdamW's.
    """

    def __init__(self, matrices, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(matrices, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        """Move all matrices that have gradients one step."""
        for group in self.param_groups:
            by_shape = {}  # matrices of one shape take the step together, which is faster
            for weights in group["params"]:
                if weights.grad is not None:
                    by_shape.setdefault(weights.flatten(1).shape, []).append(weights)
            for matrices in by_shape.values():
                self.update(matrices, **{name: group[name] for name in ("lr", "momentum", "weight_decay")})

    def update(self, matrices: list[torch.Tensor], lr: float, momentum: float, weight_decay: float):
        """Move some matrices, all of one shape, one step."""
        updates = orthogonalized(torch.stack([self.averaged_gradient(weights, momentum) for weights in matrices]))
        rows, columns = updates.shape[1:]
        distance = lr * max(1, rows / columns) ** 0.5  # so that each output changes as much as in a square matrix
        for weights, update in zip(matrices, updates, strict=True):
            weights.mul_(1 - lr * weight_decay)
            weights.sub_(update.view_as(weights), alpha=distance)

    def averaged_gradient(self, weights: torch.Tensor, momentum: float) -> torch.Tensor:
        """The moving average of a matrix's gradients, with Nesterov's look ahead: (rows, columns)."""
        state = self.state[weights]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weights)
        average = state["momentum_buffer"].lerp_(weights.grad, 1 - momentum)
        return weights.grad.lerp(average, momentum).flatten(1)


def inner_matrices(model) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """A network's weights, divided into the matrices that Muon moves, and the rest: biases, norms and outer parts.

    Args:
        model: a `ClassConditionedUnet`.
    """
    matrices, others = [], []
    for name, weights in model.named_parameters():
        inside = weights.ndim > 1 and not OUTER_PARTS & set(name.split("."))
        (matrices if inside else others).append(weights)
    return matrices, others


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
