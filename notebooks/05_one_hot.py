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
# An embedding *learns* which numbers the network gets for each class. Does it have to learn them? The example suggests
# something simpler, *one-hot* labels: one channel for each class, filled with ones for the class that is asked for and
# with zeros for all other classes. You write these channels, show that they are an embedding with a fixed table, and
# measure whether learning the table makes a difference.
#
# **You will learn** to write one-hot channels, to count what they cost, to test with a run whether two networks are the
# same, and when a learned embedding is useful.
#
# **You need** notebook [4](04_embedding_size.ipynb). **Time**: 30 minutes with the exercises. The trainings take about
# ten minutes of it on a laptop without a GPU.
#
# Each exercise has a cell with dots (`...`), where you write your answer, and a cell that checks it. `hint()` gives a
# hint; call it again for a stronger one. If you write no answer, the notebook uses the reference answers and still runs
# to the end.

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
# There are ten channels, and one of them is full of ones: the fourth, because classes are counted from 0. The numbers
# come from no learned table.

# %%
from course_utils import exercises
from course_utils.settings import course_settings

settings = course_settings()  # presets: smoke, laptop, full; the environment variable COURSE_PRESET chooses
settings


# %% [markdown]
# ## Exercise 1: one-hot channels
#
# *Difficulty*: ● ● ○. *Minutes*: 8. *You learn*: to give labels to a network without putting them in an order.
#
# `class_labels` is an int64 tensor (B,). Return a float tensor (B, num_classes, height, width). For each picture, the
# channel of its class is 1 everywhere, and all other channels are 0.
#
# *Expected output*: the cell after the check uses your function and prints `the same: True`.

# %% tags=["exercise-one_hot_channels"]
def one_hot_channels(class_labels, num_classes, height, width):
    return ...  # your answer in place of the dots


# %%
exercises.one_hot_channels.check(one_hot_channels)

# %% [markdown]
# Stuck? `exercises.one_hot_channels.hint()`, and at last `exercises.one_hot_channels.solution()`.
#
# <details><summary>Help: I see "A convolution needs floats"</summary>
#
# `torch.nn.functional.one_hot` returns int64. `.float()` makes it float32.
# </details>
#
# <details><summary>Help: I see "must not depend on which labels are in the batch"</summary>
#
# If you call `one_hot` with the labels only, it makes as many columns as the largest label needs. Give it the number of
# classes, too.
# </details>
#
# <details><summary>Help: I see "expanded size ... must match" or "every pixel needs the label"</summary>
#
# `one_hot` returns two axes, (B, num_classes). The result needs four. `rows[:, :, None, None]` adds two axes of length
# 1, and `expand` repeats the numbers along them.
# </details>
#
# <details><summary>Help: I see "The axes are in the wrong order", "Height and width are swapped", "the channel of the next class" or "one channel too many"</summary>
#
# The order is batch, channel, height, width. Class 0 has the first channel, and the last class has the last channel.
# The checker's pictures are not square.
# </details>
#
# <details><summary>Help: I see "Every picture gets the first picture's label."</summary>
#
# Look for `class_labels[0]` in your code. Each picture of the batch has its own label.
# </details>
#
# <details><summary>Help: I see "That is the label as a number"</summary>
#
# A channel full of 0.3 for a 3 tells the network that a 3 is more than a 2 and less than a 4. This order has no meaning
# for the shapes of digits.
# </details>
#
# Your channels against the course's channels:

# %%
one_hot_channels = exercises.one_hot_channels.right_or_reference(one_hot_channels)
labels = torch.tensor([0, 3, 3, 9])
print("the same:", torch.equal(one_hot_channels(labels, 10, 28, 28), network.class_channels(labels, 28, 28)))

# %% [markdown]
# ## Exercise 2: what does it cost?
#
# *Difficulty*: ● ● ○. *Minutes*: 5. *You learn*: to count both what is added and what is saved.
#
# The example's network has a table of ten rows with four numbers each, and a first convolution with 32 filters of 3 x 3
# weights. We replace the table by one-hot labels. How many **more** parameters does the network have then? (If it has
# fewer, your answer is negative.)
#
# *Expected output*: the table after the check shows the number of parameters of both networks.

# %% tags=["exercise-parameter_difference"]
parameter_difference = ...  # a whole number in place of the dots

# %%
exercises.parameter_difference.check(parameter_difference)

# %% [markdown]
# Stuck? `exercises.parameter_difference.hint()`, and at last `exercises.parameter_difference.solution()`.
#
# <details><summary>Help: I see "is missing in the one-hot network"</summary>
#
# You counted what grows. Something disappears, too.
# </details>
#
# <details><summary>Help: I see "That is the table only", "You added the table" or "no table at all"</summary>
#
# Two things differ. Only the embedding network has a table. And the first convolution reads another number of channels.
# </details>
#
# <details><summary>Help: I see "as if all ten channels were new" or "the sign is wrong"</summary>
#
# The embedding network has channels for the class, too: count the difference. *More* means one-hot minus embedding.
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
# ## Exercise 3: one-hot as an embedding
#
# *Difficulty*: ● ● ●. *Minutes*: 8. *You learn*: which embedding does the same as one-hot labels.
#
# Write a function that returns an `nn.Embedding`. A network with this embedding does exactly what the one-hot network
# does, and training must not change that.
#
# *Expected output*: the run after the check uses your embedding, and its largest difference is exactly 0.

# %% tags=["exercise-identity_embedding"]
def identity_embedding(num_classes):
    return ...  # your answer in place of the dots


# %%
exercises.identity_embedding.check(identity_embedding)

# %% [markdown]
# Stuck? `exercises.identity_embedding.hint()`, and at last `exercises.identity_embedding.solution()`.
#
# <details><summary>Help: I see "training would change it"</summary>
#
# The table is right at the start, but it must stay so. Look up `requires_grad`, or `freeze`.
# </details>
#
# <details><summary>Help: I see "All rows are equal", "the other diagonal" or "one class too many"</summary>
#
# Row 3 must be what `one_hot` gives for the label 3: `num_classes` numbers, with a 1 in place 3 (counted from 0).
# </details>
#
# <details><summary>Help: I see "wanted an `nn.Embedding`" or "wanted the function itself"</summary>
#
# Return the module, not its table. And give the function itself to `check`, without calling it.
# </details>
#
# ### Test it with a run
#
# We train two small networks (14 x 14 pixels, as in notebook 4) that start with the same weights. One takes one-hot
# labels, the other takes your embedding. Both see the same images with the same noise. If the two networks are the
# same, all losses must be exactly equal.

# %%
from dataclasses import replace
from functools import partial

from course_utils.data import load_dataset
from course_utils.recipes import RECIPES

digits = load_dataset("mnist")
recipe = RECIPES["small"].with_changes(max_steps=settings.train_images // 128, num_epochs=100)
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
# So one-hot labels *are* an embedding: the embedding whose table is the identity matrix and is not trained. One
# question is left: does it help to *train* the table?
#
# ## The experiment
#
# We compare one-hot labels with a learned embedding of the same size, 10. Both get the same training, with three seeds
# each. (The trainings of the learned embedding are those of size 10 in notebook 4.)
#
# The two differ at the start, too. The norm of a one-hot vector is 1. A learned vector starts
# with ten random numbers, and its norm is about 3.

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
lines = {"chance": 0.1, "real digits": scores["judge_accuracy"]}
spread_over_seeds(accuracies, "recognised (percent)", f"Class accuracy, three seeds each{digits.note}", percent=True, lines=lines)

# %% [markdown]
# **How to read it.** Do the dots of the two overlap? In the run shown here they do not: all three dots of the learned embedding are
# above those of one-hot. But the gap between the two groups is smaller than the difference between the seeds of one group. And even if
# there were no difference at all, one group would lie above the other in two of the twenty equally likely orders of six dots. So this is a
# hint that the learned embedding is better after so short a training. With three seeds we cannot tell: that would need more of them.
#
# Even if the learned embedding is better, this does not contradict what you have shown above. One-hot channels can have every effect on the network that a learned
# table of ten numbers per class can have. But the two start at different places, and only one of them trains its table.
#
# ## One-hot labels in the time embedding
#
# The fast track's network gets the label in another place (notebook 2): each class has a vector with as many numbers as the
# time embedding, and the network adds the two. Can the label be one-hot there, too?
#
# A one-hot vector has ten numbers, and the time embedding has more. So a layer must turn the ten numbers into a vector that fits:
# a matrix with ten rows. The next cell multiplies one-hot labels by a matrix, and compares the result with a look-up in the same matrix.

# %%
from torch.nn.functional import one_hot

fast_network = ClassConditionedUnet.fast()
embedding = fast_network.model.class_embedding
looked_up = embedding(labels)
multiplied = one_hot(labels, embedding.num_embeddings).float() @ embedding.weight
print(f"a table of {tuple(embedding.weight.shape)}, vectors of {tuple(looked_up.shape)}")
print("the same:", torch.equal(looked_up, multiplied))


# %% [markdown]
# A product with a one-hot vector picks one row of the matrix. So a one-hot label with a trained layer behind it *is* a learned
# embedding. In the time embedding there is nothing to choose between the two. (The table has eleven rows: the last one is for "no class".)
#
# As input channels the two differ, because there the one-hot label has a fixed table, the identity, and the layer behind it is the first
# convolution.
#
# ## When is a learned embedding useful?
#
# Ten classes are few. One-hot labels need one channel for each class. An embedding has as many channels as you choose.
# The table shows two costs: the memory for the class's channels of 128 pictures, and the parameters that belong to the
# class, in the first convolution of the example's network and in the embedding's table.

# %%
def cost(num_classes, channels, rows):
    """Memory of the class's channels in a batch, and parameters, for 28x28 pictures and 32 filters of 3 x 3."""
    megabytes = 128 * channels * 28 * 28 * 4 / 1e6
    return {"classes": num_classes, "channels": channels, "megabytes per batch": megabytes, "parameters": channels * 32 * 9 + rows}


table(
    [
        {"class enters by": name, **cost(classes, channels, rows)}
        for classes in (10, 100, 1000)
        for name, channels, rows in (("one-hot", classes, 0), ("embedding, size 10", 10, classes * 10))
    ]
)

# %% [markdown]
# With a thousand classes, the one-hot channels of a single batch fill hundreds of megabytes, and nearly all of their
# numbers are zero.
#
# There is a second difference. All one-hot vectors have the same distance from each other, and training cannot change
# that: trousers are as far from a dress as shoes are. A learned table can move the vectors of similar classes closer
# together. (In notebook 4 you looked at such distances.)
#
# ## Try the slider
#
# For the slider we train one-hot once more, four times as long, so that its digits can be read. They are small: 14 x 14 pixels. The row
# of pictures shows what to expect if no kernel runs. The cell after the slider says how you solved each exercise.

# %%
from course_utils.plotting import image_grid

longer = replace(recipe.with_changes(max_steps=4 * (settings.train_images // 128)), make_model=one_hot_small)
pipe, run = longer.train(digits, progress=False, device=settings.device)
accuracy = evaluate(pipe, settings.eval_images, settings.eval_seeds)["class_accuracy"]
print(f"{run.seconds:.0f} s, {accuracy:.0%} recognised")
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
# - One-hot channels give the label to the network as it is. The first convolution learns what to do with it.
# - They are an embedding whose table is the identity matrix and is not trained. A run gives exactly the same losses.
# - With many classes, one-hot channels need much memory, and a learned embedding does not.
#
# Next: [6. The FashionMNIST challenge](06_fashion_mnist_challenge.ipynb)
