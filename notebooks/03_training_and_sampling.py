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
# Now the network learns to draw, and you get to say what. At the end of this notebook there is a slider: drag it, and the
# digit you point at is drawn from noise while you drag.
#
# **You will learn** what one training step does, how to read a diffusion model's loss (and why not to trust it), how
# sampling goes from noise to a picture, how guidance makes the network listen, and how to measure whether it draws what
# was asked for.
#
# **You need** notebooks [1](01_data.ipynb) and [2](02_conditioned_unet.ipynb). **Time**: twenty minutes to read. Running
# it trains for about two minutes on a laptop without a GPU; with `train_here = False` in the second cell below it trains
# nothing, and you are at the slider within half a minute.

# %%
import importlib.util, pathlib, subprocess, sys  # Find the course above this notebook, or install it, as on Colab:
sys.path[:0] = [str(p) for p in pathlib.Path("_").absolute().parents if (p / "course_utils/__init__.py").is_file()]
if not importlib.util.find_spec("course_utils"): subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "https://github.com/OWNER/class-conditional-diffusion-course/archive/HEAD.zip"])

# %%
from course_utils.settings import course_settings

settings = course_settings()  # presets: smoke, laptop, full; the environment variable COURSE_PRESET chooses
train_here = True  # False: take the weights that come with the course
settings

# %% [markdown]
# ## One training step
#
# Notebook 1 made the training pairs: a digit, a timestep, noise, and the mixture of them. Notebook 2 made the network
# that looks at the mixture and is told the label. A training step puts the two together:

# %%
from course_utils.display import show_source
from course_utils.training import Trainer

show_source(Trainer.loss)

# %%
show_source(Trainer.training_step)

# %%
show_source(Trainer.optimizer_step)

# %% [markdown]
# That is the loop of the Hugging Face example, with its two small mistakes put right: timesteps are drawn from all 1000
# (it leaves out the last one, where sampling starts), and the running mean of the loss is a mean before step 100 too.
# Images and noise come from one seeded generator, so the same seed gives the same weights on the same machine.
#
# ## The recipe
#
# The example's network and settings are the defaults of this course: `ClassConditionedUnet()` and `TrainingConfig()`.
# On a laptop's processor its ten epochs take hours, so here we train the *fast track*: a smaller network, told the class
# through its time embedding, with a learning rate that goes up and comes down again. It differs in these settings:

# %%
from dataclasses import asdict

from course_utils.display import table
from course_utils.training import TrainingConfig

example, fast = asdict(TrainingConfig()), asdict(TrainingConfig.fast())
differing = [name for name in example if example[name] != fast[name] and name != "num_epochs"]
table([{"setting": name, "example": str(example[name]), "fast track": str(fast[name])} for name in differing])

# %%
from course_utils.model import ClassConditionedUnet

networks = {"example": ClassConditionedUnet(), "fast track": ClassConditionedUnet.fast()}
table(
    [
        {
            "network": name,
            "class enters by": network.config.conditioning,
            "widths": str(tuple(network.config.block_out_channels)),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        }
        for name, network in networks.items()
    ]
)

# %% [markdown]
# Four settings deserve a word:
#
# - `optimizer`: *Muon* moves the matrices inside the network, and AdamW the rest. From as many images it learns much
#   more (notebook 7 shows why).
# - `label_dropout`: every tenth label is replaced by "no class". So the same network also learns to draw *any* digit,
#   and the difference between the two is what guidance will use below.
# - `ema_decay`: we keep a moving average of the weights, and draw with that. It is less restless than the last step's.
# - The fast track predicts the *velocity*, $v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1 - \bar\alpha_t}\,x_0$, rather
#   than the noise. At $t = 999$ the mixture is all noise: to name the noise there is trivial and says nothing about the
#   digit, while to name the velocity is to say what picture to expect. Sampling in few steps needs just that.
#
# ## Train
#
# A *recipe* puts network, training and sampler together. The fast track's trains in two stages: on small pictures first,
# where a step is cheap and the shapes can be learned, then on whole ones, for the strokes.

# %%
from course_utils.recipes import RECIPES

recipe = RECIPES["fast"].for_images(settings.train_images)  # at `laptop`, the whole fast track
table([{"pictures": f"{size} x {size}", "steps": config.max_steps, "images a step": config.batch_size} for size, config in recipe.stages])

# %%
from course_utils.data import load_dataset
from course_utils.pipeline import ClassConditionedPipeline, bundled_losses
from course_utils.plotting import loss_curve

dataset = load_dataset("mnist")
if train_here:
    pipe, run = recipe.train(dataset, device=settings.device)
    losses, title = run.losses, f"Loss{dataset.note}"
    print(f"{run.images_seen:,} images in {run.seconds:.0f} seconds")
else:
    pipe, losses = ClassConditionedPipeline.from_pretrained("mnist-untuned"), bundled_losses("mnist-untuned")
    title = "Loss, when the course's weights were trained"

loss_curve(losses, title=title)

# %% [markdown]
# The loss falls steeply, and then hardly at all; the peak in between is where the pictures grow. Is the network done after two
# hundred steps? Far from it. Most of the loss is noise that *nobody* could predict, and it hides the part that still
# improves. Two better questions: at which timesteps is it still wrong, and what do its pictures look like?
#
# <details><summary>Longer trainings, and what happens when they are interrupted</summary>
#
# Jupyter's stop button ends a training after the step at hand, and what was learned is kept. To survive more than that, a
# laptop out of battery or a Colab that disconnects, name a folder: `recipe.train(..., checkpoint_dir="runs/my-training")`
# writes a checkpoint there every two minutes, and with the same folder the same cell goes on from the last one, exactly
# as if it had never stopped. Empty the folder to begin anew.
#
# Colab forgets its own files when it disconnects. A folder on your Google Drive stays:
#
# ```python
# from google.colab import drive
#
# drive.mount("/content/drive")
# pipe, run = recipe.train(dataset, checkpoint_dir="/content/drive/MyDrive/my-digits")
# ```
# </details>
#
# ### The loss by timestep

# %%
from course_utils.evaluation import loss_by_timestep
from course_utils.plotting import timestep_losses
from course_utils.sampling import make_scheduler

model, noise_scheduler = pipe.unet, make_scheduler("ddpm", prediction_type="v_prediction")
untrained = ClassConditionedUnet.fast().to(settings.device)
timestep_losses(
    {
        "before training": loss_by_timestep(untrained, noise_scheduler, dataset, images_per_band=50),
        "after training": loss_by_timestep(model, noise_scheduler, dataset, images_per_band=50),
    },
    title=f"Loss by timestep{dataset.note}",
)

# %% [markdown]
# On the right, where all is noise, naming the noise is easy. On the left, where there is hardly any, it is hard, and
# matters little for the picture. What makes a digit a digit is decided in the middle. If your loss "has stopped falling",
# look here before you give up.
#
# ## Sampling: from noise to a digit
#
# Sampling starts from pure noise and asks the network again and again, at smaller and smaller timesteps. The example
# takes 1000 small steps with `DDPMScheduler`. A solver that takes large steps well gets there in ten, or fewer.

# %%
from course_utils.sampling import denoise

show_source(denoise)

# %%
import torch

from course_utils.plotting import denoising_strip
from course_utils.sampling import sample

path = []
sample(
    model, pipe.scheduler, [3, 5, 8], 10, guidance_scale=2.0, generator=torch.Generator().manual_seed(0),
    callback=lambda step, pictures: path.append(pictures.cpu().clone()),
)  # fmt: skip
denoising_strip(torch.stack(path), list(range(1, 11)), row_names=["3", "5", "8"], title="After each of ten steps")

# %% [markdown]
# Where the ink goes is settled in the first few steps, under noise that hides it from us; notebook 2 showed how much the
# network knows there from the label alone. The later steps take the noise away and sharpen the strokes.
#
# ### Eighty digits
#
# Eight of each, as in the example. Network and sampler came in a *pipeline*, which knows how it wants to be used.

# %%
from course_utils.plotting import image_grid

print(f"{pipe.config.num_inference_steps} steps, guidance {pipe.config.guidance_scale}")
labels = list(range(10)) * settings.images_per_class
pictures = pipe(labels, generator=torch.Generator().manual_seed(1), output_type="pt").images
image_grid(pictures, 10, pipe.class_names, title="Asked for the digit on top of each column")

# %% [markdown]
# ### Guidance: listening more closely
#
# The network can answer twice: for the class, and for "no class". *Guidance* goes on from the second answer through the
# first, and beyond it:
#
# $$\hat v = v_{\text{no class}} + s \cdot (v_{\text{class}} - v_{\text{no class}})$$
#
# With $s = 1$ it is off. Same noise, three strengths:

# %%
rows = [
    pipe(list(range(10)), guidance_scale=scale, generator=torch.Generator().manual_seed(3), output_type="pt").images
    for scale in (1.0, 2.0, 4.0)
]
image_grid(torch.cat(rows), 10, pipe.class_names, ["off", "2", "4"], title="Guidance scale")

# %% [markdown]
# More guidance makes digits plainer and more alike: easier to recognise, and less like the variety of real handwriting.
# We will put numbers on that below.
#
# ## Is it the digit I asked for?
#
# The example never asks. We let a classifier judge, a small network trained on the real training images that comes with
# the course. Two numbers:
#
# - **class accuracy**: the share of pictures in which it recognises the digit that was asked for.
# - **excess distance**: how much farther than real digits our digits are from real digits. The classifier describes each
#   picture by 64 numbers. We compare the mean and the covariance of these numbers for two sets of pictures: this is the
#   *Frechet distance*. We measure it from our digits to real digits, and from other real digits to the same real digits,
#   and take the difference. 0 means: as good as real digits. It notices when all digits look alike.
#
# Nobody was trained on the real digits of this comparison: they are from the test split. Each number is a mean over several
# seeds, with the smallest and the largest in parentheses.

# %%
from course_utils.evaluation import evaluate, summarize
from course_utils.plotting import confusion

scores = evaluate(pipe, settings.eval_images, settings.eval_seeds)
print(summarize(scores))
confusion(scores["confusion"], pipe.class_names, f"{len(scores['seeds'])} x {scores['count']} pictures: percent of each row")

# %% [markdown]
# The rows are the digits that we asked for, the columns the digits that the classifier saw. Mistakes are outside the
# diagonal. The classifier makes mistakes too: the line above says how many of real digits it recognises.
#
# How large is an excess distance? Three marks that you can imagine, measured once on real digits by the same classifier:

# %%
from course_utils.classifier import load_classifier

marks = {"other real digits": 0.0} | load_classifier("mnist").config.marks | {"your digits": scores["excess_distance"]}
table([{"pictures": name, "excess distance": f"{value:.2f}"} for name, value in marks.items()])

# %% [markdown]
# Are the digits copies of training images? For each digit we look for the nearest training image, by the difference of
# the pixels, and do the same for real digits of the test split.

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
# A copy has distance 0. A value near 1 means: as new as real digits that the network has never seen. The figure shows the
# digits that are nearest to a training image.
#
# ## The slider
#
# Here it is. **Drag the slider** (or focus it and press the arrow keys): the picture is drawn from noise as you drag.
# While you drag the noise stays the same, so you see what the *label* does; **Resample** takes other noise. Under
# *More* you can change guidance and the number of steps, or pick the digit from a menu.
#
# The next picture shows what to expect where no kernel runs, on GitHub for instance: one row of digits, each from the
# same noise.

# %%
same_noise = [pipe([digit], generator=torch.Generator().manual_seed(4), output_type="pt").images for digit in range(10)]
image_grid(torch.cat(same_noise), 10, pipe.class_names, title="Dragging the slider from 0 to 9")

# %%
from course_utils.widgets import ClassPicker

ClassPicker(pipe)

# %% [markdown]
# ## How much guidance?
#
# Try it in the panel: open *More*, move the guidance, press *Resample* a few times. Now in numbers:

# %%
from course_utils.evaluation import score_cells

rows = []
for scale in (1.0, 2.0, 4.0):
    scores = evaluate(pipe, settings.eval_images, settings.eval_seeds, guidance_scale=scale)
    rows.append({"guidance": scale} | score_cells(scores))
table(rows)

# %% [markdown]
# Compare the two columns. Class accuracy only asks whether a digit is recognised. The excess distance also notices whether
# the digits are as varied as real ones: strong guidance makes all digits of a class look the same, and class accuracy does
# not show that.
#
# After a longer training there is less to repair. Try the weights that come with the course:
# `pipe = ClassConditionedPipeline.from_pretrained("mnist-untuned")` has seen fifteen times as many images, and its default
# guidance is 1.15. `"mnist"` is the same network after fine-tuning (notebook 7): it needs two steps, and no guidance.
#
# ## How fast is that?
#
# One digit, drawn by your pipeline and, as the example does it, by its network in 1000 steps. (The network is the one
# of notebook 2, and we only want its time. The smoke test takes fewer steps.)

# %%
import time


def seconds_to_draw(network, scheduler, steps, guidance_scale=1.0):
    """Wall-clock seconds to draw one digit."""
    start = time.perf_counter()
    sample(network, scheduler, [3], steps, guidance_scale)
    return time.perf_counter() - start


example_network = ClassConditionedUnet().to(settings.device)
seconds_to_draw(model, pipe.scheduler, 2), seconds_to_draw(example_network, make_scheduler("ddpm"), 2)  # warm up
steps, guidance = pipe.config.num_inference_steps, pipe.config.guidance_scale
ours = min(seconds_to_draw(model, pipe.scheduler, steps, guidance) for _ in range(5))
theirs = seconds_to_draw(example_network, make_scheduler("ddpm"), settings.ddpm_steps)
table(
    [
        {"drawn by": f"example's network, {settings.ddpm_steps} steps", "milliseconds": 1000 * theirs, "times as fast": 1.0},
        {"drawn by": f"fast track, {steps} guided steps", "milliseconds": 1000 * ours, "times as fast": theirs / ours},
    ]
)

# %% [markdown]
# ## Keep it
#
# Your weights, with their sampler and settings, in a folder of their own. `from_pretrained` brings them back, and
# `python -m course_utils sample --weights runs/my-digits --digit 3 --out three.png` draws with them, run in this folder.

# %%
pipe.save_pretrained("runs/my-digits")
again = ClassConditionedPipeline.from_pretrained("runs/my-digits")
again.config

# %% [markdown]
# ## In three lines
#
# - Training asks the network for what it cannot see, the noise or the velocity, at every timestep; the loss alone does
#   not tell whether the digits are good.
# - Sampling starts from noise and takes a few large steps, each guided towards the class that was asked for.
# - A classifier says whether it is the right digit. The excess distance says whether the digits are as varied as real ones.
#
# Next: [4. How many numbers does a class need?](04_embedding_size.ipynb)
