"""Panels to play with: a slider that picks a class and sees it drawn, and one that adds noise."""

import copy
import io
import secrets
import threading
import time

import ipywidgets
import torch
from PIL import Image as PILImage
from traitlets import link

from course_utils.data import scale_to_model
from course_utils.pipeline import SAVED_DEFAULTS

PIXEL = 8  # screen pixels for one pixel of a picture


class ClassPicker(ipywidgets.VBox):
    """A slider that picks a class; the picture is drawn anew, from the same noise, while you drag.

    The weights are copied when the panel is made, so training in another cell does not disturb it.

    Args:
        pipe: a `ClassConditionedPipeline`.
        class_names: one name a label; default: the pipeline's.

    Attributes:
        slider: the class; its `value` is the label, an int.
        chooser: the same by name, in a menu, for those who cannot drag.
        resample: a button that draws the same class from other noise.
        guidance, steps: sliders, folded away under `more`.
        image: the picture, PNG bytes in `value`.
        status: what is shown, in words: the class, the milliseconds it took and the seed of its noise.
        seed: of the noise, an int; set it and call `draw()` to see a picture again.
    """

    def __init__(self, pipe, class_names=None):
        names = list(class_names or pipe.class_names)
        num_classes = pipe.unet.config.num_classes
        if len(names) != num_classes:
            raise ValueError(f"class_names has {len(names)} names, expected {num_classes}, one for each class.")
        defaults = {name: pipe.config[name] for name in SAVED_DEFAULTS}
        self.pipe = type(pipe)(copy.deepcopy(pipe.unet), pipe.scheduler, **defaults)
        self.names, self.kind = names, "class" if names_need_showing(names) else "digit"
        self.seed = secrets.randbelow(10_000)
        self.drawing = threading.Lock()  # callbacks may come on other threads than cells do
        self.make_controls()
        self.slider.layout.width = "420px"
        panel = [ipywidgets.HBox([self.slider, self.resample]), self.image, self.status, self.more]
        super().__init__(panel)
        self.add_class("class-picker")
        for control in (self.slider, self.guidance, self.steps):
            control.observe(lambda change: self.draw(), "value")
        self.resample.on_click(lambda button: self.draw_anew())
        self.draw()

    def make_controls(self):
        """The widgets, before they are wired up."""
        options = [(name, label) for label, name in enumerate(self.names)]
        if self.kind == "digit":
            self.slider = ipywidgets.IntSlider(0, 0, len(options) - 1, description=self.kind, continuous_update=True)
        else:
            self.slider = ipywidgets.SelectionSlider(options=options, description=self.kind, continuous_update=True)
        self.chooser = ipywidgets.Dropdown(options=options, description=self.kind)
        link((self.slider, "value"), (self.chooser, "value"))
        self.resample = ipywidgets.Button(description="Resample", icon="refresh")
        config = self.pipe.config
        self.guidance = ipywidgets.FloatSlider(config.guidance_scale, min=1, max=8, step=0.25, description="guidance")
        self.guidance.disabled = not self.pipe.unet.config.unconditional
        fewest, most = 1, max(50, config.num_inference_steps)
        self.steps = ipywidgets.IntSlider(
            config.num_inference_steps, fewest, most, description="steps", continuous_update=False
        )
        self.more = ipywidgets.Accordion(
            [ipywidgets.VBox([self.guidance, self.steps, self.chooser])], selected_index=None
        )
        self.more.set_title(0, "More: guidance, steps, menu")
        self.image = ipywidgets.Image(format="png", width=28 * PIXEL, height=28 * PIXEL)
        self.status = ipywidgets.Label()
        for part in ("slider", "resample", "image", "status", "chooser", "more"):
            getattr(self, part).add_class(f"class-picker-{part}")

    def draw(self):
        """Draw what the controls say now; called by every control, and by you if you like.

        Raises:
            Exception: whatever went wrong in drawing, after the status has said so.
        """
        with self.drawing:
            label = self.slider.value  # read inside the lock: whoever draws last draws the last value
            try:
                self.show(label)
            except Exception as error:
                self.status.value = f"Could not draw {self.kind} {self.names[label]}: {error}"
                raise

    def show(self, label: int):
        """Draw one picture of a class, and say what it is."""
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(self.seed)
        pictures = self.pipe([label], self.steps.value, self.guidance.value, generator, output_type="pt").images
        milliseconds = 1000 * (time.perf_counter() - start)
        self.image.value = png_bytes(pictures)
        self.status.value = f"{self.kind} {self.names[label]}, drawn in {milliseconds:.0f} ms (seed {self.seed})"

    def draw_anew(self):
        """Draw the same class from other noise."""
        self.seed = (self.seed + 1 + secrets.randbelow(9_998)) % 10_000  # never the same again
        self.draw()


def names_need_showing(names: list[str]) -> bool:
    """True unless the names are just the labels' numbers."""
    return names != [str(label) for label in range(len(names))]


class NoiseSlider(ipywidgets.VBox):
    """A slider over the timestep: watch noise take over a few pictures.

    Args:
        images: uint8 (N, 1, 28, 28), shown in one row.
        noise_scheduler: a `DDPMScheduler`.

    Attributes:
        slider: the timestep, 0 .. num_train_timesteps - 1.
        image: the noised pictures, PNG bytes in `value`.
        status: in words, how much picture and how much noise there is.
    """

    def __init__(self, images, noise_scheduler):
        self.images, self.noise_scheduler = scale_to_model(images), noise_scheduler
        self.noise = torch.randn(self.images.shape, generator=torch.Generator().manual_seed(0))
        last = noise_scheduler.config.num_train_timesteps - 1
        self.slider = ipywidgets.IntSlider(0, 0, last, description="timestep t", continuous_update=True)
        self.slider.layout.width = "95%"
        self.image = ipywidgets.Image(format="png", width=28 * len(images) * 3)
        self.status = ipywidgets.Label()
        super().__init__([self.slider, self.image, self.status])
        self.add_class("noise-slider")
        self.slider.observe(lambda change: self.draw(), "value")
        self.draw()

    def draw(self):
        """Show the pictures at the slider's timestep."""
        t = self.slider.value
        noisy = self.noise_scheduler.add_noise(self.images, self.noise, torch.tensor([t]))
        self.image.value = png_bytes(noisy.clamp(-1, 1) / 2 + 0.5)
        kept = self.noise_scheduler.alphas_cumprod[t].sqrt().item()
        added = (1 - kept**2) ** 0.5
        self.status.value = f"t = {t}: {kept:.3f} x picture + {added:.3f} x noise"


class EmbeddingMixer(ipywidgets.VBox):
    """A slider from one class's vector to another's: draws what the network makes of the vectors in between.

    Args:
        pipe: a `ClassConditionedPipeline` whose network has `conditioning="embedding"`.
        start, end: labels to begin with.
        mix: computes the vector, called as `mix(embedding, start, end, share)`; default: a straight line.

    Attributes:
        start, end: menus of the two classes.
        slider: the share of the second class, 0 .. 1.
        resample: a button for other noise.
        image: the picture, PNG bytes in `value`.
        status: in words, what is mixed.
        seed: of the noise.
    """

    def __init__(self, pipe, start: int = 3, end: int = 8, mix=None):
        self.embedding = copy.deepcopy(pipe.unet.class_emb)
        self.mix = mix or (lambda embedding, a, b, share: torch.lerp(embedding.weight[a], embedding.weight[b], share))
        unet = pipe.unet.with_class_vectors(torch.zeros(1, pipe.unet.config.class_emb_size))
        self.pipe = type(pipe)(unet, pipe.scheduler, **{name: pipe.config[name] for name in SAVED_DEFAULTS})
        self.seed, self.drawing = 0, threading.Lock()
        options = [(name, label) for label, name in enumerate(pipe.class_names)]
        self.start = ipywidgets.Dropdown(options=options, value=start, description="from")
        self.end = ipywidgets.Dropdown(options=options, value=end, description="to")
        self.slider = ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="share", continuous_update=True)
        self.slider.layout.width = "420px"
        self.resample = ipywidgets.Button(description="Resample", icon="refresh")
        self.image = ipywidgets.Image(format="png", width=28 * PIXEL, height=28 * PIXEL)
        self.status = ipywidgets.Label()
        menus = ipywidgets.HBox([self.start, self.end])
        super().__init__([menus, ipywidgets.HBox([self.slider, self.resample]), self.image, self.status])
        self.add_class("embedding-mixer")
        for control in (self.start, self.end, self.slider):
            control.observe(lambda change: self.draw(), "value")
        self.resample.on_click(lambda button: self.draw_anew())
        self.draw()

    def draw(self):
        """Draw the vector that the controls say now."""
        with self.drawing, torch.no_grad():
            share = self.slider.value
            vector = self.mix(self.embedding, self.start.value, self.end.value, share)
            self.pipe.unet.class_emb.weight[0].copy_(vector)
            generator = torch.Generator().manual_seed(self.seed)
            self.image.value = png_bytes(self.pipe([0], generator=generator, output_type="pt").images)
            self.status.value = f"{1 - share:.0%} of {self.start.label}, {share:.0%} of {self.end.label}"

    def draw_anew(self):
        """Draw the same vector from other noise."""
        self.seed += 1
        self.draw()


def png_bytes(pictures: torch.Tensor) -> bytes:
    """Pictures (N, 1, 28, 28) in [0, 1], side by side, as PNG with every pixel enlarged to a height of 224 pixels."""
    row = torch.cat(list(pictures[:, 0]), dim=1)  # (28, N * 28)
    image = PILImage.fromarray(row.mul(255).round().byte().cpu().numpy())
    scale = 28 * PIXEL // image.height  # small pictures fill the panel, too
    image = image.resize((image.width * scale, image.height * scale), PILImage.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
