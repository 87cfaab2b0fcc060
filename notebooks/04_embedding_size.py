# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. Exercise: how many numbers does a class need?
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/class-conditional-diffusion-course/blob/main/notebooks/04_embedding_size.ipynb)
#
# The example gives each digit a vector of four numbers, `class_emb_size = 4`, and suggests that you try another size.
# Here you do: with 1, 2, 4 and 10 numbers, three trainings each, and you are told at once whether your code and your
# guess are right.
#
# **You will learn** what the size of an embedding changes in the network and what it does not, why one training is not
# an experiment, where the learned vectors of the digits lie, and what the network draws *between* two of them.
#
# **You need** notebooks [2](02_conditioned_unet.ipynb) and [3](03_training_and_sampling.ipynb). **Time**: forty minutes
# with the exercises; the trainings take a few minutes on a laptop without a GPU.
#
# Each exercise has a cell with dots (`...`) for your answer, and a cell that checks it. `hint()` gives a hint, again and
# again a stronger one. Without an answer the notebook still runs to the end, on the reference answers.

# %%
import importlib.util, pathlib, subprocess, sys  # Find the course above this notebook, or install it, as on Colab:
sys.path[:0] = [str(p) for p in pathlib.Path("_").absolute().parents if (p / "course_utils/__init__.py").is_file()]
if not importlib.util.find_spec("course_utils"): subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "https://github.com/OWNER/class-conditional-diffusion-course/archive/HEAD.zip"])

# %%
import torch

from course_utils.pipeline import ClassConditionedPipeline
from course_utils.plotting import image_grid

trained = ClassConditionedPipeline.from_pretrained("mnist-concat")  # the example's network, embedding size 4
vectors = trained.unet.class_emb.weight[:10].detach()  # (10, 4)
exchanged = ClassConditionedPipeline(trained.unet.with_class_vectors(vectors.roll(-1, 0)), trained.scheduler, guidance_scale=1.5)
pictures = exchanged(list(range(10)), generator=torch.Generator().manual_seed(4), output_type="pt").images
image_grid(pictures, 10, range(10), title="Each label has been given the vector of the next digit")

# %% [markdown]
# We asked for 0, 1, 2 ... and the network drew 1, 2, 3 ...: it does not know labels, it knows vectors. At the end of this
# notebook you give it vectors that belong to no digit. First, what the vectors do in the network.

# %%
from course_utils import exercises
from course_utils.settings import course_settings

settings = course_settings()  # presets: smoke, laptop, full; the environment variable COURSE_PRESET chooses
settings


# %% [markdown]
# ## Exercise 1: predict before you run
#
# *Difficulty*: ● ● ○. *Minutes*: 5. *You learn*: that the size of the embedding costs next to nothing.
#
# The example's network has 1,708,201 parameters with `class_emb_size = 4`. How many **more** has it with 10? (Its first
# convolution has 32 filters of 3 x 3.) Reckon, do not run.
#
# *Expected output*: the table after the check shows the true counts; the difference between two of its rows is your
# number.
#
# <details><summary>Help: I see "something reads those numbers", "kept somewhere, too" or "without what reads it"</summary>
#
# Two places grow, and you have counted one: the table of ten rows, and the convolution that reads the channels.
# </details>
#
# <details><summary>Help: I see "how many weights does each bring", "read by all of the 32 filters" or "counts all of size 10"</summary>
#
# Each new channel comes with a 3 x 3 kernel in each of the 32 filters. And count what is new, not what size 10 has in all.
# </details>
#
# <details><summary>Help: I see "as if all its channels were new"</summary>
#
# Asked is the difference. The picture's channel, and four for the class, were there before.
# </details>

# %% tags=["exercise-extra_parameters"]
extra_parameters = ...  # a whole number in place of the dots

# %%
exercises.extra_parameters.check(extra_parameters)

# %% [markdown]
# Stuck? `exercises.extra_parameters.hint()`
#
# <details><summary>Solution</summary>
#
# ```python
# rows = 10 * (10 - 4)  # each of ten classes gets six more numbers
# first_convolution = (10 - 4) * 32 * 3 * 3  # six more channels, seen by 32 filters of 3 x 3
# extra_parameters = rows + first_convolution
# ```
# </details>

# %%
from course_utils.display import table
from course_utils.model import ClassConditionedUnet

sizes = (1, 2, 4, 10)
networks = {size: ClassConditionedUnet(class_emb_size=size) for size in sizes}
table(
    [
        {
            "class_emb_size": size,
            "channels into the UNet": network.model.conv_in.in_channels,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        }
        for size, network in networks.items()
    ]
)

# %% [markdown]
# ## The experiment
#
# Does the size matter, then? Twelve trainings shall tell: four sizes, and three random seeds each. The example's network
# would take days for that. For a *comparison* small pictures and a small network will do: `ClassConditionedUnet.small()`
# draws digits of 14 x 14 pixels, and `RECIPES["small"]` trains it in less than half a minute. All twelve see the same
# number of images; only the size and the seed differ.
#
# Before you run it, **commit yourself**: which size will draw the most recognisable digits after so short a training?

# %% tags=["guess"]
my_guess = ...  # 1, 2, 4 or 10

# %%
from dataclasses import replace
from functools import partial

from course_utils.data import load_dataset
from course_utils.evaluation import evaluate
from course_utils.recipes import RECIPES
from course_utils.training import running_mean

digits = load_dataset("mnist")
recipe = RECIPES["small"].with_changes(max_steps=settings.train_images // 80, num_epochs=100)
results = []
for size in sizes:
    for seed in range(3):
        sized = replace(recipe, make_model=partial(ClassConditionedUnet.small, class_emb_size=size))
        pipe, run = sized.train(digits, seed, progress=False, device=settings.device)
        scores = evaluate(pipe, settings.eval_images, settings.eval_seeds)
        results.append({"size": size, "seed": seed, "pipe": pipe, "loss": running_mean(run.losses), "scores": scores})
        print(f"size {size:2}, seed {seed}: {run.seconds:4.0f} s, {scores['class_accuracy']:.0%} recognised")

# %% [markdown]
# One line per training is hard to read. The same as a table: the mean over the seeds, and in parentheses the smallest and
# the largest.

# %%
from course_utils.display import mean_and_range


def of_size(size, read):
    """What `read` finds in each result of that size."""
    return [read(result) for result in results if result["size"] == size]


table(
    [
        {
            "class_emb_size": size,
            "class accuracy": mean_and_range(of_size(size, lambda r: r["scores"]["class_accuracy"]), ".0%"),
            "loss": mean_and_range(of_size(size, lambda r: r["loss"]), ".4f"),
        }
        for size in sizes
    ]
)

# %%
from course_utils.plotting import spread_over_seeds

accuracies = {f"size {size}": of_size(size, lambda r: r["scores"]["class_accuracy"]) for size in sizes}
spread_over_seeds(accuracies, "recognised (percent)", f"Class accuracy by embedding size{digits.note}", percent=True)

# %%
means = {size: sum(values) / len(values) for size, values in zip(sizes, accuracies.values())}
best = max(means, key=means.get)
if my_guess is ...:
    print(f"You made no guess. The best here is size {best}, on average over the seeds.")
else:
    print(f"You guessed size {my_guess}; the best here is size {best}, on average over the seeds.")

# %% [markdown]
# **How to read it.** Look at the dots first: trainings that differ only in the seed end at different values. A difference
# between two sizes counts only where it is larger than that.
#
# At the `laptop` preset size 10 is ahead of all others, and size 4 is ahead of 1 and 2, by more than the seeds differ. The dots
# of 1 and 2 overlap: three seeds cannot tell these two apart. The loss shows less: most of it is noise that no network can
# predict (notebook 3).
#
# Why are ten numbers better, when exercise 1 showed that they add almost no parameters? A guess: the first convolution
# computes weighted sums of the numbers. From ten numbers it can give each digit any value it likes: for example, a channel
# that is high for 0, 3 and 8 and low for the rest. From one number it can only make more or less of the same. The layers after it
# can do the rest, but they have to learn that first.
#
# ### Can one number do?
#
# So give it longer: size 1 again, with four times the training.

# %%
longer = replace(
    recipe.with_changes(max_steps=4 * (settings.train_images // 80)),
    make_model=partial(ClassConditionedUnet.small, class_emb_size=1),
)
one_number, run = longer.train(digits, progress=False, device=settings.device)
scores = evaluate(one_number, settings.eval_images, settings.eval_seeds)
print(f"{run.seconds:.0f} s, {scores['class_accuracy']:.0%} recognised")

# %%
from course_utils.plotting import confusion, embedding_map

numbers = one_number.unet.class_emb.weight
embedding_map(numbers, digits.class_names, "Size 1: each digit's only number")

# %%
order = numbers[:, 0].argsort().tolist()
counts = torch.tensor(scores["confusion"])[order][:, order]
confusion(counts.tolist(), [digits.class_names[label] for label in order], "Digits in the order of their numbers (percent)")

# %% [markdown]
# One number can do: far more digits are recognised than after the short training. The digits stand here in the order of
# their numbers. A mistake right beside the diagonal means that a digit was drawn as its *neighbour on the line*. On a line a
# digit has only two neighbours; ten numbers leave more room. (Size 10 has not had the longer training, so this does not say
# which of the two would be better then.)
#
# ### Which digits sit together?
#
# In the example's network, which was trained long enough to draw good digits, with four numbers each:

# %%
embedding_map(trained.unet.class_emb.weight[:10], digits.class_names, "The example's network: ten vectors of four numbers")

# %%
distances = torch.cdist(trained.unet.class_emb.weight[:10].detach(), trained.unet.class_emb.weight[:10].detach())
nearest = (distances + torch.eye(10) * 1e9).argmin(1).tolist()
table(
    [
        {"digit": digit, "nearest": nearest[digit], "distance": distances[digit, nearest[digit]].item(), "mean distance": distances[digit].sum().item() / 9}
        for digit in range(10)
    ]
)


# %% [markdown]
# Look at the neighbours. 3 and 8 are nearest to each other, which fits how they look; 2 and 6 are, too, which does not
# strike the eye. The 1, the thinnest of the digits, stands farthest from all the others. Do not read too much into it: the
# vectors began at random, training moves them only as far as the task needs, and the map shows two directions of four
# (4 and 9 are farther apart than they look; the table has the true distances).
#
# ## Exercise 2: between two digits
#
# *Difficulty*: ● ● ○. *Minutes*: 5. *You learn*: that a class is a point, and that there are points between.
#
# `embedding` is an `nn.Embedding`; `start` and `end` are two labels; `share` goes from 0 to 1. Return the vector, (C,),
# that lies so far on the straight way from the vector of `start` to that of `end`.
#
# *Expected output*: a correct answer drives the panel below. At share 0 it draws the first digit, at 1 the second.
#
# <details><summary>Help: I see "You mixed the labels"</summary>
#
# Halfway between the labels 3 and 8 lies 5.5, which is no digit. Look up both vectors first, then mix *them*.
# </details>
#
# <details><summary>Help: I see "Start and end are swapped", "halfway, whatever the share" or "grows too long"</summary>
#
# The two weights are `1 - share` and `share`, in this order, and add up to 1.
# </details>
#
# <details><summary>Help: I see "is not subscriptable" or "an axis too many" or "columns"</summary>
#
# The table is `embedding.weight`, (classes, C), and `embedding.weight[start]` is one row of it, (C,).
# </details>

# %% tags=["exercise-between"]
def between(embedding, start, end, share):
    return ...  # your answer in place of the dots


# %%
exercises.between.check(between)

# %% [markdown]
# Stuck? `exercises.between.hint()`
#
# <details><summary>Solution</summary>
#
# ```python
# def between(embedding, start, end, share):
#     first, second = embedding.weight[start], embedding.weight[end]  # (C,) each
#     return (1 - share) * first + share * second
# ```
# </details>
#
# Your function, in eleven steps from the vector of the 3 to that of the 8:

# %%
between = exercises.between.right_or_reference(between)
shares = [step / 10 for step in range(11)]
mixtures = torch.stack([between(trained.unet.class_emb, 3, 8, share) for share in shares]).detach()
between_them = ClassConditionedPipeline(trained.unet.with_class_vectors(mixtures), trained.scheduler, guidance_scale=1.5)
same_noise = [between_them([i], generator=torch.Generator().manual_seed(4), output_type="pt").images for i in range(11)]
image_grid(torch.cat(same_noise), 11, [f"{share:.0%}" for share in shares], title="From the vector of the 3 to that of the 8")

# %% [markdown]
# Choose two digits, and drag:

# %%
from course_utils.widgets import EmbeddingMixer

EmbeddingMixer(trained, mix=between)

# %% [markdown]
# Where does one digit turn into the other? Is it a jump, or are there pictures that are a little of both? *Resample* a
# few times: whether halfway looks like a digit at all depends on the noise, and on what else lies near.

# %%
exercises.summary(4)

# %% [markdown]
# ## In three lines
#
# - The size of the embedding changes the first convolution and nothing else: 298 parameters for each number.
# - After a short training more numbers are heard sooner; one training a size would not have shown it, three do.
# - A class is a point among others, and the network draws something for every point.
#
# Next: [5. One-hot labels](05_one_hot.ipynb)
