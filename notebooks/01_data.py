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
# A diffusion model learns to take noise away, a little at a time, until a picture is left. Before it can learn that, it
# needs pictures, and a way to spoil them. This notebook has both.
#
# **You will learn** what MNIST holds and how this course stores it, why pixels are scaled to the range from -1 to 1, and
# how noise takes over a picture step by step.
#
# **You need** some Python; nothing about diffusion. **Time**: ten minutes to read, a few seconds to run on a laptop.

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
# Those are handwritten digits, a column for each class. The first run downloads them (about 12 MB) and compares every
# file with its known checksum; later runs read them from disk. Without a network you get a small stand-in that the
# course's own model drew, and the titles of the figures say so (that is what `dataset.note` is for; otherwise it is
# empty).
#
# ## What is in it
#
# `dataset[i]` is one image and its label, as PyTorch expects of a data set.

# %%
image, label = dataset[0]
print(f"{len(dataset):,} images; the first is {tuple(image.shape)} {image.dtype}, from {image.min():g} to {image.max():g}, label {label}")

# %% [markdown]
# One channel, 28 rows, 28 columns. Here is a part of that image as the numbers it is made of: 0 is paper, 1 is full ink.

# %%
import torch

torch.set_printoptions(precision=1, sci_mode=False, linewidth=160)
image[0, 6:16, 8:22]

# %% [markdown]
# How many images has each class? Close to a tenth each: no digit is rare, so the model will get to know them all.

# %%
from course_utils.display import table

counts = torch.bincount(dataset.labels).tolist()
table([{"digit": name, "images": count} for name, count in zip(dataset.class_names, counts)])

# %% [markdown]
# ### All in one tensor
#
# `dataset.images` holds every pixel as one byte. The notebook that this course follows ([class-conditioned
# example](https://github.com/huggingface/diffusion-models-class/blob/main/unit2/02_class_conditioned_diffusion_model_example.ipynb)
# of the Hugging Face diffusion models class) lets a `DataLoader` decode one image at a time. A whole batch picked out of
# one tensor comes out the same, and leaves the processor to the network.

# %%
print(f"{tuple(dataset.images.shape)} {dataset.images.dtype}: {dataset.images.numel() / 1e6:.0f} MB")

# %% [markdown]
# ## From bytes to the range -1 to 1
#
# The noise we are about to add is centred on zero: as often negative as positive. Pictures should be centred there
# as well. So the network never sees bytes, nor 0 to 1, but -1 (paper) to 1 (ink):

# %%
from course_utils.data import scale_to_model
from course_utils.display import show_source

show_source(scale_to_model)

# %%
chosen = torch.stack([torch.nonzero(dataset.labels == digit)[0, 0] for digit in range(10)])
digits = scale_to_model(dataset.images[chosen])  # (10, 1, 28, 28)
print(f"{tuple(digits.shape)} from {digits.min():g} to {digits.max():g}")

# %% [markdown]
# ## Noise takes over
#
# A *noise scheduler* says how much noise a picture has at each *timestep* $t$. At $t$ the picture $x_0$ has become
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\; \epsilon,\qquad \epsilon \sim \mathcal{N}(0, 1)$$
#
# a share of the picture plus a share of noise $\epsilon$. We use the scheduler of the example: 1000 timesteps, with the
# cosine schedule, which diffusers calls `squaredcos_cap_v2`.

# %%
from course_utils.plotting import noise_levels
from course_utils.sampling import make_scheduler

noise_scheduler = make_scheduler("ddpm")
noise_levels(noise_scheduler)

# %% [markdown]
# The squares of the two shares add up to one, so the whole keeps its strength: at $t = 0$ it is all picture, at
# $t = 999$ all noise. In pictures:

# %%
from course_utils.plotting import denoising_strip

timesteps = torch.tensor([0, 100, 200, 300, 400, 500, 600, 700, 800, 999])
noise = torch.randn((10, 1, 28, 28), generator=torch.Generator().manual_seed(0))
rows = [digits[[digit] * 10] for digit in (3, 5, 8)]  # the same digit ten times, (10, 1, 28, 28)
spoilt = torch.stack([noise_scheduler.add_noise(row, noise[:1].expand_as(row), timesteps) for row in rows], dim=1)
denoising_strip(spoilt, timesteps.tolist(), row_names=["3", "5", "8"], title=f"Timestep t{dataset.note}")

# %% [markdown]
# Look for the timestep at which you can no longer tell the 3 from the 5 and the 8. Up to there, the network can see
# which digit it is working on. Beyond it, the picture alone does not say, and that is where a *label* helps most.
# The next notebooks give the network that label.
#
# ### Drag it yourself
#
# Move the slider (or click it and use the arrow keys): the same ten digits, the same noise, more or less of it.

# %%
from course_utils.widgets import NoiseSlider

NoiseSlider(dataset.images[chosen], noise_scheduler)

# %% [markdown]
# ## What the network will have to learn
#
# Training takes a digit, a random timestep and random noise, makes $x_t$, and asks the network *which noise was that?*
# Whoever can tell the noise can take it away. This is one training pair for each of ten digits:

# %%
from course_utils.plotting import image_grid

t = torch.randint(0, noise_scheduler.config.num_train_timesteps, (10,), generator=torch.Generator().manual_seed(1))
noisy = noise_scheduler.add_noise(digits, noise, t)
pairs = torch.cat((digits, noisy, noise)).clamp(-1, 1) / 2 + 0.5
image_grid(pairs, 10, [f"t={step}" for step in t.tolist()], ["digit", "network sees", "should answer"], title=dataset.note)

# %% [markdown]
# **A departure from the example.** It draws timesteps with `torch.randint(0, 999, ...)`. The upper end is exclusive, so
# it never trains on $t = 999$, and yet sampling starts exactly there. Above, and in this course's training loop, the
# range comes from the scheduler: 0 to 999, both included.
#
# ## The other data set
#
# MNIST is easy. FashionMNIST has the same format, and is not: ten kinds of clothes, with more shades of grey. The same
# functions load and show it.

# %%
fashion = load_dataset("fashion_mnist")
dataset_grid(fashion, rows=4)

# %% [markdown]
# ## In three lines
#
# - The data are 60,000 pictures of 28 x 28 bytes with a label each; the network sees them scaled to -1 ... 1.
# - The noise scheduler mixes picture and noise; at $t = 0$ all is picture, at $t = 999$ all is noise.
# - The network is trained to tell the noise from the mixture, at every timestep.
#
# Next: [2. A network that is told what to draw](02_conditioned_unet.ipynb)
