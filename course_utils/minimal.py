"""The whole idea on one page, without a single check: noise, network, loss, training, guidance, sampling.

It gives the same losses and the same pictures, bit for bit, as the course's `train` and `sample`: tests/test_minimal.py
holds it to that. Everything is on the CPU. Pictures are (B, 1, 28, 28) in [-1, 1], labels and timesteps int64 (B,).
"""

import math

import torch
from diffusers import UNet2DModel
from torch import nn
from torch.nn import functional as F


def cosine_alphas_cumprod(num_train_timesteps=1000):
    """alpha_bar: the square of the picture's factor at each timestep (arXiv:2102.09672, equation 17)."""

    def level(time):  # from 1, only picture, to 0, only noise
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    times = [t / num_train_timesteps for t in range(num_train_timesteps + 1)]
    betas = [min(1 - level(after) / level(before), 0.999) for before, after in zip(times, times[1:])]
    return (1 - torch.tensor(betas)).cumprod(0)  # (1000,)


def add_noise(images, noise, timesteps, alphas_cumprod):
    """x_t: the picture and the noise, each times its factor."""
    alpha_bar = alphas_cumprod[timesteps].view(-1, 1, 1, 1)  # (B, 1, 1, 1)
    return alpha_bar.sqrt() * images + (1 - alpha_bar).sqrt() * noise


class ConditionedUnet(nn.Module):
    """The example's network: the class's vector becomes extra input channels of a UNet."""

    def __init__(self, num_classes=10, class_emb_size=4, unconditional=False):
        super().__init__()
        self.null_label = num_classes  # "no class", where the network is to know it
        self.class_emb = nn.Embedding(num_classes + unconditional, class_emb_size)
        self.model = UNet2DModel(
            sample_size=28,
            in_channels=1 + class_emb_size,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )

    def forward(self, x, timesteps, labels):
        vectors = self.class_emb(labels)  # (B, 4)
        channels = vectors[:, :, None, None].expand(-1, -1, *x.shape[-2:])  # (B, 4, 28, 28)
        return self.model(torch.cat((x, channels), dim=1), timesteps).sample  # (B, 1, 28, 28)


def training_loss(model, alphas_cumprod, images, labels, generator, prediction_type="epsilon"):
    """How far the network's prediction is from the noise, or from the velocity, at timesteps drawn at random."""
    noise = torch.randn(images.shape, generator=generator)
    timesteps = torch.randint(0, len(alphas_cumprod), (len(images),), generator=generator)
    prediction = model(add_noise(images, noise, timesteps, alphas_cumprod), timesteps, labels)
    if prediction_type == "epsilon":
        return F.mse_loss(prediction, noise)
    return F.mse_loss(prediction, add_noise(noise, -images, timesteps, alphas_cumprod))  # the velocity


def training_step(optimizer, loss):
    """Move the weights one step down the gradients of the loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train(model, images, labels, num_epochs=10, batch_size=128, learning_rate=1e-3, seed=0, label_dropout=0.0):
    """Yield the loss of each step. Some labels are replaced by "no class", so that the network learns that as well."""
    alphas_cumprod, generator = cosine_alphas_cumprod(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    for _ in range(num_epochs):
        for batch in torch.randperm(len(images), generator=generator).split(batch_size):
            told = labels[batch]
            if label_dropout:
                told = told.masked_fill(torch.rand(len(batch), generator=generator) < label_dropout, model.null_label)
            loss = training_loss(model, alphas_cumprod, images[batch], told, generator)
            training_step(optimizer, loss)
            yield loss.item()


def guided(model, x, t, labels, guidance_scale=1.0):
    """The prediction for the class, moved away from the prediction for "no class" (arXiv:2207.12598)."""
    if guidance_scale == 1:
        return model(x, t, labels)
    both = torch.cat((torch.full_like(labels, model.null_label), labels))
    uncond, cond = model(torch.cat((x, x)), t, both).chunk(2)
    return uncond + guidance_scale * (cond - uncond)


def predicted_x0(x, prediction, alpha_bar, prediction_type="epsilon"):
    """The picture that the network believes in: `add_noise` solved for the picture."""
    if prediction_type == "epsilon":
        return (x - (1 - alpha_bar).sqrt() * prediction) / alpha_bar.sqrt()
    return alpha_bar.sqrt() * x - (1 - alpha_bar).sqrt() * prediction


def ddim_step(x, x0, alpha_bar, previous_alpha_bar):
    """The same picture and the same noise with the factors of an earlier timestep (arXiv:2010.02502, equation 12)."""
    noise = (x - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
    return previous_alpha_bar.sqrt() * x0 + (1 - previous_alpha_bar).sqrt() * noise


def ddpm_step(x, x0, alpha_bar, previous_alpha_bar, noise):
    """The mean of what can have been one timestep earlier, and fresh noise (arXiv:2006.11239, equations 6 and 7)."""
    alpha = alpha_bar / previous_alpha_bar
    beta = 1 - alpha
    x0_factor = previous_alpha_bar.sqrt() * beta / (1 - alpha_bar)
    x_factor = alpha.sqrt() * (1 - previous_alpha_bar) / (1 - alpha_bar)
    variance = (1 - previous_alpha_bar) / (1 - alpha_bar) * beta
    return x0_factor * x0 + x_factor * x + variance.sqrt() * noise


@torch.no_grad()
def sample(
    model, labels, num_inference_steps, guidance_scale=1.0, generator=None, prediction_type="epsilon", sampler="ddim"
):
    """Yield the pictures after each step, from noise to ink; the last ones are the result."""
    alphas_cumprod = torch.cat((cosine_alphas_cumprod(), torch.ones(1)))  # the last one, of t = -1, is all picture
    timesteps = [round(1000 - i * 1000 / num_inference_steps) - 1 for i in range(num_inference_steps)]
    x = torch.randn((len(labels), 1, 28, 28), generator=generator)
    for t, previous in zip(timesteps, [*timesteps[1:], -1]):
        prediction = guided(model, x, t, labels, guidance_scale)
        x0 = predicted_x0(x, prediction, alphas_cumprod[t], prediction_type).clamp(-1, 1)
        levels = alphas_cumprod[t], alphas_cumprod[previous]
        if sampler == "ddim":
            x = ddim_step(x, x0, *levels)
        else:
            x = ddpm_step(x, x0, *levels, torch.randn(x.shape, generator=generator))
        yield x
