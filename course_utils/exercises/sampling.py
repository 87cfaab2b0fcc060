"""The exercises of notebook 3 on sampling: from a prediction to a picture."""

import inspect
from types import GeneratorType

import torch
from torch import nn

from course_utils import minimal
from course_utils.exercises.comparing import in_words, tensor_difference
from course_utils.exercises.exercise import FunctionExercise, Mistake, ProbedExercise


def draw_prediction(generator, trial):
    """Arguments for `predicted_x0`: a few pictures, and a timestep that is neither first nor last."""
    x, prediction = (torch.randn(2 + trial % 3, 1, 5, 8, generator=generator) for _ in range(2))
    alpha_bar = minimal.cosine_alphas_cumprod(100)[int(torch.randint(5, 95, (), generator=generator))]
    return x, prediction, alpha_bar, ("epsilon", "v_prediction")[trial % 2]


def from_noise(x, prediction, alpha_bar):
    return minimal.predicted_x0(x, prediction, alpha_bar, "epsilon")


def from_velocity(x, prediction, alpha_bar):
    return minimal.predicted_x0(x, prediction, alpha_bar, "v_prediction")


def only_for(prediction_type, function):
    """A mistake in one of the two cases, and the other one right."""
    return lambda x, p, a, kind: function(x, p, a) if kind == prediction_type else minimal.predicted_x0(x, p, a, kind)


predicted_x0 = FunctionExercise(
    name="predicted_x0",
    solution_text=inspect.getsource(minimal.predicted_x0),
    praise="At t = 999 the first formula divides by 0.00005, and the second one does not divide at all.",
    hints=(
        "Noise: start from x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise, and solve it for x_0.",
        "Velocity: v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x_0. Multiply x_t by sqrt(alpha_bar) and v by "
        "sqrt(1 - alpha_bar), and subtract.",
        "Noise: `(x - ... * prediction) / ...`; velocity: `... * x - ... * prediction`; the dots are the same two roots.",
    ),
    draw_arguments=draw_prediction,
    mistakes=(
        Mistake(lambda x, p, a, kind: from_noise(x, p, a), "The velocity needs a formula of its own."),
        Mistake(lambda x, p, a, kind: from_velocity(x, p, a), "The noise needs a formula of its own."),
        Mistake(
            only_for("epsilon", lambda x, p, a: x - (1 - a).sqrt() * p),
            "Noise: what is left is sqrt(alpha_bar) times the picture, not the picture.",
        ),
        Mistake(only_for("epsilon", lambda x, p, a: (x - (1 - a) * p) / a), "Noise: the two square roots are missing."),
        Mistake(
            only_for("epsilon", lambda x, p, a: (x - a.sqrt() * p) / (1 - a).sqrt()), "Noise: the factors are swapped."
        ),
        Mistake(only_for("epsilon", lambda x, p, a: x - p), "Noise: the two factors are missing."),
        Mistake(
            only_for("epsilon", lambda x, p, a: (x + (1 - a).sqrt() * p) / a.sqrt()),
            "Noise: subtract it, do not add it.",
        ),
        Mistake(
            only_for("v_prediction", lambda x, p, a: a.sqrt() * x + (1 - a).sqrt() * p),
            "Velocity: the sign between the two parts is wrong.",
        ),
        Mistake(
            only_for("v_prediction", lambda x, p, a: (1 - a).sqrt() * x - a.sqrt() * p),
            "Velocity: the factors are swapped.",
        ),
        Mistake(
            only_for("v_prediction", lambda x, p, a: (1 - a).sqrt() * x + a.sqrt() * p),
            "Velocity: that is the noise, and not the picture.",
        ),
        Mistake(
            only_for("v_prediction", lambda x, p, a: a * x - (1 - a) * p), "Velocity: the two square roots are missing."
        ),
    ),
)


def draw_step(generator, trial):
    """Arguments for `ddim_step`: a noisy picture, a believed one, and the levels of two timesteps of the schedule."""
    x, x0 = (torch.randn(2, 1, 4 + trial, 5, generator=generator) for _ in range(2))
    later, earlier = sorted(torch.randperm(90, generator=generator)[:2].tolist(), reverse=True)
    alphas_cumprod = torch.cat((minimal.cosine_alphas_cumprod(100), torch.ones(1)))
    return x, x0, alphas_cumprod[later], alphas_cumprod[-1 if trial == 5 else earlier]


ddim_step = FunctionExercise(
    name="ddim_step",
    solution_text=inspect.getsource(minimal.ddim_step),
    praise="No chance in it: the same noise always leads to the same picture.",
    hints=(
        "Two lines: which noise is in x, if x0 is the picture? And then `add_noise` with the earlier timestep's factors.",
        "The noise: `(x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()`.",
        "The result: x0 and that noise, with the two square roots of `previous_alpha_bar` and `1 - previous_alpha_bar`.",
    ),
    draw_arguments=draw_step,
    mistakes=(
        Mistake(lambda x, x0, a, p: x0, "That jumps to the believed picture: go back only to the earlier timestep."),
        Mistake(lambda x, x0, a, p: x, "That stays where it is."),
        Mistake(
            lambda x, x0, a, p: p.sqrt() * x0 + (1 - p).sqrt() * (x - x0),
            "`x - x0` is not the noise: both parts of x have a factor.",
        ),
        Mistake(
            lambda x, x0, a, p: p.sqrt() * x0 + (1 - p).sqrt() * x, "x is not the noise: take the picture's part away."
        ),
        Mistake(
            lambda x, x0, a, p: p.sqrt() * x0 + (1 - p).sqrt() * (x - a.sqrt() * x0),
            "The noise still has its factor: divide by it.",
        ),
        Mistake(
            lambda x, x0, a, p: minimal.ddim_step(x, x0, p, a),
            "The two levels are swapped: you have gone to more noise.",
        ),
        Mistake(
            lambda x, x0, a, p: p * x0 + (1 - p) * (x - a.sqrt() * x0) / (1 - a).sqrt(),
            "The square roots of the earlier timestep's factors are missing.",
        ),
        Mistake(
            lambda x, x0, a, p: p.sqrt() * x0 + (1 - p).sqrt() * (x - a * x0) / (1 - a),
            "The square roots in the formula of the noise are missing.",
        ),
    ),
)


def draw_random_step(generator, trial):
    """Arguments for `ddpm_step`: as for `ddim_step`, of neighbouring timesteps, and fresh noise."""
    x, x0, noise = (torch.randn(2, 1, 4 + trial, 5, generator=generator) for _ in range(3))
    alphas_cumprod = torch.cat((minimal.cosine_alphas_cumprod(100), torch.ones(1)))
    t = 0 if trial == 5 else int(torch.randint(1, 95, (), generator=generator))
    return x, x0, alphas_cumprod[t], alphas_cumprod[t - 1], noise


def ddpm_mean(x, x0, a, p):
    return minimal.ddpm_step(x, x0, a, p, torch.zeros_like(x))


def ddpm_variance(a, p):
    return (1 - p) / (1 - a) * (1 - a / p)


ddpm_step = FunctionExercise(
    name="ddpm_step",
    solution_text=inspect.getsource(minimal.ddpm_step),
    praise="This is `DDPMScheduler.step`, with which the example draws.",
    hints=(
        "First alpha and beta of this one step: `alpha = alpha_bar / previous_alpha_bar`, `beta = 1 - alpha`.",
        "The mean is a sum of two parts: x0 and x, each with the factor that stands in the question.",
        "The variance is the last formula of the question; noise is multiplied by its square root.",
    ),
    draw_arguments=draw_random_step,
    mistakes=(
        Mistake(lambda x, x0, a, p, e: ddpm_mean(x, x0, a, p), "That is the mean: the fresh noise is missing."),
        Mistake(
            lambda x, x0, a, p, e: ddpm_mean(x, x0, a, p) + ddpm_variance(a, p) * e,
            "The noise is multiplied by the variance, wanted its square root.",
        ),
        Mistake(lambda x, x0, a, p, e: ddpm_mean(x, x0, a, p) + e, "The noise has no factor."),
        Mistake(
            lambda x, x0, a, p, e: ddpm_mean(x, x0, a, p) + (1 - a / p).sqrt() * e,
            "The noise is multiplied by the square root of beta: the variance of this step is smaller.",
        ),
        Mistake(lambda x, x0, a, p, e: minimal.ddpm_step(x0, x, a, p, e), "x and x0 are swapped."),
        Mistake(
            lambda x, x0, a, p, e: minimal.ddim_step(x, x0, a, p), "That is DDIM's step, which adds no fresh noise."
        ),
    ),
)


class TwoAnswers(nn.Module):
    """In the place of a network: answers by label and timestep, also for "no class", which is label 10."""

    null_label = 10

    def forward(self, x, t, labels):
        return x.sin() + labels.view(-1, 1, 1, 1) * 0.3 + torch.as_tensor(t) * 0.01


def draw_guidance(generator, trial):
    """Arguments for `guided`."""
    x = torch.randn(2 + trial % 3, 1, 4, 6, generator=generator)
    labels = torch.randint(10, (len(x),), generator=generator)
    return TwoAnswers(), x, torch.tensor(100 * trial + 7), labels, (2.0, 1.0, 3.5, 0.0, 1.5, 7.0, 2.0, 4.0)[trial]


def both_answers(model, x, t, labels):
    """Without and with the class."""
    return model(x, t, torch.full_like(labels, model.null_label)), model(x, t, labels)


def mixture(combine):
    """A way to combine both answers, as a mistake's function."""
    return lambda model, x, t, labels, scale: combine(*both_answers(model, x, t, labels), scale)


guided = FunctionExercise(
    name="guided",
    solution_text=inspect.getsource(minimal.guided),
    praise="With both halves in one batch the network is called once; with a scale of 1 the second half is not needed.",
    hints=(
        "Ask the network twice: with `labels`, and with `torch.full_like(labels, model.null_label)`.",
        "The difference `cond - uncond` is the direction towards the class. The scale says how far to go.",
        "Start at `uncond`, and add `guidance_scale` times the difference.",
    ),
    draw_arguments=draw_guidance,
    mistakes=(
        Mistake(mixture(lambda none, cond, s: cond), "That is the prediction for the class: the scale plays no part."),
        Mistake(mixture(lambda none, cond, s: none), 'That is the prediction for "no class".'),
        Mistake(
            mixture(lambda none, cond, s: cond + s * (cond - none)),
            "With a scale of 1 guidance is off: it must give the prediction for the class.",
        ),
        Mistake(
            mixture(lambda none, cond, s: cond + s * (none - cond)),
            'It goes the wrong way: a larger scale must lead away from "no class".',
        ),
        Mistake(mixture(lambda none, cond, s: s * (cond - none)), "That is only the way to go, without the start."),
        Mistake(mixture(lambda none, cond, s: s * cond), "The scale multiplies the difference of the two predictions."),
    ),
)


class Drawer(nn.Module):
    """In the place of a network: small, quick, and sensitive to noise, timestep and label."""

    null_label = 10

    def forward(self, x, t, labels):
        return 0.6 * x.cos() - 0.1 * labels.view(-1, 1, 1, 1) + torch.as_tensor(t) * 0.0005


SAMPLE_CALLS = ((4, 1.0, "v_prediction"), (7, 2.0, "v_prediction"), (5, 1.0, "epsilon"), (1, 3.0, "v_prediction"))


def find_fault_of_sample(sample):
    """What is wrong with a learner's sampling loop, in a sentence; "" where nothing is."""
    model, labels = Drawer(), torch.tensor([3, 0, 9])
    for steps, scale, prediction_type in SAMPLE_CALLS:
        arguments = model, labels, steps, scale
        found = sample(*arguments, torch.Generator().manual_seed(5), prediction_type)
        if found is ...:
            return ...
        if not isinstance(found, GeneratorType):
            return f"It returned {in_words(found)}, wanted the pictures after each step: `yield x` inside the loop."
        pictures = [*found]
        if pictures[:1] == [...]:
            return ...
        wanted = [*minimal.sample(*arguments, torch.Generator().manual_seed(5), prediction_type)]
        fault = fault_of_pictures(pictures, wanted, f"With {steps} steps, guidance {scale} and {prediction_type!r}")
        if fault:
            return fault
    return ""


def fault_of_pictures(pictures: list, wanted: list, called: str) -> str:
    """Where a learner's pictures leave the right way, step by step."""
    if len(pictures) != len(wanted):
        return f"{called} it yields {len(pictures)} times, wanted once after each of {len(wanted)} steps."
    for number, (found, right) in enumerate(zip(pictures, wanted)):
        fault = tensor_difference(found, right)
        if fault:
            where = "already after the first step" if number == 0 else f"from step {number + 1} on"
            clamped = "is `x0` clamped to [-1, 1], and does each step go to the next timestep of the list?"
            return f"{called} the pictures are not right {where}: {fault}. Check: {clamped}"
    return ""


sample_loop = ProbedExercise(
    name="sample",
    solution_text=inspect.getsource(minimal.sample),
    praise="From noise to a digit in a dozen lines, all of them yours.",
    hints=(
        "In the loop, for each t and the next timestep `previous`: predict with `guided`; compute x0; take a step; yield.",
        "`x0 = predicted_x0(x, prediction, alphas_cumprod[t], prediction_type).clamp(-1, 1)`: a picture's range.",
        "`x = ddim_step(x, x0, alphas_cumprod[t], alphas_cumprod[previous])`; with previous = -1 that is the 1 at the end.",
    ),
    find_fault=find_fault_of_sample,
)
