"""The exercises of notebooks 1 to 3, where learners write the parts of a diffusion model: right answers and wrong ones."""

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from torch import nn
from torch.nn import functional as F

from course_utils import exercises, minimal
from course_utils.exercises import broken_steps

COSINE = dict(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")


def cosine_with_numpy(num_train_timesteps):
    times = np.arange(num_train_timesteps + 1) / num_train_timesteps
    level = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
    return torch.tensor(np.cumprod(1 - np.minimum(1 - level[1:] / level[:-1], 0.999)), dtype=torch.float32)


def cosine_with_other_settings(num_train_timesteps):
    torch.set_default_dtype(torch.float64)
    return cosine_with_numpy(num_train_timesteps)


def cosine_by_diffusers(num_train_timesteps):
    return DDPMScheduler(num_train_timesteps, beta_schedule="squaredcos_cap_v2").alphas_cumprod


def add_noise_one_by_one(images, noise, timesteps, alphas_cumprod):
    mixed = []
    for image, its_noise, t in zip(images, noise, timesteps):
        mixed.append(math.sqrt(alphas_cumprod[t]) * image + math.sqrt(1 - alphas_cumprod[t]) * its_noise)
    return torch.stack(mixed)


class AsInTheExample(nn.Module):
    """Written as the example writes it, with channels that are repeated and a UNet whose sizes are its own defaults'."""

    def __init__(self, num_classes=10, class_emb_size=4):
        super().__init__()
        self.class_emb = nn.Embedding(num_classes, class_emb_size)
        self.model = UNet2DModel(
            sample_size=28,
            in_channels=1 + class_emb_size,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )

    def forward(self, x, t, class_labels):
        batch, _, height, width = x.shape
        cond = self.class_emb(class_labels)
        cond = cond.view(batch, cond.shape[1], 1, 1).expand(batch, cond.shape[1], height, width)
        return self.model(torch.cat((x, cond), 1), t).sample


class Returned(AsInTheExample):
    def forward(self, x, t, class_labels):
        channels = self.class_emb(class_labels)[:, :, None, None].expand(-1, -1, 28, 28)
        return self.model(torch.cat((x, channels), 1), t)


class PictureLast(AsInTheExample):
    def forward(self, x, t, class_labels):
        channels = self.class_emb(class_labels)[:, :, None, None].expand(-1, -1, 28, 28)
        return self.model(torch.cat((channels, x), 1), t).sample


class FirstLabelOnly(AsInTheExample):
    def forward(self, x, t, class_labels):
        return super().forward(x, t, class_labels[:1].expand(len(x)))


class FirstTimestepOnly(AsInTheExample):
    def forward(self, x, t, class_labels):
        return super().forward(x, t[0], class_labels)


class WithoutTable(AsInTheExample):
    def __init__(self, num_classes=10, class_emb_size=4):
        super().__init__(num_classes, class_emb_size)
        self.class_emb = None


class ForThePictureAlone(AsInTheExample):
    def __init__(self, num_classes=10, class_emb_size=4):
        super().__init__(num_classes, class_emb_size)
        self.model.conv_in = nn.Conv2d(1, 32, 3, padding=1)


class WithoutThePicture(AsInTheExample):
    def __init__(self, num_classes=10, class_emb_size=4):
        super().__init__(num_classes, class_emb_size)
        self.model.conv_in = nn.Conv2d(class_emb_size, 32, 3, padding=1)


class OneSizeOnly(AsInTheExample):
    def __init__(self, num_classes=10, class_emb_size=4):
        super().__init__()


class OtherWidths(AsInTheExample):
    def __init__(self, num_classes=10, class_emb_size=4):
        super().__init__()
        self.model = UNet2DModel(
            sample_size=28, in_channels=1 + class_emb_size, out_channels=1, block_out_channels=(32,) * 4
        )


class TableInAnotherOrder(nn.Module):
    """The parts the other way round, with more of the learner's own, and the output as a tuple."""

    def __init__(self, num_classes: int = 10, class_emb_size: int = 4, verbose=False):
        super().__init__()
        self.model = AsInTheExample(num_classes, class_emb_size).model
        self.class_emb = nn.Embedding(num_classes, class_emb_size)
        self.verbose, self.dropout = verbose, nn.Dropout(0.0)

    def forward(self, x, timesteps, labels):
        channels = torch.einsum("bc,hw->bchw", self.class_emb(labels), torch.ones(x.shape[2:]))
        return self.model(torch.cat((x, channels), 1), timesteps, return_dict=False)[0]


class WithoutGradient(AsInTheExample):
    @torch.no_grad()
    def forward(self, x, t, class_labels):
        return super().forward(x, t, class_labels)


class DetachedTable(AsInTheExample):
    def forward(self, x, t, class_labels):
        channels = self.class_emb(class_labels).detach()[:, :, None, None].expand(-1, -1, 28, 28)
        return self.model(torch.cat((x, channels), 1), t).sample


class WithAnotherName(AsInTheExample):
    def __init__(self, num_classes=10, class_emb_size=4):
        super().__init__(num_classes, class_emb_size)
        self.unet = self.model


class TableTransposed(AsInTheExample):
    def __init__(self, num_classes=10, class_emb_size=4):
        super().__init__(num_classes, class_emb_size)
        self.class_emb = nn.Embedding(class_emb_size, num_classes)


class WithoutArguments(AsInTheExample):
    def __init__(self):
        super().__init__()


class WithoutDefaults(AsInTheExample):
    def __init__(self, num_classes, class_emb_size):
        super().__init__(num_classes, class_emb_size)


class OneTimestepForbidden(AsInTheExample):
    def forward(self, x, t, class_labels):
        return super().forward(x, t.long(), class_labels)


def loss(model, alphas_cumprod, images, labels, generator, prediction_type, **wrong):
    """A loss whose parts can be put wrong one by one; timesteps are drawn before the noise."""
    count = len(images)
    t = wrong.get("timesteps", lambda: torch.randint(0, len(alphas_cumprod), (count,), generator=generator))()
    noise = wrong.get("noise", lambda: torch.randn(images.shape, generator=generator))()
    noisy = wrong.get("mix", minimal.add_noise)(images, noise, t, alphas_cumprod)
    prediction = model(noisy, t, wrong.get("told", labels))
    velocity = minimal.add_noise(noise, -images, t, alphas_cumprod)
    target = noise if prediction_type == "epsilon" else velocity
    return wrong.get("compare", F.mse_loss)(
        prediction, wrong.get("target", lambda *parts: parts[0])(target, images, noisy)
    )


def loss_with(make_wrong):
    """A wrong loss; `make_wrong(images, generator)` gives what is wrong in it."""
    return lambda model, levels, images, labels, generator, kind: loss(
        model, levels, images, labels, generator, kind, **make_wrong(images, generator)
    )


def loss_with_diffusers(model, alphas_cumprod, images, labels, generator, prediction_type):
    """With the scheduler's own formulas, timesteps from uniform numbers, and the mean taken in two steps."""
    print("looking at", images.shape)
    scheduler = DDPMScheduler(len(alphas_cumprod), beta_schedule="squaredcos_cap_v2")
    t = (torch.rand(len(images), generator=generator) * len(alphas_cumprod)).int()
    noise = torch.empty_like(images).normal_(generator=generator)
    prediction = model(x=scheduler.add_noise(images, noise, t.long()), timesteps=t, labels=labels)
    target = noise if prediction_type == "epsilon" else scheduler.get_velocity(images, noise, t.long())
    return F.mse_loss(prediction, target, reduction="none").mean((1, 2, 3)).mean()


def loss_after_backward(*parts):
    value = loss(*parts)
    value.backward(retain_graph=True)
    return value


def loss_in_place(model, alphas_cumprod, images, *others):
    return loss(model, alphas_cumprod, images.mul_(0.5), *others)


def loss_seeded(model, alphas_cumprod, images, labels, generator, prediction_type):
    return loss(model, alphas_cumprod, images, labels, generator.manual_seed(0), prediction_type)


def loss_with_1000_timesteps(model, alphas_cumprod, images, labels, generator, prediction_type):
    return loss(model, minimal.cosine_alphas_cumprod(1000), images, labels, generator, prediction_type)


def cloned(seed):
    """A generator of the learner's own."""
    return torch.Generator().manual_seed(seed)


def draw(upper, count, generator):
    return lambda: torch.randint(0, upper, (count,), generator=generator)


def step_by_hand(optimizer, loss):
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = None
    loss.backward()
    optimizer.step()


def zero_after(optimizer, loss):
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def without_zero(optimizer, loss):
    loss.backward()
    optimizer.step()


def without_step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()


def zero_too_late(optimizer, loss):
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()


def without_backward(optimizer, loss):
    optimizer.zero_grad()
    optimizer.step()


def two_steps(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    optimizer.step()


def step_by_autograd(optimizer, loss):
    weights = optimizer.param_groups[0]["params"]
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights)):
        weight.grad = gradient
    optimizer.step()
    return loss.item()


def backward_twice(optimizer, loss):
    optimizer.zero_grad()
    loss.backward(retain_graph=True)
    loss.backward()
    optimizer.step()


def step_before_backward(optimizer, loss):
    optimizer.zero_grad()
    optimizer.step()
    loss.backward()


def slower_and_slower(optimizer, loss):
    zero_after(optimizer, loss)
    optimizer.param_groups[0]["lr"] *= 0.5


def loop_by_the_page(
    model, labels, steps, scale, generator, kind, x0_of=lambda x0: x0.clamp(-1, 1), step=minimal.ddim_step
):
    """A sampling loop that stops at another place of the page."""
    levels = torch.cat((minimal.cosine_alphas_cumprod(), torch.ones(1)))
    timesteps = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)] + [-1]
    x = torch.randn(len(labels), 1, 28, 28, generator=generator)
    for i in range(steps):
        prediction = minimal.guided(model, x, timesteps[i], labels, scale)
        x0 = x0_of(minimal.predicted_x0(x, prediction, levels[timesteps[i]], kind))
        x = step(x, x0, levels[timesteps[i]], levels[timesteps[i + 1]])
        yield x


def last_only(*arguments):
    *_, pictures = minimal.sample(*arguments)
    return pictures


class LoopAsClass:
    """Not a generator, but each picture is drawn when it is asked for."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __iter__(self):
        return iter(minimal.sample(*self.arguments))


def loop_without_gradients(*arguments):
    torch.set_grad_enabled(False)
    with torch.no_grad():
        yield from loop_by_the_page(*arguments)


def loop_with_a_timestep_each(model, labels, *others):
    """It asks the network with one timestep per picture, as in training."""

    def each(x, t, told):
        return model(x, torch.as_tensor(t).expand(len(x)), told)

    each.null_label = model.null_label
    return map(torch.clone, loop_by_the_page(each, labels, *others))


def endless(*arguments):
    yield from minimal.sample(*arguments)
    while True:
        yield torch.zeros(1)


def one_picture_over_and_over(*arguments):
    kept = None
    for x in minimal.sample(*arguments):
        kept = x.clone() if kept is None else kept.copy_(x)
        yield kept


def changes_labels(model, labels, *others):
    yield from minimal.sample(model, labels.fill_(3), *others)


def one_too_few(*arguments):
    yield from [*minimal.sample(*arguments)][1:]


RIGHT = {
    "cosine_alphas_cumprod": [cosine_with_numpy, cosine_by_diffusers, cosine_with_other_settings],
    "add_noise": [
        add_noise_one_by_one,
        lambda x, e, t, a: a[t][:, None, None, None] ** 0.5 * x + (1 - a[t]).sqrt()[:, None, None, None] * e,
    ],
    "ConditionedUnet": [AsInTheExample, TableInAnotherOrder],
    "training_loss": [loss, loss_with_diffusers],
    "training_step": [step_by_hand, zero_after, step_by_autograd],
    "predicted_x0": [
        lambda x, p, a, kind: (
            x / a.sqrt() - (1 / a - 1).sqrt() * p if kind == "epsilon" else a**0.5 * x - (1 - a) ** 0.5 * p
        )
    ],
    "ddim_step": [
        lambda x, x0, a, p: p.sqrt() * x0 + ((1 - p) / (1 - a)).sqrt() * (x - a.sqrt() * x0),
    ],
    "ddpm_step": [
        lambda x, x0, a, p, e: (
            (p.sqrt() * (1 - a / p) * x0 + (a / p).sqrt() * (1 - p) * x) / (1 - a)
            + ((1 - p) * (1 - a / p) / (1 - a)).sqrt() * e
        )
    ],
    "guided": [
        lambda model, x, t, labels, s: (
            (1 - s) * model(x, t, torch.full_like(labels, model.null_label)) + s * model(x, t, labels)
        ),
        lambda model, x, t, labels, s: (
            minimal.guided(model, x, torch.full((2 * len(x),), int(t)), labels, s) if s != 1 else model(x, t, labels)
        ),
    ],
    "sample": [loop_by_the_page, LoopAsClass, loop_without_gradients, loop_with_a_timestep_each],
    "diagnoses": [
        dict(
            zip(
                "ABCDE",
                [
                    "wrong prediction type",
                    "labels shuffled",
                    "no zero_grad",
                    "pictures in [0, 1]",
                    "one timestep for all",
                ],
            )
        ),
        {
            "e": "One timestep for all",
            "d": "pictures in [0,1] ",
            "c": "no zero_grad",
            "b": "labels shuffled",
            "a": "wrong  prediction type",
        },
    ],
}

# Each with a part of the sentence that the learner should read.
WRONG = {
    "cosine_alphas_cumprod": [
        (lambda n: torch.tensor(cosine_with_numpy(n).tolist(), dtype=torch.float64), "dtype"),
        (lambda n: cosine_with_numpy(n).tolist(), "wanted a tensor"),
        (lambda n: cosine_with_numpy(n + 1)[1:], "values"),
        (lambda n: cosine_with_numpy(n)[:-1], "shape"),
    ],
    "add_noise": [
        (lambda x, e, t, a: a[t[0]].sqrt() * x + (1 - a[t[0]]).sqrt() * e, "first picture's timestep"),
        (lambda x, e, t, a: x + e, "values"),
        (lambda x, e, t, a: DDPMScheduler(**COSINE).add_noise(x, e, t), "must be the argument"),
        (lambda x, e, t, a: minimal.add_noise(x, torch.randn_like(x), t, a), "two different results"),
        (lambda x, e, t, a: e.mul_(0) + add_noise_one_by_one(x, e, t, a), "values|changes"),
    ],
    "ConditionedUnet": [
        (AsInTheExample(), "class itself"),
        (dict, "class ConditionedUnet(nn.Module)"),
        (nn.Identity, "class_emb"),
        (WithoutTable, "class_emb"),
        (ForThePictureAlone, "picture alone"),
        (WithoutThePicture, "has a channel, too"),
        (OneSizeOnly, "num_classes=5"),
        (OtherWidths, "parameters, wanted 1,708,201"),
        (Returned, "`.sample`"),
        (PictureLast, "values"),
        (FirstLabelOnly, "first picture's class"),
        (FirstTimestepOnly, "first picture's timestep"),
        (WithoutGradient, "no gradient"),
        (DetachedTable, "no gradient reaches `self.class_emb`"),
        (WithAnotherName, "holds `self.unet` as well"),
        (TableTransposed, "look at `class_emb.weight`"),
        (WithoutArguments, "takes `()`"),
        (WithoutDefaults, "wanted `(num_classes=10, class_emb_size=4)`"),
        (lambda num_classes=10, class_emb_size=4: AsInTheExample(num_classes, class_emb_size), "wanted a class"),
    ],
    "training_loss": [
        (loss_with(lambda x, g: {"timesteps": draw(19, len(x), g)}), "exclusive"),
        (loss_with(lambda x, g: {"timesteps": lambda: draw(20, 1, g)().expand(len(x))}), "same timestep"),
        (loss_with(lambda x, g: {"timesteps": draw(20, 1, g)}), "one for each picture"),
        (loss_with(lambda x, g: {"timesteps": lambda: 1 + draw(19, len(x), g)()}), "[0] never turn up: they go"),
        (loss_with(lambda x, g: {"timesteps": lambda: (torch.rand(len(x), generator=g) * 19).round().long()}), "often"),
        (loss_with(lambda x, g: {"timesteps": lambda: torch.arange(len(x)) % 20}), "gives the same timesteps"),
        (loss_with(lambda x, g: {"noise": lambda: torch.randn(x.shape[1:], generator=g).expand_as(x)}), "pictures of"),
        (
            loss_with(lambda x, g: {"noise": lambda: torch.randn(len(x), 1, 1, 1, generator=g).expand_as(x)}),
            "All pixels",
        ),
        (loss_with(lambda x, g: {"noise": lambda: torch.randn(x.shape, generator=cloned(0))}), "gives the same noise"),
        (loss_seeded, "gives the same noise"),
        (loss_with_1000_timesteps, "holds 20 levels"),
        (loss_in_place, "argument `images`"),
        (loss_after_backward, "leave `backward()`"),
        (lambda m, *others: loss(lambda x, t, y: m(x, t.float(), y), *others), "whole numbers"),
        (lambda *parts: loss(*parts) * torch.nan, "finite"),
        (lambda *parts: torch.tensor(loss(*parts).item(), requires_grad=True), "no gradient"),
        (lambda images, labels: None, "takes `(images, labels)`"),
        (loss_with(lambda x, g: {"noise": lambda: torch.randn(x.shape)}), "same seed"),
        (loss_with(lambda x, g: {"noise": lambda: torch.rand(x.shape, generator=g)}), "standard normal"),
        (loss_with(lambda x, g: {"mix": lambda x, e, t, a: x}), "without noise"),
        (loss_with(lambda x, g: {"mix": lambda x, e, t, a: x + e}), "standard normal"),
        (loss_with(lambda x, g: {"told": torch.zeros(len(x), dtype=torch.int64)}), "labels as they are"),
        (loss_with(lambda x, g: {"target": lambda target, images, noisy: images}), "with the picture"),
        (loss_with(lambda x, g: {"target": lambda target, images, noisy: noisy}), "with the noisy picture"),
        (loss_with(lambda x, g: {"compare": F.l1_loss}), "absolute"),
        (loss_with(lambda x, g: {"compare": lambda a, b: F.mse_loss(a, b, reduction="sum")}), "sum"),
        (loss_with(lambda x, g: {"compare": lambda a, b: F.mse_loss(a, b).sqrt()}), "root"),
        (loss_with(lambda x, g: {"compare": lambda a, b: F.mse_loss(a, b) / 2}), "another number"),
        (lambda m, a, x, y, g, kind: loss(m, a, x, y, g, "epsilon"), '"v_prediction" it is compared'),
        (lambda m, a, x, y, g, kind: loss(m, a, x, y, g, "v_prediction"), '"epsilon" it is compared'),
        (lambda *parts: loss(*parts).item(), "wanted one number"),
        (lambda *parts: loss(*parts).detach(), "no gradient"),
        (lambda m, a, x, y, g, kind: torch.zeros((), requires_grad=True), "never called"),
    ],
    "training_step": [
        (without_zero, "earlier steps"),
        (without_step, "`optimizer.step()`"),
        (without_backward, "`loss.backward()`"),
        (zero_too_late, "not moved"),
        (two_steps, "first step"),
        (two_steps, "runs 2 times"),
        (backward_twice, "runs 2 times"),
        (step_before_backward, "comes before"),
        (slower_and_slower, "Step 2 moves the weights to another place than it should: take one step"),
        (lambda loss: None, "takes `(loss)`"),
        (lambda optimizer, loss: None, "`loss.backward()`"),
    ],
    "predicted_x0": [(lambda x, p, a, kind: p, "values")],
    "ddim_step": [(lambda x, x0, a, p: minimal.ddim_step(x, x0, a, p) + 0.1 * torch.randn(x.shape), "values")],
    "ddpm_step": [(lambda x, x0, a, p, e: x0, "values")],
    "guided": [(lambda model, x, t, labels, s: model(x, t, (labels + 1) % 7), "values")],
    "sample": [
        (last_only, "yield x"),
        (lambda *parts: [*minimal.sample(*parts)], "yield x"),
        (endless, "too many"),
        (one_picture_over_and_over, "in place"),
        (changes_labels, "argument `labels`"),
        (lambda *parts: loop_by_the_page(*parts[:4], None, parts[5]), "The same seed gives other pictures"),
        (lambda *parts: (x.numpy() for x in minimal.sample(*parts)), "it yielded an object of type `ndarray`"),
        (lambda model, labels: None, "takes `(model, labels)`"),
        (one_too_few, "one after each"),
        (lambda *parts: loop_by_the_page(*parts, x0_of=lambda x0: x0), "clamped"),
        (lambda *parts: loop_by_the_page(*parts, step=lambda x, x0, a, p: x0), "first step"),
        (lambda model, labels, *rest: minimal.sample(model, labels.flip(0), *rest), "first step"),
        (lambda *parts: minimal.sample(*parts, sampler="ddpm"), "first step"),
    ],
    "diagnoses": [
        (dict.fromkeys("ABCDE", "no zero_grad"), "1 of 5"),
        (dict.fromkeys("ABC", "no zero_grad"), "each letter"),
        ({**dict.fromkeys("ABCD", "no zero_grad"), "E": ...}, "Letter E has the dots"),
        ({}, "each letter"),
        (dict.fromkeys("ABCDE", "too slow"), "one of"),
        ("no zero_grad", "a dict"),
        ([], "a dict"),
    ],
}


RAISES = {
    "ConditionedUnet": (OneTimestepForbidden, "one timestep for all pictures"),
    "training_loss": (loss_with(lambda x, g: {"timesteps": draw(1000, len(x), g)}), "a schedule of 20 timesteps"),
    "guided": (lambda m, x, t, labels, s: m(x, t, torch.ones(len(x)) * m.null_label), "used as indices"),
    "sample": (lambda m, labels, *rest: minimal.sample(m, labels[:, None], *rest), "one label for each picture"),
}


def pairs(answers: dict) -> list:
    """(exercise, answer) for each answer, in the course's order."""
    return [
        pytest.param(exercise, answer, id=f"{exercise.name}-{i}")
        for exercise in exercises.ALL
        for i, answer in enumerate(answers.get(exercise.name, ()))
    ]


@pytest.mark.parametrize("exercise, answer", pairs(RIGHT))
def test_right_answers_in_other_styles_are_correct(exercise, answer):
    outcome = exercise.judge(answer)
    assert outcome.correct, outcome


@pytest.mark.parametrize("exercise, case", pairs(WRONG))
def test_wrong_answers_are_told_what_is_wrong(exercise, case):
    answer, words = case
    outcome = exercise.judge(answer)
    assert outcome.status == "incorrect"
    assert any(word in outcome.message for word in words.split("|")), outcome.message


@pytest.mark.parametrize("name", RAISES)
def test_an_exception_is_shown_with_what_the_answer_was_tried_with(name):
    exercise = next(exercise for exercise in exercises.ALL if exercise.name == name)
    outcome = exercise.judge(RAISES[name][0])
    assert outcome.status == "raised" and RAISES[name][1] in outcome.message, outcome.message


@pytest.mark.parametrize("exercise, answer", pairs(RIGHT))
def test_no_answer_leaves_its_settings_or_draws_behind(exercise, answer):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    exercise.judge(answer)
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("exercise", exercises.ALL, ids=lambda exercise: exercise.name)
def test_answers_are_judged_as_in_a_fresh_notebook(exercise):
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    try:
        assert exercise.judge(exercise.reference()).correct
        assert torch.get_default_dtype() == torch.float64 and not torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)


def test_a_check_does_not_print_more_than_a_few_lines_of_the_learners_own(capsys):
    exercises.training_loss.judge(loss_with_diffusers)
    assert capsys.readouterr().out.count("looking at") < 12


@pytest.mark.parametrize("exercise", exercises.ALL, ids=lambda exercise: exercise.name)
def test_every_listed_mistake_is_recognised(exercise):
    for mistake in getattr(exercise, "mistakes", ()):
        outcome = exercise.judge(mistake.answer)
        assert outcome.status == "incorrect" and mistake.says in outcome.message


@pytest.mark.parametrize("t", [999, 998, 700, 250, 1, 0])
def test_the_reference_steps_are_those_of_diffusers(t):
    """At each kind of timestep: the noisiest, the middle, the last one, where no noise is added."""
    x, noise = torch.randn(2, 2, 1, 8, 8, generator=torch.Generator().manual_seed(t))
    prediction = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(t + 1))
    for prediction_type in ("epsilon", "v_prediction"):
        ddpm = DDPMScheduler(**COSINE, prediction_type=prediction_type)
        ddim = DDIMScheduler(**COSINE, prediction_type=prediction_type, timestep_spacing="trailing")
        ddim.set_timesteps(1000)
        levels = torch.cat((ddpm.alphas_cumprod, torch.ones(1)))
        x0 = minimal.predicted_x0(x, prediction, levels[t], prediction_type).clamp(-1, 1)
        generator = torch.Generator().manual_seed(5)
        fresh = torch.randn(x.shape, generator=generator)
        wanted = ddpm.step(prediction, t, x, generator=torch.Generator().manual_seed(5)).prev_sample
        assert torch.equal(minimal.ddpm_step(x, x0, levels[t], levels[t - 1], fresh), wanted)
        wanted = ddim.step(prediction, t, x, use_clipped_model_output=True).prev_sample
        torch.testing.assert_close(minimal.ddim_step(x, x0, levels[t], levels[t - 1]), wanted)


@pytest.fixture
def exercise():
    """One of the course's, as a learner finds it."""
    return replace(exercises.add_noise)


def test_from_the_third_wrong_answer_on_a_hint_is_offered(exercise, capsys):
    for _ in range(2):
        exercise.check(lambda *arguments: arguments[0])
    exercise.check(...)
    assert "Hint" not in capsys.readouterr().out
    exercise.check(lambda *arguments: arguments[0])
    assert "Hint 1 of 3" in capsys.readouterr().out
    exercise.check(lambda *arguments: 1 / 0)
    assert "Hint 2 of 3" in capsys.readouterr().out
    for _ in range(3):
        exercise.check(lambda *arguments: arguments[0])
    assert capsys.readouterr().out.count("Hint") == 1
    assert exercise.progress() == "not solved yet (7 wrong)"


def test_how_an_exercise_was_solved_is_remembered(exercise):
    assert exercise.progress() == "not attempted yet"
    alone, hinted, shown = (replace(exercise) for _ in range(3))
    alone.check(minimal.add_noise)
    alone.solution()
    assert alone.progress() == "solved alone"
    hinted.hint()
    hinted.check(minimal.add_noise)
    assert hinted.progress() == "solved with 1 of 3 hints"
    shown.solution()
    shown.check(minimal.add_noise)
    assert shown.progress() == "solved after the solution was shown"


def test_a_summary_names_all_exercises_of_a_notebook(capsys, monkeypatch):
    monkeypatch.setitem(exercises.OF_NOTEBOOK, 1, [replace(one) for one in exercises.OF_NOTEBOOK[1]])
    exercises.summary(1)
    shown = capsys.readouterr().out
    assert "`cosine_alphas_cumprod`: not attempted yet" in shown and "`add_noise`" in shown
    with pytest.raises(ValueError, match="notebook 7 has no exercises: expected one of 1, 2, 3, 4, 5, 6"):
        exercises.summary(7)


def test_a_teacher_can_lock_the_solutions(exercise, capsys, monkeypatch):
    monkeypatch.setenv("COURSE_LOCK_SOLUTIONS", "1")
    exercise.solution()
    assert "locked" in capsys.readouterr().out and not exercise.revealed
    monkeypatch.setenv("COURSE_LOCK_SOLUTIONS", "0")
    exercise.solution()
    assert "alpha_bar.sqrt()" in capsys.readouterr().out


@pytest.mark.parametrize("letter", broken_steps.CHANGES)
def test_each_broken_loop_differs_in_one_line(letter):
    sound = inspect.getsource(broken_steps.training_step).splitlines()
    broken = broken_steps.source(letter).splitlines()
    assert len({*sound} ^ {*broken}) == (1 if letter == "C" else 2)
    assert callable(broken_steps.broken_step(letter))


def test_the_broken_steps_pictures_are_ten_for_each_and_for_the_right_one():
    pictures = broken_steps.pictures()
    assert pictures.shape == (60, 1, 16, 16) and 0 <= pictures.min() < 0.1 and 0.9 < pictures.max() <= 1
    assert [*broken_steps.losses()] == ["A", "B", "C", "D", "E", "no bug"]
