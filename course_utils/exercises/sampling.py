"""The exercises of notebook 3 on sampling: from a prediction to a picture."""

import inspect
from itertools import islice

import torch
from torch import nn

from course_utils import minimal
from course_utils.exercises.comparing import in_words, is_plain_tensor, tensor_difference
from course_utils.exercises.exercise import FunctionExercise, Mistake, ProbedExercise


def draw_prediction(generator, trial):
    """Arguments for `predicted_x0`: a few pictures, and a timestep that is neither first nor last."""
    x, prediction = (torch.randn(2 + trial % 3, 1, 5, 8, generator=generator) for _ in range(2))
    alpha_bar = minimal.cosine_alphas_cumprod(100)[int(torch.randint(5, 95, (), generator=generator))]
    return x, prediction, alpha_bar, ("epsilon", "v_prediction")[trial % 2]


def from_noise(x, prediction, alpha_bar, kind="epsilon"):
    return minimal.predicted_x0(x, prediction, alpha_bar, "epsilon")


def from_velocity(x, prediction, alpha_bar, kind="v_prediction"):
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
            only_for("epsilon", lambda x, p, a: x - (1 - a).sqrt() * p / a.sqrt()),
            "Noise: the division belongs to the whole difference.",
        ),
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
            lambda x, x0, a, p: p.sqrt() * x0 + (1 - p) * (x - a.sqrt() * x0) / (1 - a).sqrt(),
            "The square root of the noise's factor is missing.",
        ),
        Mistake(
            lambda x, x0, a, p: (1 - p).sqrt() * x0 + p.sqrt() * (x - a.sqrt() * x0) / (1 - a).sqrt(),
            "The factors of picture and noise are swapped.",
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
            lambda x, x0, a, p, e: (
                (p.sqrt() * (1 - a / p) * x0 + a / p * (1 - p) * x) / (1 - a) + ddpm_variance(a, p).sqrt() * e
            ),
            "The square root of alpha is missing in the mean.",
        ),
        Mistake(
            lambda x, x0, a, p, e: (
                (a.sqrt() * (1 - a / p) * x0 + (a / p).sqrt() * (1 - p) * x) / (1 - a) + ddpm_variance(a, p).sqrt() * e
            ),
            "The factor of `x0` holds `alpha_bar`, wanted `previous_alpha_bar`.",
        ),
        Mistake(
            lambda x, x0, a, p, e: minimal.ddim_step(x, x0, a, p), "That is DDIM's step, which adds no fresh noise."
        ),
    ),
)


class Network(nn.Module):
    """In the place of a network: small, quick, and sensitive to picture, timestep and label."""

    def __init__(self, null_label: int = 10):
        super().__init__()
        self.null_label = null_label

    def forward(self, x, t, labels):
        if labels.shape != x.shape[:1]:
            given = f"pictures {tuple(x.shape)} and labels {tuple(labels.shape)}"
            raise ValueError(f"the network is given {given}, wanted one label for each picture")
        told = (torch.arange(12) * 0.1)[labels].view(-1, 1, 1, 1)  # whole numbers only, as with a table of vectors
        return 0.6 * x.cos() - told + torch.as_tensor(t).view(-1, 1, 1, 1) * 0.0005


def draw_guidance(generator, trial):
    """Arguments for `guided`; the timestep is a number, or a tensor of one."""
    x, network = torch.randn(2 + trial % 3, 1, 4, 6, generator=generator), Network((10, 7)[trial % 2])
    labels = torch.randint(network.null_label, (len(x),), generator=generator)
    t = 100 * trial + 7
    scale = (2.0, 1.0, 3.5, 0.0, 1.5, 7.0, 2.0, 4.0)[trial]
    return network, x, t if trial % 2 else torch.tensor(t), labels, scale


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
        Mistake(
            lambda model, x, t, labels, s: (1 - s) * model(x, t, torch.full_like(labels, 10)) + s * model(x, t, labels),
            'The label of "no class" is not 10 for every network: it is `model.null_label`.',
        ),
    ),
)


PARTS = {
    "noise": torch.randn,
    "earlier": lambda timesteps: [*timesteps[1:], -1],
    "predict": minimal.guided,
    "believe": minimal.predicted_x0,
    "limit": lambda x0: x0.clamp(-1, 1),
    "step": minimal.ddim_step,
}


def loop_with(**wrong):
    """A sampling loop in which some of the parts are wrong."""
    noise, earlier, predict, believe, limit, step = (PARTS | wrong).values()

    def sample(model, labels, num_inference_steps, guidance_scale, generator, prediction_type):
        levels = torch.cat((minimal.cosine_alphas_cumprod(), torch.ones(1)))
        timesteps = [round(1000 - i * 1000 / num_inference_steps) - 1 for i in range(num_inference_steps)]
        x = noise((len(labels), 1, 28, 28), generator=generator)
        for t, previous in zip(timesteps, earlier(timesteps)):
            x0 = limit(believe(x, predict(model, x, t, labels, guidance_scale), levels[t], prediction_type))
            x = step(x, x0, levels[t], levels[previous])
            yield x

    return sample


SAMPLE_MISTAKES = (
    Mistake(loop_with(limit=lambda x0: x0), "`x0` is not limited: it must be clamped to [-1, 1]."),
    Mistake(loop_with(limit=lambda x0: x0.clamp(0, 1)), "`x0` is limited to [0, 1], wanted [-1, 1]."),
    Mistake(
        loop_with(earlier=lambda timesteps: [t - 1 for t in timesteps]),
        "Each step goes to t - 1, wanted the next timestep of the list.",
    ),
    Mistake(
        loop_with(earlier=lambda timesteps: [*timesteps[1:], 0]),
        "The last step goes to timestep 0, wanted all picture.",
    ),
    Mistake(loop_with(earlier=lambda timesteps: timesteps), "Each step stays at its own timestep."),
    Mistake(
        loop_with(noise=torch.rand), "The start is not standard normal noise: `torch.rand` gives numbers from 0 to 1."
    ),
    Mistake(
        loop_with(predict=lambda model, x, t, labels, scale: model(x, t, labels)), "The guidance scale plays no part."
    ),
    Mistake(loop_with(believe=from_noise), "The prediction type plays no part: all is read as noise."),
    Mistake(loop_with(believe=from_velocity), "The prediction type plays no part: all is read as a velocity."),
    Mistake(loop_with(step=lambda x, x0, a, p: x0), "Each step jumps to the believed picture."),
    Mistake(
        loop_with(step=lambda x, x0, a, p: minimal.ddim_step(x, x0, p, a)), "The two levels of `ddim_step` are swapped."
    ),
    Mistake(
        loop_with(step=lambda x, x0, a, p: minimal.ddim_step(x0, x, a, p)), "`x` and `x0` of `ddim_step` are swapped."
    ),
    Mistake(
        lambda *arguments: minimal.sample(*arguments, sampler="ddpm"), "That is a step of DDPM, wanted one of DDIM."
    ),
)
SAMPLE_CALLS = (  # labels, steps, guidance scale, prediction type
    ((3, 0, 9), 4, 1.0, "v_prediction"),
    ((7, 2), 7, 2.0, "v_prediction"),
    ((1, 4, 4, 5), 5, 1.0, "epsilon"),
    ((8,), 1, 3.0, "v_prediction"),
)


def find_fault_of_sample(sample):
    """What is wrong with a learner's sampling loop, in a sentence; "" where nothing is."""
    for labels, *others in SAMPLE_CALLS:
        fault = fault_of_sampling(sample, torch.tensor(labels), *others)
        if fault:
            return fault
    return ""


def fault_of_sampling(sample, labels, steps, scale, prediction_type):
    """As `find_fault_of_sample`, for one call."""

    def run(loop, labels=labels):
        return loop(Network(), labels, steps, scale, torch.Generator().manual_seed(5), prediction_type)

    handed_in = labels.clone()
    found = run(sample, handed_in)
    if found is ...:
        return ...
    if type(found) in (list, tuple, dict, str) or is_plain_tensor(found) or not hasattr(type(found), "__iter__"):
        return f"It returned {in_words(found)}, wanted the pictures after each step: `yield x` inside the loop."
    kept = []
    pictures = [copy_of(one, kept) for one in islice(found, steps + 1)]
    if pictures and pictures[0] is ...:
        return ...
    if not torch.equal(labels, handed_in):
        return "The loop changes its argument `labels`: the caller's labels must stay as they are."
    fault = fault_of_pictures(pictures, [*run(minimal.sample)])
    if "values are not" in fault:
        fault += known_fault(pictures, run) or what_to_check(pictures, [*islice(run(sample), steps + 1)])
    if fault:
        return f"With {steps} steps, guidance {scale} and {prediction_type!r} {fault}"
    return "" if agree(kept, pictures) else "Each picture is right at first, but a later step changes it in place."


def copy_of(picture, kept: list):
    """A picture as it is at this moment, where it is one; the thing itself is added to `kept`."""
    kept.append(picture)
    return picture.clone() if is_plain_tensor(picture) else picture


def agree(found: list, wanted: list) -> bool:
    """Whether two runs of a loop gave the same."""
    return len(found) == len(wanted) and all(
        is_plain_tensor(right) and not tensor_difference(one, right) for one, right in zip(found, wanted)
    )


def known_fault(pictures: list, run) -> str:
    """What is said of the first known mistake that leads to the same pictures, or nothing."""
    for mistake in SAMPLE_MISTAKES:
        if agree(pictures, [*run(mistake.answer)]):
            return f" {mistake.says}"
    return ""


def what_to_check(pictures: list, again: list) -> str:
    """What is said where no mistake is known, of two runs with the same seed."""
    if not agree(pictures, again):
        return " The same seed gives other pictures: draw the noise with `generator=generator`, and only once."
    return (
        " Check: is `x` at first noise from the generator, do `guided`, `predicted_x0` and `ddim_step` get their "
        "arguments in the right order, is `x0` clamped, and does each step go to the next timestep of the list?"
    )


def fault_of_pictures(pictures: list, wanted: list) -> str:
    """Where a learner's pictures leave the right way, step by step."""
    if len(pictures) != len(wanted):
        found = "too many pictures" if len(pictures) > len(wanted) else f"too few pictures, {len(pictures)}"
        return f"it yields {found}: wanted one after each step."
    for number, (found, right) in enumerate(zip(pictures, wanted)):
        fault = tensor_difference(found, right).replace("it returned", "it yielded")
        if fault:
            where = "already after the first step" if number == 0 else f"from step {number + 1} on"
            return f"the pictures are not right {where}: {fault}."
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
    parameters="model, labels, num_inference_steps, guidance_scale, generator, prediction_type",
    find_fault=find_fault_of_sample,
    tried_with=" with one to four labels and one to seven steps",
    mistakes=SAMPLE_MISTAKES,
)
