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
# A plain diffusion model draws *some* digit. To get the digit we want, the network must be told. This notebook opens the
# network of the Hugging Face class-conditioned example and follows a label through it.
#
# **You will learn** how a label becomes extra input channels, which shape every tensor has, how to prove that the label
# matters, and where in the network it can, and cannot, be heard.
#
# **You need** [notebook 1](01_data.ipynb), and an idea of what a convolution is. **Time**: fifteen minutes to read, under
# a minute to run on a laptop.

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
# Those digits did not exist before you ran the cell. The network that drew them has the same architecture as the
# example's; it was trained by this course and comes with it. How does it know which digit to draw?
#
# ## From a label to channels
#
# Start with a new, untrained network, and look at how it treats a label.

# %%
from course_utils.model import ClassConditionedUnet

torch.manual_seed(0)
model = ClassConditionedUnet()
print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters")
model.class_emb

# %% [markdown]
# An `Embedding(10, 4)` is a table: ten rows, one for each class, of four numbers each. They start at random and are
# learned with everything else. Two labels pick two rows:

# %%
labels = torch.tensor([3, 7])
model.class_emb(labels)

# %% [markdown]
# A UNet wants pictures, not rows of four numbers. So each number is spread over a whole 28 x 28 channel:

# %%
from course_utils.plotting import class_channels

channels = model.class_channels(labels, height=28, width=28).detach()
print(f"{tuple(channels.shape)} = (batch, class_emb_size, height, width)")
class_channels(channels[0], title="What the network is told about a 3")

# %%
class_channels(channels[1], title="What the network is told about a 7")

# %% [markdown]
# Four flat channels, other shades for another digit. They are stacked on the noisy picture, and the UNet gets five
# channels instead of one. That is all there is to it, and the source says so:

# %%
from course_utils.display import show_source

show_source(ClassConditionedUnet.forward)

# %%
show_source(ClassConditionedUnet.class_channels)

# %% [markdown]
# (The other ways in, `"one_hot"` and `"time"`, get their turn in notebooks 5 and 7. Where the example writes
# `bs, ch, w, h = x.shape` it swaps width and height, which does no harm on a square picture.)
#
# ## Every shape on the way
#
# A *forward hook* is a function that PyTorch calls whenever a module has run. We hang one on each block of the UNet and
# send two noisy pictures through.

# %%
from course_utils.display import table


def record_shapes(model, x, t, labels):
    """Run the model once, and note the shape of what leaves each of the UNet's blocks."""
    unet = model.model
    blocks = {"conv_in": unet.conv_in}
    blocks |= {f"down {i}: {type(block).__name__}": block for i, block in enumerate(unet.down_blocks)}
    blocks |= {"mid": unet.mid_block}
    blocks |= {f"up {i}: {type(block).__name__}": block for i, block in enumerate(unet.up_blocks)}
    blocks |= {"conv_out": unet.conv_out}
    rows = []
    hooks = [
        block.register_forward_hook(
            lambda module, args, out, name=name: rows.append(
                {
                    "block": name,
                    "out": tuple((out[0] if isinstance(out, tuple) else out).shape),
                    "parameters": sum(parameter.numel() for parameter in module.parameters()),
                }
            )
        )
        for name, block in blocks.items()
    ]
    with torch.no_grad():
        model(x, t, labels)
    for hook in hooks:
        hook.remove()
    return rows


x = torch.randn(2, 1, 28, 28)
table(record_shapes(model, x, torch.tensor([500, 500]), labels))


# %% [markdown]
# Down the left arm the picture shrinks from 28 to 14 to 7 and gets more channels; up the right arm it grows again. At
# the end there is one channel, the predicted noise, of the size that came in.
#
# ## Does the label matter?
#
# It is wired in. But does it change anything? The proof is simple: **the same noise, two labels, and a look at the
# difference of the two outputs.** First for the untrained network, then for the trained one:

# %%
def difference(model, label_a, label_b, t=700):
    """Root mean square difference between what a model predicts for two labels from the same noise."""
    x = torch.randn((16, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = (model(x, torch.tensor(t), torch.full((16,), label)) for label in (label_a, label_b))
    return (a - b).square().mean().sqrt().item()


trained = pipe.unet
table(
    [
        {"network": name, "3 against 7": difference(net, 3, 7), "3 against 3": difference(net, 3, 3)}
        for name, net in {"untrained": model.eval(), "trained": trained}.items()
    ]
)

# %% [markdown]
# The same label gives exactly the same output, another label another one: the label, and only the label, made that
# difference. For the trained network we can see what it is about. From *pure noise*, one look is enough to ask it what
# it believes is behind the noise, for each label in turn:

# %%
noise = torch.randn((1, 1, 28, 28), generator=torch.Generator().manual_seed(0)).expand(10, -1, -1, -1)
t = torch.tensor(990)
with torch.no_grad():
    velocity = trained(noise, t, torch.arange(10))
alpha_bar = pipe.scheduler.alphas_cumprod[t]
guess = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * velocity  # x_0, from the definition of the velocity
image_grid((guess.clamp(-1, 1) + 1) / 2, 10, pipe.class_names, title="One look at pure noise (t = 990), ten labels")

# %% [markdown]
# The same noise goes in ten times; the network answers with the average of the digit it was told about, blurred as
# averages are. The noise contains no digit, so **all of this comes from the label**. In the steps that follow, sampling
# turns the blur into one particular digit.
#
# (This network predicts the *velocity*, a mixture of picture and noise that stays well defined in pure noise, where the
# example predicts the noise itself. Notebook 3 trains that way too; notebook 7 measures why.)
#
# ## Where can the label be heard?
#
# Here is something that the example does not mention. Every residual block begins with a `GroupNorm`. It takes a group
# of channels and subtracts their mean. Our class channels are *flat*: all they can do to a channel is to add a constant.
# With 32 channels in 32 groups each channel is a group of its own, and the constant is subtracted again.
#
# Let us measure it: how much does another label change what leaves each of the first normalisations? We look at the
# middle of the picture. We also look at a copy of the network whose convolutions wrap around at the edges, as if the
# picture had no border.

# %%
import copy


def change_after_norms(model, label_a=3, label_b=7):
    """For each GroupNorm of the way down, in order: its name, its group's size, and the change by another label."""
    norms = {name: module for name, module in model.model.down_blocks.named_modules() if isinstance(module, torch.nn.GroupNorm)}
    outputs = {}
    hooks = [
        norm.register_forward_hook(lambda module, args, out, name=name: outputs.setdefault(name, []).append(middle(out)))
        for name, norm in norms.items()
    ]
    x = torch.randn((16, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for label in (label_a, label_b):
            model(x, torch.tensor(500), torch.full((16,), label))
    for hook in hooks:
        hook.remove()
    return [
        (name, norms[name].num_channels // norms[name].num_groups, (a - b).square().mean().sqrt().item())
        for name, (a, b) in outputs.items()
    ]


def middle(x):
    """The middle of pictures, or of pictures that were flattened for attention: (B, C, H, W) or (B, C, H * W)."""
    if x.ndim == 3:
        side = int(x.shape[-1] ** 0.5)
        x = x.unflatten(-1, (side, side))
    margin = x.shape[-1] // 4
    return x[..., margin:-margin, margin:-margin]


borderless = copy.deepcopy(model)
for module in borderless.modules():
    if isinstance(module, torch.nn.Conv2d) and module.kernel_size != (1, 1):
        module.padding_mode = "circular"

table(
    [
        {"level . layer": name, "channels a group": size, "change": f"{change:.3f}", "change without a border": f"{without:.3f}"}
        for (name, size, change), (_, _, without) in zip(change_after_norms(model), change_after_norms(borderless))
    ]
)

# %% [markdown]
# The last column is the pure effect. As long as a group is a single channel (the whole top level, and the first
# normalisation after it with the layer that it feeds), **nothing** of the label is left: flat goes in, nothing comes out.
# In the real network a little leaks in from the border, where the zeros of the padding make flat channels less than flat. The label travels past
# these normalisations along the shortcuts, and is first properly *heard* at 14 x 14 pixels, by the attention, where a
# group holds two channels and their difference survives.
#
# So the class has to be carried in a roundabout way, and learning to do so takes time. It works, as the digits at the
# top show, and there are better ways in: with `conditioning="time"` the class joins the time embedding, which scales and
# shifts every block *after* its normalisation. That is what the fast track of the next notebook does.
#
# ## In three lines
#
# - A label picks a row of a learned table; its numbers become flat channels beside the noisy picture.
# - The same noise with another label gives another prediction, and that is all the control there is.
# - Normalisation removes flat channels early on; where the class enters decides how fast a network learns to listen.
#
# Next: [3. Training and sampling](03_training_and_sampling.ipynb)
