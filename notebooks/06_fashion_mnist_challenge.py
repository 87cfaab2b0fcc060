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
# The example ends with a question: can you train a model that draws good *clothes* in less time? In this notebook you
# try. You change settings, train, and see what the training cost and how good the clothes are. A score card compares
# your runs with three results that come with the course.
#
# **You will learn** to measure the cost of a training in a way that is the same on every machine, to judge pictures by
# more than one number, and what learning rate, batch size and the number of steps do.
#
# **You need** notebook [3](03_training_and_sampling.ipynb). **Time**: 30 minutes, and as many runs as you like. Each
# run takes a few minutes on a laptop without a GPU.
#
# Each exercise has a cell with dots (`...`), where you write your answer, and a cell that checks it. `hint()` gives a
# hint; call it again for a stronger one. If you write no answer, the notebook uses the reference answers and still runs
# to the end.

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
# There are ten kinds of clothes, in the format of MNIST. The same loop and the same network work, but the task is
# harder: a *Shirt* looks like a *T-shirt*, a *Pullover* or a *Coat*. People confuse them, too.

# %%
from course_utils import exercises
from course_utils.settings import course_settings

settings = course_settings()  # presets: smoke, laptop, full; the environment variable COURSE_PRESET chooses
settings


# %% [markdown]
# ## The rule
#
# - **Start** from random weights, and train on FashionMNIST's train split. You may choose any network and any settings.
# - **Cost** is counted in *floating point operations* (FLOP; 1 TFLOP is a million million). It is the same on every
#   machine. The score card also shows the *images seen*, where repeats count, and the seconds. Compare seconds only on
#   one machine.
# - **Quality** is class accuracy *and* excess distance (notebook 3). Every row is judged by 5 x 200 pictures. Both
#   measures count: strong guidance raises the accuracy, and makes the pictures less varied.
# - A **par** is a result to beat. Your run **beats** a par if it costs no more operations and is at least as good by
#   both measures.
#
# ## Exercise 1: what does a training cost?
#
# *Difficulty*: ● ○ ○. *Minutes*: 3. *You learn*: to compare trainings without measuring seconds.
#
# To send one image forward through the network takes `forward_flops` operations. A training has `steps` steps, and each
# step uses a batch of `batch_size` images. How many operations does the whole training take? For each image, going
# backward costs about **twice** as much as going forward: it needs two
# matrix products. One gives the gradient of the weights, the other one gives the gradient of the layer's input.
#
# *Expected output*: the cell after the check compares your result with the operations that PyTorch counts. They agree
# within about ten percent, because the factor of two is a rule of thumb.

# %% tags=["exercise-training_flops"]
def training_flops(steps, batch_size, forward_flops):
    return ...  # your answer in place of the dots


# %%
exercises.training_flops.check(training_flops)

# %% [markdown]
# Stuck? `exercises.training_flops.hint()`, and at last `exercises.training_flops.solution()`.
#
# <details><summary>Help: I see "counts forward only" or "Backward alone costs about twice as much"</summary>
#
# Forward is one part, backward is two more parts.
# </details>
#
# <details><summary>Help: I see "a whole batch", "a single step" or "the number of images"</summary>
#
# Multiply three numbers: the steps, the images per step, and the operations per image (forward and backward together).
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
# ## Exercise 2: which class is drawn badly?
#
# *Difficulty*: ● ● ○. *Minutes*: 5. *You learn*: to find what a mean hides.
#
# `confusion` is an int64 tensor (classes, classes) of counts. Its rows are the classes asked for, its columns are the
# classes recognised. Return a float tensor (classes,): for each class, the share of its pictures that was recognised as
# this class. This share is called *recall*.
#
# *Expected output*: the cell after the check prints the recall of each kind of clothes. The lowest one comes first.

# %% tags=["exercise-class_recall"]
def class_recall(confusion):
    return ...  # your answer in place of the dots


# %%
exercises.class_recall.check(class_recall)

# %% [markdown]
# Stuck? `exercises.class_recall.hint()`, and at last `exercises.class_recall.solution()`.
#
# <details><summary>Help: I see "called precision" or "the number of all pictures"</summary>
#
# A row belongs to the class asked for. The sum of a row is how often this class was asked for: `sum(dim=1)`.
# </details>
#
# <details><summary>Help: I see "Return a number for each class" or "Take its diagonal"</summary>
#
# The result has one number for each class. `confusion.diag()` has one number for each class, too.
# </details>
#
# <details><summary>Help: I see "Those are counts", "percentages" or "the dtype is int64"</summary>
#
# A share is a number between 0 and 1. `/` turns integers into floats, and `//` does not.
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
# The *judge* is the classifier that recognises the clothes (notebook 3). It makes mistakes, too. The output of the next cell
# compares: how many of the drawn clothes does it recognise, and how many real clothes that it has never seen?

# %%
from course_utils.classifier import load_classifier
from course_utils.evaluation import summarize

print(summarize(scores))

# %% [markdown]
# If more drawn clothes are recognised than real ones, this does not mean that the drawn clothes are better. They may be
# *plainer*: real clothes are more varied, and harder to recognise. That is why the distance counts as much as the
# accuracy. To give you a feeling for distances, here are some that were measured once on real clothes:

# %%
marks = {"other real clothes": 0.0} | load_classifier("fashion_mnist").config.marks
table([{"pictures": name, "excess distance": f"{value:.2f}"} for name, value in marks.items()])

# %% [markdown]
# ## The score card
#
# The score card has three rows before you start:
#
# | row | network | training | pictures drawn in |
# |---|---|---|---|
# | **the example's settings, small network** | the fast track's, which is smaller than the example's | Adam at 1e-3, batches of 128, noise prediction, 40,960 images | 50 steps of DDIM |
# | **the fast track** | the fast track's | that of notebook 3, 40,960 images | 6 guided steps |
# | **the best known** | the fast track's | the weights that come with the course: about two hours of training, fine-tuning included | 4 steps, 3 of them guided |
#
# The first row is not the whole example. The example has a larger network, trains for ten epochs, and draws in
# 1000 steps. The score card has no row for that.
#
# The rows are measured by `python -m tools.pars`. The seconds were measured on two CPU
# cores that did other work at the same time. For the best known, the operations of the discriminator (a second network,
# used in fine-tuning) are not counted.

# %%
from course_utils.challenge import Challenge

challenge = Challenge(settings)  # your runs are kept in runs/challenge.json, beside this notebook
challenge.score_card()

# %% [markdown]
# ## Your run
#
# Change the settings in the next cell. Here are some questions. Try them one at a time, and write down what you expect
# before you run. Below each question there is a section that you can open. It says what we
# found with *digits*. Open it after your own run: clothes may behave differently. The percentages are class accuracies.
#
# Our trials were short trainings on MNIST, one for each change, judged by 1,000 pictures with guidance
# ([the log of trials](../tests/benchmarks/README.md#the-log-of-trials)). Three trainings that differed only in the seed
# recognised 94.3, 94.4 and 96.4 percent of the digits. So a difference of two percentage points shows nothing.
#
# **1.** What happens with half the learning rate, with twice, with ten times?
#
# <details><summary>What we found</summary>
#
# With AdamW: half the learning rate gave 95.1 percent, which shows no difference. Twice the learning rate gave 88.9
# percent: worse. With Muon, twice its learning rate made it worse, too: 94.2 percent instead of 98.5. We did not try
# ten times.
# </details>
#
# **2.** Half as many steps on batches twice as large cost the same. Are the pictures as good?
#
# <details><summary>What we found</summary>
#
# With AdamW the larger batches gave 92.8 percent, below all three seeds of the smaller ones. With Muon both gave 98.5 percent, and
# the larger batches took less time, but their distance was twice as large.
# </details>
#
# **3.** `max_steps`: how much do more steps help? (The learning rate falls to zero at the end of the training, for
# every length that you choose.) `num_epochs` counts passes over the 60,000 images. The shorter of the two ends the
# training.
#
# <details><summary>What we found</summary>
#
# We have no trial for this question alone. The weights `mnist-untuned` saw fifteen times as many images as the fast track of
# notebook 3. Compare the scores of both in [the benchmarks](../tests/benchmarks/README.md).
# </details>
#
# **4.** What changes with `optimizer="adamw"` in place of `"muon"` (notebook 7)?
#
# <details><summary>What we found</summary>
#
# This was the largest change of all: 96.4 percent with AdamW, 98.5 percent with Muon, for the same number of images.
# </details>
#
# **5.** More guidance, or less? Look at both measures of quality.
#
# <details><summary>What we found</summary>
#
# After so short a training more guidance helped both measures: 96.4 percent at a guidance scale of 2, and 99.0
# percent at 3, with less than half the distance. After a long training this is different (notebook 7).
# </details>
#
# **6.** Small pictures first: define `small_config`, a second `TrainingConfig.fast(...)`, and use two stages,
# `stages=((16, small_config), (28, config))`. A step on small pictures costs less than half. How do you divide the
# steps between the stages?
#
# <details><summary>What we found</summary>
#
# Whole pictures only, for about as many seconds, gave 96.5 percent, and small pictures first gave 96.4 percent: no
# difference.
# </details>
#
# **7.** Another network: `make_model=lambda: ClassConditionedUnet.fast(layers_per_block=2)`. Each step costs more. Do the
# pictures get better for the same cost?
#
# <details><summary>What we found</summary>
#
# We tried a network with more channels where the pictures are largest. It gave 91.9 percent, and each step took more time. Our guess:
# a larger network needs more images.
# </details>

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
# ### A slider for clothes
#
# The slider shows the names of the classes. The row of pictures above the panel shows what to expect if no kernel runs:
# all ten pictures start from the same noise. After a training as short as this one, some of them may be malformed.

# %%
row = [pipe([label], generator=torch.Generator().manual_seed(4), output_type="pt").images for label in range(10)]
image_grid(torch.cat(row), 10, short_names(pipe.class_names), title="Dragging the slider through the clothes")

# %%
from course_utils.widgets import ClassPicker

ClassPicker(pipe)

# %% [markdown]
# ## Compare your run with the pars

# %%
challenge.score_card()

# %%
challenge.plot()

# %% [markdown]
# Cheaper runs are further to the left. In the upper picture higher is better, in the lower picture lower is better. The
# dashed line shows, for each cost, the best result of all rows that cost no more.
#
# ### For a class: one board for all
#
# Your teacher may collect the runs of the whole class. The next cell makes one line of text from your run. Send this
# line to your teacher. (Put your name in place of *Ada*.) Here the same cell plays the teacher, too: it writes the line
# into a file and shows the board. A real board has one line for each run.

# %%
from pathlib import Path

from course_utils.challenge import class_board

line = challenge.export(challenge.runs()[-1]["name"], author="Ada") if challenge.runs() else ""
print(f"{line[:70]} ... ({len(line)} characters)")
Path("runs/board.txt").write_text(line, encoding="utf-8")
class_board("runs/board.txt")

# %% [markdown]
# ## When a training fails
#
# A learning rate can be too high. Here we make it five million times as high, and switch off `max_grad_norm`, which
# normally limits the damage:

# %%
reckless = recipe.with_changes(learning_rate=1e4, max_grad_norm=None, max_steps=max(4, settings.train_images // 1024))
challenge.submit("reckless", reckless)

# %% [markdown]
# The message may name a learning rate below the one that we set: the learning rate rises during the first steps of a
# training.
#
# Your earlier runs are still on the score card. Go back to *Your run*, change one setting, and submit again. Every run
# is kept in `runs/challenge.json` under its name, so choose a name that you will understand tomorrow.
#
# ## Your own pictures
#
# You can do the same with your own pictures. Put them into a folder with one sub-folder for each class. The names of
# the sub-folders become the names of the classes. Here a few lines of code make such a folder: 300 small shapes.

# %%
from course_utils.data import ImageDataset
from course_utils.own_pictures import draw_shapes
from course_utils.plotting import dataset_grid

draw_shapes("runs/shapes", per_class=60)
shapes = ImageDataset.from_folder("runs/shapes")  # put the name of your folder here
print(f"{len(shapes)} pictures of {', '.join(shapes.class_names)}")
dataset_grid(shapes)

# %% [markdown]
# We use the fast track's recipe, with half as many images. It sees each picture many times:

# %%
own_recipe = RECIPES["fast"].for_images(settings.train_images // 2)
own_pipe, run = own_recipe.train(shapes, device=settings.device)
labels = list(range(len(shapes.class_names))) * 2
drawn = own_pipe(labels, generator=torch.Generator().manual_seed(0), output_type="pt").images
image_grid(drawn, len(shapes.class_names), own_pipe.class_names, title="Drawn anew")

# %% [markdown]
# Drag the slider. It has the names of your classes.

# %%
ClassPicker(own_pipe)

# %% [markdown]
# Does the network draw new pictures, or copies of the pictures that it was trained on? With so few training pictures we
# have to check. In the figure, each drawn picture stands above the training picture that is nearest to it:

# %%
from course_utils.evaluation import check_for_copies
from course_utils.plotting import copies

draw_shapes("runs/other-shapes", per_class=20, seed=1)
check = check_for_copies(drawn, shapes.images, ImageDataset.from_folder("runs/other-shapes").images)
print(f"distance to the nearest training picture: {check['relative_distance']:.2f} times that of pictures never seen")
copies(drawn, shapes.images, check)

# %% [markdown]
# A value near 0 would mean copies. A value near 1 means that the drawn pictures are as new as shapes that the network
# has never seen.
#
# To measure class accuracy, you need a judge that knows your classes. `train_judge(shapes)` in
# `course_utils.classifier` trains one, and `evaluate(own_pipe, judge=...)` uses it.
# `own_pipe.save_pretrained("runs/my-shapes")` saves your network with its class names.
#
# The next cell says how you solved each exercise.

# %%
exercises.summary(6)

# %% [markdown]
# ## In three lines
#
# - Operations can be compared between machines. Seconds cannot.
# - Class accuracy, excess distance and the recall of each class show different faults.
# - Change one setting at a time, and write down what you expect before you run.
#
# Next: [7. From hours to minutes, and a slider that is live](07_faster.ipynb)
