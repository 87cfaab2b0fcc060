# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. The data: digits, labels and noise
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/class-conditional-diffusion-course/blob/main/notebooks/01_data.ipynb)
#
# A diffusion model learns to remove noise from a picture, a little at a time. To learn that, it needs pictures, and it needs
# the same pictures with noise. This notebook makes both, and you write the code that adds the noise.
#
# **You will learn** what the MNIST data set holds, why pixels are scaled to the range from -1 to 1, and how a *noise
# schedule* says how much noise a picture has at each timestep.
#
# **You need** Python and a little PyTorch: you know what a tensor is. You need to know nothing about diffusion. **Time**:
# 30 minutes with the two exercises; the cells run in a few seconds.
#
# An exercise has a cell with dots (`...`), where you write your answer, and a cell that checks it. `hint()` gives a hint; call
# it again for a stronger one. If you write no answer, the notebook uses the reference answer and still runs to the end.
#
# Each notebook begins with this cell. It finds the course, and on Colab it installs the course.

# %%
import importlib.util, pathlib, subprocess, sys  # Find the course above this notebook, or install it, as on Colab:
sys.path[:0] = [str(p) for p in pathlib.Path("_").absolute().parents if (p / "course_utils/__init__.py").is_file()]
if not importlib.util.find_spec("course_utils"): subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "https://github.com/OWNER/class-conditional-diffusion-course/archive/HEAD.zip"])

# %%
from course_utils.data import load_dataset
from course_utils.plotting import dataset_grid

dataset = load_dataset("mnist")
dataset_grid(dataset, rows=4)

# %% [markdown]
# These are handwritten digits, one column per class. The first run downloads them (about 12 MB), checks every file, and keeps
# them on disk. Without an internet connection you get a small sample that the course's own model has drawn, and the titles of
# the figures say so (`dataset.note` is that remark; it is empty for the real data).
#
# ## One batch
#
# `dataset[i]` is one image and its label, as PyTorch expects of a data set. A `DataLoader` joins eight of them to a batch:

# %%
import torch
from torch.utils.data import DataLoader

from course_utils.plotting import image_grid

train_dataloader = DataLoader(dataset, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(0))
x, y = next(iter(train_dataloader))
print("Input shape:", x.shape)
print("Labels:", y)
image_grid(x, 8)

# %% [markdown]
# The shape is (batch, channels, height, width): eight images with one channel of 28 x 28 pixels. Here is a part of the first
# image as numbers. 0 is paper, 1 is ink. The figures of this course draw ink black and paper white.

# %%
torch.set_printoptions(precision=1, sci_mode=False, linewidth=160)
x[0, 0, 6:16, 8:22]

# %% [markdown]
# How many images does each class have? About a tenth each. No digit is rare.

# %%
from course_utils.display import table

counts = torch.bincount(dataset.labels).tolist()
table([{"digit": name, "images": count} for name, count in zip(dataset.class_names, counts)])

# %% [markdown]
# `dataset.images` holds all images as one tensor of bytes, and `dataset.labels` holds all labels. The training loops of this
# course take their batches from these two tensors. (The [class-conditioned
# example](https://github.com/huggingface/diffusion-models-class/blob/main/unit2/02_class_conditioned_diffusion_model_example.ipynb)
# of the Hugging Face diffusion models class, which this course follows and calls *the example*, uses a `DataLoader`. On a CPU
# this makes hardly any difference: almost all the time goes into the network.)

# %%
print(f"{tuple(dataset.images.shape)} {dataset.images.dtype}: {dataset.images.numel() / 1e6:.0f} MB")

# %% [markdown]
# ## From bytes to the range -1 to 1
#
# The network does not see bytes. It sees numbers from -1 (paper) to 1 (ink):

# %%
from course_utils.data import scale_to_model
from course_utils.display import show_source

show_source(scale_to_model)

# %%
chosen = torch.stack([torch.nonzero(dataset.labels == digit)[0, 0] for digit in range(10)])
digits = scale_to_model(dataset.images[chosen])  # (10, 1, 28, 28)
many = scale_to_model(dataset.images[:5000])
print(f"from {digits.min():g} to {digits.max():g}; mean {many.mean():.2f}, mean of the squares {many.square().mean():.2f}")

# %% [markdown]
# Why this range? The noise that we add has a mean square of 1. In this range the mean square of the pictures is nearly 1, too,
# so picture and noise are about equally *strong*. (The middle of the range is 0. The mean of the pixels is far below 0, because
# most of a picture is paper.)
#
# ## How much noise?
#
# A *noise scheduler* says how much noise a picture has at each *timestep* $t$, from 0 to 999. The picture $x_0$ becomes
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\; \epsilon,\qquad \epsilon \sim \mathcal{N}(0, 1)$$
#
# Here $\epsilon$ is the noise: one random number per pixel, from the normal distribution with mean 0 and variance 1.
# $\bar\alpha_t$ (say "alpha bar") is a number between 0 and 1. The factor of the picture is $\sqrt{\bar\alpha_t}$, and the factor
# of the noise is $\sqrt{1 - \bar\alpha_t}$. We use the scheduler of the example:

# %%
import math  # for your answers below

from diffusers import DDPMScheduler

from course_utils.plotting import noise_levels

noise_scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
noise_levels(noise_scheduler)


# %% [markdown]
# The *squares* of the two factors add up to 1, so $x_t$ is about as strong at every timestep: its mean square is near 1. At
# $t = 0$ it is nearly all picture, at $t = 999$ nearly all noise. Where do these curves come from? You write them now.
#
# ## Exercise 1: the cosine schedule
#
# *Difficulty*: ● ● ○. *Minutes*: 10. *You learn*: what is behind the name `squaredcos_cap_v2`.
#
# The schedule begins with a curve that falls from nearly 1 to 0:
#
# $$f(\tau) = \cos^2\!\left(\frac{\tau + 0.008}{1.008} \cdot \frac{\pi}{2}\right),\qquad 0 \le \tau \le 1$$
#
# With $T$ timesteps, each timestep $t = 0, \dots, T - 1$ replaces a share $\beta_t$ of what is left of the picture by noise. The
# share is at most 0.999, so that a little of the picture is left at the end:
#
# $$\beta_t = \min\!\left(1 - \frac{f\big((t+1)/T\big)}{f\big(t/T\big)},\; 0.999\right),\qquad
# \alpha_t = 1 - \beta_t,\qquad \bar\alpha_t = \alpha_0 \cdot \alpha_1 \cdots \alpha_t$$
#
# So $\bar\alpha_t$ is the product of all $\alpha$ from the first one to $\alpha_t$. Write a function that returns $\bar\alpha$ for all
# timesteps: a float32 tensor of shape $(T,)$. `math.cos`, `math.pi` and `torch.cumprod` are useful.
#
# *Expected output*: `cosine_alphas_cumprod(4)` is `tensor([0.8, 0.5, 0.1, 0.0])`, rounded to one digit.

# %% tags=["exercise-cosine_alphas_cumprod"]
def cosine_alphas_cumprod(num_train_timesteps):
    return ...  # your answer in place of the dots


# %%
from course_utils import exercises

exercises.cosine_alphas_cumprod.check(cosine_alphas_cumprod)


# %% [markdown]
# Stuck? `exercises.cosine_alphas_cumprod.hint()`, and at last `exercises.cosine_alphas_cumprod.solution()`.
#
# <details><summary>Help: I see "Those are the betas", "Those are the alphas", "That is a sum" or "That multiplies the betas"</summary>
#
# There are three steps: the betas, then $1 - \beta$, then the product of these from the first timestep up to $t$.
# `tensor.cumprod(0)` computes all these products at once.
# </details>
#
# <details><summary>Help: I see "is not limited to 0.999" or "That is f itself"</summary>
#
# Without the limit the products are nearly $f((t+1)/T)$, and the last one is exactly 0. With `min(..., 0.999)` a very small part
# of the picture is left.
# </details>
#
# <details><summary>Help: I see "The square of the cosine is missing", "0.008 is missing", "the square roots" or "must follow"</summary>
#
# Compare with the formula of $f$. Return $\bar\alpha$ itself, not the factor $\sqrt{\bar\alpha}$. And $T$ is the argument of the
# function, not always 1000.
# </details>
#
# ## Exercise 2: add the noise
#
# *Difficulty*: ● ○ ○. *Minutes*: 5. *You learn*: how a batch of pictures gets a timestep for each picture.
#
# `images` and `noise` have shape (B, 1, H, W). `timesteps` has shape (B,): one timestep per picture. `alphas_cumprod` holds
# $\bar\alpha$ for all timesteps. Return $x_t$, of shape (B, 1, H, W).
#
# *Expected output*: your function draws the figure after the check. Its first column shows digits, its last column only noise.

# %% tags=["exercise-add_noise"]
def add_noise(images, noise, timesteps, alphas_cumprod):
    return ...  # your answer in place of the dots


# %%
exercises.add_noise.check(add_noise)

# %% [markdown]
# Stuck? `exercises.add_noise.hint()`, and at last `exercises.add_noise.solution()`.
#
# <details><summary>Help: I see "The size of tensor a must match the size of tensor b"</summary>
#
# `alphas_cumprod[timesteps]` has shape (B,). PyTorch compares shapes from the right, so it tries to multiply along the width. Give
# the factor four axes: (B, 1, 1, 1).
# </details>
#
# <details><summary>Help: I see "square roots are missing", "square root is missing", "The factors are swapped" or "The *squares* of the two factors"</summary>
#
# The picture's factor is $\sqrt{\bar\alpha_t}$. The noise's factor is $\sqrt{1 - \bar\alpha_t}$, which is not $1 - \sqrt{\bar\alpha_t}$.
# </details>
#
# <details><summary>Help: I see "The schedule must be the argument"</summary>
#
# Take $\bar\alpha$ from `alphas_cumprod`, and not from `noise_scheduler`: the checker's schedule has 40 timesteps.
# </details>
#
# <details><summary>Help: I see "first picture's timestep", "keeps its full strength", "The noise is missing" or "not subtracted"</summary>
#
# Each picture has a timestep of its own. Both parts have a factor, and they are added.
# </details>
#
# ## Noise takes over
#
# Now your two functions are used: three digits at ten timesteps, always with the same noise.

# %%
from course_utils.plotting import denoising_strip

cosine_alphas_cumprod = exercises.cosine_alphas_cumprod.right_or_reference(cosine_alphas_cumprod)
add_noise = exercises.add_noise.right_or_reference(add_noise)

alphas_cumprod = cosine_alphas_cumprod(1000)
print("as in diffusers:", torch.allclose(alphas_cumprod, noise_scheduler.alphas_cumprod))
timesteps = torch.tensor([0, 100, 200, 300, 400, 500, 600, 700, 800, 999])
noise = torch.randn((10, 1, 28, 28), generator=torch.Generator().manual_seed(0))
rows = [digits[[digit] * 10] for digit in (3, 5, 8)]  # the same digit ten times, (10, 1, 28, 28)
noisy = torch.stack([add_noise(row, noise[:1].expand_as(row), timesteps, alphas_cumprod) for row in rows], dim=1)
denoising_strip(noisy, timesteps.tolist(), row_names=["3", "5", "8"], title=f"Timestep t{dataset.note}")


# %% [markdown]
# (A picture can show only values from -1 to 1. Values outside are cut off in the figures, not in the computation.)
#
# **At which timestep can you no longer tell the 3 from the 5 and the 8?** Decide, then run the next cell. It lets the
# computer try, with noisy digits that it has not seen. It knows 6,000 other images of these three digits. For each of them it
# computes how probable it is that this image, with noise, gave the noisy picture. The digit with the largest sum is its
# answer. If every digit were one of these 6,000 images, no rule could do better.

# %%
def told_apart(t, train_images=6000, test_images=300):
    """The share of unseen noisy 3s, 5s and 8s whose class the best rule finds from the training images."""
    ours = torch.nonzero(torch.isin(dataset.labels, torch.tensor([3, 5, 8])))[:, 0]
    known, unseen = ours[:train_images], ours[train_images : train_images + test_images]
    x0, labels = scale_to_model(dataset.images[known]).flatten(1), dataset.labels[known]
    images = scale_to_model(dataset.images[unseen])
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(t))
    x = add_noise(images, noise, torch.full((len(images),), t), alphas_cumprod).flatten(1)
    fit = -torch.cdist(x, alphas_cumprod[t].sqrt() * x0).square() / (2 * (1 - alphas_cumprod[t]))
    evidence = torch.stack([fit[:, labels == digit].logsumexp(1) for digit in (3, 5, 8)], dim=1)
    return (torch.tensor([3, 5, 8])[evidence.argmax(1)] == dataset.labels[unseen]).float().mean().item()


if len(dataset) > 20_000:  # the sample is too small for this
    rows = [{"t": t, "right": f"{told_apart(t):.0%}"} for t in (500, 700, 800, 850, 900, 950)]
else:
    rows = [{"t": "-", "right": "this needs the real data"}]
table(rows)

# %% [markdown]
# By chance it would be right in about 33 %. The computer is still right when you see only noise. But at the noisiest timesteps
# even the computer finds little that says which digit it was. The drawing of a new digit begins exactly there, with pure noise.
# So a *label* helps most there, and the next notebook gives the network this label.
#
# ### Drag it yourself
#
# Move the slider, or click it and use the arrow keys: ten digits, always the same noise, more or less of it. (Where no kernel
# runs, for example on GitHub, you see no slider. The figure above shows the same for three digits.)

# %%
from course_utils.widgets import NoiseSlider

NoiseSlider(dataset.images[chosen], noise_scheduler)

# %% [markdown]
# ## What the network has to learn
#
# A training step takes a digit, a random timestep and random noise, and makes $x_t$. Then it asks the network: *which noise was
# added?* If you know which noise was added, you can subtract it. Ten training pairs:

# %%
t = torch.randint(0, noise_scheduler.config.num_train_timesteps, (10,), generator=torch.Generator().manual_seed(1))
pairs = torch.cat((digits, add_noise(digits, noise, t, alphas_cumprod), noise)).clamp(-1, 1) / 2 + 0.5
image_grid(pairs, 10, [f"t={step}" for step in t.tolist()], ["digit", "input", "target"], title=f"Ten training pairs{dataset.note}")

# %% [markdown]
# **A difference from the example.** The example draws timesteps with `torch.randint(0, 999, ...)`. The upper end is exclusive,
# so it never trains with $t = 999$, but sampling starts there. In this course the range is 0 to 999, both included.
#
# ## The other data set
#
# FashionMNIST has the same format and is more difficult: ten kinds of clothes, with more shades of grey. The same functions load
# and show it. Notebook 6 uses it.

# %%
fashion = load_dataset("fashion_mnist")
dataset_grid(fashion, rows=4)

# %% [markdown]
# How did you solve the exercises?

# %%
exercises.summary(1)

# %% [markdown]
# ## In three lines
#
# - The data are 60,000 pictures of 28 x 28 pixels, each with a label. The network sees them scaled to -1 ... 1.
# - The schedule gives picture and noise a factor at each timestep: at $t = 0$ nearly all is picture, at $t = 999$ nearly all noise.
# - The network learns to predict the noise that is in $x_t$, at every timestep.
#
# Next: [2. A network that is told what to draw](02_conditioned_unet.ipynb)
