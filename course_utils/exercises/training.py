"""The exercises of notebook 3 on training: the loss, a step, and loops that are broken."""

import inspect
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import minimal
from course_utils.exercises.comparing import in_words, is_plain_tensor, tensor_difference
from course_utils.exercises.exercise import ChoicesExercise, ProbedExercise

DRAWS = 64  # pictures in a batch that the loss is tried with
ROUNDS = 160  # batches in which every timestep, the last included, should turn up: with 10,240 of 20 timesteps it does


class Probe(nn.Module):
    """In the place of a network: notes what it is given, and answers with numbers that depend on it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, timesteps, labels):
        self.given = x, timesteps, labels
        return self.weight * x + 0.1


def loss_arguments(count: int = DRAWS) -> tuple:
    """A probe, noise levels, pictures in [-1, 1] and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, 6, 9, generator=generator) * 2 - 1
    return Probe(), minimal.cosine_alphas_cumprod(20), images, torch.randint(10, (count,), generator=generator)


def find_fault_of_loss(training_loss):
    """What is wrong with a learner's loss, in a sentence; "" where nothing is.

    Noise and timesteps may be drawn in any order, so that what the network is given is looked at, and not one number.
    """
    model, alphas_cumprod, images, labels = loss_arguments()
    for prediction_type in ("epsilon", "v_prediction"):
        call = partial(training_loss, model, alphas_cumprod, images, labels)
        loss = call(torch.Generator().manual_seed(1), prediction_type)
        if loss is ...:
            return ...
        again = call(torch.Generator().manual_seed(1), prediction_type)
        fault = (
            fault_of_number(loss, again)
            or fault_of_given(model, alphas_cumprod, images, labels)
            or fault_of_target(model, alphas_cumprod, images, again, prediction_type)
        )
        if fault:
            return fault
    return fault_of_timesteps(partial(training_loss, model, alphas_cumprod), model, images, labels)


def fault_of_number(loss, again) -> str:
    """Whether it is a number that can be improved, and the same from the same generator."""
    if not is_plain_tensor(loss) or loss.shape != () or loss.dtype != torch.float32:
        return f"The loss is {in_words(loss)}, wanted one number: a float32 tensor of shape ()."
    if not loss.requires_grad:
        return "The loss has no gradient: is there a `.item()`, a `.detach()` or a `no_grad`?"
    if not is_plain_tensor(again) or loss.item() != again.item():
        return "The same seed gives another loss: draw noise and timesteps with `generator=generator`."
    return ""


def fault_of_given(model, alphas_cumprod, images, labels) -> str:
    """Whether the network was given a noisy picture, a timestep for each, and the labels."""
    if not hasattr(model, "given"):
        return "The network is never called: `model(noisy, timesteps, labels)`."
    x, timesteps, told = model.given
    if not is_plain_tensor(timesteps) or timesteps.shape != labels.shape:
        return f"The network is given {in_words(timesteps)} as timesteps, wanted one for each picture: ({DRAWS},)."
    if timesteps.unique().numel() == 1:
        return "All pictures of the batch get the same timestep: draw one for each."
    if tensor_difference(told, labels):
        return "The network is not given the labels as they are."
    fault = tensor_difference(x, images)
    if not fault:
        return "The network is given the picture without noise."
    if "values" not in fault:
        return f"What the network is given as noisy pictures: {fault}."
    noise = implied_noise(x, images, timesteps, alphas_cumprod)
    if not (noise.mean().abs() < 0.1 and (noise.std() - 1).abs() < 0.1):
        return (
            "What the network is given is not `add_noise(images, noise, timesteps, alphas_cumprod)` with standard "
            "normal noise (`torch.randn`)."
        )
    return ""


def implied_noise(x, images, timesteps, alphas_cumprod) -> torch.Tensor:
    """The noise that makes x of the images at these timesteps."""
    alpha_bar = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return (x.detach() - alpha_bar.sqrt() * images) / (1 - alpha_bar).sqrt()


def fault_of_target(model, alphas_cumprod, images, loss, prediction_type: str) -> str:
    """Whether the prediction was compared with what was to be predicted."""
    x, timesteps, _ = model.given
    noise = implied_noise(x, images, timesteps, alphas_cumprod)
    velocity = minimal.add_noise(noise, -images, timesteps, alphas_cumprod)
    wanted, other = (noise, velocity) if prediction_type == "epsilon" else (velocity, noise)
    prediction = model(*model.given).detach()
    known = {
        F.mse_loss(prediction, wanted): "",
        F.mse_loss(
            prediction, other
        ): f'With prediction_type "{prediction_type}" it is compared with the wrong target.',
        F.mse_loss(
            prediction, images
        ): "The prediction is compared with the picture, wanted the noise or the velocity.",
        F.mse_loss(prediction, x): "The prediction is compared with the noisy picture.",
        F.l1_loss(prediction, wanted): "That is the mean absolute error, wanted the mean squared error.",
        (prediction - wanted).square().sum(): "That is a sum, wanted a mean.",
        F.mse_loss(prediction, wanted).sqrt(): "That is the root of the mean squared error.",
        F.mse_loss(prediction, -velocity): "The velocity has the wrong sign: the noise counts positive.",
    }
    for value, says in known.items():
        if torch.isclose(loss.detach(), value, rtol=1e-3):
            return says
    return f'With prediction_type "{prediction_type}" the loss is another number than the mean squared error wanted.'


def fault_of_timesteps(training_loss, model, images, labels) -> str:
    """Whether every timestep can be drawn: with many batches, all of them are."""
    generator, seen = torch.Generator().manual_seed(2), set()
    for _ in range(ROUNDS):
        training_loss(images, labels, generator, "epsilon")
        seen |= set(model.given[1].tolist())
    missing = sorted(set(range(20)) - seen)
    if missing:
        return f"Of 20 timesteps {missing} never turn up: the upper end of `torch.randint` is exclusive."
    return ""


training_loss = ProbedExercise(
    name="training_loss",
    solution_text=inspect.getsource(minimal.training_loss),
    praise="That is all a diffusion model is trained by.",
    hints=(
        "Four steps: draw noise, draw timesteps, ask the network, compare.",
        "`torch.randn(images.shape, generator=generator)` and `torch.randint(0, len(alphas_cumprod), (len(images),), "
        "generator=generator)`; then `add_noise`.",
        "`F.mse_loss(prediction, target)`: the target is `noise`, or for the velocity "
        "`add_noise(noise, -images, timesteps, alphas_cumprod)`.",
    ),
    find_fault=find_fault_of_loss,
)


def find_fault_of_step(training_step):
    """What is wrong with a learner's training step, in a sentence; "" where nothing is."""
    network, twin = nn.Linear(3, 1), nn.Linear(3, 1)
    twin.load_state_dict(network.state_dict())
    optimizers = [torch.optim.Adam(one.parameters(), 0.1) for one in (network, twin)]
    before = network.weight.detach().clone()
    for number in range(3):
        data = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
        loss, wanted = ((one(data) - number).square().mean() for one in (network, twin))
        if training_step(optimizers[0], loss) is ...:
            return ...
        minimal.training_step(optimizers[1], wanted)
        if torch.equal(network.weight, before):
            no_gradients = network.weight.grad is None
            return f"The weights have not moved: {'`loss.backward()`' if no_gradients else '`optimizer.step()`'} is missing."
        if not torch.allclose(network.weight, twin.weight):
            return (
                f"Step {number + 1} moves the weights to another place than it should: the gradients of earlier steps "
                "are still there. When are they set to zero?"
                if number
                else "The first step moves the weights to another place than it should: take one step, down the gradients."
            )
    return ""


training_step = ProbedExercise(
    name="training_step",
    solution_text=inspect.getsource(minimal.training_step),
    praise="PyTorch adds gradients up, and so each step begins by setting them to zero.",
    hints=(
        "Three lines: forget the old gradients, compute the new ones, move the weights.",
        "`optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()`, in this order.",
    ),
    find_fault=find_fault_of_step,
)

BUGS = (
    "labels shuffled",
    "pictures in [0, 1]",
    "one timestep for all",
    "no zero_grad",
    "wrong prediction type",
    "learning rate too high",
    "label never dropped",
)

diagnoses = ChoicesExercise(
    name="diagnoses",
    solution_text="""\
diagnoses = {
    "A": "wrong prediction type",
    "B": "labels shuffled",
    "C": "no zero_grad",
    "D": "pictures in [0, 1]",
    "E": "one timestep for all",
}""",
    praise="All five are right.",
    hints=(
        "Two questions for each row: are the strokes those of digits? And are they the digits that were asked for?",
        "Compare each loop with yours, line by line: one line differs.",
        "Good strokes and wrong digits: the labels told the network nothing. A ground halfway between paper and ink: nothing "
        "in its training pictures was lighter. Nothing at all: look at the loss. And a low loss can mean an easier target.",
    ),
    options=BUGS,
    reasons={
        "A": "the network was trained to predict the noise, and its prediction is read as a velocity: contrast is lost.",
        "B": "the pictures are digits, but not those that were asked for: the labels belonged to other images.",
        "C": "old gradients stay, and push the weights farther and farther, until the loss is no longer a number.",
        "D": "paper was 0 in place of -1: in the network's pictures the ground is halfway between paper and ink.",
        "E": "each step trains a single timestep: the mean of the losses is higher, and the pictures suffer little.",
    },
)
