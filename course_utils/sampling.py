"""From noise to pictures: noise schedulers, and the loop that takes the noise away."""

import copy
from contextlib import contextmanager

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from tqdm import tqdm

from course_utils.model import check_class_labels
from course_utils.validation import check_whole_number, is_number, quoted

COSINE_SCHEDULE = dict(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
# "trailing" starts at the noisiest timestep however few the steps; thresholding is these solvers' way to clip.
SCHEDULERS = {
    "ddpm": (DDPMScheduler, {}),
    "ddim": (DDIMScheduler, dict(timestep_spacing="trailing")),
    "dpmsolver++": (DPMSolverMultistepScheduler, dict(timestep_spacing="trailing", thresholding=True)),
    "unipc": (UniPCMultistepScheduler, dict(timestep_spacing="trailing", thresholding=True)),
}
LARGEST_BATCH = 100_000
CPU_BATCH, GPU_BATCH = 64, 500  # on a CPU larger batches fall out of its cache and take longer a picture


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
    return scheduler_class(**COSINE_SCHEDULE, **options, prediction_type=prediction_type)


def sample(
    model,
    noise_scheduler,
    class_labels,
    num_inference_steps: int,
    guidance_scale: float = 1.0,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    callback=None,
    progress: bool = False,
    guidance_start: float = 0.0,
) -> torch.Tensor:
    """Draw one picture for each label, starting from pure noise.

    Each picture has noise of its own, so it comes out the same alone as in a batch, whatever its place in it.

    Args:
        model: a `ClassConditionedUnet`; left in the mode (train or eval) it was in.
        noise_scheduler: any scheduler of `make_scheduler`; a copy is used, it is left as it was.
        class_labels: N labels.
        num_inference_steps: network evaluations a picture, 1 .. num_train_timesteps.
        guidance_scale: classifier-free guidance (arXiv:2207.12598) as diffusers counts it: 1 is off, more follows
            the label more closely, `uncond + scale * (cond - uncond)`.
        generator: source of the noise; the same state gives the same pictures. None uses torch's global one.
        batch_size: pictures drawn at a time; memory grows with this, not with N. Default: 64 on a CPU, 500 elsewhere.
        callback: called as `callback(step, pictures)` after each step of each batch, with pictures (B, 1, 28, 28).
        progress: show a progress bar.
        guidance_start: share of the steps before guidance sets in, 0 .. 1: the first steps choose among the pictures
            of a class, and guided they all choose the plainest (arXiv:2404.07724).

    Returns:
        float32 (N, 1, 28, 28) in [-1, 1], on the CPU; of another size, where the model's `sample_size` is another.

    Raises:
        ValueError: for bad labels, steps, guidance, generator or batch size.
        FloatingPointError: if the network's numbers are no longer finite.
    """
    labels = check_class_labels(class_labels, model.config.num_classes)
    batch_size = (CPU_BATCH if model.device.type == "cpu" else GPU_BATCH) if batch_size is None else batch_size
    check_sampling(noise_scheduler, num_inference_steps, guidance_scale, guidance_start, batch_size)
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError(f"generator is {quoted(generator)}, expected a torch.Generator, or None for the global one.")
    if guidance_scale != 1:
        _ = model.null_label  # says so now, in one sentence, if the network knows no "no class"
    seeds = torch.randint(2**62, (len(labels),), generator=generator, device=generator.device if generator else None)
    scales = [1.0 if i < guidance_start * num_inference_steps else guidance_scale for i in range(num_inference_steps)]
    pictures = []
    with torch.inference_mode(), evaluating(model):
        for batch, batch_seeds in zip(labels.split(batch_size), seeds.split(batch_size)):
            generators = [torch.Generator().manual_seed(seed) for seed in batch_seeds.tolist()]
            steps = denoise(model, noise_scheduler, batch, scales, generators)
            for step, x in enumerate(tqdm(steps, total=num_inference_steps, disable=not progress, desc="sampling")):
                if callback is not None:
                    callback(step, x)
            pictures.append(x.clamp(-1, 1).float().cpu())
    drawn = torch.cat(pictures).clone()
    if not drawn.isfinite().all():
        raise FloatingPointError(
            "the network drew numbers that are no longer finite: its weights are damaged or its training diverged, so "
            "copy or train them again."
        )
    return drawn


def denoise(model, noise_scheduler, labels, scales, generators):
    """Yield the pictures after each step, guided by its scale: (B, 1, 28, 28) from noise to ink."""
    scheduler = copy.deepcopy(noise_scheduler)  # set_timesteps changes it, and starts it anew
    set_timesteps(scheduler, len(scales))
    options = step_options(scheduler, generators)
    shape = (1, model.config.sample_size, model.config.sample_size)
    x = torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(model.device)
    x = x * scheduler.init_noise_sigma
    labels = labels.to(model.device)
    for t, scale in zip(scheduler.timesteps, scales, strict=True):
        prediction = predict(model, scheduler.scale_model_input(x, t), t, labels, scale)
        x = scheduler.step(prediction, t, x, **options).prev_sample
        yield x


def step_options(scheduler, generators) -> dict:
    """What a kind of scheduler wants to be told at each step, beside the prediction."""
    if isinstance(scheduler, DDPMScheduler):  # the only one here that adds noise while it samples
        return dict(generator=generators)
    if isinstance(scheduler, DDIMScheduler):  # else its noise and its clipped picture do not fit together
        return dict(use_clipped_model_output=True)
    return {}


def set_timesteps(scheduler, num_inference_steps: int):
    """Choose the timesteps to sample at: exactly as many as asked for.

    For some counts, such as 61, diffusers' rounding of "trailing" timesteps adds one too many, at t = -1: drop it.

    Raises:
        ValueError: if the scheduler's spacing does not give so many different timesteps.
    """
    scheduler.set_timesteps(num_inference_steps)
    scheduler.timesteps = scheduler.timesteps[:num_inference_steps]
    if hasattr(scheduler, "sigmas"):  # the solvers' noise levels: one a timestep, and the last one, without noise
        scheduler.sigmas = torch.cat((scheduler.sigmas[:num_inference_steps], scheduler.sigmas[-1:]))
    if len(scheduler.timesteps.unique()) < num_inference_steps:
        spacing = scheduler.config.timestep_spacing
        raise ValueError(
            f"there are no {num_inference_steps} different timesteps with {spacing!r} spacing: take fewer."
        )


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


def check_sampling(noise_scheduler, num_inference_steps, guidance_scale, guidance_start=0.0, batch_size=1):
    """Refuse impossible sampling settings.

    Raises:
        ValueError: with what was found and what was expected.
    """
    check_whole_number("num_inference_steps", num_inference_steps, 1, noise_scheduler.config.num_train_timesteps)
    if not is_number(guidance_scale) or not 0 <= guidance_scale <= 20:
        raise ValueError(f"guidance_scale is {quoted(guidance_scale)}, expected a number from 0 to 20 (1 is off).")
    if not is_number(guidance_start) or not 0 <= guidance_start <= 1:
        raise ValueError(f"guidance_start is {quoted(guidance_start)}, expected a share of the steps from 0 to 1.")
    check_whole_number("batch_size", batch_size, 1, LARGEST_BATCH)
