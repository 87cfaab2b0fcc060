# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Exercise: one-hot labels
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/class-conditional-diffusion-course/blob/main/notebooks/05_one_hot.ipynb)
#
# An embedding *learns* what to tell the network about each class. Does it have to? The example suggests trying the
# plainest thing instead: one channel for each class, full of ones for the class that is asked for, and of zeros
# otherwise. You write it, prove that it is an embedding in disguise, and measure what learning the embedding is worth.
#
# **You will learn** to write one-hot channels, to count what they cost, to prove by a run that two networks are the same
# network, and when a learned embedding earns its keep.
#
# **You need** notebook [4](04_embedding_size.ipynb). **Time**: thirty minutes with the exercises; the trainings take a
# few minutes on a laptop without a GPU.
#
# Each exercise has a cell with dots (`...`) for your answer, and a cell that checks it. `hint()` gives a hint, again and
# again a stronger one. Without an answer the notebook still runs to the end, on the reference answers.

# %%
import importlib.util, pathlib, subprocess, sys  # Find the course above this notebook, or install it, as on Colab:
sys.path[:0] = [str(p) for p in pathlib.Path("_").absolute().parents if (p / "course_utils/__init__.py").is_file()]
if not importlib.util.find_spec("course_utils"): subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "https://github.com/OWNER/class-conditional-diffusion-course/archive/HEAD.zip"])

# %%
import torch

from course_utils.model import ClassConditionedUnet
from course_utils.plotting import class_channels

network = ClassConditionedUnet(conditioning="one_hot")
class_channels(network.class_channels(torch.tensor([3]), 28, 28)[0], title="What a one-hot network is told about a 3")

# %% [markdown]
# Ten channels, one of them on: the fourth, because classes are counted from 0. Nothing is looked up in a learned table.

# %%
from course_utils import exercises
from course_utils.settings import course_settings

settings = course_settings()  # presets: smoke, laptop, full; the environment variable COURSE_PRESET chooses
settings


# %% [markdown]
# ## Exercise 1: one-hot channels
#
# *Difficulty*: ● ● ○. *Minutes*: 8. *You learn*: to turn labels into numbers that claim nothing, not even an order.
#
# `class_labels` is an int64 tensor (B,). Return a float tensor (B, num_classes, height, width): in each picture's stack
# the channel of its class is 1 everywhere, the others are 0.
#
# *Expected output*: a correct answer is used by the cell after the check, which prints `the same: True`.
#
# <details><summary>Help: I see "A convolution wants floats"</summary>
#
# `torch.nn.functional.one_hot` returns int64. `.float()` turns it into float32.
# </details>
#
# <details><summary>Help: I see "must not depend on which labels happen to be in the batch"</summary>
#
# Called with the labels alone, `one_hot` makes as many columns as the largest label needs. Tell it the number of classes.
# </details>
#
# <details><summary>Help: I see "expanded size ... must match" or "every pixel must be told"</summary>
#
# Rows (B, num_classes) have two axes; a picture wants four. `rows[:, :, None, None]` adds two of length 1, and `expand`
# repeats along them.
# </details>
#
# <details><summary>Help: I see "The axes are mixed up", "Height and width are swapped", "a place too far" or "a channel too many"</summary>
#
# The order is batch, channel, height, width; class 0 has the first channel, and the last class the last one. The
# checker's pictures are not square.
# </details>
#
# <details><summary>Help: I see "Every picture gets the first picture's label."</summary>
#
# Look for a `class_labels[0]`: each picture of the batch has a label of its own.
# </details>
#
# <details><summary>Help: I see "That is the label as a number"</summary>
#
# A channel full of 0.3 for a 3 says that a 3 is more than a 2 and less than a 4. For handwriting that means nothing.
# </details>

# %% tags=["exercise-one_hot_channels"]
def one_hot_channels(class_labels, num_classes, height, width):
    return ...  # your answer in place of the dots


# %%
exercises.one_hot_channels.check(one_hot_channels)

# %% [markdown]
# Stuck? `exercises.one_hot_channels.hint()`
#
# <details><summary>Solution</summary>
#
# ```python
# from torch.nn import functional as F
#
#
# def one_hot_channels(class_labels, num_classes, height, width):
#     rows = F.one_hot(class_labels, num_classes).float()  # (B, num_classes)
#     return rows[:, :, None, None].expand(-1, -1, height, width)
# ```
# </details>
#
# Yours against the course's:

# %%
one_hot_channels = exercises.one_hot_channels.right_or_reference(one_hot_channels)
labels = torch.tensor([0, 3, 3, 9])
print("the same:", torch.equal(one_hot_channels(labels, 10, 28, 28), network.class_channels(labels, 28, 28)))

# %% [markdown]
# ## Exercise 2: what does it cost?
#
# *Difficulty*: ● ● ○. *Minutes*: 5. *You learn*: to tell what is saved from what is spent.
#
# The example's network has a table of ten rows of four numbers, and a first convolution with 32 filters of 3 x 3. How
# many **more** parameters has it with one-hot labels instead? (Fewer would be a negative number.)
#
# *Expected output*: the table after the check shows the true counts.
#
# <details><summary>Help: I see "what does the one-hot network do without?"</summary>
#
# You counted what grows. Something disappears.
# </details>
#
# <details><summary>Help: I see "That is the table" or "The table was added" or "no table at all"</summary>
#
# The learned table counts on the embedding's side only, and is one of two things that differ.
# </details>
#
# <details><summary>Help: I see "as if all ten channels were new" or "the sign is not"</summary>
#
# The embedding had channels for the class, too: count the difference. And *more* means one-hot minus embedding.
# </details>

# %% tags=["exercise-parameter_difference"]
parameter_difference = ...  # a whole number in place of the dots

# %%
exercises.parameter_difference.check(parameter_difference)

# %% [markdown]
# Stuck? `exercises.parameter_difference.hint()`
#
# <details><summary>Solution</summary>
#
# ```python
# first_convolution = (10 - 4) * 32 * 3 * 3  # one-hot: ten channels for the class in place of four
# table = 10 * 4  # but no learned table
# parameter_difference = first_convolution - table
# ```
# </details>

# %%
from course_utils.display import table

networks = {
    "embedding, size 4": ClassConditionedUnet(),
    "embedding, size 10": ClassConditionedUnet(class_emb_size=10),
    "one-hot": network,
}
table(
    [
        {
            "class enters by": name,
            "channels into the UNet": each.model.conv_in.in_channels,
            "parameters": sum(parameter.numel() for parameter in each.parameters()),
        }
        for name, each in networks.items()
    ]
)


# %% [markdown]
# ## Exercise 3: an embedding in disguise
#
# *Difficulty*: ● ● ●. *Minutes*: 8. *You learn*: what one-hot labels are in the language of embeddings.
#
# Make the `nn.Embedding` with which an embedding network does exactly what the one-hot network does, and goes on doing it
# however long it is trained.
#
# *Expected output*: a correct answer goes into the run below, whose largest difference is exactly 0.
#
# <details><summary>Help: I see "training would change it"</summary>
#
# The table is right at the start. Its weight must not be trained: see `requires_grad`, or `freeze`.
# </details>
#
# <details><summary>Help: I see "All rows are alike" or "the other diagonal" or "a class too many"</summary>
#
# Row 3 must be what your function of exercise 1 gives for a 3: ten numbers, with the one in place 3.
# </details>
#
# <details><summary>Help: I see "wanted an `nn.Embedding`" or "wanted the function itself"</summary>
#
# Return the module, not its table; and hand the function to `check` without calling it.
# </details>

# %% tags=["exercise-identity_embedding"]
def identity_embedding(num_classes):
    return ...  # your answer in place of the dots


# %%
exercises.identity_embedding.check(identity_embedding)

# %% [markdown]
# Stuck? `exercises.identity_embedding.hint()`
#
# <details><summary>Solution</summary>
#
# ```python
# import torch
# from torch import nn
#
#
# def identity_embedding(num_classes):
#     return nn.Embedding.from_pretrained(torch.eye(num_classes), freeze=True)
# ```
# </details>
#
# ### The proof, by a run
#
# Two small networks (14 x 14 pixels, as in notebook 4) that start with the same weights: one takes one-hot labels, the
# other your embedding. Both are trained on the same images with the same noise. If they are the same network, every loss
# must be the same, to the last bit.

# %%
from dataclasses import replace
from functools import partial

from course_utils.data import load_dataset
from course_utils.recipes import RECIPES

digits = load_dataset("mnist")
recipe = RECIPES["small"].with_changes(max_steps=settings.train_images // 50, num_epochs=100)
short = recipe.with_changes(max_steps=settings.train_images // 256)
identity = exercises.identity_embedding.right_or_reference(identity_embedding)(10)


def in_disguise():
    """A small network with the identity for an embedding, and the UNet of the one-hot network."""
    torch.manual_seed(0)
    one_hot = ClassConditionedUnet.small(conditioning="one_hot")
    model = ClassConditionedUnet.small(class_emb_size=10)
    model.model.load_state_dict(one_hot.model.state_dict())
    model.class_emb = identity
    return model


one_hot_small = partial(ClassConditionedUnet.small, conditioning="one_hot")
_, one_hot_run = replace(short, make_model=one_hot_small).train(digits, progress=False, device=settings.device)
_, disguised_run = replace(short, make_model=in_disguise).train(digits, progress=False, device=settings.device)
largest = max(abs(a - b) for a, b in zip(one_hot_run.losses, disguised_run.losses))
print(f"{len(one_hot_run.losses)} steps, the losses begin {[round(loss, 4) for loss in one_hot_run.losses[:4]]}")
print(f"largest difference between the two runs: {largest}")

# %% [markdown]
# So one-hot is not something else than an embedding: it is the embedding whose table is the identity, and stays so.
# What is left to ask is whether *training* the table is worth anything.
#
# ## The experiment
#
# One-hot against a learned embedding of the same size, 10, at equal training; three seeds each, because one training is
# not an experiment.

# %%
from course_utils.evaluation import evaluate
from course_utils.training import running_mean

ways = {"one-hot": one_hot_small, "learned, size 10": partial(ClassConditionedUnet.small, class_emb_size=10)}
results = {name: [] for name in ways}
for name, make_model in ways.items():
    for seed in range(3):
        pipe, run = replace(recipe, make_model=make_model).train(digits, seed, progress=False, device=settings.device)
        scores = evaluate(pipe, settings.eval_images, settings.eval_seeds)
        results[name].append({"pipe": pipe, "loss": running_mean(run.losses), "accuracy": scores["class_accuracy"]})
        print(f"{name}, seed {seed}: {run.seconds:.0f} s, {scores['class_accuracy']:.0%} recognised")

# %%
from course_utils.display import mean_and_range

table(
    [
        {
            "class enters by": name,
            "class accuracy": mean_and_range([each["accuracy"] for each in found], ".0%"),
            "loss": mean_and_range([each["loss"] for each in found], ".4f"),
        }
        for name, found in results.items()
    ]
)

# %%
from course_utils.plotting import spread_over_seeds

accuracies = {name: [each["accuracy"] for each in found] for name, found in results.items()}
spread_over_seeds(accuracies, "recognised (percent)", f"Class accuracy, three seeds each{digits.note}", percent=True)


# %% [markdown]
# Where the dots of the two overlap, as they do at the `laptop` preset, three seeds do not tell the two apart: a learned
# table of ten numbers a class buys nothing that the first convolution could not learn by itself. It reads both, after all,
# with weights of its own.
#
# ## When does a learned embedding earn its keep?
#
# Ten classes are few. One-hot labels need a channel for each class, an embedding as many as you like. What a batch of
# 128 pictures, and the first convolution of the example's network, have to bear:

# %%
def cost(num_classes, channels, rows):
    """Memory of the class's channels in a batch, and parameters, for 28x28 pictures and 32 filters of 3 x 3."""
    megabytes = 128 * channels * 28 * 28 * 4 / 1e6
    return {"classes": num_classes, "channels": channels, "megabytes a batch": megabytes, "parameters": channels * 32 * 9 + rows}


table(
    [
        {"class enters by": name, **cost(classes, channels, rows)}
        for classes in (10, 100, 1000)
        for name, channels, rows in (("one-hot", classes, 0), ("embedding, size 10", 10, classes * 10))
    ]
)

# %% [markdown]
# With a thousand classes the one-hot channels of a single batch fill hundreds of megabytes, nearly all of them zeros.
# And one-hot vectors are all equally far from each other, for ever: a trouser is as unlike a dress as a shoe. A learned
# table can put like classes side by side, and lets you ask for what lies between, as you did in notebook 4.
#
# ## Drag it
#
# The last one-hot network of the experiment, for you to play with. Its digits are small (14 x 14) and its training was
# short. The row shows what to expect where no kernel runs.

# %%
from course_utils.plotting import image_grid

pipe = results["one-hot"][-1]["pipe"]
row = [pipe([digit], generator=torch.Generator().manual_seed(4), output_type="pt").images for digit in range(10)]
image_grid(torch.cat(row), 10, pipe.class_names, title="Dragging the slider from 0 to 9")

# %%
from course_utils.widgets import ClassPicker

ClassPicker(pipe)

# %%
exercises.summary(5)

# %% [markdown]
# ## In three lines
#
# - One-hot channels hand the label over as it is; the first convolution makes sense of it.
# - They are an embedding whose table is the identity and is not trained, which a run proves to the last bit.
# - A learned table pays when classes are many, or alike.
#
# Next: [6. The FashionMNIST challenge](06_fashion_mnist_challenge.ipynb)
