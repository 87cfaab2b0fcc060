# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. From hours to minutes, and a slider that is live
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/class-conditional-diffusion-course/blob/main/notebooks/07_faster.ipynb)
#
# The Hugging Face example trains for hours on a laptop, and then takes a thousand steps for each digit: too slow to train
# along, and far too slow for a slider. Its authors leave making it faster as a project. Here is that project, done, and
# taken apart again: a ladder from their notebook to the slider in notebook 3. Each rung is a cell that you can run, and
# that measures its own multiple on *your* machine.
#
# **You will learn** where the time of a training goes, which changes make it shorter and by how much, where the class
# should enter the network, why few-step sampling wants another prediction than the noise, what guidance does, how many
# steps a picture needs, how a network learns to draw in two, and which famous accelerations do nothing on a laptop.
#
# **You need** notebook [3](03_training_and_sampling.ipynb). **Time**: half an hour to read; it runs for a few minutes
# on a laptop without a GPU.

# %%
import importlib.util, pathlib, subprocess, sys  # Find the course above this notebook, or install it, as on Colab:
sys.path[:0] = [str(p) for p in pathlib.Path("_").absolute().parents if (p / "course_utils/__init__.py").is_file()]
if not importlib.util.find_spec("course_utils"): subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "https://github.com/OWNER/class-conditional-diffusion-course/archive/HEAD.zip"])

# %%
import time

from course_utils.pipeline import ClassConditionedPipeline
from course_utils.plotting import image_grid

tuned_pipe = ClassConditionedPipeline.from_pretrained("mnist")
start = time.perf_counter()
digits = tuned_pipe(list(range(10)), output_type="pt").images
milliseconds = 1000 * (time.perf_counter() - start)
image_grid(digits, 10, title=f"Ten digits in {milliseconds:.0f} ms: where the ladder ends")

# %%
from course_utils.settings import course_settings

settings = course_settings()  # presets: smoke, laptop, full; the environment variable COURSE_PRESET chooses
settings

# %% [markdown]
# # The first ladder: training
#
# A training costs *images seen* x *seconds an image*. Both can be made smaller. We start with what the example costs:
# ten epochs of 60,000 images. A few of its steps are enough to know the seconds.

# %%
from course_utils.data import load_dataset
from course_utils.model import ClassConditionedUnet
from course_utils.plotting import in_time_units
from course_utils.sampling import make_scheduler
from course_utils.training import Trainer, TrainingConfig, seconds_per_step

dataset = load_dataset("mnist")
EXAMPLE_IMAGES, STEP_OF_64 = 10 * 60_000, TrainingConfig(batch_size=64)


def seconds_per_image(network, images=dataset, config=STEP_OF_64, steps=3):
    """Wall-clock seconds of training for each image that it sees."""
    trainer = Trainer(network.to(settings.device).train(), images, make_scheduler("ddpm"), config)
    return seconds_per_step(trainer, steps) / config.batch_size


example = seconds_per_image(ClassConditionedUnet())
print(f"the example: {1000 * example:.1f} ms an image, {in_time_units(EXAMPLE_IMAGES * example)} for ten epochs")

# %% [markdown]
# ## Rung 1: a lighter network
#
# A processor is kept busy by multiplications, and the number of them can be counted. The second column below counts
# them, in millions of floating point operations for one image (notebook 6). The dearest part is not where one would
# look for it: the example has *attention* on images of 14 x 14, where each of 196 places looks at all others, with
# heads of only eight numbers. Those are few multiplications, and awkward ones.

# %%
from course_utils.model import flops_per_image
from course_utils.display import table

networks = {
    "the example": ClassConditionedUnet(),
    "without attention at 14 x 14": ClassConditionedUnet(attention_levels=(2,)),
    "the fast track": ClassConditionedUnet.fast(),
}
per_image = {name: seconds_per_image(network) for name, network in networks.items()}
table(
    [
        {
            "network": name,
            "training, MFLOP an image": flops_per_image(network) / 1e6,
            "training, ms an image": 1000 * per_image[name],
            "times as fast": per_image["the example"] / per_image[name],
        }
        for name, network in networks.items()
    ]
)

# %% [markdown]
# The fast track keeps attention where there are 49 places, halves the width of the top level, where images are
# largest, and has one block a level in place of two.
#
# ## Rung 2: images from memory
#
# MNIST is 47 MB: it fits into memory as one tensor, and a batch is one copy. We compare with PyTorch's `DataLoader` over the
# same tensor. (The example's `DataLoader` reads torchvision's data set, which also makes a picture object of every image:
# `python tests/benchmarks/data.py` measures that.)

# %%
from torch.utils.data import DataLoader


def images_a_second(batches, batch_size=64, count=20):
    """How fast batches come."""
    next(batches)  # warm up
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return count * batch_size / (time.perf_counter() - start)


trainer = Trainer(ClassConditionedUnet.fast(), dataset, make_scheduler("ddpm"), STEP_OF_64)
loader = images_a_second(iter(DataLoader(dataset, 64, shuffle=True)))
tensor = images_a_second(trainer.next_batch() for _ in range(21))
waiting = {name: 1 / speed / per_image["the fast track"] for name, speed in (("DataLoader", loader), ("one tensor", tensor))}
table(
    [
        {"images from": name, "images a second": speed, "share of the fast track's step": f"{waiting[name]:.2%}"}
        for name, speed in (("DataLoader", loader), ("one tensor", tensor))
    ]
)

# %% [markdown]
# A large multiple, and a small gain: look at the last column. On a CPU the network takes nearly all of the time, however
# the images come. Measure the share before you speed up a part.
#
# ## Rung 3: fewer images
#
# The largest rung. How good are the pictures after a *fixed, small* number of images? Seven choices of the fast track
# were made for that. We take them away one at a time, on the exercises' small pictures (notebook 4), because each of these
# trainings has to be short. The excess distance compares with real images that are as small.

# %%
from dataclasses import replace

import torch

from course_utils.evaluation import evaluate, score_cells
from course_utils.recipes import RECIPES, resized

full_recipe = replace(
    RECIPES["small"].with_changes(
        optimizer="muon", learning_rate=2e-3, max_steps=settings.train_images // 80, label_dropout=0.1, num_epochs=100
    ),
    make_model=lambda: ClassConditionedUnet.small(conditioning="time", unconditional=True),
    guidance_scale=1.5,
)
channels = replace(full_recipe, make_model=lambda: ClassConditionedUnet.small(unconditional=True))
variants = {
    "all of it": full_recipe,
    "without guidance": replace(full_recipe.with_changes(label_dropout=0.0), guidance_scale=1.0),
    "class as input channels, not in the time embedding": channels,
    "predicts the noise, not the velocity": replace(full_recipe, prediction_type="epsilon"),
    "AdamW alone, at the learning rate that suits it": full_recipe.with_changes(optimizer="adamw", learning_rate=6e-3),
    "constant learning rate of 1e-3": full_recipe.with_changes(lr_schedule="constant", learning_rate=1e-3),
    "the last weights, not their average": full_recipe.with_changes(ema_decay=None),
    "timesteps drawn one by one": full_recipe.with_changes(stratified_timesteps=False),
}
pipes, rows = {}, []
for name, recipe in variants.items():
    pipes[name], run = recipe.train(dataset, progress=False, device=settings.device)
    scores = evaluate(pipes[name], settings.eval_images, settings.eval_seeds)
    rows.append({"recipe": name} | score_cells(scores))
    print(f"{name}: {run.images_seen:,} images in {run.seconds:.0f} s")
table(rows)

# %% [markdown]
# Compare each row with the first. Each row is *one* training: a small difference may be chance (notebook 4 shows how much
# trainings differ that only have another seed). So this table is a trial. It shows large differences, and says nothing about
# small ones. The [log of trials](../tests/benchmarks/README.md#the-log-of-trials) has more of them.
#
# **Where the class enters.** As extra input channels, the label is seen once, by the first convolution, and whatever
# the network needs of it deeper down has to be handed on from layer to layer. Added to the time embedding, it reaches
# every residual block, and scales and shifts its channels. (Notebook 2 shows one reason more: the example's GroupNorm
# removes what is the same at every pixel of a channel.)
#
# **Noise or velocity.** We come back to it below, where the pictures are drawn.
#
# **Which optimizer.** AdamW scales the gradient of each weight on its own. But a layer's weights form a *matrix*, and the
# matrix of their gradients has singular values: a few are large, and many are small. *Muon*
# ([Jordan et al.](https://kellerjordan.github.io/posts/muon)) replaces the averaged gradients by a matrix with the same
# directions, whose singular values are all about equal: a step goes as far in the small directions as in the large ones. Here
# are the singular values of one layer, 32 of them, before and after:

# %%
import copy

from course_utils.display import show_source
from course_utils.muon import orthogonalized

learner, v_scheduler = copy.deepcopy(pipes["all of it"].unet), make_scheduler("ddpm", "v_prediction")
trainer = Trainer(learner, resized(dataset, 14), v_scheduler, TrainingConfig.fast())
trainer.training_step()
layer = learner.model.mid_block.resnets[0].conv1.weight
gradients = trainer.optimizers["muon"].state[layer]["momentum_buffer"].flatten(1)  # averaged over steps: (32, 288)
rows = []
for name, matrix in (("the averaged gradients", gradients), ("what Muon makes of them", orthogonalized(gradients[None])[0])):
    values = torch.linalg.svdvals(matrix)
    names = {"largest": 0, "8th": 7, "16th": 15, "smallest": -1}
    rows.append({"singular values of": name} | {where: f"{values[at] / values[0]:.3f}" for where, at in names.items()})
table(rows)

# %% [markdown]
# Each is divided by the largest. No singular value has to be computed for that, only a few products of matrices, an odd
# polynomial that is iterated:

# %%
show_source(orthogonalized)

# %% [markdown]
# ## Rung 4: small pictures first
#
# Which digit has which shape can be learned at 16 x 16 pixels: a third of the pixels, and less than half the seconds. The
# network is made of convolutions, so it takes pictures of any size, and the same weights go on to whole pictures, for the
# strokes. The fast track spends most of its steps on small ones. Cheaper steps do not automatically mean that the network
# learns more per second: in the log of trials, as many *seconds* of whole pictures did as well.

# %%
stages, rows = RECIPES["fast"].stages, []
for size, config in stages:
    per_image_now = seconds_per_image(ClassConditionedUnet.fast(), resized(dataset, size), config, steps=15)
    per_step = config.batch_size * per_image_now
    rows.append({"pictures": f"{size} x {size}", "steps": config.max_steps, "ms a step": 1000 * per_step, "seconds": config.max_steps * per_step})
fast_seconds = sum(row["seconds"] for row in rows)
table(rows)

# %% [markdown]
# ## The ladder so far
#
# Multiply: so many images, times the seconds an image that you measured above.

# %%
from course_utils.plotting import ladder

fast_images = sum(config.max_steps * config.batch_size for _, config in stages)
ladder(
    {
        f"the example: {EXAMPLE_IMAGES:,} images": EXAMPLE_IMAGES * per_image["the example"],
        "a lighter network": EXAMPLE_IMAGES * per_image["the fast track"],
        f"{fast_images:,} images": fast_images * per_image["the fast track"],
        "small pictures first": fast_seconds,
    },
    "A training, rung by rung",
)

# %% [markdown]
# This is how long the fast track takes. How good are its digits? You measured them in notebook 3.
# [The benchmarks](../tests/benchmarks/README.md) train it with several seeds, on two processor cores. They also keep the log
# of what was tried on the way there: what we predicted, and what came out.

# %% [markdown]
# # The second ladder: sampling
#
# The network is evaluated once a step, and guidance evaluates it twice. So: a lighter network, fewer steps. The first
# rung is climbed already. How few steps will do depends on what the network predicts, and on who takes the steps.
#
# ## Noise, or velocity?
#
# At the first step of sampling, $t = 999$, there is nothing but noise: $\bar\alpha_{999}$ is about $2 \cdot 10^{-9}$.
# What picture does the network's answer imply there?
#
# - From predicted noise: $\hat x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\hat\epsilon)\,/\,\sqrt{\bar\alpha_t}$. Any error
#   in $\hat\epsilon$ is *divided by* $\sqrt{\bar\alpha_t}$.
# - From predicted velocity: $\hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,\hat v$. Any error in $\hat
#   v$ is multiplied by at most one.
#
# The two networks from rung 3, on real digits with more and more noise:

# %%
from course_utils.data import scale_to_model

real = resized(dataset, 14)
x_0, labels = scale_to_model(real.images[:100]), real.labels[:100]
noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
alphas = make_scheduler("ddpm").alphas_cumprod


@torch.no_grad()
def implied_pictures(pipe, t):
    """What the prediction at timestep t says the pictures are: (N, 1, 14, 14)."""
    kept, added = alphas[t].sqrt(), (1 - alphas[t]).sqrt()
    x_t = kept * x_0 + added * noise
    prediction = pipe.unet(x_t.to(pipe.device), t, labels.to(pipe.device)).cpu()
    if pipe.scheduler.config.prediction_type == "epsilon":
        return (x_t - added * prediction) / kept
    return kept * x_t - added * prediction


by_velocity, by_noise = pipes["all of it"], pipes["predicts the noise, not the velocity"]
table(
    [
        {
            "t": t,
            "an error in the noise is multiplied by": ((1 - alphas[t]) / alphas[t]).sqrt().item(),
            "wrong by, from the noise": (implied_pictures(by_noise, t) - x_0).square().mean().sqrt().item(),
            "wrong by, from the velocity": (implied_pictures(by_velocity, t) - x_0).square().mean().sqrt().item(),
        }
        for t in (100, 300, 500, 700, 900, 999)
    ]
)

# %%
rows = [x_0[:10], implied_pictures(by_noise, 999)[:10], implied_pictures(by_velocity, 999)[:10]]
image_grid(
    torch.cat(rows).clamp(-1, 1) / 2 + 0.5, 10, [str(label) for label in labels[:10].tolist()],
    ["real", "noise", "velocity"], title="What the network says at t = 999, where it sees nothing but noise",
)  # fmt: skip

# %% [markdown]
# "Wrong by" is the root of the mean square, for pixels from -1 to 1. At $t = 999$ even a small error of the predicted noise
# is multiplied by about 20,000: the picture that follows from it says nothing. The velocity's answer is what we should
# expect: the *mean* digit of the class that was asked for, which is all that can be known. With 1000 small steps the
# first one hardly counts; with ten, a wrong first step is a tenth of the way.
#
# ## How many steps, and who takes them?
#
# A sampler follows a curve from noise to picture. *DDIM* goes straight ahead at each step, *DPM-Solver++* and *UniPC* also
# use the step before. Here is each of them, with weights of the fast track's network that have seen fifteen times as many
# images (`mnist-untuned`). Every step is guided, so it takes two network evaluations:

# %%
from course_utils.plotting import quality_by_steps

fast_pipe = ClassConditionedPipeline.from_pretrained("mnist-untuned")
curves = {}
for name in ("ddim", "dpmsolver++", "unipc"):
    sampler = make_scheduler(name, prediction_type="v_prediction")
    pipe = ClassConditionedPipeline(fast_pipe.unet, sampler, "mnist", guidance_scale=fast_pipe.config.guidance_scale)
    curves[name] = {
        steps: evaluate(pipe, settings.eval_images, settings.eval_seeds, num_inference_steps=steps) for steps in (2, 4, 10)
    }
quality_by_steps(curves, f"{settings.eval_seeds} x {settings.eval_images} pictures per point{dataset.note}")

# %% [markdown]
# In the upper picture higher is better; in the lower one lower is better, and 0 is as good as real digits. Digits drawn in
# two steps are smooth: they are recognised well, and only the distance shows that real digits look different. From four
# steps on, more steps change little.
#
# ## Guidance
#
# Each step asks the network twice, for the class and for "no class", in one batch (`show_source(predict)` shows how).
# **Drag the slider**: one digit of each class, each from noise that stays the same while you drag.

# %%
strengths = (1.0, 1.5, 3.0, 8.0)
rows = [
    fast_pipe(list(range(10)), guidance_scale=scale, generator=torch.Generator().manual_seed(0), output_type="pt").images
    for scale in strengths
]
image_grid(torch.cat(rows), 10, fast_pipe.class_names, [f"{scale:g}" for scale in strengths], title="Guidance from 1 (off) to 8")

# %%
from course_utils.widgets import GuidanceSlider

GuidanceSlider(fast_pipe)

# %%
rows = []
for scale in strengths:
    scores = evaluate(fast_pipe, settings.eval_images, settings.eval_seeds, guidance_scale=scale)
    rows.append({"guidance": scale} | score_cells(scores))
table(rows)

# %% [markdown]
# Strong guidance makes every digit the plainest of its kind: the accuracy stays high, and the distance grows, because real
# handwriting is more varied than that.
#
# **Not from the start.** The first steps, under the most noise, choose *which* of the many possible threes it will be.
# Guided, they all choose the plainest. So let the first steps go unguided: `guidance_start` is their share.

# %%
rows = []
for start in (0.0, 0.2, 0.4, 0.6):
    late = ClassConditionedPipeline(
        fast_pipe.unet, fast_pipe.scheduler, "mnist", num_inference_steps=10, guidance_scale=2.0, guidance_start=start
    )
    scores = evaluate(late, settings.eval_images, settings.eval_seeds)
    rows.append({"guidance starts after": f"{start:.0%}"} | score_cells(scores))
table(rows)

# %% [markdown]
# ## Two steps: learn from what the sampler does
#
# Diffusion training never sees what its network is used for. It asks for one prediction at a time, and the mean of all
# possible pictures is the best answer to that; two steps from mean to mean end in a smooth digit. So let the network draw as
# it will be used, in two steps, and judge the *result*: a second network, the **discriminator**, learns to tell drawn digits
# from real ones, and the gradient of its judgement flows back through both steps of the sampler. This is *adversarial*
# fine-tuning ([Goodfellow et al.](https://arxiv.org/abs/1406.2661); for few steps of diffusion
# [Sauer et al.](https://arxiv.org/abs/2311.17042)). It begins with what diffusion training has taught, and goes on teaching
# that beside it.

# %%
from course_utils.two_steps import AdversarialTrainer

show_source(AdversarialTrainer.training_step)

# %% [markdown]
# `draw` is the sampler of notebook 3 with its gradients kept. The discriminator says how real a picture looks *as each of
# the ten classes*; a drawn one is compared with a real one of the same class:

# %%
show_source(AdversarialTrainer.discriminator_step)

# %% [markdown]
# A minute or two of it, from the weights above, to see how it begins. The course's `mnist` had three quarters of an hour of
# it, by `python -m course_utils tune`. Before, after, and after the longer one, from the same noise, two steps each:

# %%
from course_utils.two_steps import AdversarialConfig, fine_tune

config = AdversarialConfig(max_steps=settings.train_images // 128, ema_decay=0.98)
learner = ClassConditionedPipeline(copy.deepcopy(fast_pipe.unet), fast_pipe.scheduler, "mnist")
briefly_tuned, run = fine_tune(learner, dataset, config, settings.device, progress=False)
two_steps = {
    "before": ClassConditionedPipeline(fast_pipe.unet, briefly_tuned.scheduler, "mnist", num_inference_steps=2),
    f"after {run.seconds:.0f} s": briefly_tuned,
    "the course's": tuned_pipe.to(settings.device),
}
rows = [
    pipe(list(range(10)), generator=torch.Generator().manual_seed(0), output_type="pt").images
    for pipe in two_steps.values()
]
image_grid(torch.cat(rows), 10, fast_pipe.class_names, list(two_steps), title="Two steps, without guidance")

# %%
rows = []
for name, pipe in two_steps.items():
    scores = evaluate(pipe, settings.eval_images, settings.eval_seeds)
    rows.append({"two steps": name} | score_cells(scores))
table(rows)

# %% [markdown]
# Before, the digits are recognised well, and too soft to be real. Sharp strokes are what the discriminator asks for first. A
# few hundred batches on a laptop end there. It takes thousands of batches until the discriminator knows what makes a three
# a three. Compare the last row with the guided steps of the tables above: two evaluations per digit in place of eight, and
# the digits are as varied as without guidance.
#
# Clothes are harder: cloth has texture, and two steps were not enough for it. The course's `fashion_mnist` was fine-tuned in
# four, against the same discriminator, and a touch of guidance still helps it
# ([its card](../course_utils/pretrained/fashion_mnist/README.md)).
#
# What did the network forget? It was asked for its old loss all along, so it still draws in ten steps, guided or not:

# %%
ten_steps = {
    name: ClassConditionedPipeline(pipe.unet, fast_pipe.scheduler, "mnist", 10, guidance_scale=1.5)
    for name, pipe in (("before", fast_pipe), ("the course's", tuned_pipe))
}
rows = []
for name, pipe in ten_steps.items():
    scores = evaluate(pipe, settings.eval_images, settings.eval_seeds)
    rows.append({"ten guided steps": name} | score_cells(scores))
table(rows)

# %% [markdown]
# ## The second ladder
#
# One digit, drawn in each way. Only the seconds count here (the smoke test takes fewer steps for the first two):

# %%
from course_utils.sampling import sample


def seconds_to_draw(network, sampler, steps, guidance_scale=1.0, times=3):
    """Wall-clock seconds to draw one digit, the best of a few times."""
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        sample(network, sampler, [3], steps, guidance_scale)
        durations.append(time.perf_counter() - start)
    return min(durations)


ddpm, ddim = make_scheduler("ddpm"), make_scheduler("ddim")
solver, example_network = fast_pipe.scheduler, ClassConditionedUnet().to(settings.device)
steps, guidance = fast_pipe.config.num_inference_steps, fast_pipe.config.guidance_scale
fast_network = fast_pipe.unet.to(settings.device)
ladder(
    {
        f"the example: {settings.ddpm_steps} steps": seconds_to_draw(example_network, ddpm, settings.ddpm_steps, times=1),
        f"{settings.ddpm_steps} steps of a lighter network": seconds_to_draw(fast_network, ddpm, settings.ddpm_steps, times=1),
        "50 steps of DDIM": seconds_to_draw(fast_network, ddim, 50),
        f"{steps} steps of DPM-Solver++": seconds_to_draw(fast_network, solver, steps),
        "... with guidance": seconds_to_draw(fast_network, solver, steps, guidance),
        "2 steps, fine-tuned": seconds_to_draw(tuned_pipe.unet, tuned_pipe.scheduler, 2),
    },
    "One digit, rung by rung",
)

# %% [markdown]
# Guidance makes drawing slower. It is worth it until the network is fine-tuned; then two steps do without it.
#
# # What did not help
#
# Three well-known accelerations, tried on a step of the fast track. On a GPU each of them may pay.
#
# - **Half the bits** (`bfloat16`), for the network's own computation: a GPU has special circuits for it. Most laptop
#   processors have none, and convert the numbers back and forth.
# - **Channels last**: another order of the numbers in memory, which suits convolutions with many channels. Ours have
#   16 to 64.
# - **`torch.compile`** is not run here: it translates the network for a minute or two before the first step, which is
#   as long as the whole training takes. `python tests/benchmarks/accelerations.py` measures what it gains after that.

# %%
config = TrainingConfig.fast()


def milliseconds_per_step(network, **autocast):
    """Of the fast track's training; under `torch.autocast`, if asked for, is only the way forward through the network."""
    trainer = Trainer(network.to(settings.device).train(), dataset, v_scheduler, config)
    trainer.network = torch.autocast(settings.device, **autocast)(network)
    return 1000 * seconds_per_step(trainer, 5)


plain = milliseconds_per_step(ClassConditionedUnet.fast(), enabled=False)
tried = {
    "32-bit numbers, as they are": plain,
    "bfloat16": milliseconds_per_step(ClassConditionedUnet.fast(), dtype=torch.bfloat16),
    "channels last": milliseconds_per_step(ClassConditionedUnet.fast().to(memory_format=torch.channels_last), enabled=False),
}
table([{"a step of the fast track": name, "milliseconds": ms, "times as fast": plain / ms} for name, ms in tried.items()])

# %% [markdown]
# ## In three lines
#
# - Hours became minutes by fewer multiplications an image, and above all by fewer images: a better place for the class,
#   another prediction than the noise, guidance, and an optimizer that sees matrices.
# - A thousand steps became a few by a prediction that few large steps can rely on; and two by training through the
#   sampler, against a discriminator.
# - Measure the share before you speed up a part, change one thing at a time, and keep the list of what did not help.
#
# Back to [the list of notebooks](../README.md), or to the [challenge](06_fashion_mnist_challenge.ipynb): what you know
# now is worth a few ranks there.
