"""Panels to play with: a slider that picks a class and sees it drawn, and one that adds noise."""

import asyncio
import copy
import secrets
import threading
import time

import ipywidgets
import torch
from IPython import get_ipython

from course_utils.data import scale_to_model
from course_utils.own_pictures import as_class_names, as_images
from course_utils.pictures import png_bytes
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.validation import check_whole_number, quoted

PIXEL = 8  # screen pixels for one pixel of a picture
MOMENT = 0.01  # seconds in which the kernel hears the events that wait, before a picture is drawn
COLUMNS = 13  # pictures side by side
GUIDANCE = dict(min=0, max=20)  # what a pipeline draws with
LONGEST_NAME = 40  # characters of a class's name


class LivePanel(ipywidgets.VBox):
    """A panel whose picture follows its controls; the last value wins, whichever threads the events come on.

    Events may come faster than pictures can be drawn, and on other threads than cells do. One thread at a time draws,
    from what the controls say when it begins, until they say nothing new; an event that comes too late to matter finds
    its work done. An event from the page is drawn a moment later, when those behind it in the kernel's queue have been
    heard; one from a cell, or in plain Python, at once.

    A panel has `wanted()`, what its controls say as a tuple, and `show(*wanted)`, which draws it.
    """

    def __init__(self, children):
        super().__init__(children)
        self.turn = threading.RLock()  # the same thread may come again: an observer of the picture may move the slider
        self.drawing, self.shown, self.expected = False, None, False

    def update(self):
        """Draw what the controls say, now or in a moment, unless it is what is shown already; called by every control."""
        loop = loop_of_the_page()
        if loop is None:
            self.follow()
        elif not self.expected:
            self.expected = True
            loop.call_later(MOMENT, self.follow_the_page)

    def follow_the_page(self):
        """Draw what the controls say after all events that waited; an error shows as those in widgets' handlers do."""
        self.expected = False
        try:
            self.follow()
        except Exception:
            get_ipython().showtraceback()

    def follow(self):
        """Draw what the controls say now, unless it is what is shown already."""
        with self.turn:
            if self.drawing:
                return  # called while showing, on the same thread: the loop below goes round once more
            self.drawing = True
            try:
                while (wanted := self.wanted()) != self.shown:
                    self.shown = wanted
                    self.show(*wanted)
            except BaseException:  # an interrupted cell, too, must not leave the panel believing that it has drawn
                self.shown = None
                raise
            finally:
                self.drawing = False

    def draw(self):
        """Draw what the controls say now, even if it is what is shown already.

        Raises:
            Exception: whatever went wrong in drawing.
        """
        with self.turn:
            self.shown = None
            self.follow()


def loop_of_the_page():
    """The kernel's event loop while it handles an event from the page; None in a cell, a thread or plain Python."""
    kernel = getattr(get_ipython(), "kernel", None)
    parent = kernel.get_parent() if hasattr(kernel, "get_parent") else {}
    if parent.get("header", {}).get("msg_type") != "comm_msg":
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class ClassPicker(LivePanel):
    """A slider that picks a class; the picture is drawn anew, from the same noise, while you drag.

    The weights are copied when the panel is made, so training in another cell does not disturb it.

    Args:
        pipe: a `ClassConditionedPipeline`.
        class_names: one name per label; default: the pipeline's.
        sample: a sampling loop of your own in place of the pipeline's, as `course_utils.minimal.sample`: called with network,
            labels, steps, guidance, generator and prediction type, it yields (1, 1, 28, 28) in [-1, 1] after each step.

    Attributes:
        slider: the class; its `value` is the label, an int.
        chooser: the same by name, in a menu, for those who cannot drag.
        resample: a button that draws the same class from other noise.
        more: an accordion, out of sight until `unfold`, a button, opens it, because no key reaches its header.
        guidance, steps: sliders in it.
        image: the picture, PNG bytes in `value`.
        status: what is shown, in words: the class, the milliseconds it took and the seed of its noise.
        seed: of the noise, an int; set it and call `draw()` to see a picture again.
    """

    def __init__(self, pipe, class_names=None, sample=None):
        self.names = names_of(pipe, class_names)
        self.pipe, self.sample = pipe.with_unet(copy.deepcopy(pipe.unet)), sample
        if sample is not None:
            self.pipe.to("cpu")  # where learners' tensors are
        self.kind = "digit" if self.names == list("0123456789") else "class"
        self.seed = secrets.randbelow(10_000)
        self.make_controls()
        self.slider.layout.width = "420px"
        super().__init__([row_of(self.slider, self.resample, self.unfold), self.image, self.status, self.more])
        self.add_class("class-picker")
        for control in (self.slider, self.guidance, self.steps):
            control.observe(lambda change: self.update(), "value")
        self.chooser.observe(self.follow_menu, "value")
        self.resample.on_click(lambda button: self.draw_anew())
        self.draw()

    def make_controls(self):
        """The widgets, before they are wired up."""
        options = [(name, label) for label, name in enumerate(self.names)]
        if are_numbers(self.names):
            self.slider = ipywidgets.IntSlider(0, 0, len(options) - 1, description=self.kind, continuous_update=True)
        else:
            self.slider = ipywidgets.SelectionSlider(options=options, description=self.kind, continuous_update=True)
        self.chooser = ipywidgets.Dropdown(options=options, description=self.kind)
        self.resample = ipywidgets.Button(description="Resample", icon="refresh")
        self.image = ipywidgets.Image(format="png", width=28 * PIXEL, height=28 * PIXEL)
        self.status = ipywidgets.Label()
        self.make_more()
        for part in ("slider", "resample", "image", "status", "guidance", "steps", "chooser", "more", "unfold"):
            getattr(self, part).add_class(f"class-picker-{part}")

    def make_more(self):
        """The controls that are folded away, and the button that unfolds them."""
        config = self.pipe.config
        self.guidance = ipywidgets.FloatSlider(config.guidance_scale, **GUIDANCE, step=0.25, description="guidance")
        self.guidance.disabled = not self.pipe.unet.config.unconditional
        fewest, most = 1, max(50, config.num_inference_steps)
        self.steps = ipywidgets.IntSlider(
            config.num_inference_steps, fewest, most, description="steps", continuous_update=False
        )
        self.more = ipywidgets.Accordion(
            [ipywidgets.VBox([self.guidance, self.steps, self.chooser])], selected_index=None
        )
        self.more.set_title(0, "More: guidance, steps, menu")
        self.unfold = ipywidgets.ToggleButton(description="More", icon="sliders")
        which = (lambda pressed: 0 if pressed else None, lambda index: index == 0)
        ipywidgets.link((self.unfold, "value"), (self.more, "selected_index"), which)
        ipywidgets.dlink(
            (self.unfold, "value"), (self.more.layout, "display"), lambda pressed: None if pressed else "none"
        )

    def wanted(self) -> tuple[int, int, float, int]:
        """Class, steps, guidance and seed, as the controls say."""
        return self.slider.value, self.steps.value, self.guidance.value, self.seed

    def show(self, label: int, steps: int, guidance: float, seed: int):
        """Draw one picture of a class, and say what it is, or what went wrong."""
        self.label = label  # first, so that the menu, moved now, does not move the slider
        self.chooser.value = label
        try:
            start = time.perf_counter()
            generator = torch.Generator().manual_seed(seed)
            pictures = self.drawn(label, steps, guidance, generator)
            milliseconds = 1000 * (time.perf_counter() - start)
            self.image.value = png_bytes(pictures)
            self.status.value = f"{self.kind} {self.names[label]}, drawn in {milliseconds:.0f} ms (seed {seed})"
        except Exception as error:
            self.status.value = f"Could not draw {self.kind} {self.names[label]}: {error}"
            raise

    def drawn(self, label: int, steps: int, guidance: float, generator: torch.Generator) -> torch.Tensor:
        """One picture of a class, (1, 1, 28, 28) in [0, 1]."""
        if self.sample is None:
            return self.pipe([label], steps, guidance, generator, output_type="pt").images
        prediction_type = self.pipe.scheduler.config.prediction_type
        with torch.no_grad():
            *_, x = self.sample(self.pipe.unet, torch.tensor([label]), steps, guidance, generator, prediction_type)
        return x.clamp(-1, 1) / 2 + 0.5

    def follow_menu(self, change):
        """Move the slider to the class that was chosen in the menu, unless it was the menu that followed the slider."""
        if change.new != self.label:
            self.slider.value = change.new

    def draw_anew(self):
        """Draw the same class from other noise."""
        self.seed = (self.seed + 1 + secrets.randbelow(9_998)) % 10_000  # never the same again
        self.update()


def row_of(*controls) -> ipywidgets.HBox:
    """Controls side by side, or below each other where the screen is narrow, and never wider than it."""
    for control in controls:
        control.layout.max_width = "98%"
    return ipywidgets.HBox(controls, layout=ipywidgets.Layout(flex_flow="row wrap"))


def are_numbers(names: list[str]) -> bool:
    """Whether the names are just the labels' numbers, so that the slider shows them anyway."""
    return names == [str(label) for label in range(len(names))]


def names_of(pipe, class_names=None) -> list[str]:
    """One name per class that a pipeline draws, each on one line and not too long.

    Raises:
        ValueError: if `pipe` is no pipeline, or the names are not as many as its network's classes.
    """
    if not isinstance(pipe, ClassConditionedPipeline):
        raise ValueError(
            f"the panel was given {quoted(pipe)}, expected a pipeline: use ClassConditionedPipeline.from_pretrained(...)."
        )
    names = as_class_names(pipe.class_names if class_names is None else class_names, highest=0)
    names = [" ".join(name.split()) for name in names]
    if len(names) != pipe.unet.config.num_classes:
        raise ValueError(
            f"class_names has {len(names)} names, expected {pipe.unet.config.num_classes}, one for each class."
        )
    return [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]


class NoiseSlider(LivePanel):
    """A slider over the timestep: watch noise take over a few pictures.

    Args:
        images: uint8 (N, 1, 28, 28), or as `ImageDataset` takes them, of any size; shown in rows of 13.
        noise_scheduler: a `DDPMScheduler`.

    Attributes:
        slider: the timestep, 0 .. num_train_timesteps - 1.
        image: the noised pictures, PNG bytes in `value`.
        status: in words, how much picture and how much noise there is.
    """

    def __init__(self, images, noise_scheduler):
        if not hasattr(noise_scheduler, "add_noise"):
            raise ValueError(f"noise_scheduler is {quoted(noise_scheduler)}, expected make_scheduler().")
        self.images = scale_to_model(as_images(images))
        self.noise_scheduler = noise_scheduler.from_config(noise_scheduler.config)  # a training moves its own about
        self.noise = torch.randn(self.images.shape, generator=torch.Generator().manual_seed(0))
        last = noise_scheduler.config.num_train_timesteps - 1
        self.slider = ipywidgets.IntSlider(0, 0, last, description="timestep t", continuous_update=True)
        self.slider.layout.width = "95%"
        self.image = ipywidgets.Image(format="png", width=28 * 3 * min(len(self.images), COLUMNS))
        self.status = ipywidgets.Label()
        super().__init__([self.slider, self.image, self.status])
        self.add_class("noise-slider")
        self.slider.observe(lambda change: self.update(), "value")
        self.draw()

    def wanted(self) -> tuple[int]:
        """The timestep, as the slider says."""
        return (self.slider.value,)

    def show(self, t: int):
        """Show the pictures at a timestep."""
        noisy = self.noise_scheduler.add_noise(self.images, self.noise, torch.tensor([t]))
        self.image.value = png_bytes(noisy.clamp(-1, 1) / 2 + 0.5, COLUMNS)
        kept = self.noise_scheduler.alphas_cumprod[t].sqrt().item()
        added = (1 - kept**2) ** 0.5
        self.status.value = f"t = {t}: {kept:.3f} x picture + {added:.3f} x noise"


class GuidanceSlider(LivePanel):
    """A slider over the guidance scale: a picture of each class, from the same noise, while you drag.

    Args:
        pipe: a `ClassConditionedPipeline` whose network knows "no class"; of more than 26 classes the first 26 are drawn.
        class_names: one name per class; default: the pipeline's.

    Attributes:
        slider: the guidance scale; 1 is off.
        resample: a button for other noise.
        image: one picture a class, PNG bytes in `value`.
        status: in words, what is shown.
        seed: of the noise.

    Raises:
        ValueError: if the network cannot be guided.
    """

    def __init__(self, pipe, class_names=None):
        self.names = names_of(pipe, class_names)[: 2 * COLUMNS]
        _ = pipe.unet.null_label  # says so now, if there is no "no class"
        self.pipe = pipe.with_unet(copy.deepcopy(pipe.unet))
        self.labels, self.seed = list(range(len(self.names))), 0
        self.slider = ipywidgets.FloatSlider(1, **GUIDANCE, step=0.5, description="guidance", continuous_update=True)
        self.slider.layout.width = "420px"
        self.resample = ipywidgets.Button(description="Resample", icon="refresh")
        self.image = ipywidgets.Image(format="png", width=28 * 3 * min(len(self.labels), COLUMNS))
        self.status = ipywidgets.Label()
        super().__init__([row_of(self.slider, self.resample), self.image, self.status])
        self.add_class("guidance-slider")
        self.slider.observe(lambda change: self.update(), "value")
        self.resample.on_click(lambda button: self.draw_anew())
        self.draw()

    def wanted(self) -> tuple[float, int]:
        """The guidance scale and the seed, as the controls say."""
        return self.slider.value, self.seed

    def show(self, guidance: float, seed: int):
        """Draw each class, and say how."""
        generator = torch.Generator().manual_seed(seed)
        self.image.value = png_bytes(
            self.pipe(self.labels, guidance_scale=guidance, generator=generator, output_type="pt").images, COLUMNS
        )
        strength = "guidance off" if guidance == 1 else f"guidance {guidance:g}"
        self.status.value = f"{', '.join(self.names)}: {strength} (seed {seed})"

    def draw_anew(self):
        """Draw each class from other noise."""
        self.seed += 1
        self.update()


def straight_line(embedding, start: int, end: int, share: float) -> torch.Tensor:
    """The vector that lies so far on the straight way from one class's to another's: (C,)."""
    return torch.lerp(embedding.weight[start], embedding.weight[end], share)


class EmbeddingMixer(LivePanel):
    """A slider from one class's vector to another's: draws what the network makes of the vectors in between.

    Args:
        pipe: a `ClassConditionedPipeline` whose network has `conditioning="embedding"`.
        start, end: labels to begin with; default: 3 and 8, or the first and the last where there are fewer classes.
        class_names: one name per class; default: the pipeline's.
        mix: computes the vector, called as `mix(embedding, start, end, share)`; default: a straight line.

    Attributes:
        start, end: menus of the two classes.
        slider: the share of the second class, 0 .. 1.
        resample: a button for other noise.
        image: the picture, PNG bytes in `value`.
        status: in words, what is mixed.
        seed: of the noise.

    Raises:
        ValueError: if the network has no table of vectors, or no such labels.
    """

    def __init__(self, pipe, start: int | None = None, end: int | None = None, mix=straight_line, class_names=None):
        self.names = names_of(pipe, class_names)
        last = len(self.names) - 1
        start, end = (3 if last >= 8 else 0) if start is None else start, min(8, last) if end is None else end
        for which, label in (("start", start), ("end", end)):
            check_whole_number(which, label, 0, last)
        unet = pipe.unet.with_class_vectors(torch.zeros(1, pipe.unet.config.class_emb_size))
        self.pipe = pipe.with_unet(unet, class_names=None)  # it knows one class, the mixture
        self.embedding, self.mix, self.seed = copy.deepcopy(pipe.unet.class_emb), mix, 0
        options = [(name, label) for label, name in enumerate(self.names)]
        self.start = ipywidgets.Dropdown(options=options, value=start, description="from")
        self.end = ipywidgets.Dropdown(options=options, value=end, description="to")
        self.slider = ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="share", continuous_update=True)
        self.slider.layout.width = "420px"
        self.resample = ipywidgets.Button(description="Resample", icon="refresh")
        self.image = ipywidgets.Image(format="png", width=28 * PIXEL, height=28 * PIXEL)
        self.status = ipywidgets.Label()
        menus, controls = row_of(self.start, self.end), row_of(self.slider, self.resample)
        super().__init__([menus, controls, self.image, self.status])
        self.add_class("embedding-mixer")
        for control in (self.start, self.end, self.slider):
            control.observe(lambda change: self.update(), "value")
        self.resample.on_click(lambda button: self.draw_anew())
        self.draw()

    def wanted(self) -> tuple[int, int, float, int]:
        """Both classes, the share and the seed, as the controls say."""
        return self.start.value, self.end.value, self.slider.value, self.seed

    def show(self, start: int, end: int, share: float, seed: int):
        """Draw one mixture, and say what it is."""
        with torch.no_grad():
            self.pipe.unet.class_emb.weight[0].copy_(self.mix(self.embedding, start, end, share))
        pictures = self.pipe([0], generator=torch.Generator().manual_seed(seed), output_type="pt").images
        self.image.value = png_bytes(pictures)
        names = self.names[start], self.names[end]
        self.status.value = f"{1 - share:.0%} of {names[0]}, {share:.0%} of {names[1]} (seed {seed})"

    def draw_anew(self):
        """Draw the same mixture from other noise."""
        self.seed += 1
        self.update()
