"""A training that shows itself: a panel with its loss, the time that is left, pictures, and a Stop button."""

import copy
import time
from contextlib import contextmanager
from functools import partial

import ipywidgets
import torch
from IPython import get_ipython
from IPython.display import display

from course_utils.pictures import png_bytes
from course_utils.sampling import denoise
from course_utils.validation import in_one_line

MOST_PICTURES = 10
PIXEL = 3  # screen pixels for one of a picture of 28 x 28
DRAWING_SHARE = 0.03  # of the time of the training so far that goes into pictures, at most
SECONDS_BETWEEN_PICTURES = 2.0  # at least, so that each can be looked at
SECONDS_BETWEEN_WORDS = 0.5
HOW_TO_STOP = "The notebook's own stop button (■) ends the training and keeps what was learned."


class TrainingPanel(ipywidgets.VBox):
    """Shows a training while it runs, in all its stages, and ends it when Stop is pressed.

    Args:
        shares: of the whole training's time that its stages take, about; they add up to 1.

    Attributes:
        progress: a bar; its `value` goes from 0 to 1.
        stop: a button that ends the training after the step at hand. Where the kernel would hear it too late, a line in
            its place names the notebook's own.
        image: pictures of the first ten classes, from the same noise each time; PNG bytes in `value`.
        status: in words, the step, the mean of the last losses and the time that is left.
        stopped: True once Stop was pressed.
    """

    def __init__(self, shares=(1.0,)):
        self.shares, self.stage, self.stopped, self.trouble = shares, -1, False, ""
        self.started, self.gained = time.perf_counter(), 0.0  # when, and what share of the training was done since
        self.trained, self.drawing = 0.0, 0.0  # seconds that went into steps, and into pictures between them
        self.progress = ipywidgets.FloatProgress(0, min=0, max=1)
        self.progress.layout.width = "420px"
        self.stop = ipywidgets.Button(description="Stop", icon="stop")
        self.image = ipywidgets.Image(format="png")
        self.image.layout.display = "none"  # until there is one
        self.status = ipywidgets.Label("the training begins ...")
        self.row = ipywidgets.HBox([self.progress, self.stop if hearing_kernel() else ipywidgets.Label(HOW_TO_STOP)])
        self.row.layout.flex_flow = "row wrap"
        for control in self.row.children:
            control.layout.max_width = "98%"
        super().__init__([self.row, self.image, self.status])
        self.add_class("training-panel")
        self.stop.on_click(lambda button: self.end())

    def end(self):
        """Let the training end after the step at hand."""
        self.stopped = True

    @contextmanager
    def on_the_page(self):
        """Show the panel; within, its button is heard, and afterwards it is gone."""
        display(self)
        try:
            with clicks_heard(self.stop, self.end):
                yield self
        finally:
            self.row.children = self.row.children[:1]

    def watch(self, trainer):
        """Yield the steps of the next stage, and show them, until Stop is pressed.

        Args:
            trainer: a `Trainer`; neither its weights nor its random numbers are touched.
        """
        self.begin(trainer)
        try:
            for step in trainer:
                self.gained += self.shares[self.stage] / trainer.total_steps
                self.follow(trainer)
                if self.stopped:
                    return
                yield step
        finally:  # however the stage ended
            self.draw()
            self.say(trainer, self.last_words(trainer))
            del self.preview  # widgets are never forgotten, and what a training holds in memory should be

    def begin(self, trainer):
        """Show what the network draws before the next stage's first step."""
        self.stage, self.counted = self.stage + 1, trainer.seconds
        self.preview, drawing = Preview(trainer), self.drawing
        self.image.width = PIXEL * 28 * len(self.preview.labels)
        self.draw()
        # The first picture takes longer than those after it: they are not to be rare because of it.
        self.drawing, self.due = drawing, self.trained + SECONDS_BETWEEN_PICTURES
        self.say(trainer, self.words(trainer))

    def follow(self, trainer):
        """Show how far the training has come, unless it was shown a moment ago."""
        self.trained, self.counted = self.trained + trainer.seconds - self.counted, trainer.seconds
        if self.trained >= self.due:
            self.draw()
        if time.perf_counter() - self.said_at >= SECONDS_BETWEEN_WORDS:
            self.say(trainer, self.words(trainer))

    def draw(self):
        """Draw from what was learned so far; what goes wrong is said in the status, and the training goes on."""
        started = time.perf_counter()
        try:
            self.image.value = png_bytes(self.preview.draw())
            self.image.layout.display, self.trouble = None, ""
        except Exception as error:
            self.trouble = f"; no picture could be drawn: {in_one_line(error)}"
        took = time.perf_counter() - started
        self.drawing += took
        self.due = next_picture(self.trained, self.drawing, took)

    def say(self, trainer, words: str):
        """Put a sentence, and what went wrong in drawing, into the status line, and move the bar."""
        self.said_at = time.perf_counter()
        self.progress.value = self.done(trainer)
        self.status.value = words + self.trouble

    def done(self, trainer) -> float:
        """Share of the whole training, 0 .. 1."""
        return sum(self.shares[: self.stage]) + self.shares[self.stage] * trainer.step / trainer.total_steps

    def words(self, trainer) -> str:
        """The step, the loss and the time that is left."""
        stages, words = len(self.shares), f"step {trainer.step:,} of {trainer.total_steps:,}"
        if stages > 1:
            words += f", part {self.stage + 1} of {stages}"
        if not trainer.losses:
            return words
        words += f": loss {trainer.recent_loss():.4f}"
        if not self.gained:  # a checkpoint's losses, and no step yet
            return words
        left = (time.perf_counter() - self.started) * (1 - self.done(trainer)) / self.gained
        return f"{words}, about {duration(left)} left"

    def last_words(self, trainer) -> str:
        """How the stage ended."""
        loss = f", loss {trainer.recent_loss():.4f}" if trainer.losses else ""
        took = duration(time.perf_counter() - self.started)
        if trainer.step < trainer.total_steps:
            return f"stopped after step {trainer.step:,} of {trainer.total_steps:,}{loss}: what was learned is kept"
        return f"{trainer.step:,} steps taken{loss}, {took} in all"


def next_picture(trained: float, drawing: float, took: float) -> float:
    """After how many seconds of training the next picture is due, so that drawing takes a small share of them.

    Args:
        trained: seconds that went into steps so far.
        drawing: seconds that went into pictures.
        took: seconds of the last picture; the next will take about as many.
    """
    return max(trained + SECONDS_BETWEEN_PICTURES, (drawing + took) / DRAWING_SHARE)


def duration(seconds: float) -> str:
    """A time, as exactly as one wants to know it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Preview:
    """Draws what a training has learned so far, from a copy of its weights and noise of its own.

    Attributes:
        labels: those of the first ten classes, int64 (N,).
    """

    def __init__(self, trainer):
        self.trainer, self.network = trainer, copy.deepcopy(trainer.model).eval()
        self.labels = torch.arange(min(MOST_PICTURES, trainer.model.config.num_classes))
        self.noise_scheduler, self.scales = trainer.sampling()

    @torch.no_grad()
    def draw(self) -> torch.Tensor:
        """One picture of each class, from the same noise each time: (N, 1, H, H) in [0, 1].

        Raises:
            FloatingPointError: if the weights are damaged.
        """
        average = self.trainer.ema
        weights = self.trainer.model.parameters() if average is None else average.shadow_params
        for mine, learned in zip(self.network.parameters(), weights, strict=True):
            mine.copy_(learned)
        generator, side = torch.Generator().manual_seed(0), self.trainer.dataset.images.shape[-1]
        *_, pictures = denoise(self.network, self.noise_scheduler, self.labels, self.scales, generator, side=side)
        if not pictures.isfinite().all():
            raise FloatingPointError("the network's numbers are no longer finite.")
        return pictures.clamp(-1, 1) / 2 + 0.5


def hearing_kernel():
    """The kernel, if it receives messages while a cell runs, as those of ipykernel 7 do on a thread of their own."""
    kernel = getattr(get_ipython(), "kernel", None)
    heard = getattr(kernel, "shell_channel_thread", None) and hasattr(kernel, "shell_channel_thread_main")
    return kernel if heard else None


@contextmanager
def clicks_heard(button, hear):
    """Within, `hear()` is called as soon as the page's click on a button arrives, though a cell keeps the kernel busy.

    The kernel handles what pages send one after the other: a click on a widget waits for the end of the cell. It is only
    overheard here, by the thread that receives it. All messages go on as they came and are handled as ever: no cell
    that waits runs earlier, or in another order.

    Args:
        button: an `ipywidgets.Button`.
        hear: called without arguments, on another thread.
    """
    kernel = hearing_kernel()
    if kernel is None:
        yield
        return

    async def overhear(message):
        try:
            if is_click(kernel.session, message, button.model_id):
                hear()
        finally:
            await kernel.shell_channel_thread_main(message)

    # Only the thread that receives may touch what it receives with.
    receive_by = partial(kernel.shell_channel_thread.io_loop.add_callback, kernel.shell_stream.on_recv, copy=False)
    receive_by(overhear)
    try:
        yield
    finally:
        receive_by(kernel.shell_channel_thread_main)


def is_click(session, message, model_id: str) -> bool:
    """Whether a message that has come, still packed, says that a button was pressed.

    Args:
        session: a `jupyter_client.session.Session`.
        message: its frames.
        model_id: the button's.
    """
    _, frames = session.feed_identities(message, copy=False)
    peeked = session.deserialize(frames, content=False, copy=False)  # unpacked as well, it would count as received
    if peeked["msg_type"] != "comm_msg":
        return False
    content = session.unpack(peeked["content"])
    return content["comm_id"] == model_id and content["data"].get("content") == {"event": "click"}
