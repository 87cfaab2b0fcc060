# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6. The FashionMNIST challenge
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/class-conditional-diffusion-course/blob/main/notebooks/06_fashion_mnist_challenge.ipynb)
#
# The example ends with a question: can you train a model that draws good *clothes* in less time than it takes here?
# This notebook makes a contest of it. You turn the knobs, submit a run, see what it cost and what its clothes are worth,
# and where you stand against the pars.
#
# **You will learn** to measure the cost of a training so that two machines agree on it, to judge pictures by more than
# one number, and what learning rate, batch size and the number of steps do.
#
# **You need** notebook [3](03_training_and_sampling.ipynb). **Time**: half an hour, and as many runs as you like, each a
# few minutes on a laptop without a GPU.
#
# Exercises have a cell with dots (`...`) for your answer, and a cell that checks it. Without an answer the notebook still
# runs to the end, on the reference answers.

# %%
import importlib.util, pathlib, subprocess, sys  # Find the course above this notebook, or install it, as on Colab:
sys.path[:0] = [str(p) for p in pathlib.Path("_").absolute().parents if (p / "course_utils/__init__.py").is_file()]
if not importlib.util.find_spec("course_utils"): subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "https://github.com/OWNER/class-conditional-diffusion-course/archive/HEAD.zip"])

# %%
from course_utils.data import load_dataset
from course_utils.plotting import dataset_grid

clothes = load_dataset("fashion_mnist")
dataset_grid(clothes)

# %% [markdown]
# Ten kinds of clothes, in the format of MNIST: the same loop, the same network, and harder. A *Shirt* is easily taken for
# a *T-shirt*, a *Pullover* or a *Coat*, and not by networks alone.

# %%
from course_utils import exercises
from course_utils.settings import course_settings

settings = course_settings()  # presets: smoke, laptop, full; the environment variable COURSE_PRESET chooses
settings


# %% [markdown]
# ## The rule
#
# - **Start** from random weights, and train on FashionMNIST's train split. Any network, any settings.
# - **Cost** is counted in *images seen* (repeats count) and in *floating point operations*, which are the same on every
#   machine. Seconds are noted, too, but compare them only on one machine.
# - **Quality** is class accuracy *and* the excess distance (notebook 3), on 1,000 pictures. Both count: strong guidance
#   raises the accuracy, and makes the pictures less varied.
# - A **par** is a result to beat. A run **beats** a par if it costs no more, and is at least as good by both measures. Only
#   rows that were judged on as many pictures are compared.
#
# ## Exercise 1: what does a training cost?
#
# *Difficulty*: ● ○ ○. *Minutes*: 3. *You learn*: to compare trainings without a stopwatch.
#
# One image forward through the network takes `forward_flops` operations. A training has so many steps, each on a batch.
# How many operations is it in all? For each image, going backward costs about **twice** as much as going forward: one
# product for the gradient of the weights, one for that of what came in.
#
# *Expected output*: the cell after the check compares your reckoning with operations that were really counted; they
# agree within a few percent.
#
# <details><summary>Help: I see "the way forward only" or "twice as much as forward"</summary>
#
# Forward is one part, backward are two more.
# </details>
#
# <details><summary>Help: I see "A step takes a whole batch" or "a single step" or "Those are the images"</summary>
#
# Three things are multiplied with each other, and with the three parts: steps, images a step, operations an image.
# </details>

# %% tags=["exercise-training_flops"]
def training_flops(steps, batch_size, forward_flops):
    return ...  # your answer in place of the dots


# %%
exercises.training_flops.check(training_flops)

# %% [markdown]
# Stuck? `exercises.training_flops.hint()`
#
# <details><summary>Solution</summary>
#
# ```python
# def training_flops(steps, batch_size, forward_flops):
#     images = steps * batch_size
#     return 3 * forward_flops * images  # forward once; backward costs about twice as much again
# ```
# </details>

# %%
from torch.utils.flop_counter import FlopCounterMode

from course_utils.model import flops_per_image
from course_utils.display import table
from course_utils.model import ClassConditionedUnet

import torch

training_flops = exercises.training_flops.right_or_reference(training_flops)
rows = []
for name, network in {"example": ClassConditionedUnet(), "fast track": ClassConditionedUnet.fast()}.items():
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 1, 28, 28), 0, [3])
    reckoned, counted = training_flops(1, 1, counter.get_total_flops()), flops_per_image(network)
    rows.append({"network": name, "forward, MFLOP": counter.get_total_flops() / 1e6, "training, reckoned": reckoned / 1e6, "counted": counted / 1e6})
table(rows)


# %% [markdown]
# ## Exercise 2: whom does it draw badly?
#
# *Difficulty*: ● ● ○. *Minutes*: 5. *You learn*: to look behind a mean.
#
# `confusion` is an int64 tensor (classes, classes) of counts: row, the class asked for; column, the class recognised.
# Return a float tensor (classes,): of the pictures asked for of each class, the share that was recognised as it. It is
# called *recall*.
#
# *Expected output*: the cell after the check prints the recall of each kind of clothes, and *Shirt* comes off worst.
#
# <details><summary>Help: I see "It is called precision" or "all pictures"</summary>
#
# A row belongs to the class asked for. Its sum is how often that class was asked for: `sum(dim=1)`.
# </details>
#
# <details><summary>Help: I see "a number for each class" or "take its diagonal"</summary>
#
# Wanted are as many numbers as classes. `confusion.diag()` is a number for each class, too.
# </details>
#
# <details><summary>Help: I see "counts", "percentages" or "the dtype is int64"</summary>
#
# A share lies between 0 and 1, and `/` makes floats of integers where `//` does not.
# </details>

# %% tags=["exercise-class_recall"]
def class_recall(confusion):
    return ...  # your answer in place of the dots


# %%
exercises.class_recall.check(class_recall)

# %% [markdown]
# Stuck? `exercises.class_recall.hint()`
#
# <details><summary>Solution</summary>
#
# ```python
# def class_recall(confusion):
#     return confusion.diag() / confusion.sum(dim=1)  # recognised as asked for, of all that were asked for
# ```
# </details>

# %%
from course_utils.evaluation import evaluate
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.plotting import confusion as confusion_figure

best_known = ClassConditionedPipeline.from_pretrained("fashion_mnist")
scores = evaluate(best_known, settings.eval_images, settings.eval_seeds)
class_recall = exercises.class_recall.right_or_reference(class_recall)
recall = class_recall(torch.tensor(scores["confusion"]))
for name, share in sorted(zip(best_known.class_names, recall.tolist()), key=lambda pair: pair[1]):
    print(f"{name:12} {share:.0%}")

# %%
confusion_figure(scores["confusion"], best_known.class_names, "The bundled weights: percent of each row")

# %% [markdown]
# The judge is a classifier, and it makes mistakes too. The next line compares: how many of the drawn clothes it recognises,
# and how many real clothes that it has never seen.

# %%
from course_utils.classifier import load_classifier
from course_utils.evaluation import summarize

print(summarize(scores))

# %% [markdown]
# If more drawn clothes are recognised than real ones, the drawn clothes are *plainer* than real ones, not better. That is
# why the distance counts as much as the accuracy. Marks for the distance, measured once on real clothes:

# %%
marks = {"other real clothes": 0.0} | load_classifier("fashion_mnist").config.marks
table([{"pictures": name, "excess distance": f"{value:.2f}"} for name, value in marks.items()])

# %% [markdown]
# ## The score card
#
# Three rows are there before you start:
#
# | row | network | training | pictures drawn in |
# |---|---|---|---|
# | the **example's settings** | the fast track's, which is smaller | Adam at 1e-3, batches of 128, noise prediction, for 40,960 images | 50 steps of DDIM |
# | the **fast track** | the fast track's | that of notebook 3, for 40,960 images | 6 guided steps |
# | the **best known** | the fast track's | the weights that come with the course: about two hours with fine-tuning | 4 steps, 3 of them guided |
#
# All rows were measured by `python -m tools.pars`, as means over five seeds of 1,000 pictures. The seconds are those of two
# CPU cores; other work ran beside the training of the best known, and beside a part of that of the example's settings.

# %%
from course_utils.challenge import Challenge

challenge = Challenge(settings)  # your runs are kept in runs/challenge.json, beside this notebook
challenge.score_card()

# %% [markdown]
# ## Your run
#
# Turn the knobs. Some questions to try, one at a time:
#
# - Half the learning rate, or twice? What happens at ten times?
# - Half as many steps on batches twice as large cost the same. Are they worth the same?
# - `max_steps`: how much do the last steps buy? (The learning rate falls to zero at the end of whatever length you
#   choose.) `num_epochs` counts whole passes over the 60,000 images; the shorter of the two ends the training.
# - `optimizer="adamw"` in place of Muon (notebook 7), or Muon with more steps on smaller batches: what does it buy?
# - More guidance, or less? Look at both measures of quality.
# - Small pictures first: with two stages, `((16, small_config), (28, config))`, the first one costs less than half as much
#   a step. How would you share out the steps?
# - Another network, `make_model=lambda: ClassConditionedUnet.fast(layers_per_block=2)`: each image teaches it more, but each
#   image also costs more.

# %% tags=["knobs"]
from dataclasses import replace

from course_utils.recipes import RECIPES
from course_utils.training import TrainingConfig

config = TrainingConfig.fast(
    learning_rate=2e-3,
    batch_size=64,
    num_epochs=20,
    max_steps=settings.train_images // 64,
)
recipe = replace(RECIPES["fast"], stages=((28, config),), guidance_scale=1.5)

# %%
pipe = challenge.submit("my first run", recipe)

# %% [markdown]
# ### Look at the clothes

# %%
from course_utils.plotting import image_grid, short_names

if pipe is None:
    print("The run broke down; these are the bundled weights' clothes.")
    pipe = best_known
labels = list(range(10)) * 4
pictures = pipe(labels, generator=torch.Generator().manual_seed(0), output_type="pt").images
image_grid(pictures, 10, short_names(pipe.class_names), title="Your clothes")

# %% [markdown]
# ### Dress it
#
# A slider with names. The row above the panel shows what to expect where no kernel runs: all ten from the same noise.

# %%
row = [pipe([label], generator=torch.Generator().manual_seed(4), output_type="pt").images for label in range(10)]
image_grid(torch.cat(row), 10, short_names(pipe.class_names), title="Dragging the slider through the clothes")

# %%
from course_utils.widgets import ClassPicker

ClassPicker(pipe)

# %% [markdown]
# ## Where do you stand?

# %%
challenge.score_card()

# %%
challenge.plot()

# %% [markdown]
# To the left is cheaper. In the upper picture higher is better, in the lower one lower is better. The dashed line shows, for
# each cost, the best result of all rows that cost no more.
#
# ## When it goes wrong
#
# A learning rate can be too high. Nothing is lost by trying:

# %%
reckless = recipe.with_changes(learning_rate=1e4, max_grad_norm=None, max_steps=max(4, settings.train_images // 1024))
challenge.submit("reckless", reckless)

# %% [markdown]
# Your earlier runs are still on the card. Go back to *Your run*, change one knob, and submit again: every run is kept in
# `runs/challenge.json` (with its name, so give it one that you will understand tomorrow).
#
# ## Your own pictures
#
# Everything above also works with pictures of your own: a folder with a sub-folder for each class. The names of the
# sub-folders are the names of the classes. Here a few lines of code draw such a folder: 300 small shapes.

# %%
from course_utils.data import ImageDataset
from course_utils.own_pictures import draw_shapes
from course_utils.plotting import dataset_grid

draw_shapes("runs/shapes", per_class=60)
shapes = ImageDataset.from_folder("runs/shapes")  # put the name of your folder here
print(f"{len(shapes)} pictures of {', '.join(shapes.class_names)}")
dataset_grid(shapes)

# %% [markdown]
# The same recipe as before, shorter. It sees each picture many times:

# %%
own_recipe = RECIPES["fast"].for_images(settings.train_images // 2)
own_pipe, run = own_recipe.train(shapes, device=settings.device)
labels = list(range(len(shapes.class_names))) * 2
drawn = own_pipe(labels, generator=torch.Generator().manual_seed(0), output_type="pt").images
image_grid(drawn, len(shapes.class_names), own_pipe.class_names, title="Drawn anew")

# %% [markdown]
# Drag the slider: it has the names of your classes.

# %%
ClassPicker(own_pipe)

# %% [markdown]
# Does the network draw new pictures, or copies of those that it was trained on? With so few pictures this is worth a look.
# Each drawn picture stands above the training picture that is nearest to it:

# %%
from course_utils.evaluation import check_for_copies
from course_utils.plotting import copies

draw_shapes("runs/other-shapes", per_class=20, seed=1)
check = check_for_copies(drawn, shapes.images, ImageDataset.from_folder("runs/other-shapes").images)
print(f"distance to the nearest training picture: {check['relative_distance']:.2f} times that of pictures never seen")
copies(drawn, shapes.images, check)

# %% [markdown]
# The class accuracy needs a judge that knows your classes: `train_judge(shapes)` in `course_utils.classifier` trains one, and
# `evaluate(own_pipe, judge=...)` asks it. `own_pipe.save_pretrained("runs/my-shapes")` keeps your network, with its class
# names.

# %%
exercises.summary(6)

# %% [markdown]
# ## In three lines
#
# - Images seen and operations can be compared between machines; seconds cannot.
# - Accuracy, distance and recall by class each see what the others miss.
# - Change one thing at a time, and write down what you expected before you look.
#
# Next: [7. From hours to minutes, and a slider that is live](07_faster.ipynb)
