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
# On a laptop, the Hugging Face example trains for hours, and then it takes a thousand steps to draw a digit. That is
# too slow for a slider. Its authors suggest making it faster as a project. This notebook shows how this course did it,
# one change at a time. Most cells measure what a change gains on *your* machine.
#
# A figure called a *ladder* puts the changes together. Its first line is the example. Each line below it, a *rung*,
# makes one more change.
#
# **You will learn** where the time of a training goes, which changes make it shorter and by how much, where the class
# should enter the network, why sampling in few steps works better with another prediction than the noise, what guidance
# does, how many steps a picture needs, how a network learns to draw in two steps, and which well-known accelerations do
# not help on a laptop.
#
# **You need** notebook [3](03_training_and_sampling.ipynb). **Time**: 50 minutes to read. The cells run for about half
# an hour on a laptop without a GPU. The part *Two steps* is the hardest one. You can skip it.

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
# # Part 1: faster training
#
# A training takes *images seen* x *seconds per image*. Both can be made smaller. We start with the time that the
# example takes: ten epochs of 60,000 images. We do not train for hours to know it. A few steps tell us the seconds per
# image.

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
# Most of the work of a network is multiplications and additions. We can count them: the second column below shows
# millions of floating point operations (MFLOP) per image (notebook 6). But operations are not seconds. In the example,
# *attention* on images of 14 x 14 has few operations and takes much time. Each of 196 places looks at all others, in
# heads of only eight numbers. Such small products are slow on a processor.

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
# The fast track has attention only at the lowest level, where there are 49 places. It halves the widths of the two
# upper levels, where the images are largest. And it has one block per level instead of two.
#
# ## Rung 2: images from memory
#
# MNIST has 47 MB. It fits into memory as one tensor, and a batch is one copy from it. We compare with PyTorch's
# `DataLoader` over the same tensor. (The example's `DataLoader` reads torchvision's data set, which also makes a
# picture object of every image. `python tests/benchmarks/data.py` measures that.)

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
# The images arrive many times as fast, and the training gains very little: look at the last column. On a CPU nearly all
# of the time goes into the network. Measure how much of the time a part takes before you make this part faster.
#
# ## Rung 3: fewer images
#
# This is the largest rung. How good are the pictures after a *fixed, small* number of images? Seven settings of the
# fast track were chosen for that. We take them away one at a time. These trainings have to be short, so we use small
# pictures of 14 x 14 pixels (notebook 4). The excess distance compares with real images of the same size.

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
# Compare each row with the first one. Each row is *one* training, so a small difference may be chance. (Notebook 4
# shows how much trainings differ if only the seed differs.) This table can show large differences. It cannot show small
# ones. The [log of trials](../tests/benchmarks/README.md#the-log-of-trials) has more trials.
#
# The table does not compare the fast track with the example's ten epochs.
# [The benchmarks](../tests/benchmarks/README.md) have both results.
#
# **Where the class enters.** As extra input channels, the label is seen once, by the first convolution. Each layer has
# to hand it on to the next one. In the time embedding, the label reaches every residual block, where it scales and
# shifts the channels. There is one more reason: the example's GroupNorm removes what is equal at every pixel of a
# channel (notebook 2).
#
# **Noise or velocity.** Part 2 explains this setting.
#
# **Which optimizer.** AdamW scales the gradient of each weight separately. But the weights of a layer form a *matrix*,
# and so do their gradients. A matrix stretches some directions more than others. The factors are its *singular values*:
# for a gradient, a few are large and many are small. *Muon*
# ([Jordan et al.](https://kellerjordan.github.io/posts/muon)) replaces the averaged gradients by a matrix with the same
# directions and with singular values that are much closer to each other. So a step goes about as far in the weak
# directions as in the strong ones. Here are singular values of one layer, which has 32, before and after:

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
# Each value is divided by the largest one. Muon does not compute singular values. It needs only a few products of
# matrices: it applies the same polynomial several times. `COEFFICIENTS` are the polynomial's three factors, and
# `torch.baddbmm(a, b, c, beta=p, alpha=q)` computes `p * a + q * (b @ c)`.

# %%
show_source(orthogonalized)

# %% [markdown]
# ## Rung 4: small pictures first
#
# At 16 x 16 pixels a picture has a third of the pixels, and a step takes less than half the time. The network is made
# of convolutions, so the same weights work with pictures of any size. The fast track first learns the shapes on small
# pictures, and then the strokes on whole ones.

# %%
stages, rows = RECIPES["fast"].stages, []
for size, config in stages:
    per_image_now = seconds_per_image(ClassConditionedUnet.fast(), resized(dataset, size), config, steps=15)
    per_step = config.batch_size * per_image_now
    rows.append({"pictures": f"{size} x {size}", "steps": config.max_steps, "ms a step": 1000 * per_step, "seconds": config.max_steps * per_step})
fast_seconds = sum(row["seconds"] for row in rows)
table(rows)

# %% [markdown]
# ## The ladder of training
#
# Each line is a number of images times the seconds per image that you measured above. The last line adds up the seconds
# of the table. (It is timed with Muon, and the other lines with the example's optimizer.)

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
# Compare the numbers, not the lengths of the bars: the axis is logarithmic.
#
# The last rung saves seconds for the same number of images. This is not a gain at equal quality. In the log of trials,
# whole pictures gave results that were as good after the same number of *seconds*.
#
# So this is how long the fast track takes. How good are its digits? You measured them in notebook 3.
# [The benchmarks](../tests/benchmarks/README.md) train it with several seeds, on two processor cores. Their log says
# what else we tried, what we expected, and what happened.

# %% [markdown]
# # Part 2: faster drawing
#
# The network is evaluated once per step, and twice per step with guidance. There are two ways to save time: a lighter
# network, which we have already, and fewer steps. How few steps are enough? That depends on what the network predicts,
# and on the sampler.
#
# ## Noise, or velocity?
#
# Sampling starts at $t = 999$, where the picture is nothing but noise: $\bar\alpha_{999}$ is about $2 \cdot 10^{-9}$.
# From the network's prediction we can compute the picture $\hat x_0$ that it expects behind the noise:
#
# - From predicted noise: $\hat x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\hat\epsilon)\,/\,\sqrt{\bar\alpha_t}$. Any error in
#   $\hat\epsilon$ is *divided by* $\sqrt{\bar\alpha_t}$.
# - From predicted velocity: $\hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,\hat v$. Any error in
#   $\hat v$ is multiplied by at most one.
#
# We take two networks from rung 3, and real digits with more and more noise:

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
# "Wrong by" is the root of the mean square error, for pixels from -1 to 1. At $t = 999$ an error of the predicted noise
# is multiplied by about 20,000. Even a small error gives a picture that says nothing. (The figure cuts pixels off at -1
# and 1.) The picture from the velocity is what we should expect: the *mean* digit of the class that was asked for.
# Nothing more can be known from pure noise. With 1000 small steps, one wrong step hardly counts. With ten steps, it is
# a tenth of all steps.
#
# ## How many steps, and which sampler?
#
# A sampler follows a curve from the noise to the picture. *DDIM* uses only the newest prediction in each step.
# *DPM-Solver++* and *UniPC* also use earlier predictions. We compare them with the weights `mnist-untuned`: the fast
# track's network after fifteen times as many images. Every step is guided, so it takes two network evaluations.

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
# In the upper picture higher is better. In the lower picture lower is better, and 0 is as good as real digits. Look
# first from left to right: digits drawn in two steps are smooth. They are recognised well, and only the distance shows
# that real digits look different. With four steps or more, a larger number of steps changes little.
#
# Now compare the three lines. Which one is best? In our runs DDIM, the simplest sampler, was about as good as the
# others, or better. The number of steps matters more than the choice among these three.
#
# ## Guidance
#
# With guidance, each step asks the network twice in one batch: for the class, and for "no class". (The function
# `predict` in [sampling.py](../course_utils/sampling.py) does it.) **Drag the slider**: it draws one digit of each
# class, and the noise stays the same while you drag.

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
# Look at the rows of digits: with strong guidance, strokes get thick and the digits look like the simplest form of
# their class. In the table, class accuracy stays high. The distance grows, because real handwriting is more varied.
#
# **Guidance that starts late.** The first steps see the most noise. Our guess is that these steps choose *which* of
# many possible threes is drawn, and that guidance makes them choose the most typical one. So we leave the first steps
# without guidance: `guidance_start` is the share of the steps that are not guided.

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
# Look at both columns. A later start makes class accuracy a little lower. Which start gives the smallest distance?
#
# ## Two steps: train the network through its sampler
#
# (This part is optional.) After two steps of the sampler, digits are smooth. The reason: the training asks for one
# prediction at a time, and the best answer to one question is the mean of all possible pictures. So let the network
# draw as it will be used, in two steps, and judge the *result*. A second network, the **discriminator**, learns to
# distinguish drawn digits from real ones. The gradient of its judgement goes back through both steps of the sampler
# into the network. This is *adversarial* fine-tuning ([Goodfellow et al.](https://arxiv.org/abs/1406.2661); for few
# steps of diffusion [Sauer et al.](https://arxiv.org/abs/2311.17042)). It starts from the trained network, and the old
# training loss stays as one part of the new loss.

# %%
from course_utils.two_steps import AdversarialTrainer

show_source(AdversarialTrainer.training_step)

# %% [markdown]
# `draw` is the sampler of notebook 3, and its gradients are kept. `adversarial_loss` is small if the discriminator
# gives drawn digits higher scores than real ones. The discriminator gives a picture ten scores: how real it looks *as a
# picture of each class*. It compares a drawn picture with a real one of the same class:

# %%
show_source(AdversarialTrainer.discriminator_step)

# %% [markdown]
# What the lines mean:
#
# - `as_class` takes, for each picture, the score for its own class.
# - `softplus(a - b)` is a smooth function that is small if `b` is larger than `a`. So `comparison` is small if real
#   pictures have higher scores than drawn ones.
# - `mismatch` does the same with real pictures and a wrong label (`other_labels`): the discriminator has to know the
#   classes.
# - In every second step (`PENALTY_EVERY`), the loss also grows with the gradients of the scores with respect to the
#   pixels. This keeps the scores from changing too steeply.
#
# We run a few minutes of it to see how it begins. The course's `mnist` had about three quarters of an hour
# (`python -m course_utils tune`). The figure shows digits before, after our short run, and after the long run, from the
# same noise and in two steps each:

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
# Before fine-tuning, the digits are recognised well, but they are too soft. A short fine-tuning makes the strokes
# sharp. In our runs it does not make the digits better yet: compare the first two rows of the table. The long
# fine-tuning had 8,000 batches. Ours had a few hundred (at the preset `laptop`). Compare the last row with the guided
# steps of the tables above: it takes two network evaluations per digit, and four guided steps take eight.
#
# Clothes are harder: two steps were not enough for them. The course's `fashion_mnist` was fine-tuned for four steps,
# and a little guidance still helps ([its card](../course_utils/pretrained/fashion_mnist/README.md)).
#
# Did the network forget how to draw in many steps? Its old loss was part of the fine-tuning. We let it draw in ten
# guided steps, before and after:

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
# ## The ladder of drawing
#
# We draw one digit in each way. Only the seconds count here. (The smoke test takes fewer steps for the first two
# lines.) The weights `mnist-untuned` use DPM-Solver++, and the fine-tuned weights use DDIM.

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
# Compare the numbers, not the lengths of the bars: the axis is logarithmic. Guidance makes drawing slower, but it is
# worth it until the network is fine-tuned. Two steps of the fine-tuned network do without it.
#
# # What did not help
#
# We tried three well-known accelerations on a training step of the fast track. On a GPU they may help.
#
# - **Half the bits** (`bfloat16`) for the network's own computation. GPUs have special circuits for such numbers. Many
#   laptop processors have none, and convert the numbers back and forth.
# - **Channels last**: another order of the numbers in memory. It suits convolutions with many channels, and ours have
#   16 to 64.
# - **`torch.compile`** is not run here. It needs a minute or two to translate the network before the first step, and in
#   that time the fast track can be trained. `python tests/benchmarks/accelerations.py` measures what it gains after
#   that.

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
# - Hours became minutes by fewer operations per image, and above all by fewer images: another place for the class,
#   another prediction than the noise, guidance, and Muon.
# - A thousand steps became a few by a prediction that works in large steps, and two by training the network through its
#   sampler, against a discriminator.
# - Measure how much of the time a part takes before you make it faster. Change one thing at a time. Keep a list of what
#   did not help, too.
#
# Back to [the list of notebooks](../README.md), or to the [challenge](06_fashion_mnist_challenge.ipynb): can you beat
# your earlier runs there?
