"""The exercises of notebook 3 on training: the loss, a step, and steps that are broken."""

import inspect

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import minimal
from course_utils.exercises.comparing import copied, in_words, is_plain_tensor, is_unchanged, tensor_difference
from course_utils.exercises.exercise import ChoicesExercise, ProbedExercise

TIMESTEPS = 20  # of the schedule that the loss is tried with
DRAWS = 64  # pictures in a batch
MANY_DRAWS = 10_240  # in one batch: each timestep should turn up about 512 times, give or take 23
FAIR = range(512 - 140, 512 + 141)


class Network(nn.Module):
    """In the place of a network: notes what it is given, and answers with numbers that depend on it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.given = None

    def forward(self, x, timesteps, labels):
        self.given = x, timesteps, labels
        return self.weight * x + 0.1


def loss_arguments(count: int = DRAWS) -> tuple:
    """Noise levels, pictures in [-1, 1] and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, 6, 9, generator=generator) * 2 - 1
    return minimal.cosine_alphas_cumprod(TIMESTEPS), images, torch.randint(10, (count,), generator=generator)


def find_fault_of_loss(training_loss):
    """What is wrong with a learner's loss, in a sentence; "" where nothing is.

    Noise and timesteps may be drawn in any order, so that what the network is given is looked at, and not one number.
    """
    for prediction_type in ("epsilon", "v_prediction"):
        fault = fault_of_loss(training_loss, prediction_type)
        if fault:
            return fault
    return fault_of_timesteps(training_loss)


def fault_of_loss(training_loss, prediction_type: str):
    """As `find_fault_of_loss`, for one kind of prediction; whether all timesteps are drawn is left open."""
    alphas_cumprod, images, labels = arguments = loss_arguments()
    handed_in, model = copied(arguments), Network()
    loss = training_loss(model, *handed_in, torch.Generator().manual_seed(1), prediction_type)
    if loss is ...:
        return ...
    for name, before, after in zip(("alphas_cumprod", "images", "labels"), arguments, handed_in):
        if not is_unchanged(before, after):
            return f"The function changes its argument `{name}`: work on a new tensor."
    return (
        fault_of_number(loss, model)
        or fault_of_given(model, alphas_cumprod, images, labels)
        or fault_of_seeds(training_loss, loss, model, prediction_type)
        or fault_of_target(model, alphas_cumprod, images, loss, prediction_type)
    )


def fault_of_number(loss, model) -> str:
    """Whether it is a number that comes from the network, and can be improved."""
    if not is_plain_tensor(loss) or loss.shape != () or loss.dtype != torch.float32:
        return f"The loss is {in_words(loss)}, wanted one number: a float32 tensor of shape ()."
    if model.given is None:
        return "The network is never called: `model(noisy, timesteps, labels)`."
    if not loss.isfinite():
        return f"The loss is `{loss.item()}`, which is not a finite number."
    if model.weight.grad is not None:
        return "The function computes gradients already: return the loss, and leave `backward()` to the training step."
    if not loss.requires_grad or torch.autograd.grad(loss, model.weight, retain_graph=True, allow_unused=True) == (
        None,
    ):
        return "The loss has no gradient: is there a `.item()`, a `.detach()` or a `no_grad`?"
    return ""


def fault_of_seeds(training_loss, loss, model, prediction_type: str) -> str:
    """Whether all chance comes from the generator: the same loss from the same seed, and another from another."""
    again, other = Network(), Network()
    same = training_loss(again, *loss_arguments(), torch.Generator().manual_seed(1), prediction_type)
    if not torch.equal(same, loss):
        return "The same seed gives another loss: draw noise and timesteps with `generator=generator`."
    training_loss(other, *loss_arguments(), torch.Generator().manual_seed(2), prediction_type)
    alphas_cumprod, images, _ = loss_arguments()
    noises = [implied_noise(*each.given[:1], images, each.given[1], alphas_cumprod) for each in (model, other)]
    if torch.allclose(*noises, atol=1e-3):
        return "Another seed gives the same noise: draw it with the `generator` that is handed in, as it is."
    if torch.equal(model.given[1], other.given[1]):
        return "Another seed gives the same timesteps: draw them with the `generator` that is handed in, as it is."
    return ""


def fault_of_given(model, alphas_cumprod, images, labels) -> str:
    """Whether the network was given a noisy picture, a timestep for each, and the labels."""
    x, timesteps, told = model.given
    if not is_plain_tensor(timesteps) or timesteps.shape != labels.shape:
        return f"The network is given {in_words(timesteps)} as timesteps, wanted one for each picture: ({DRAWS},)."
    if tensor_difference(told, labels):
        return "The network is not given the labels as they are."
    if timesteps.dtype not in (torch.int64, torch.int32):
        return f"The network is given {in_words(timesteps)} as timesteps, wanted whole numbers: int64."
    if timesteps.min() < 0 or timesteps.max() >= TIMESTEPS:
        return (
            f"The network is given timesteps from {timesteps.min()} to {timesteps.max()}, but `alphas_cumprod` "
            f"holds {TIMESTEPS} levels here: from 0 to {TIMESTEPS - 1}."
        )
    if timesteps.unique().numel() == 1:
        return "All pictures of the batch get the same timestep: draw one for each."
    fault = tensor_difference(x, images)
    if not fault:
        return "The network is given the picture without noise."
    if "values" not in fault:
        return f"What the network is given as noisy pictures is wrong: {fault.removeprefix('it returned ')}."
    return fault_of_noise(implied_noise(x, images, timesteps, alphas_cumprod))


def fault_of_noise(noise: torch.Tensor) -> str:
    """Whether the noise is standard normal, and another one in each picture and pixel."""
    if noise.std() > 0.3 and (noise[0] - noise[1]).abs().max() < 1e-3:
        return "All pictures of the batch get the same noise: it must have the shape of the images."
    if noise.std() > 0.3 and noise.std(dim=(1, 2, 3)).max() < 1e-3:
        return "All pixels of a picture get the same noise: it must have the shape of the images."
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


def fault_of_timesteps(training_loss) -> str:
    """Whether each timestep is drawn, and about as often as the others."""
    model = Network()
    training_loss(model, *loss_arguments(MANY_DRAWS), torch.Generator().manual_seed(2), "epsilon")
    counts = model.given[1].bincount(minlength=TIMESTEPS).tolist()
    missing = [t for t, count in enumerate(counts) if not count]
    if TIMESTEPS - 1 in missing:
        return f"Of {TIMESTEPS} timesteps {missing} never turn up: the upper end of `torch.randint` is exclusive."
    if missing:
        return f"Of {TIMESTEPS} timesteps {missing} never turn up: they go from 0 to the last one."
    if not all(count in FAIR for count in counts):
        return "Some timesteps turn up more often than others: each needs the same probability."
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
    parameters="model, alphas_cumprod, images, labels, generator, prediction_type",
    find_fault=find_fault_of_loss,
    tried_with=f" with pictures of 6 x 9 pixels and a schedule of {TIMESTEPS} timesteps",
)


class Optimizer(torch.optim.SGD):
    """Plain gradient descent that notes what is called."""

    def __init__(self, weights, calls):
        super().__init__(weights, 0.07)
        self.calls = calls

    def zero_grad(self, *arguments, **options):
        self.calls.append("zero_grad")
        super().zero_grad(*arguments, **options)

    def step(self, *arguments, **options):
        self.calls.append("step")
        return super().step(*arguments, **options)


def find_fault_of_step(training_step):
    """What is wrong with a learner's training step, in a sentence; "" where nothing is."""
    calls, networks = (
        [],
        [nn.Linear(3, 1) for _ in range(3)],
    )  # the learner's, a right one, one that forgets no gradient
    for one in networks[1:]:
        one.load_state_dict(networks[0].state_dict())
    learners, right, hoarding = optimizers = [Optimizer(one.parameters(), calls) for one in networks]
    for number in range(3):
        data = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
        losses = [(one(data) - number - 1).square().mean() for one in networks]
        for optimizer, loss in zip(optimizers[1:], losses[1:]):
            loss.backward()
            optimizer.step()
        right.zero_grad()
        calls.clear()
        losses[0].register_hook(lambda gradient: calls.append("backward"))
        before = networks[0].weight.detach().clone()
        if training_step(learners, losses[0]) is ...:
            return ...
        fault = fault_of_move(before, [one.weight.detach() for one in networks], calls, number + 1)
        if fault:
            return fault
    return ""


def fault_of_move(before, weights, calls: list, number: int) -> str:
    """Whether the weights have moved where they should, and the optimizer has moved them."""
    learners, right, hoarding = weights
    if torch.allclose(learners, right) and "step" in calls:
        return ""
    order = fault_of_order(calls)
    if torch.equal(learners, before):
        return f"The weights have not moved: {order or 'use all three calls, in the right order'}."
    if number > 1 and torch.allclose(learners, hoarding):
        return (
            f"Step {number} moves the weights to another place than it should: the gradients of earlier steps "
            "are still there. When are they set to zero?"
        )
    which = "The first step" if number == 1 else f"Step {number}"
    return f"{which} moves the weights to another place than it should: {order or 'take one step, down the gradients'}."


def fault_of_order(calls: list) -> str:
    """What is missing among the calls of one step, twice there, or in the wrong place; "" where nothing is."""
    for name, code in (("backward", "loss.backward()"), ("step", "optimizer.step()")):
        if name not in calls:
            return f"`{code}` is missing, or has no parentheses"
        if calls.count(name) > 1:
            return f"`{code}` runs {calls.count(name)} times"
    if calls.index("step") < calls.index("backward"):
        return "`optimizer.step()` comes before `loss.backward()`, when there are no new gradients"
    if "zero_grad" in calls[calls.index("backward") : calls.index("step")]:
        return "`optimizer.zero_grad()` removes the new gradients before `optimizer.step()` uses them"
    return ""


training_step = ProbedExercise(
    name="training_step",
    solution_text=inspect.getsource(minimal.training_step),
    praise="PyTorch adds gradients up, and so each step begins by setting them to zero.",
    hints=(
        "Three lines: forget the old gradients, compute the new ones, move the weights.",
        "`optimizer.zero_grad()`, `loss.backward()`, `optimizer.step()`, in this order.",
    ),
    parameters="optimizer, loss",
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
        "Compare each step with the others, line by line: one line differs.",
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
