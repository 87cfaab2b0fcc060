"""From noise to pictures: noise schedulers, and the loop that takes the noise away."""

import copy
import inspect
import math
from contextlib import contextmanager

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from diffusers.utils.torch_utils import randn_tensor
from tqdm import tqdm

from course_utils.model import check_class_labels
from course_utils.validation import check_number, check_whole_number, quoted

COSINE_SCHEDULE = dict(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
# "trailing" starts at the noisiest timestep however few the steps; thresholding is these solvers' way to clip.
SCHEDULERS = {
    "ddpm": (DDPMScheduler, {}),
    "ddim": (DDIMScheduler, dict(timestep_spacing="trailing")),
    "dpmsolver++": (DPMSolverMultistepScheduler, dict(timestep_spacing="trailing", thresholding=True)),
    "unipc": (UniPCMultistepScheduler, dict(timestep_spacing="trailing", thresholding=True)),
}
LARGEST_BATCH = 100_000
CPU_BATCH, GPU_BATCH = 64, 500  # on a CPU larger batches fall out of its cache and take longer per picture


def make_scheduler(name: str = "ddpm", prediction_type: str = "epsilon"):
    """A diffusers noise scheduler with 1000 training steps and the cosine schedule.

    Args:
        name: "ddpm" trains, and samples as the Hugging Face example does; "ddim", "dpmsolver++" and "unipc" sample
            in few steps (arXiv:2010.02502, 2211.01095, 2302.04867).
        prediction_type: what the network predicts: "epsilon" (the noise) or "v_prediction" (the velocity,
            arXiv:2202.00512). Must be the same in training and sampling.

    Raises:
        ValueError: for an unknown name or prediction type.
    """
    if not isinstance(name, str) or name not in SCHEDULERS:
        raise ValueError(f"unknown scheduler {quoted(name)}: expected one of {', '.join(map(repr, SCHEDULERS))}.")
    if prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(f"unknown prediction_type {quoted(prediction_type)}: expected 'epsilon' or 'v_prediction'.")
    scheduler_class, options = SCHEDULERS[name]
    with torch.device("cpu"):  # where the solvers compute, whatever the default device
        return scheduler_class(**COSINE_SCHEDULE, **options, prediction_type=prediction_type)


def sample(
    model,
    noise_scheduler,
    class_labels,
    num_inference_steps: int,
    guidance_scale: float = 1.0,
    generator: torch.Generator | list[torch.Generator] | None = None,
    batch_size: int | None = None,
    callback=None,
    progress: bool = False,
    guidance_start: float = 0.0,
) -> torch.Tensor:
    """Draw one picture for each label, starting from pure noise.

    Args:
        model: a `ClassConditionedUnet` on any device, in any float dtype; left in the mode (train or eval) it was in.
        noise_scheduler: any scheduler of `make_scheduler`; a copy is used, it is left as it was.
        class_labels: N labels.
        num_inference_steps: network evaluations per picture, 1 .. num_train_timesteps.
        guidance_scale: classifier-free guidance (arXiv:2207.12598) as diffusers counts it: 1 is off, more follows
            the label more closely, 0 does not follow it at all: `uncond + scale * (cond - uncond)`.
        generator: source of the noise, as in diffusers. One `torch.Generator` gives the noise of all N pictures in one
            stream: the same state and the same N give the same noise. A list of N gives each picture a stream of its
            own: it is the same picture alone and in any company, but for the rounding of larger batches (about 1e-5).
            None uses torch's global generator of the model's device.
        batch_size: pictures that the network sees at a time; the result does not depend on it, but for rounding.
            Default: 64 on a CPU, 500 elsewhere.
        callback: called as `callback(step, pictures)` after each step, with all pictures (N, 1, 28, 28).
        progress: show a progress bar.
        guidance_start: share of the steps before guidance sets in, 0 .. 1: the first steps choose among the pictures
            of a class, and guided they all choose the plainest (arXiv:2404.07724). Part of a step counts as a step.

    Returns:
        float32 (N, 1, 28, 28) in [-1, 1], on the CPU; of another size, where the model's `sample_size` is another.

    Raises:
        ValueError: for bad labels, steps, guidance, generators or batch size.
        FloatingPointError: if the network's numbers are no longer finite.
    """
    labels = check_class_labels(class_labels, model.config.num_classes)
    steps, scale, start = check_sampling(noise_scheduler, num_inference_steps, guidance_scale, guidance_start)
    default_batch = CPU_BATCH if model.device.type == "cpu" else GPU_BATCH
    batch_size = check_whole_number("batch_size", default_batch if batch_size is None else batch_size, 1, LARGEST_BATCH)
    generator = check_generators(generator, len(labels))
    if scale != 1:
        _ = model.null_label  # says so now, in one sentence, if the network knows no "no class"
    scales = guidance_scales(steps, scale, start)
    with torch.inference_mode(), evaluating(model):
        drawing = denoise(model, noise_scheduler, labels, scales, generator, batch_size)
        for step, x in enumerate(tqdm(drawing, total=steps, disable=not progress, desc="sampling")):
            if callback is not None:
                callback(step, x)
        drawn = x.clamp(-1, 1).float().cpu()
    if not drawn.isfinite().all():
        raise FloatingPointError(
            f"the network drew numbers that are no longer finite: its weights are damaged, its training diverged, or "
            f"{model.dtype} is too narrow for it, so copy or train them again."
        )
    return drawn.clone()


def denoise(model, noise_scheduler, labels, scales, generator=None, batch_size: int = LARGEST_BATCH, side=None):
    """Yield the pictures after each step, guided by its scale: (N, 1, 28, 28) from noise to ink.

    Args:
        side: of the pictures, in pixels; default: the network's `sample_size`.
        model, noise_scheduler, labels, scales, generator, batch_size: as in `sample`, with a guidance scale for each step.
    """
    solver = make_solver(noise_scheduler, len(scales))
    labels, side = labels.to(model.device), side or model.config.sample_size
    shape = (len(labels), 1, side, side)
    x = randn_tensor(shape, generator, model.device, torch.float32) * solver.init_noise_sigma
    options = step_options(solver, generator)
    for t, scale in zip(solver.timesteps, scales, strict=True):
        # The network may compute in half precision; the solver, which adds up many small steps, does so in float32.
        batches = zip(solver.scale_model_input(x, t).to(model.dtype).split(batch_size), labels.split(batch_size))
        prediction = torch.cat([predict(model, part, t, its_labels, scale) for part, its_labels in batches]).float()
        prediction = prediction.masked_fill(~prediction.isfinite(), math.nan)  # infinity would be clipped to ink
        with torch.device("cpu"):  # of the solver's own numbers, whatever the default device
            x = solver.step(prediction, t, x, **options).prev_sample
        yield x


def step_options(solver, generator) -> dict:
    """What a kind of scheduler wants to be told at each step, beside the prediction."""
    if isinstance(solver, DDPMScheduler):  # the only one here that adds noise while it samples
        return dict(generator=generator)
    if isinstance(solver, DDIMScheduler):  # else its noise and its clipped picture do not fit together
        return dict(use_clipped_model_output=True)
    return {}


def make_solver(noise_scheduler, num_inference_steps: int):
    """A copy of a scheduler, started anew, that takes exactly so many steps, each to the next timestep of its list.

    diffusers' DDIM steps from t to t - 1000 // steps, which is another timestep than the next where the steps do not
    divide 1000. There DPM-Solver++ of the first order, which is the same sampler (arXiv:2211.01095, section 4), takes its
    place.

    Raises:
        ValueError: if the scheduler's spacing does not give so many different timesteps.
    """
    solver = copy.deepcopy(noise_scheduler)  # set_timesteps changes it
    timesteps = spaced_timesteps(solver, num_inference_steps)
    if isinstance(solver, DDIMScheduler) and solver.config.num_train_timesteps % num_inference_steps:
        solver = first_order_solver(solver)
    if "timesteps" in inspect.signature(solver.set_timesteps).parameters:
        solver.set_timesteps(timesteps=timesteps)
    return solver


def first_order_solver(ddim: DDIMScheduler) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ of the first order with a DDIM scheduler's noise and clipping."""
    dynamic = ddim.config.thresholding
    with torch.device("cpu"):
        return DPMSolverMultistepScheduler(
            ddim.config.num_train_timesteps,
            trained_betas=ddim.betas.tolist(),
            prediction_type=ddim.config.prediction_type,
            solver_order=1,
            thresholding=dynamic or ddim.config.clip_sample,
            dynamic_thresholding_ratio=ddim.config.dynamic_thresholding_ratio,
            sample_max_value=ddim.config.sample_max_value if dynamic else 1.0,
            final_sigmas_type="zero" if ddim.config.set_alpha_to_one else "sigma_min",
        )


def spaced_timesteps(scheduler, num_inference_steps: int) -> list[int]:
    """Set a scheduler's timesteps, exactly as many as asked for.

    Raises:
        ValueError: if its spacing does not give so many different ones.
    """
    scheduler.set_timesteps(num_inference_steps)
    if len(scheduler.timesteps) > num_inference_steps:
        # For some counts, such as 61, the rounding of "trailing" timesteps adds one too many, at t = -1.
        scheduler.set_timesteps(num_inference_steps - 1e-9)
    timesteps = scheduler.timesteps.tolist()
    if len(set(timesteps)) < num_inference_steps:
        spacing = scheduler.config.timestep_spacing
        raise ValueError(
            f"there are no {num_inference_steps} different timesteps with {spacing!r} spacing: take fewer."
        )
    return timesteps


def guidance_scales(num_inference_steps: int, guidance_scale: float, guidance_start: float) -> list[float]:
    """The guidance scale of each step: 1, which is off, in the share of the steps before guidance sets in."""
    # The product's own rounding counts for nothing: 0.14 * 50 is 7.000000000000001.
    unguided = math.ceil(round(guidance_start * num_inference_steps, 6))
    return [1.0] * unguided + [guidance_scale] * (num_inference_steps - unguided)


def predict(model, x, t, labels, guidance_scale):
    """The network's prediction, guided: both halves, with and without the class, in one batch."""
    if guidance_scale == 1:
        return model(x, t, labels)
    both = torch.cat((torch.full_like(labels, model.null_label), labels))
    uncond, cond = model(torch.cat((x, x)), t, both).chunk(2)
    return uncond + guidance_scale * (cond - uncond)


@contextmanager
def evaluating(model):
    """Put the model in eval mode for a while, and back as it was."""
    if not model.training:  # to tell all its modules so takes as long as a tenth of a network evaluation
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


def check_sampling(
    noise_scheduler, num_inference_steps, guidance_scale, guidance_start=0.0
) -> tuple[int, float, float]:
    """Refuse impossible sampling settings.

    Returns:
        Steps, guidance scale and guidance start in Python's own types, whichever library they came from.

    Raises:
        ValueError: with what was found and what was expected.
    """
    most = noise_scheduler.config.num_train_timesteps
    return (
        check_whole_number("num_inference_steps", num_inference_steps, 1, most),
        check_number("guidance_scale", guidance_scale, 0, 20, " (1 is off)"),
        check_number("guidance_start", guidance_start, 0, 1, ", a share of the steps"),
    )


def check_generators(generator, pictures: int):
    """Refuse what is neither a generator, nor one for each picture, nor None; returns it, a tuple as a list.

    Raises:
        ValueError: with what was found and what was expected.
    """
    several = list(generator) if isinstance(generator, (list, tuple)) else []
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    if not several or not all(isinstance(each, torch.Generator) for each in several):
        raise ValueError(
            f"generator is {quoted(generator)}, expected a torch.Generator, a list of them, or None for the global one."
        )
    if len(several) != pictures:
        raise ValueError(
            f"there are {len(several)} generators for {pictures} pictures, expected one for each, or a single one for all."
        )
    return several
