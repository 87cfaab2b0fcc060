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
# The Hugging Face example gives each digit a vector of four numbers, `class_emb_size = 4`, and suggests that you try
# other sizes. In this notebook you try 1, 2, 4 and 10 numbers, with three trainings for each size.
#
# **You will learn** which parts of the network depend on the size of an embedding, why one training is not enough for a
# comparison, where the learned vectors of the digits lie, and what the network draws for a vector *between* two digits.
#
# **You need** notebooks [2](02_conditioned_unet.ipynb) and [3](03_training_and_sampling.ipynb). **Time**: 40 minutes
# with the exercises. The trainings take ten to fifteen minutes of it on a laptop without a GPU.
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

from course_utils.pipeline import ClassConditionedPipeline
from course_utils.plotting import image_grid

trained = ClassConditionedPipeline.from_pretrained("mnist-concat")  # the example's network, embedding size 4
vectors = trained.unet.class_emb.weight[:10].detach()  # (10, 4)
exchanged = ClassConditionedPipeline(trained.unet.with_class_vectors(vectors.roll(-1, 0)), trained.scheduler, guidance_scale=1.5)
pictures = exchanged(list(range(10)), generator=torch.Generator().manual_seed(4), output_type="pt").images
image_grid(pictures, 10, range(10), title="Each label has been given the vector of the next digit")

# %% [markdown]
# We asked for 0, 1, 2 ..., and the network drew 1, 2, 3 ... It does not see labels. It sees only vectors. At the end of
# this notebook you give it vectors that belong to no digit. First we look at what the size of the vectors changes in
# the network.

# %%
from course_utils import exercises
from course_utils.settings import course_settings

settings = course_settings()  # presets: smoke, laptop, full; the environment variable COURSE_PRESET chooses
settings

# %% [markdown]
# ## Exercise 1: predict before you run
#
# *Difficulty*: ● ● ○. *Minutes*: 5. *You learn*: that a larger embedding adds very few parameters.
#
# The example's network has 1,708,201 parameters with `class_emb_size = 4`. How many parameters are **added** when the
# size grows from 4 to 10? The first convolution has 32 filters of 3 x 3. Work it out on paper, without running code.
#
# *Expected output*: the table after the check shows the number of parameters for each size. The difference between its
# rows for size 4 and size 10 is your number.

# %% tags=["exercise-extra_parameters"]
extra_parameters = ...  # a whole number in place of the dots

# %%
exercises.extra_parameters.check(extra_parameters)

# %% [markdown]
# Stuck? `exercises.extra_parameters.hint()`, and at last `exercises.extra_parameters.solution()`.
#
# <details><summary>Help: I see "reads those numbers", "must also be stored" or "leaves out the layer that reads it"</summary>
#
# Two parts of the network grow, and you counted only one of them. One part is the table with ten rows. The other part
# is the convolution that reads the channels.
# </details>
#
# <details><summary>Help: I see "How many weights does each of them need" or "3 x 3 weights for each new channel"</summary>
#
# Each new channel needs 3 x 3 weights in each of the 32 filters.
# </details>
#
# <details><summary>Help: I see "as if all its channels were new" or "counts everything at size 10"</summary>
#
# Count only what is added. The channel of the picture and four channels for the class were there before.
# </details>

# %%
from course_utils.display import table
from course_utils.model import ClassConditionedUnet

sizes = (1, 2, 4, 10)  # 1, 10, and any sizes between them
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
# Does the size change how good the digits are? We run twelve trainings: four sizes, each with three random seeds. With
# the example's network and its ten epochs this would take days. For a *comparison* we take small pictures and a small
# network: `ClassConditionedUnet.small()` draws digits of 14 x 14 pixels. At the preset `laptop` one training takes less
# than a minute. All twelve trainings see the same number of images. Only the size and the seed differ. (You can choose
# other sizes from 1 to 10: change `sizes` in the cell above. Keep 1 and 10, because the text compares them.)
#
# The small network differs from the example's network in more than its size. It has no attention, and each of its
# GroupNorms has a single group, so that no GroupNorm removes the label (notebook 2). The experiment tells us about this
# small network. The example's network may behave differently.
#
# Before you run the experiment, **make a guess**: which size draws the most recognisable digits after such a short
# training?

# %% tags=["guess"]
my_guess = ...  # one of the sizes

# %%
from dataclasses import replace
from functools import partial

from course_utils.data import load_dataset
from course_utils.evaluation import evaluate
from course_utils.recipes import RECIPES
from course_utils.training import running_mean

digits = load_dataset("mnist")
recipe = RECIPES["small"].with_changes(max_steps=settings.train_images // 128, num_epochs=100)
results = []
for size in sizes:
    for seed in range(3):
        sized = replace(recipe, make_model=partial(ClassConditionedUnet.small, class_emb_size=size))
        pipe, run = sized.train(digits, seed, progress=False, device=settings.device)
        scores = evaluate(pipe, settings.eval_images, settings.eval_seeds)
        results.append({"size": size, "seed": seed, "pipe": pipe, "loss": running_mean(run.losses), "scores": scores})
        print(f"size {size:2}, seed {seed}: {run.seconds:4.0f} s, {scores['class_accuracy']:.0%} recognised")

# %% [markdown]
# One line per training is hard to read. The table shows the mean over the seeds and, in parentheses, the smallest and
# the largest value.

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
real = results[0]["scores"]["judge_accuracy"]  # of real digits the judge recognises so many
lines = {"chance": 0.1, "real digits": real}
spread_over_seeds(accuracies, "recognised (percent)", f"Class accuracy by embedding size{digits.note}", percent=True, lines=lines)

# %% [markdown]
# What do these networks draw? One training of each size, always from the same noise:

# %%
first = [result["pipe"] for result in results if result["seed"] == 0]
rows = [pipe(list(range(10)), generator=torch.Generator().manual_seed(0), output_type="pt").images for pipe in first]
image_grid(torch.cat(rows), 10, range(10), [f"size {size}" for size in sizes], title="After a short training, 14 x 14 pixels")

# %%
means = {size: sum(values) / len(values) for size, values in zip(sizes, accuracies.values())}
best = max(means, key=means.get)
if my_guess is ...:
    print(f"You made no guess. The best here is size {best}, on average over the seeds.")
else:
    print(f"You guessed size {my_guess}; the best here is size {best}, on average over the seeds.")


# %% [markdown]
# **How to read it.** Look at the dots of one size first. These trainings differ only in the seed, and still they end at
# different values. A difference between two sizes counts only if it is larger than the differences between seeds.
#
# Compare the dots with 10 percent, too. A network that ignores the label draws the right digit only by chance, in about
# 10 percent of the pictures.
#
# Which sizes can you tell apart? If the dots of two sizes overlap, three seeds are not enough to say which size is better. In the run shown
# here the dots of sizes 4 and 10 overlap: we cannot tell these two apart. But all dots of size 1 are below those of size 2, and all dots
# of size 2 are below those of sizes 4 and 10. In the table, the loss differs less between the sizes than the class accuracy does: most of
# the loss is noise that no network can predict (notebook 3).
#
# Why can ten numbers be better than one, although they add almost no parameters? Two guesses:
#
# - **More numbers.** The first convolution computes weighted sums of the numbers. From ten numbers it can give each digit any
#   value: for example, a channel that is high for 0, 3 and 8 and low for the other digits. From one number it can only compute a
#   multiple of this number, plus a constant. Later layers can do the rest, but they have to learn it first.
# - **Larger numbers.** The numbers start at random values. A vector of ten random numbers is on average about
#   $\sqrt{10}$ times as long (its norm) as a vector of one number. So at the start of the training it has a stronger effect on the network.
#
# ### Which guess is right?
#
# A *control experiment* tells them apart: size 1 again, but each number is multiplied by $\sqrt{10}$ at the start. If the length of the
# vector matters, this training must be better than size 1. If the number of numbers matters, it should not be better.

# %%
def with_larger_numbers():
    """The small network with one number per class, as large as a vector of ten numbers is long."""
    network = ClassConditionedUnet.small(class_emb_size=1)
    with torch.no_grad():
        network.class_emb.weight.mul_(10**0.5)
    return network


louder = []
for seed in range(3):
    pipe, run = replace(recipe, make_model=with_larger_numbers).train(digits, seed, progress=False, device=settings.device)
    louder.append(evaluate(pipe, settings.eval_images, settings.eval_seeds)["class_accuracy"])
table(
    [
        {"trainings": name, "class accuracy": mean_and_range(values, ".0%")}
        for name, values in {"size 1": accuracies["size 1"], "size 1, larger numbers": louder, "size 10": accuracies["size 10"]}.items()
    ]
)

# %% [markdown]
# Do the larger numbers help? In the run shown here the ranges of both kinds of size 1 overlap, so we cannot tell. But with larger numbers or
# without, size 1 stays far behind size 10. So the length of the vector explains at most a small part of the difference. This speaks for
# the first guess. (It does not prove it: there may be a third reason that we have not thought of.)
#
# ### Is one number enough?
#
# We train sizes 1 and 10 again, four times as long, with one seed each.

# %%
longer = {}
for size in (1, 10):
    sized = recipe.with_changes(max_steps=4 * (settings.train_images // 128))
    sized = replace(sized, make_model=partial(ClassConditionedUnet.small, class_emb_size=size))
    pipe, run = sized.train(digits, progress=False, device=settings.device)
    longer[size] = {"pipe": pipe, "scores": evaluate(pipe, settings.eval_images, settings.eval_seeds)}
    print(f"size {size:2}: {run.seconds:4.0f} s, {longer[size]['scores']['class_accuracy']:.0%} recognised")
one_number, scores = longer[1]["pipe"], longer[1]["scores"]

# %%
rows = [result["pipe"](list(range(10)), generator=torch.Generator().manual_seed(0), output_type="pt").images for result in longer.values()]
image_grid(torch.cat(rows), 10, range(10), [f"size {size}" for size in longer], title="After four times the training")

# %%
from course_utils.plotting import confusion, embedding_map

numbers = one_number.unet.class_emb.weight
embedding_map(numbers, digits.class_names, "Size 1: each digit's only number")

# %%
order = numbers[:, 0].argsort().tolist()
counts = torch.tensor(scores["confusion"])[order][:, order]
mistakes = counts.clone().fill_diagonal_(0)
beside = mistakes.diagonal(1).sum() + mistakes.diagonal(-1).sum()
print(f"{beside} of {mistakes.sum()} mistakes are right beside the diagonal, where 18 of the 90 places for mistakes are")
confusion(counts.tolist(), [digits.class_names[label] for label in order], "Digits in the order of their numbers (percent)")

# %% [markdown]
# In the matrix, the digits are in the order of their numbers. A mistake right beside the diagonal means that the network drew the digit's
# *neighbour on the line*. The line above the matrix counts them: far more than by chance. With one number, a digit has at most two
# neighbours. With ten numbers there is more room, and after the same training more digits are recognised.
#
# ### Which digits are close to each other?
#
# Now we look at the example's network, with four numbers for each digit. The weights come with the course; they were
# trained for much longer and draw good digits.

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
# Look at the neighbours in the table. 3 and 8 are nearest to each other, and they look similar. 2 and 6 are nearest to
# each other, too, and so are 5 and 9. The 1 has the largest mean distance from the other digits.
#
# Do not conclude too much from this. The vectors started at random values, and the training does not ask for similar
# digits to be close. The map shows only two directions. Two digits that are close on the map can be far apart in four
# dimensions: trust the table.
#
# ## Exercise 2: between two digits
#
# *Difficulty*: ● ● ○. *Minutes*: 5. *You learn*: that each class is a point, and that the network draws something for
# the points between them, too.
#
# `embedding` is an `nn.Embedding`, `start` and `end` are two labels, and `share` is a number from 0 to 1. Return the
# vector (C,) on the straight line from `start`'s vector to `end`'s vector. `share` = 0 gives `start`'s vector, `share`
# = 1 gives `end`'s vector, and `share` = 0.5 gives the point halfway.
#
# *Expected output*: your function makes the row of pictures after the check. Its first picture (0 %) shows the 3, its
# last picture (100 %) shows the 8.

# %% tags=["exercise-between"]
def between(embedding, start, end, share):
    return ...  # your answer in place of the dots


# %%
exercises.between.check(between)

# %% [markdown]
# Stuck? `exercises.between.hint()`, and at last `exercises.between.solution()`.
#
# <details><summary>Help: I see "You mixed the labels"</summary>
#
# Halfway between the labels 3 and 8 lies 5.5, which is no digit. First look up both vectors, then mix the *vectors*.
# </details>
#
# <details><summary>Help: I see "Start and end are swapped", "always halfway" or "keeps its full weight"</summary>
#
# Each vector gets a weight that depends on `share`. The two weights add up to 1, and at `share` = 0 the start has all
# of it.
# </details>
#
# <details><summary>Help: I see "is not subscriptable", "one axis too many" or "columns of the table"</summary>
#
# The table is `embedding.weight`, (classes, C), and `embedding.weight[start]` is one row of it, (C,).
# </details>
#
# Your function, in eleven steps from the vector of the 3 to the vector of the 8. All pictures start from the same
# noise:

# %%
between = exercises.between.right_or_reference(between)
shares = [step / 10 for step in range(11)]
mixtures = torch.stack([between(trained.unet.class_emb, 3, 8, share) for share in shares]).detach()
between_them = ClassConditionedPipeline(trained.unet.with_class_vectors(mixtures), trained.scheduler, guidance_scale=1.5)
same_noise = [between_them([i], generator=torch.Generator().manual_seed(4), output_type="pt").images for i in range(11)]
image_grid(torch.cat(same_noise), 11, [f"{share:.0%}" for share in shares], title="From the vector of the 3 to that of the 8")

# %% [markdown]
# Choose two digits, and drag the slider:

# %%
from course_utils.widgets import EmbeddingMixer

EmbeddingMixer(trained, mix=between)

# %% [markdown]
# Where does one digit turn into the other? Look at the row of eleven pictures again. How many of them are neither a
# clear 3 nor a clear 8? If it is only one or two, the change is a jump and not a slow mixture. Press *Resample* a few
# times in the panel: does the picture halfway look like a digit? That depends on the noise, too.
#
# The next cell says how you solved each exercise.

# %%
exercises.summary(4)

# %% [markdown]
# ## In three lines
#
# - The size changes two parts of the network: the table of the vectors, and the first convolution, which reads the
#   channels. Both are small.
# - Trainings that differ only in the seed end at different values. So compare sizes over several seeds.
# - A class is a point among other points, and the network draws something for every point.
#
# Next: [5. One-hot labels](05_one_hot.ipynb)
