"""The network: a `UNet2DModel` that is told which class to draw."""

import copy

import numpy as np
import torch
from diffusers import UNet2DModel
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from course_utils.storage.weights import StrictModel
from course_utils.validation import check_switch, check_whole_number, plain, quoted

CONDITIONINGS = ("embedding", "one_hot", "time")
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_class_labels(class_labels, num_classes: int) -> torch.Tensor:
    """Turn labels into an int64 tensor, or say in one sentence what is wrong with them.

    Args:
        class_labels: an int, a sequence of ints or an integer tensor of shape (N,), each in 0 .. num_classes - 1.
        num_classes: how many classes there are.

    Returns:
        An int64 tensor of shape (N,).

    Raises:
        ValueError: for anything that is not whole numbers in range, in one dimension, at least one of them.
    """
    wanted = f"expected whole numbers from 0 to {num_classes - 1}, such as [3, 3, 7]"
    try:
        if isinstance(class_labels, (list, tuple)) and any(isinstance(plain(label), bool) for label in class_labels):
            raise TypeError("True and False are no labels")  # NumPy would take them for 1 and 0
        labels = class_labels if isinstance(class_labels, torch.Tensor) else to_tensor(np.asarray(class_labels))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"class_labels is {quoted(class_labels)}, which is not a list of numbers: {wanted}."
        ) from error
    if labels.ndim == 0:
        labels = labels[None]
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"class_labels has shape {tuple(labels.shape)}, expected (N,) with N at least 1: {wanted}.")
    if labels.dtype == torch.bool or labels.is_complex():
        raise ValueError(f"class_labels has dtype {labels.dtype}: {wanted}.")
    whole = labels.long()
    fits = (whole == labels if labels.is_floating_point() else True) & (whole >= 0) & (whole < num_classes)
    if not fits.all():
        raise ValueError(f"class_labels contains {labels.tolist()[fits.tolist().index(False)]}: {wanted}.")
    return whole


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """NumPy's numbers, of whatever size and byte order, as int64 or float64: nothing is rounded on the way.

    Raises:
        TypeError: if they are not numbers.
    """
    if array.dtype.kind not in "iuf" and array.size:
        raise TypeError(f"an array of {array.dtype} holds no real numbers")
    return torch.from_numpy(array.astype(np.float64 if array.dtype.kind == "f" else np.int64))


class Unet(UNet2DModel):
    """diffusers' `UNet2DModel`, which asks for its dtype twice an evaluation, and by itself walks all modules to find it."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, all of which have the same."""
        return self.conv_in.weight.dtype


class ClassConditionedUnet(StrictModel):
    """A UNet for 28x28 one-channel images that is given the class to draw beside the noisy image.

    With default arguments it is the network of the class-conditioned example in unit 2 of the Hugging Face
    diffusion models class: 1,708,201 parameters, submodules `class_emb` and `model`, the same state-dict keys.

    Args:
        num_classes: classes, numbered from 0.
        class_emb_size: length of the learned vector of each class (only for `conditioning="embedding"`).
        conditioning: how the class enters the network:
            "embedding": a learned vector, spread over the image as extra input channels (the example's way);
            "one_hot": one input channel a class, all ones for the class asked for, zeros elsewhere;
            "time": a learned vector added to the time embedding, which scales and shifts every residual block.
        unconditional: adds one more label, `num_classes`, that stands for "no class"; guidance needs it.
        block_out_channels: width of each level; each level after the first halves the image, so at most three.
        layers_per_block: residual blocks a level.
        attention_levels: the levels (0 is the widest image) that have self-attention.
        attention_head_dim: size of an attention head.
        norm_num_groups: groups of every GroupNorm; must divide every width.
        zero_init: start with zeros in the last layer of each residual branch, of each attention and of the whole
            network: each block hands on what it was given, the untrained network predicts zero everywhere, and it can
            bear a higher learning rate (Goyal et al., arXiv:1706.02677, section 5.1).
        sample_size: side of the pictures it draws, in pixels; each level after the first must be able to halve it.

    Raises:
        ValueError: for an unknown `conditioning` or sizes that do not fit together.
    """

    @register_to_config
    def __init__(
        self,
        num_classes: int = 10,
        class_emb_size: int = 4,
        conditioning: str = "embedding",
        unconditional: bool = False,
        block_out_channels: tuple[int, ...] = (32, 64, 64),
        layers_per_block: int = 2,
        attention_levels: tuple[int, ...] = (1, 2),
        attention_head_dim: int = 8,
        norm_num_groups: int = 32,
        zero_init: bool = False,
        sample_size: int = 28,
    ):
        super().__init__()
        config = check_architecture(self.config)
        self.register_to_config(**config)  # NumPy's numbers have become Python's, which can be saved
        rows = config["num_classes"] + config["unconditional"]  # the "no class" row comes last
        levels, attended = range(len(config["block_out_channels"])), config["attention_levels"]
        if conditioning == "embedding":
            self.class_emb = nn.Embedding(rows, config["class_emb_size"])
        self.model = Unet(
            sample_size=config["sample_size"],
            in_channels=1
            + {"embedding": config["class_emb_size"], "one_hot": config["num_classes"]}.get(conditioning, 0),
            out_channels=1,
            layers_per_block=config["layers_per_block"],
            block_out_channels=config["block_out_channels"],
            down_block_types=tuple("AttnDownBlock2D" if i in attended else "DownBlock2D" for i in levels),
            up_block_types=tuple("AttnUpBlock2D" if i in attended else "UpBlock2D" for i in reversed(levels)),
            attention_head_dim=config["attention_head_dim"],
            norm_num_groups=config["norm_num_groups"],
            num_class_embeds=rows if conditioning == "time" else None,
            resnet_time_scale_shift="scale_shift" if conditioning == "time" else "default",
        )
        if config["zero_init"]:
            zero_residual_branches(self.model)

    @classmethod
    def fast(cls, **changes) -> "ClassConditionedUnet":
        """The fast track's network: a quarter of the arithmetic, and the class in the time embedding.

        Args:
            changes: arguments of `ClassConditionedUnet` to use in place of the fast track's.
        """
        fast_track = dict(
            conditioning="time",
            unconditional=True,
            block_out_channels=(16, 32, 64),
            layers_per_block=1,
            attention_levels=(2,),
            norm_num_groups=8,
            zero_init=True,
        )
        return cls(**{**fast_track, **changes})

    @classmethod
    def small(cls, **changes) -> "ClassConditionedUnet":
        """The exercises' network, for 14x14 pictures: it trains in seconds, so that many can be compared.

        Its GroupNorms have a single group, which keeps the differences between channels, and with them the label.

        Args:
            changes: arguments of `ClassConditionedUnet` to use in place of the small network's.
        """
        small = dict(
            block_out_channels=(16, 32),
            layers_per_block=1,
            attention_levels=(),
            norm_num_groups=1,
            zero_init=True,
            sample_size=14,
        )
        return cls(**{**small, **changes})

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, all of which have the same."""
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        """Of the weights; diffusers' own property walks all modules to find it, a tenth of a picture's time."""
        return self.model.conv_in.weight.device

    @property
    def null_label(self) -> int:
        """The label that stands for "no class".

        Raises:
            ValueError: if the network was built without it.
        """
        if not self.config.unconditional:
            raise ValueError(
                "this network has no 'no class' label, so it can be neither guided nor trained with label dropout: "
                "build it with unconditional=True, or use guidance_scale=1 and label_dropout=0."
            )
        return self.config.num_classes

    def class_channels(self, class_labels: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """The extra input channels: each class's numbers, repeated at every pixel.

        Args:
            class_labels: int64 (B,).
            height, width: size of the image, in pixels.

        Returns:
            (B, channels, height, width), with 4 channels for the default network, 10 for "one_hot".
        """
        if self.config.conditioning == "one_hot":
            rows = F.one_hot(class_labels, self.config.num_classes + 1)  # (B, 11): the last column is "no class" ...
            numbers = rows[:, :-1].to(self.dtype)  # (B, 10): ... which becomes a row of zeros
        else:
            numbers = self.class_emb(class_labels)  # (B, 4)
        return numbers[:, :, None, None].expand(-1, -1, height, width)

    def with_class_vectors(self, vectors: torch.Tensor) -> "ClassConditionedUnet":
        """A copy of the network that knows other classes: those whose vectors are given, in place of its own.

        Args:
            vectors: float (N, class_emb_size); label i of the copy is told `vectors[i]`.

        Raises:
            ValueError: if the network has no table of vectors, or the vectors are of another length.
        """
        if self.config.conditioning != "embedding":
            raise ValueError(f"conditioning is {self.config.conditioning!r}: only an 'embedding' has class vectors.")
        if vectors.ndim != 2 or vectors.shape[1] != self.config.class_emb_size or len(vectors) == 0:
            raise ValueError(f"vectors has shape {tuple(vectors.shape)}, expected (N, {self.config.class_emb_size}).")
        model = copy.deepcopy(self)
        no_class = self.class_emb.weight[self.config.num_classes :].detach()  # one row, or none
        model.class_emb = nn.Embedding.from_pretrained(torch.cat((vectors.detach().to(no_class), no_class)))
        model.register_to_config(num_classes=len(vectors))
        return model

    def check_shapes(self, sample: torch.Tensor, class_labels: torch.Tensor):
        """Refuse pictures and labels that do not fit together, by shape and dtype alone."""
        step = 2 ** (len(self.config.block_out_channels) - 1)  # pixels: every level after the first halves the picture
        if sample.ndim != 4 or sample.shape[1] != 1 or not sample.is_floating_point():
            found = f"sample has shape {tuple(sample.shape)} and dtype {sample.dtype}"
            raise ValueError(f"{found}, expected (B, 1, 28, 28) of floats.")
        height, width = sample.shape[2:]
        if height < step or height % step or width < step or width % step:
            raise ValueError(
                f"sample has pictures of {height}x{width} pixels, expected multiples of {step}, such as 28."
            )
        if class_labels.ndim != 1 or class_labels.dtype not in INTEGERS:
            found = f"class_labels has shape {tuple(class_labels.shape)} and dtype {class_labels.dtype}"
            raise ValueError(f"{found}, expected (B,) of whole numbers.")
        labels, pictures = class_labels.shape[0], sample.shape[0]  # len() would fix the batch's size in an export
        if labels != pictures:
            raise ValueError(f"there are {labels} class_labels for {pictures} pictures, expected one for each.")

    def forward(self, sample: torch.Tensor, timestep, class_labels) -> torch.Tensor:
        """Predict the noise (or the velocity, as trained) in a batch of noisy images.

        Only shapes and dtypes are checked here, so that `torch.compile` and `torch.export` see one graph and a GPU need
        not wait; the labels' values are checked by those who ask for pictures, with `check_class_labels`.

        Args:
            sample: noisy images, float (B, 1, 28, 28).
            timestep: an int or an int tensor of shape () or (B,), 0 .. num_train_timesteps - 1.
            class_labels: an int tensor (B,), or a list of B ints; 0 .. num_classes - 1, or `null_label`.

        Returns:
            float (B, 1, 28, 28).

        Raises:
            ValueError: for pictures or labels of another shape or dtype.
        """
        class_labels = torch.as_tensor(class_labels, device=sample.device)
        self.check_shapes(sample, class_labels)
        class_labels = class_labels.long()
        if self.config.conditioning == "time":
            return self.model(sample, timestep, class_labels).sample
        class_cond = self.class_channels(class_labels, *sample.shape[-2:])  # (B, 4, 28, 28)
        net_input = torch.cat((sample, class_cond), dim=1)  # (B, 5, 28, 28)
        return self.model(net_input, timestep).sample  # (B, 1, 28, 28)


def check_architecture(config) -> dict:
    """Refuse, before anything is allocated, sizes that make no network for 28x28 images.

    Args:
        config: the arguments of `ClassConditionedUnet` by name, as its `config` holds them.

    Returns:
        The same in Python's own types, whichever library the numbers came from.

    Raises:
        ValueError: with what was found and what was expected.
    """
    conditioning = config["conditioning"]
    if not isinstance(conditioning, str) or conditioning not in CONDITIONINGS:
        expected = ", ".join(map(repr, CONDITIONINGS))
        raise ValueError(f"conditioning is {quoted(conditioning)}, expected one of {expected}.")
    limits = dict(num_classes=1000, class_emb_size=512, layers_per_block=8, sample_size=256)
    sizes = {name: check_whole_number(name, config[name], 1, largest) for name, largest in limits.items()}
    switches = {name: check_switch(name, config[name]) for name in ("unconditional", "zero_init")}
    widths = check_widths(config["block_out_channels"])
    attention_levels = check_attention_levels(config["attention_levels"])
    groups = check_whole_number("norm_num_groups", config["norm_num_groups"], 1, max(widths))
    check_divisions(widths, groups, sizes["sample_size"])
    attended = {level for level in attention_levels if level < len(widths)} | {len(widths) - 1}
    narrowest = min(widths[level] for level in attended)  # the middle, after the last level, always has attention
    head = check_whole_number("attention_head_dim", config["attention_head_dim"], 1, narrowest)
    lists = dict(block_out_channels=widths, attention_levels=attention_levels)
    return dict(conditioning=conditioning, norm_num_groups=groups, attention_head_dim=head) | sizes | switches | lists


def check_widths(widths) -> tuple[int, ...]:
    """Refuse widths that are too many or too large.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if not isinstance(widths, (list, tuple, np.ndarray)) or not 1 <= len(widths) <= 3:
        raise ValueError(
            f"block_out_channels is {quoted(widths)}, expected a list of 1 to 3 widths: 28 can be halved only twice."
        )
    return tuple(check_whole_number("a width in block_out_channels", width, 1, 1024) for width in widths)


def check_attention_levels(levels) -> tuple[int, ...]:
    """Refuse attention at levels that no network has.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if not isinstance(levels, (list, tuple, np.ndarray)) or len(levels) > 3:
        raise ValueError(f"attention_levels is {quoted(levels)}, expected a list of at most 3 levels.")
    return tuple(check_whole_number("a level in attention_levels", level, 0, 2) for level in levels)


def check_divisions(widths: tuple[int, ...], groups: int, size: int):
    """Refuse groups that do not divide every width, and a picture that cannot be halved often enough.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if any(width % groups for width in widths):
        raise ValueError(f"norm_num_groups is {groups}, expected a divisor of every width in {[*widths]}.")
    step = 2 ** (len(widths) - 1)
    if size % step:
        raise ValueError(f"sample_size is {size}, expected a multiple of {step} for {len(widths)} levels.")


def zero_residual_branches(unet: UNet2DModel):
    """Set the last layer of every residual branch, of every attention, and of the output to zero."""
    for module in unet.modules():
        for name in ("conv2", "to_out", "conv_out"):
            layer = getattr(module, name, None)
            if isinstance(layer, nn.ModuleList):  # Attention.to_out is [Linear, Dropout]
                layer = layer[0]
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)


def flops_per_image(model, size: int = 28) -> int:
    """Floating point operations (a multiplication and an addition count as two) to train on one image.

    Forward and backward are counted as they run; the optimiser, which does not grow with the images, is left out.
    """
    image = torch.zeros(1, 1, size, size, device=model.device, dtype=model.dtype)
    timestep = label = torch.zeros(1, dtype=torch.int64, device=model.device)
    # Plain attention: what the counter knows of the faster kinds differs with torch's version and the device.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        F.mse_loss(model(image, timestep, label), image).backward()
    model.zero_grad()
    return counter.get_total_flops()
