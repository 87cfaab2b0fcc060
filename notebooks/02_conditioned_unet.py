# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. A network that is told what to draw
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/class-conditional-diffusion-course/blob/main/notebooks/02_conditioned_unet.ipynb)
#
# A diffusion model without labels draws *some* digit. To get the digit that we want, we must tell the network. In this notebook
# you build the network of the Hugging Face class-conditioned example, and you follow a label through it.
#
# **You will learn** how a label becomes extra input channels, what a UNet is made of, which shape every tensor has, and how to
# prove that the label changes the output.
#
# **You need** [notebook 1](01_data.ipynb), and you know what a convolution is. **Time**: 45 minutes with the three exercises;
# the cells run in less than a minute on a laptop.

# %%
import importlib.util, pathlib, subprocess, sys  # Find the course above this notebook, or install it, as on Colab:
sys.path[:0] = [str(p) for p in pathlib.Path("_").absolute().parents if (p / "course_utils/__init__.py").is_file()]
if not importlib.util.find_spec("course_utils"): subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", "https://github.com/OWNER/class-conditional-diffusion-course/archive/HEAD.zip"])

# %%
import torch

from course_utils.pipeline import ClassConditionedPipeline
from course_utils.plotting import image_grid

pipe = ClassConditionedPipeline.from_pretrained("mnist-concat")
pictures = pipe(list(range(10)), generator=torch.Generator().manual_seed(2), output_type="pt").images
image_grid(pictures, 10, pipe.class_names, title="Asked for 0 to 9, drawn from noise")

# %% [markdown]
# These digits did not exist before the cell ran. The network that drew them has the architecture of the example. This course
# has trained it, and its weights come with the course. (`pipe` is a *pipeline*: a network, and the settings for drawing with it.)
# How does the network know which digit to draw?
#
# ## From a label to channels
#
# `nn.Embedding(10, 4)` is a table: ten rows, one per class, of four numbers each. The numbers are random at first, and they are
# learned together with all other weights. Two labels select two rows:

# %%
from torch import nn

torch.manual_seed(0)
class_emb = nn.Embedding(10, 4)
labels = torch.tensor([3, 7])
class_emb(labels)

# %% [markdown]
# A UNet works on pictures, not on rows of four numbers. So each number fills a whole channel of 28 x 28 pixels. This is what the
# network is told about a 3:

# %%
from course_utils.plotting import class_channels

flat = torch.ones(4, 28, 28) * class_emb(torch.tensor(3)).detach().view(4, 1, 1)
class_channels(flat, title="The four channels of a 3")


# %% [markdown]
# Another digit gives four other numbers. The input of the network is the noisy picture and these channels, joined along the axis
# of the channels.
#
# ## Exercise 1: how many channels?
#
# *Difficulty*: ● ○ ○. *Minutes*: 3. *You learn*: which part of the network depends on the embedding's size.
#
# Write a function that returns the number of channels that go into the UNet when a class has `class_emb_size` numbers.
#
# *Expected output*: for the example's size, 4, it is the first number after "in all" in the drawing of the U below.

# %% tags=["exercise-input_channels"]
def input_channels(class_emb_size):
    return ...  # your answer in place of the dots


# %%
from course_utils import exercises

exercises.input_channels.check(input_channels)


# %% [markdown]
# Stuck? `exercises.input_channels.hint()`, and at last `exercises.input_channels.solution()`.
#
# <details><summary>Help: I see "The noisy picture itself", "Our pictures are grey", "the example's size only" or "number of classes does not enter"</summary>
#
# The class's channels come *beside* the picture. They do not replace it. A grey picture has one channel. Each picture is told about
# one class, whatever the number of classes. And the answer must change with `class_emb_size`.
# </details>
#
# ## Exercise 2: put the class beside the picture
#
# *Difficulty*: ● ● ○. *Minutes*: 8. *You learn*: how to give a vector a height and a width. In this way you can tell a network
# anything that holds for a whole picture.
#
# `pictures` is a float tensor (B, 1, H, W). `vectors` is a float tensor (B, C), with one vector per picture. Return the input of
# the UNet, (B, 1 + C, H, W): first the picture, then C channels, each filled with one of the numbers.
#
# *Expected output*: the cell after the check uses your function, and prints `the same: True`.

# %% tags=["exercise-concatenate"]
def concatenate(pictures, vectors):
    return ...  # your answer in place of the dots


# %%
exercises.concatenation.check(concatenate)

# %% [markdown]
# Stuck? `exercises.concatenation.hint()`, and at last `exercises.concatenation.solution()`.
#
# <details><summary>Help: I see "Tensors must have same number of dimensions"</summary>
#
# `pictures` has four axes and `vectors` has two. `vectors[:, :, None, None]` has four.
# </details>
#
# <details><summary>Help: I see "Sizes of tensors must match except in dimension"</summary>
#
# There are three possible reasons. The channels still have height and width 1: use `expand`. Or height and width are swapped: the
# checker's pictures are not square. Or you join along another axis than that of the channels.
# </details>
#
# <details><summary>Help: I see "first picture's vector"</summary>
#
# Look for a `vectors[0]` or `vectors[:1]`: each picture of the batch has its own vector.
# </details>
#
# <details><summary>Help: I see "The picture comes first", "hold only zeros", "whole numbers", "The picture is missing" or "not concatenated"</summary>
#
# These are five mistakes. The parts are right, but in the wrong order. Or the channels were made with `zeros` and never filled. Or
# the numbers were converted to integers, which turns 0.7 into 0. Or the picture was left out. Or there is a sum in place of `torch.cat`.
# </details>
#
# Now your function takes the place of the course's code, in the example's network with trained weights:

# %%
concatenate = exercises.concatenation.right_or_reference(concatenate)

trained = pipe.unet
noisy = torch.randn((2, 1, 28, 28), generator=torch.Generator().manual_seed(0))
t = torch.tensor(500)
with torch.no_grad():
    by_the_course = trained(noisy, t, labels)
    by_you = trained.model(concatenate(noisy, trained.class_emb(labels)), t).sample
print("the same:", torch.equal(by_the_course, by_you))

# %% [markdown]
# ## The U
#
# `UNet2DModel` is a network from diffusers. It takes a picture and a timestep, and returns a picture of the same size. It has the
# shape of a U:

# %%
from diffusers import UNet2DModel

from course_utils.sketches import unet_diagram

unet_diagram(trained)


# %% [markdown]
# - On the way **down** (left) the picture becomes smaller and gets more channels. At the bottom the network can see the digit as a
#   whole. On the way **up** (right) it becomes large again.
# - A **residual block** is two convolutions whose result is added to their input. **Attention** lets every pixel look at all
#   others.
# - **Skip connections** carry what was seen on the way down to the way up. So the fine strokes are not lost in the small pictures.
#   The way up has more parameters for two reasons: it has three residual blocks per level and not two, and the input of each is the
#   picture from below *and* what the skip connection carries.
# - The **timestep** becomes a vector, the *time embedding*, and is added in every residual block: with little noise the network must
#   do something else than with much noise.
# - The **label** can come in at three places, which we call *doors*. The example uses the first one, and you have just built it.
#   Notebook 5 uses the second one, notebook 3 the third one.
#
# ## Exercise 3: the network of the example
#
# *Difficulty*: ● ● ○. *Minutes*: 15. *You learn*: the network that this course is about.
#
# Write the class `ConditionedUnet`. In `__init__` make two parts, with these names:
#
# - `self.class_emb`: the table of vectors, an `nn.Embedding`;
# - `self.model`: a `UNet2DModel` with these arguments:
#
# | argument | value |
# |---|---|
# | `sample_size` | 28 |
# | `in_channels` | see exercise 1 |
# | `out_channels` | 1 |
# | `layers_per_block` | 2 |
# | `block_out_channels` | `(32, 64, 64)` |
# | `down_block_types` | `("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")` |
# | `up_block_types` | `("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")` |
#
# `forward(x, timesteps, labels)` looks up the vectors of the labels, puts them beside the pictures (exercise 2), and returns the
# prediction of `self.model`: a tensor of the same shape as `x`. `UNet2DModel` returns an object; the tensor is its `.sample`.
# `timesteps` is one number for each picture, or one for all of them: hand it on as it is.
#
# *Expected output*: the network has 1,708,201 parameters, and the cell after the check draws ten digits with it.

# %% tags=["exercise-ConditionedUnet"]
class ConditionedUnet(nn.Module):
    def __init__(self, num_classes=10, class_emb_size=4):
        super().__init__()
        self.class_emb = ...
        self.model = ...

    def forward(self, x, timesteps, labels):
        return ...


# %%
exercises.conditioned_unet.check(ConditionedUnet)

# %% [markdown]
# Stuck? `exercises.conditioned_unet.hint()`, and at last `exercises.conditioned_unet.solution()`.
#
# <details><summary>Help: the number of parameters is not right</summary>
#
# Without the table of vectors 40 are missing. With `in_channels=1` another 1,152 are missing: the first convolution has 32 filters of
# 3 x 3 for each channel. If the difference is another number, another argument of the UNet is wrong: compare
# them with the table.
# </details>
#
# <details><summary>Help: I see "no gradient"</summary>
#
# The table of vectors is learned. With `.detach()`, `.tolist()`, `.item()` or `torch.no_grad()` on the way, training cannot reach it.
# </details>
#
# <details><summary>Help: the parts are right, but `forward` gives something else</summary>
#
# Is the picture the first channel? Does each picture get the vector of its own label, and its own timestep? Is it `.sample` that you
# return?
# </details>
#
# Now your network gets the trained weights, and draws. (How drawing works is the subject of notebook 3. The weights know an eleventh
# label, "no class", which notebook 3 explains.)

# %%
from course_utils import minimal

ConditionedUnet = exercises.conditioned_unet.right_or_reference(ConditionedUnet)

yours = ConditionedUnet(num_classes=11)
yours.load_state_dict(trained.state_dict())
yours.null_label = 10
*_, drawn = minimal.sample(yours, torch.arange(10), 20, 1.5, torch.Generator().manual_seed(2), "v_prediction")
image_grid(drawn.clamp(-1, 1) / 2 + 0.5, 10, pipe.class_names, title="Drawn by your network, with the course's weights")

# %% [markdown]
# ## Every shape on the way
#
# A *forward hook* is a function that PyTorch calls whenever a module has run. We put one on each block of the UNet, and send two
# noisy pictures through.

# %%
from course_utils.display import table


def record_shapes(unet, *inputs):
    """Run a UNet once, and note the shape of what leaves each of its blocks."""
    blocks = {"conv_in": unet.conv_in}
    blocks |= {f"down {i}: {type(block).__name__}": block for i, block in enumerate(unet.down_blocks)}
    blocks |= {"mid": unet.mid_block}
    blocks |= {f"up {i}: {type(block).__name__}": block for i, block in enumerate(unet.up_blocks)}
    blocks |= {"conv_out": unet.conv_out}
    rows = []

    def hook(name):
        def note(block, args, out):
            shape = tuple((out[0] if isinstance(out, tuple) else out).shape)
            rows.append({"block": name, "out": shape, "parameters": sum(weight.numel() for weight in block.parameters())})

        return note

    hooks = [block.register_forward_hook(hook(name)) for name, block in blocks.items()]
    with torch.no_grad():
        unet(*inputs)
    for each in hooks:
        each.remove()
    return rows


table(record_shapes(yours.model, concatenate(noisy, yours.class_emb(labels)), t))


# %% [markdown]
# Five channels come in, and one goes out: the prediction, as large as the picture. (The table shows what *leaves* a block. The first
# two blocks on the way down end by halving the picture, and the first two on the way up end by doubling it: in the drawing these are
# the arrows.)
#
# ## Does the label change the output?
#
# The label is connected to the output. But does it change it? The test is simple: **the same noise, two labels, and the difference of
# the two outputs**, first for an untrained network, then for the trained one.

# %%
def difference(network, label_a, label_b, t=700):
    """Root mean square difference between what a network predicts for two labels from the same noise."""
    x = torch.randn((16, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = (network(x, torch.tensor(t), torch.full((16,), label)) for label in (label_a, label_b))
    return (a - b).square().mean().sqrt().item()


torch.manual_seed(0)
table(
    [
        {"network": name, "3 against 7": difference(network, 3, 7), "3 against 3": difference(network, 3, 3)}
        for name, network in {"untrained": ConditionedUnet(num_classes=11), "trained": yours}.items()
    ]
)

# %% [markdown]
# The same label gives exactly the same output, and another label gives another output. This holds for the untrained network, too:
# the label is connected from the beginning, but its effect is random. So a difference alone does not show that the network uses the
# label to draw the right digit. To see that, we look at what the network expects.
#
# ### The velocity
#
# The example trains its network to predict the noise $\epsilon$. The course's weights predict something else: the *velocity*
#
# $$v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1 - \bar\alpha_t}\,x_0$$
#
# Think of the picture $x_0$ as one direction and of the noise $\epsilon$ as another one. Because the squares of the two factors add up to
# 1, $x_t$ moves on a circle from the picture to the noise. The velocity points along this circle:

# %%
from course_utils.sketches import velocity_circle

velocity_circle()

# %% [markdown]
# At $t = 999$, $x_t$ is almost only noise. There the noise is easy to predict, and the prediction says nothing about the digit. The
# velocity there is nearly $-x_0$: to predict it, the network must say which picture it expects. From the velocity $v$ follows the
# expected picture: $x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1 - \bar\alpha_t}\,v$. (In notebook 3 you derive this formula.) We give pure noise
# to the trained network once, with each of the ten labels:

# %%
noise = torch.randn((1, 1, 28, 28), generator=torch.Generator().manual_seed(0)).expand(10, -1, -1, -1)
t = torch.tensor(999)
with torch.no_grad():
    velocity = yours(noise, t, torch.arange(10))
alpha_bar = pipe.scheduler.alphas_cumprod[t]
expected = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * velocity  # x_0
image_grid((expected.clamp(-1, 1) + 1) / 2, 10, pipe.class_names, title="One look at pure noise (t = 999), ten labels")

# %% [markdown]
# The input is the same noise ten times. For each label the answer looks like the average of all such digits, and an average is
# blurred. The noise contains no digit. **All of this comes from the label.** To draw a digit, we ask the network again in many steps.
# They turn the blur into one particular digit. This is called *sampling*, and notebook 3 explains it.
#
# ## Optional: what normalisation does to the label
#
# Every residual block begins with a `GroupNorm`. It divides the channels into groups. In each group it subtracts the mean of all pixels,
# and divides by their standard deviation. A class channel is *flat*: all its pixels have the same value. The first convolution adds
# it, times a weight, to what it makes of the picture. So there, too, the label's part of a channel is flat. What is left of a flat
# channel?

# %%
from course_utils.sketches import flat_channel_through_group_norm

flat_channel_through_group_norm()

# %% [markdown]
# If a flat channel is a group of its own, its mean is its value, and 0 is left: the label is lost. If it shares a group with another
# channel, the difference between the two stays. The example's first level has 32 channels in 32 groups, so each channel is a group of its
# own. The label still comes through, for three reasons. The shortcut around each residual block has no normalisation. At the border of
# the picture the convolutions see zeros, so the channels are not quite flat. And on the next level a group has two channels. (The
# timestep has the same fate on the first level: each block adds it as one number per channel, right before a GroupNorm.)
#
# So in the example it is not easy for the label to come through. It does, as the digits at the top of this notebook show. With
# `conditioning="time"`, the third door, the label is added to the time embedding, which there scales and shifts the channels of every
# block *after* a normalisation.
# The network of the next notebook uses this door.

# %%
exercises.summary(2)

# %% [markdown]
# ## In three lines
#
# - A label selects a row of a learned table. Its numbers become flat channels beside the noisy picture.
# - The same noise with another label gives another prediction. From pure noise, all that the network expects comes from the label.
# - A UNet works on small and large pictures at once. Skip connections carry the fine strokes, and the timestep enters every block.
#
# Next: [3. Training and sampling](03_training_and_sampling.ipynb)
