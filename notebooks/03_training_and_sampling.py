# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Training and sampling
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/class-conditional-diffusion-course/blob/main/notebooks/03_training_and_sampling.ipynb)
#
# In this notebook you write a diffusion model: the loss, the training step, the sampling steps, guidance and the sampling loop. At
# the end there is a slider. **Drag it: your code draws the digit that you point at, with the network that your code has trained.**
#
# **You will learn** how a diffusion model is trained, how sampling goes from noise to a picture, how guidance makes the effect of the
# label stronger, and how to measure whether the network draws what was asked for.
#
# **You need** notebooks [1](01_data.ipynb) and [2](02_conditioned_unet.ipynb). **Time**: two hours with all eight exercises. The two
# trainings take a few minutes each on a laptop without a GPU. With `train_here = False` in the second code cell nothing is trained: the
# cells use weights that come with the course.

# %%
import importlib.util, pathlib, subprocess, sys  # Find the course above this notebook, or install it, as on Colab:
sys.path[:0] = [str(p) for p in pathlib.Path("_").absolute().parents if (p / "course_utils/__init__.py").is_file()]
if not importlib.util.find_spec("course_utils"): subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "https://github.com/OWNER/class-conditional-diffusion-course/archive/HEAD.zip"])

# %%
import torch
from torch.nn import functional as F

from course_utils import exercises
from course_utils.data import load_dataset
from course_utils.settings import course_settings

settings = course_settings()  # presets: smoke, laptop, full; the environment variable COURSE_PRESET chooses
train_here = True  # False: take the weights that come with the course
dataset = load_dataset("mnist")
settings

# %% [markdown]
# The goal of this notebook, drawn by weights that come with the course:

# %%
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.plotting import image_grid

goal = ClassConditionedPipeline.from_pretrained("mnist-untuned")
pictures = goal(list(range(10)) * 2, generator=torch.Generator().manual_seed(0), output_type="pt").images
image_grid(pictures, 10, goal.class_names, title="Asked for the digit on top of each column")

# %% [markdown]
# ## Part 1: training
#
# From notebook 1 we take the noise schedule and `add_noise`. (These are the course's versions. They are in the file
# `course_utils/minimal.py`, which holds the whole idea on one page. Do not read it yet: it also holds the answers to the exercises.)

# %%
from course_utils.minimal import add_noise, cosine_alphas_cumprod

alphas_cumprod = cosine_alphas_cumprod(1000)


# %% [markdown]
# ## Exercise 1: the loss
#
# *Difficulty*: ● ● ○. *Minutes*: 15. *You learn*: the one question by which a diffusion model is trained.
#
# `images` (B, 1, H, W) is a batch in [-1, 1], and `labels` (B,) are its classes. `alphas_cumprod` holds $\bar\alpha$ for all timesteps
# (notebook 1); there may be more or fewer than 1000. Write the loss:
#
# 1. draw noise of the shape of the images, from the normal distribution with mean 0 and variance 1 (*standard normal*);
# 2. draw one timestep per image, each with the same probability, from 0 to the last one;
# 3. add the noise, and let the network predict: `model(noisy, timesteps, labels)`;
# 4. return the mean squared error between the prediction and its target.
#
# The target is the noise if `prediction_type` is `"epsilon"`, as in the example. If it is `"v_prediction"`, the target is the velocity
# of notebook 2, $v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1 - \bar\alpha_t}\,x_0$. Compare this formula with that of `add_noise`:
# `add_noise(noise, -images, timesteps, alphas_cumprod)` is the velocity. Give `generator=generator` to `torch.randn` and
# `torch.randint`, so that the same seed gives the same loss.
#
# *Expected output*: the training below begins with a loss near 1.

# %% tags=["exercise-training_loss"]
def training_loss(model, alphas_cumprod, images, labels, generator, prediction_type):
    return ...  # your lines in place of this one


# %%
exercises.training_loss.check(training_loss)


# %% [markdown]
# Stuck? `exercises.training_loss.hint()`, and at last `exercises.training_loss.solution()`.
#
# <details><summary>Help: I see "never turn up"</summary>
#
# The upper end of `torch.randint(low, high, ...)` is not drawn. The example has `torch.randint(0, 999, ...)`, so it never trains with
# $t = 999$, where sampling starts.
# </details>
#
# <details><summary>Help: I see "Another seed gives the same" or "The same seed gives another"</summary>
#
# All chance must come from the generator that is handed in: no `torch.manual_seed`, no generator of your own.
# </details>
#
# <details><summary>Help: I see "standard normal noise" or "get the same noise"</summary>
#
# `torch.rand` gives numbers from 0 to 1. `torch.randn` gives normal ones. Then use `add_noise`, with its factors.
# The noise has the shape of the images: another number for each pixel of each picture.
# </details>
#
# <details><summary>Help: I see "compared with"</summary>
#
# The prediction is compared with the target: the noise or the velocity, not the picture.
# </details>
#
# ## Exercise 2: the training step
#
# *Difficulty*: ● ○ ○. *Minutes*: 4. *You learn*: the three lines at the heart of every training in PyTorch.
#
# `optimizer` holds the network's weights, `loss` is a number that depends on them. Set the old gradients to zero, compute new ones, and
# move the weights. The function need not return anything.
#
# *Expected output*: in the training below the loss falls.

# %% tags=["exercise-training_step"]
def training_step(optimizer, loss):
    return ...  # your lines in place of this one


# %%
exercises.training_step.check(training_step)

# %% [markdown]
# Stuck? `exercises.training_step.hint()`, and at last `exercises.training_step.solution()`.
#
# <details><summary>Help: I see "have not moved"</summary>
#
# Gradients must exist when `optimizer.step()` runs. `loss.backward()` computes them, and `optimizer.zero_grad()` removes them.
# </details>
#
# <details><summary>Help: I see "another place than it should"</summary>
#
# PyTorch adds new gradients to old ones. Without `zero_grad()` the second step also uses the gradients of the first.
# </details>
#
# ## Train
#
# This is the whole training. The example takes hours on a laptop. To be faster, this training differs from it:
#
# - The **network** is smaller, and the label uses the third door of notebook 2: it is added to the time embedding.
# - The network predicts the **velocity**.
# - One label in ten is replaced by **"no class"**. So the network also learns to draw without a label. Guidance, below, needs that.
# - The training begins with **small pictures** of 16 x 16 pixels, where a step is cheap, and ends with pictures of 28 x 28.
# - It sees far **fewer pictures**, in batches of 32 and not 128.

# %%
from tqdm import tqdm

from course_utils.data import scale_to_model
from course_utils.model import ClassConditionedUnet
from course_utils.recipes import resized

training_loss = exercises.training_loss.right_or_reference(training_loss)
training_step = exercises.training_step.right_or_reference(training_step)

torch.manual_seed(0)
network, generator = ClassConditionedUnet.fast(), torch.Generator().manual_seed(0)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
stages = {16: settings.train_images // 64, 28: settings.train_images // 96} if train_here else {}  # steps by pictures' size
losses = []
for side, steps in stages.items():
    pictures = resized(dataset, side)
    for _ in tqdm(range(steps), desc=f"{side} x {side} pixels"):
        batch = torch.randint(0, len(dataset), (32,), generator=generator)
        images, labels = scale_to_model(pictures.images[batch]), pictures.labels[batch]
        labels = labels.masked_fill(torch.rand(32, generator=generator) < 0.1, network.null_label)
        loss = training_loss(network, alphas_cumprod, images, labels, generator, "v_prediction")
        training_step(optimizer, loss)
        losses.append(loss.item())
network = network.eval()

# %%
from course_utils.pipeline import bundled_losses
from course_utils.plotting import loss_curve
from course_utils.training import running_mean

long_losses = bundled_losses("mnist-untuned")
if not train_here:
    network, losses, stages = goal.unet, long_losses, {}
print(f"mean of the last 100 losses: {running_mean(losses):.3f}; after a training that is many times longer: {running_mean(long_losses):.3f}")
loss_curve(losses, stages=stages.values(), title=f"Loss of your training{dataset.note}")

# %% [markdown]
# The loss falls quickly, and then hardly at all. (Where the pictures become larger, the curve jumps.) Is the network ready? Compare
# the two numbers above the figure: even a much longer training ends at a loss that is not far below. Most of the loss cannot be
# learned: no network can know exactly which noise was added. It hides the small part that can still improve.
#
# <details><summary>What the example prints</summary>
#
# The example's notebook prints the mean of its last 100 losses after each of its ten epochs: 0.0525, 0.0460, 0.0433, 0.0423, 0.0412,
# 0.0407, 0.0404, 0.0394, 0.0391, 0.0390. It predicts the noise, so you cannot compare these numbers with the loss of a velocity.
# </details>
#
# ### The loss by timestep
#
# Where is a network still wrong? We measure the error at different timesteps, converted to the error of the noise, for your
# network and for the course's longer training:

# %%
from course_utils.evaluation import loss_by_timestep
from course_utils.plotting import timestep_losses
from course_utils.sampling import make_scheduler

noise_scheduler = make_scheduler("ddpm", prediction_type="v_prediction")
timestep_losses(
    {
        "your training": loss_by_timestep(network, noise_scheduler, dataset, images_per_band=50),
        "longer training": loss_by_timestep(goal.unet, noise_scheduler, dataset, images_per_band=50),
    },
    title=f"Loss by timestep{dataset.note}",
)

# %% [markdown]
# On the right nearly everything is noise, so the noise is easy to predict. On the left there is hardly any noise to see, and its
# prediction is difficult. In our run the longer training was better at nearly all timesteps, and most of all on the left, where the fine
# details of the strokes are decided. If your own loss "does not fall any more", compare two trainings in such a figure.
#
# ## Part 2: sampling
#
# Sampling starts from pure noise. At each step the network predicts, and from its prediction we compute a picture: the one that the
# network believes in. At first this picture is a blurred average (notebook 2), so we do not jump to it. We only go a step towards it, to
# an earlier timestep (a smaller $t$) with less noise, and ask again:

# %%
from course_utils.sketches import sampling_step

sampling_step()


# %% [markdown]
# ## Exercise 3: the picture that the network believes in
#
# *Difficulty*: ● ● ○. *Minutes*: 10. *You learn*: that a prediction of the noise, or of the velocity, also says which picture
# is expected.
#
# `x` is $x_t$, `prediction` is what the network predicts, and `alpha_bar` is $\bar\alpha_t$, a tensor of shape (). Return the $x_0$ that
# fits: for `prediction_type` `"epsilon"` (the prediction is the noise $\epsilon$) and for `"v_prediction"` (it is the velocity $v$). You have
#
# $$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1 - \bar\alpha_t}\,\epsilon,\qquad
# v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1 - \bar\alpha_t}\,x_0$$
#
# *Expected output*: with `alpha_bar = torch.tensor(0.25)`, `x = torch.tensor(1.0)` and `prediction = torch.tensor(0.0)` it is 2.0 for the
# noise and 0.5 for the velocity.

# %% tags=["exercise-predicted_x0"]
def predicted_x0(x, prediction, alpha_bar, prediction_type):
    return ...  # your answer in place of the dots


# %%
exercises.predicted_x0.check(predicted_x0)


# %% [markdown]
# Stuck? `exercises.predicted_x0.hint()`, and at last `exercises.predicted_x0.solution()`.
#
# <details><summary>Help: I see "needs a formula of its own"</summary>
#
# The two kinds of prediction need two formulas: an `if prediction_type == "epsilon":` decides.
# </details>
#
# <details><summary>Help: I see "Noise: what is left", "Noise: the two square roots", "Noise: the factors", "Noise: the two factors", "Noise: the division" or "Noise: subtract it"</summary>
#
# Solve the first equation for $x_0$: subtract the noise with its factor, then divide by the picture's factor.
# </details>
#
# <details><summary>Help: I see "Velocity: the sign", "Velocity: the factors", "Velocity: that is the noise" or "Velocity: the two square roots"</summary>
#
# Multiply the first equation by $\sqrt{\bar\alpha_t}$ and the second one by $\sqrt{1 - \bar\alpha_t}$. Subtract the second from the first: the
# noise disappears, and the factors of $x_0$ add up to 1.
# </details>
#
# ## Exercise 4: a step of DDIM
#
# *Difficulty*: ● ● ○. *Minutes*: 10. *You learn*: the sampler that the slider uses.
#
# DDIM takes the picture that the network believes in, and the noise that is then left in $x_t$, and mixes them again with the factors of
# an earlier timestep. `x` is $x_t$, and `x0` is the picture. `alpha_bar` is $\bar\alpha$ at this timestep (its *level*), and
# `previous_alpha_bar` is the level of the earlier timestep.
#
# 1. Which noise is in `x`, if `x0` is the picture?
# 2. Return the mixture of `x0` and this noise, with the factors of the earlier timestep.
#
# *Expected output*: with `previous_alpha_bar = torch.tensor(1.0)` the result is `x0`; with `previous_alpha_bar = alpha_bar` it is `x`.

# %% tags=["exercise-ddim_step"]
def ddim_step(x, x0, alpha_bar, previous_alpha_bar):
    return ...  # your answer in place of the dots


# %%
exercises.ddim_step.check(ddim_step)


# %% [markdown]
# Stuck? `exercises.ddim_step.hint()`, and at last `exercises.ddim_step.solution()`.
#
# <details><summary>Help: I see "jumps to the believed picture", "stays where it is", "levels are swapped" or "noise are swapped"</summary>
#
# `previous_alpha_bar` is larger than `alpha_bar`: at the earlier timestep there is more picture and less noise.
# </details>
#
# <details><summary>Help: I see "is not the noise" or "still has its factor"</summary>
#
# `x = sqrt(alpha_bar) * x0 + sqrt(1 - alpha_bar) * noise`. Solve this for the noise: subtract, then divide.
# </details>
#
# <details><summary>Help: I see "square roots of the earlier", "square root of the noise's factor" or "square roots in the formula"</summary>
#
# All four factors are square roots: of `alpha_bar`, `1 - alpha_bar`, `previous_alpha_bar` and `1 - previous_alpha_bar`.
# </details>
#
# ## Exercise 5: a step of DDPM
#
# *Difficulty*: ● ● ○. *Minutes*: 10. *You learn*: the sampler of the example.
#
# DDPM goes a little farther than DDIM and adds fresh noise. The question is: given $x_t$ and $x_0$, what was $x_{t-1}$? Bayes' rule gives
# a normal distribution as the answer. (You need not derive it.) `previous_alpha_bar` is $\bar\alpha_{t-1}$. With
# $\alpha = \bar\alpha_t / \bar\alpha_{t-1}$ and $\beta = 1 - \alpha$, this distribution has
#
# $$\text{mean} = \frac{\sqrt{\bar\alpha_{t-1}}\;\beta}{1 - \bar\alpha_t}\,x_0 + \frac{\sqrt{\alpha}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\,x_t,\qquad
# \text{variance} = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\,\beta$$
#
# Return the mean, plus `noise` multiplied by the square root of the variance.
#
# *Expected output*: with `previous_alpha_bar = torch.tensor(1.0)` the result is `x0`, whatever the noise.

# %% tags=["exercise-ddpm_step"]
def ddpm_step(x, x0, alpha_bar, previous_alpha_bar, noise):
    return ...  # your answer in place of the dots


# %%
exercises.ddpm_step.check(ddpm_step)

# %% [markdown]
# Stuck? `exercises.ddpm_step.hint()`, and at last `exercises.ddpm_step.solution()`.
#
# <details><summary>Help: I see "fresh noise is missing", "multiplied by the variance", "has no factor" or "square root of beta"</summary>
#
# The noise is multiplied by the standard deviation: the square root of the variance in the formula.
# </details>
#
# <details><summary>Help: I see "square root of alpha" or "The factor of `x0`"</summary>
#
# Compare the mean with the formula: its first fraction has $\sqrt{\bar\alpha_{t-1}}$, its second one $\sqrt{\alpha}$.
# </details>
#
# <details><summary>Help: I see "are swapped" or "DDIM's step"</summary>
#
# In the mean the first factor belongs to `x0` and the second one to `x`. There is no division by $\sqrt{1 - \bar\alpha_t}$ in DDPM.
# </details>
#
# ## Exercise 6: guidance
#
# *Difficulty*: ● ● ○. *Minutes*: 8. *You learn*: how to make the effect of a label stronger.
#
# We ask the network twice: for the class, and for "no class". *Guidance* starts at the prediction for "no class". From there it goes in
# the direction of the prediction for the class, and beyond it:
#
# $$\hat v = v_{\text{no class}} + s \cdot (v_{\text{class}} - v_{\text{no class}})$$

# %%
from course_utils.sketches import guidance_arrows

guidance_arrows()


# %% [markdown]
# $s$ is the *guidance scale*. With $s = 1$ guidance is off. `model.null_label` is the label of "no class". `t` is one timestep
# for all pictures: a number, or a tensor of shape (). Return the guided prediction.
#
# *Expected output*: with `guidance_scale = 1` it is `model(x, t, labels)`.

# %% tags=["exercise-guided"]
def guided(model, x, t, labels, guidance_scale):
    return ...  # your answer in place of the dots


# %%
exercises.guided.check(guided)

# %% [markdown]
# Stuck? `exercises.guided.hint()`, and at last `exercises.guided.solution()`.
#
# <details><summary>Help: I see "the scale plays no part", "That is the prediction for" or "is not 10 for every network"</summary>
#
# You need both predictions: one with `labels`, and one with `torch.full_like(labels, model.null_label)`.
# </details>
#
# <details><summary>Help: I see "With a scale of 1", "goes the wrong way", "without the start" or "scale multiplies the difference"</summary>
#
# Start at the prediction for "no class". The direction is the prediction for the class minus that for "no class". Try $s = 0$ and $s = 1$ on
# paper: they must give the two predictions.
# </details>
#
# ## Exercise 7: the sampling loop
#
# *Difficulty*: ● ● ●. *Minutes*: 20. *You learn*: to put everything together.
#
# Two things are given: the levels $\bar\alpha$, with a 1 at the end for "all picture", and the timesteps, for example 999, 899, ..., 99 for
# ten steps. Write the rest:
#
# 1. Start: `x` is standard normal noise of shape (number of labels, 1, 28, 28), drawn with the generator.
# 2. Go through the timesteps. For each `t`, the next one in the list is `previous`, an earlier timestep. After the last one, `previous` is
#    -1: so its level is the 1 at the end. Predict with `guided`. Compute `x0` with `predicted_x0`, and limit it with `.clamp(-1, 1)`,
#    because the pixels of a picture are never outside of [-1, 1]. Make a step with `ddim_step`.
# 3. `yield x` after each step. So the pictures can be watched on the way: `for x in sample(...)`.
#
# *Expected output*: the next cells draw with your loop.

# %%
predicted_x0 = exercises.predicted_x0.right_or_reference(predicted_x0)
ddim_step = exercises.ddim_step.right_or_reference(ddim_step)
ddpm_step = exercises.ddpm_step.right_or_reference(ddpm_step)
guided = exercises.guided.right_or_reference(guided)


# %% tags=["exercise-sample"]
def sample(model, labels, num_inference_steps, guidance_scale, generator, prediction_type):
    alphas_cumprod = torch.cat((cosine_alphas_cumprod(), torch.ones(1)))  # (1001,): alphas_cumprod[-1] is 1
    timesteps = [round(1000 - i * 1000 / num_inference_steps) - 1 for i in range(num_inference_steps)]
    return ...  # your lines in place of this one


# %%
exercises.sample_loop.check(sample)

# %% [markdown]
# Stuck? `exercises.sample_loop.hint()`, and at last `exercises.sample_loop.solution()`.
#
# <details><summary>Help: I see "wanted the pictures after each step"</summary>
#
# Replace `return ...` by your lines. A function with a `yield` in it is a *generator*: it hands out one result after the other.
# </details>
#
# <details><summary>Help: I see "`x0` is not limited", "`x0` is limited", "Each step", "The last step" or "of `ddim_step` are swapped"</summary>
#
# For each `t` of the list, `previous` is the next one of the list, and -1 after the last one. The levels of the step are
# `alphas_cumprod[t]` and `alphas_cumprod[previous]`, in this order, after `x` and the limited `x0`.
# </details>
#
# <details><summary>Help: I see "The start is not", "plays no part" or "That is a step of DDPM"</summary>
#
# The start is drawn with `torch.randn`. `guidance_scale` goes to `guided`, `prediction_type` goes to `predicted_x0`. The step is `ddim_step`.
# </details>
#
# <details><summary>Help: I see "the pictures are not right"</summary>
#
# Already after the first step: is the noise drawn with `generator=generator`, and is the order of the arguments right? From a later step on: is
# `previous` the next timestep *of the list* (not t - 1), and is `x0` clamped?
# </details>
#
# ### Your digits
#
# Eight of each digit, as in the example, in ten steps with guidance 3. The network is yours, and the loop is yours.

# %%
sample = exercises.sample_loop.right_or_reference(sample)


def draw(labels, num_inference_steps=10, guidance_scale=3.0, seed=0):
    """Pictures (N, 1, 28, 28) in [0, 1], drawn by your loop with your network."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        *_, x = sample(network, torch.as_tensor(labels), num_inference_steps, guidance_scale, generator, "v_prediction")
    return x.clamp(-1, 1) / 2 + 0.5


pictures = draw(list(range(10)) * settings.images_per_class, seed=1)
image_grid(pictures, 10, range(10), title="Asked for the digit on top of each column")

# %% [markdown]
# ### What happens on the way
#
# We draw one 3 in ten steps. The three rows are the noisy picture $x_t$, the picture that the network believes in, and the noise that is
# then left. (The figure cuts values outside of -1 to 1.)

# %%
labels, x = torch.tensor([3]), torch.randn((1, 1, 28, 28), generator=torch.Generator().manual_seed(6))
levels, timesteps = torch.cat((alphas_cumprod, torch.ones(1))), [*range(999, 0, -100)]
noisy, believed, noises = [], [], []
with torch.no_grad():
    for t, previous in zip(timesteps, [*timesteps[1:], -1]):
        x0 = predicted_x0(x, guided(network, x, t, labels, 3.0), levels[t], "v_prediction").clamp(-1, 1)
        noisy, believed = [*noisy, x], [*believed, x0]
        noises.append((x - levels[t].sqrt() * x0) / (1 - levels[t]).sqrt())
        x = ddim_step(x, x0, levels[t], levels[previous])
rows = torch.cat((*noisy, *believed, *noises)).clamp(-1, 1) / 2 + 0.5
image_grid(rows, 10, [f"t={t}" for t in timesteps], ["noisy", "believed", "noise"], title="Ten steps of one drawing")

# %% [markdown]
# At first the network believes in a blurred 3: it knows only the label. Step by step it decides for one particular 3, and the second row
# shows this 3 long before you can see it in the first row.
#
# ### DDIM and DDPM
#
# The example draws with DDPM in 1000 steps. We compare this with ten steps of DDIM, from the same network, with your two step functions. The
# loop is that of exercise 7; DDPM draws fresh noise for each step. (The preset `smoke` takes fewer steps.)

# %%
import time

from course_utils.display import table


def draw_with(step_function, num_inference_steps):
    """Ten digits, (10, 1, 28, 28) in [0, 1], by a function that makes one step from x, x0 and the two levels."""
    x, labels = torch.randn((10, 1, 28, 28), generator=generator), torch.arange(10)
    timesteps = [*range(999, -1, -(1000 // num_inference_steps))]
    for t, previous in zip(timesteps, [*timesteps[1:], -1]):
        x0 = predicted_x0(x, guided(network, x, t, labels, 3.0), levels[t], "v_prediction").clamp(-1, 1)
        x = step_function(x, x0, levels[t], levels[previous])
    return x.clamp(-1, 1) / 2 + 0.5


def ddpm_with_fresh_noise(x, x0, alpha_bar, previous_alpha_bar):
    return ddpm_step(x, x0, alpha_bar, previous_alpha_bar, torch.randn(x.shape, generator=generator))


rows, times = [], []
for name, step_function, steps in (("DDIM", ddim_step, 10), ("DDPM", ddpm_with_fresh_noise, settings.ddpm_steps)):
    start, generator = time.perf_counter(), torch.Generator().manual_seed(2)
    with torch.no_grad():
        rows.append(draw_with(step_function, steps))
    times.append({"sampler": name, "steps": steps, "seconds for ten digits": time.perf_counter() - start})
image_grid(torch.cat(rows), 10, range(10), ["DDIM", "DDPM"], title="Ten steps of DDIM, and DDPM as in the example")

# %%
table(times)

# %% [markdown]
# ### How much guidance?
#
# Eight samples of one class, from the same noise, at three scales:

# %%
rows = [draw([2] * 8, guidance_scale=scale, seed=5) for scale in (1.0, 3.0, 10.0)]
image_grid(torch.cat(rows), 8, row_names=["off", "3", "10"], title="Guidance scale: eight twos each")

# %% [markdown]
# Compare the rows. Without guidance several twos are hard to recognise. With guidance 3 more of them look like a two. With guidance 10
# the strokes are heavy, the twos look more alike, and the paper can turn grey. The next part measures this.
#
# ## Part 3: is it the digit that I asked for?
#
# The example does not measure this. We let a *judge* look at the digits: a small classifier that was trained on real digits, and comes
# with the course. We compute two numbers:
#
# - **Class accuracy** is the share of the pictures in which the judge recognises the digit that was asked for.
# - **Excess distance**: the judge describes each picture by 64 numbers, its *features*. The *Frechet distance* compares two sets of
#   pictures by the mean and the spread of their features. We compute it between your digits and real digits. Even two sets of real
#   digits have a small distance, so we subtract that one. 0 means: as good as real digits.
#
# Here are three cases with only two features. Each point is one picture:

# %%
from course_utils.sketches import frechet_clouds

frechet_clouds()

# %% [markdown]
# In the right panel every single picture may be good, but all are alike. Class accuracy does not see that, and the Frechet distance does.
# It is the other way round if the network draws an 8 for each 3 and a 3 for each 8: class accuracy sees it, the Frechet distance does not.
#
# A *pipeline* puts a network together with a sampler and its settings. Now your network and your settings:

# %%
from course_utils.evaluation import evaluate, summarize
from course_utils.plotting import confusion

pipe = ClassConditionedPipeline(network, make_scheduler("ddim", "v_prediction"), "mnist", num_inference_steps=10, guidance_scale=3.0)
yours = evaluate(pipe, settings.eval_images, settings.eval_seeds)
print(summarize(yours))
confusion(yours["confusion"], pipe.class_names, f"{len(yours['seeds'])} x {yours['count']} pictures: percent of each row")

# %% [markdown]
# The digits were drawn several times, each time from other noise (another seed). Each number is the mean, with the smallest and the largest
# value in parentheses. The rows of the figure are the digits that we asked for. The columns are the digits that the judge recognised.
# Mistakes are outside the diagonal. The judge makes mistakes, too: the line above the figure says how many real digits it recognises.
#
# How large is an excess distance? Three marks, measured on real digits by the same judge:

# %%
from course_utils.classifier import load_classifier

marks = {"other real digits": 0.0} | load_classifier("mnist").config.marks | {"your digits": yours["excess_distance"]}
table([{"pictures": name, "excess distance": f"{value:.2f}"} for name, value in marks.items()])

# %% [markdown]
# Are the digits copies of training images? For each digit we look for the nearest training image, by the difference of the pixels. We do the
# same for real digits of the test split, which the network has never seen.

# %%
from course_utils.evaluation import check_for_copies
from course_utils.plotting import copies

held_out = load_dataset("mnist", "test").images[: len(pictures)]
check = check_for_copies(pictures, dataset.images, held_out)
print(
    f"distance to the nearest training image: {check['relative_distance']:.2f} times that of real test images; "
    f"{check['share_very_near']:.0%} are nearer than 99 % of those"
)
copies(pictures, dataset.images, check)

# %% [markdown]
# A copy has distance 0. A value of 1 or more means: as new as real digits. The figure shows the digits of yours
# that are nearest to a training image. (Many of them are ones: there are not many ways to write a 1.)
#
# Guidance in numbers:

# %%
from course_utils.evaluation import score_cells

by_guidance = {
    1.0: evaluate(pipe, settings.eval_images, settings.eval_seeds, guidance_scale=1.0),
    3.0: yours,
    6.0: evaluate(pipe, settings.eval_images, settings.eval_seeds, guidance_scale=6.0),
}
table([{"guidance": scale} | score_cells(scores) for scale, scores in by_guidance.items()])

# %% [markdown]
# Compare the two columns. Class accuracy only asks whether a digit is recognised. The excess distance also sees how varied the digits
# are. In our run guidance 6 had the best class accuracy, and guidance 3 had the best distance.
#
# ## The slider
#
# **Drag the slider**, or click it and press the arrow keys. The picture is drawn from noise while you drag, by *your* loop and *your*
# network. The noise stays the same while you drag, so you see what the label does. **Resample** takes other noise. Under *More* you can
# change guidance and steps, or choose the digit from a menu.
#
# The next picture shows what to expect where no kernel runs, for example on GitHub: one row of digits, each from the same noise.

# %%
same_noise = [draw([digit], seed=11) for digit in range(10)]
image_grid(torch.cat(same_noise), 10, range(10), title="Dragging the slider from 0 to 9")

# %%
from course_utils.widgets import ClassPicker

ClassPicker(pipe, sample=sample)

# %% [markdown]
# Keep your weights, in a folder of their own. `from_pretrained` loads them again. In a terminal, in the course's folder,
# `python -m course_utils sample --weights notebooks/runs/my-digits --digit 3 --out three.png` draws with them.

# %%
pipe.save_pretrained("runs/my-digits")
again = ClassConditionedPipeline.from_pretrained("runs/my-digits")
again.config

# %% [markdown]
# ## Part 4: when it goes wrong
#
# When there is a bug in a diffusion model, you often see no error: the code runs, and the pictures are bad. Here are five training steps,
# A to E. Each has one bug. With each of them we trained the same network on small pictures, from the same start. The figure shows what
# the five networks draw, and in the last row what the network draws after a training without a bug. The table shows their losses
# ("no bug" is the training without a bug).

# %%
from course_utils.exercises import broken_steps

image_grid(broken_steps.pictures(), 10, range(10), [*"ABCDE", "no bug"], title="Five broken training steps")

# %%
table([{"step": name, "mean of the last 100 losses": "nan" if loss is None else f"{loss:.3f}"} for name, loss in broken_steps.losses().items()])

# %%
broken_steps.show_step("A")

# %%
broken_steps.show_step("B")

# %%
broken_steps.show_step("C")

# %%
broken_steps.show_step("D")

# %%
broken_steps.show_step("E")

# %% [markdown]
# ## Exercise 8: find the bug
#
# *Difficulty*: ● ● ○. *Minutes*: 10. *You learn*: which symptom belongs to which bug.
#
# All networks draw in the same way: the prediction is taken as a velocity, with guidance. Look at a row of the figure first, and guess.
# Then look for the bug in the code. Choose for each step one of these (two of them are not used): "labels shuffled",
# "pictures in [0, 1]", "one timestep for all", "no zero_grad", "wrong prediction type", "learning rate too high", "label never dropped".
#
# *Expected output*: `check` says how many are right, and for those it gives the reason.

# %% tags=["exercise-diagnoses"]
diagnoses = {
    "A": ...,
    "B": ...,
    "C": ...,
    "D": ...,
    "E": ...,
}

# %%
exercises.diagnoses.check(diagnoses)

# %% [markdown]
# Stuck? `exercises.diagnoses.hint()`, and at last `exercises.diagnoses.solution()`.
#
# ## Part 5: the course's training
#
# Your code fits on a page. `course_utils.training` does the same, and more that makes a training fast and safe: checkpoints, several
# processes, a better optimizer, a moving average of the weights. With the example's settings it gives exactly the same losses as
# `minimal.py`. A *recipe* puts network, training and sampler together. The *fast track* is such a recipe. Its training differs from the
# example's in these settings:

# %%
from dataclasses import asdict

from course_utils.training import TrainingConfig

example, fast = asdict(TrainingConfig()), asdict(TrainingConfig.fast())
differing = [name for name in example if example[name] != fast[name] and name != "num_epochs"]
table([{"setting": name, "example": str(example[name]), "fast track": str(fast[name])} for name in differing])

# %% [markdown]
# - `optimizer`, `momentum`: *Muon* changes the matrices inside the network, and AdamW changes the other weights (notebook 7 explains it).
#   AdamW with `weight_decay` 0 is the example's Adam.
# - `batch_size`, `learning_rate`: the number of images in a step, and how far a step goes.
# - `adam_beta2`, `weight_decay`, `max_grad_norm`: over how many steps AdamW averages the squared gradients, how fast weights shrink, and
#   how large a gradient may be.
# - `lr_schedule`: with `one_cycle` the learning rate rises, and then falls to zero.
# - `ema_decay`: the result is a moving average of the weights. It changes less from step to step than the weights themselves.
# - `label_dropout`: each label is replaced by "no class" with this probability.
# - `stratified_timesteps`: the timesteps of a batch are spread evenly.
#
# While it runs, a panel shows the loss, the time that is left, and ten digits. Its **Stop** button, or Jupyter's ■, ends the training and
# keeps what was learned.

# %%
from course_utils.recipes import RECIPES

recipe = RECIPES["fast"].for_images(settings.train_images)
if train_here:
    fast_pipe, run = recipe.train(dataset, device=settings.device)
    print(f"{run.images_seen:,} images in {run.seconds:.0f} seconds")
else:
    fast_pipe = goal

# %% [markdown]
# <details><summary>Longer trainings, and interruptions</summary>
#
# For a long training, name a folder: `recipe.train(..., checkpoint_dir="runs/my-training")` writes a checkpoint there every two minutes. After an
# interruption, run the same cell with the same folder: the training continues as if nothing had happened. Use an empty folder to begin again.
#
# Colab deletes its files when it disconnects. A folder on your Google Drive stays:
#
# ```python
# from google.colab import drive
#
# drive.mount("/content/drive")
# pipe, run = recipe.train(dataset, checkpoint_dir="/content/drive/MyDrive/my-digits")
# ```
# </details>
#
# The fast track draws the same digits that you asked your network for:

# %%
labels = list(range(10)) * settings.images_per_class
fast_pictures = fast_pipe(labels, generator=torch.Generator().manual_seed(1), output_type="pt").images
image_grid(fast_pictures, 10, range(10), title="The fast track")

# %%
fast_scores = evaluate(fast_pipe, settings.eval_images, settings.eval_seeds)
table([{"network": name} | score_cells(scores) for name, scores in {"your training": yours, "fast track": fast_scores}.items()])

# %% [markdown]
# Compare the ranges in parentheses. In our run those of the class accuracies overlapped, and the fast track had the smaller distance.
#
# After a longer training, a network needs less guidance. Try the weights that come with the course. The network of
# `pipe = ClassConditionedPipeline.from_pretrained("mnist-untuned")` has seen fifteen times as many images as the fast track. It draws in
# four steps, with guidance 1.15. `"mnist"` is the same network after fine-tuning (notebook 7): it needs two steps, and no guidance.

# %%
exercises.summary(3)

# %% [markdown]
# ## In three lines
#
# - Training asks the network for the noise, or for the velocity, at random timesteps. The loss alone does not say whether the digits are good.
# - Sampling starts from noise. Each step goes towards the picture that the network believes in. Guidance makes the label's effect stronger.
# - Class accuracy says whether it is the right digit. The excess distance says whether the digits look like real ones and are as varied.
#
# Next: [4. How many numbers does a class need?](04_embedding_size.ipynb)
