"""One training on several processes, each with a processor or GPU of its own; and how Ctrl-C ends it."""

import os
import signal
import threading
import time
import warnings
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, get_int_from_env, parse_flag_from_env

from course_utils.settings import best_device
from course_utils.validation import in_one_line, quoted

PROCESS_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # torchrun's, then MPI's


def launched_processes(device=None) -> "OneProcess | SeveralProcesses":
    """What this process belongs to: itself alone, or the processes that a launcher started together.

    Args:
        device: "cuda", "mps", "cpu" or a torch.device; default: the best there is. Of several processes with GPUs
            each gets its own.

    Raises:
        ValueError: if they cannot share a training.
    """
    if several_were_launched():
        return SeveralProcesses(device)
    # accelerate launch sets both for several processes, and a launcher that starts them sets their count as well.
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ:
        warnings.warn(
            "accelerate launch was asked for several processes and started one, as it does with --cpu: "
            "to train on two, run `ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 ...` instead.",
            stacklevel=2,
        )
    return OneProcess(device)


def several_were_launched() -> bool:
    """Whether a launcher started this process together with others."""
    return get_int_from_env(PROCESS_COUNTS, 1) > 1


def usable_device(device=None) -> torch.device:
    """The device asked for, or the best there is.

    Raises:
        ValueError: if this machine, or the torch on it, has no such device.
    """
    try:
        chosen = torch.device(device or best_device())
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"device is {quoted(device)}, which cannot be used here ({in_one_line(error)[:100]}): expected 'cpu', or "
            "'cuda' or 'mps' where there is such a GPU."
        ) from error
    return chosen


@contextmanager
def interrupt_deferred(seconds_per_interrupt: float = 0.0):
    """Within, the first Ctrl-C sets `.requested` of the object that the context gives; the second stops at once.

    Args:
        seconds_per_interrupt: interrupts that follow the first one sooner than that count as the same press.
    """
    interrupt, presses = SimpleNamespace(requested=False), []
    before = signal.getsignal(signal.SIGINT)
    # Only the main thread is interrupted; and where Ctrl-C is ignored, as under nohup, it stays so.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield interrupt
        return

    def on_interrupt(number, frame):
        interrupt.requested = True
        presses.append(time.monotonic())
        if len(presses) > 1 and presses[-1] - presses[0] >= seconds_per_interrupt:
            signal.signal(signal.SIGINT, before)
            before(number, frame)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


class OneProcess:
    """The usual case, which needs no Accelerator: one made in a notebook would keep notebook_launcher from working.

    Attributes:
        count: how many processes share the training.
        is_main: True in the one that writes, shows and prints.
        device: of this process.
    """

    count, is_main = 1, True
    seconds_per_interrupt = 0.0  # within which all interrupts come from one Ctrl-C

    def __init__(self, device=None):
        self.device = usable_device(device)

    def share(self, model):
        """The model as something to call with a whole batch."""
        return model

    def any(self, mark: bool) -> bool:
        """Whether the mark is set in any process."""
        return mark

    def from_main(self, make):
        """What `make()` returns in the main process."""
        return make()

    def main_first(self):
        """A context that the main process of each machine goes through before the others."""
        return nullcontext()

    def require_same(self, identity: dict):
        """Refuse to train if what identifies the training differs between the processes."""


class SeveralProcesses(OneProcess):
    """Processes that were launched together, joined by Accelerate; the methods wait for all of them."""

    seconds_per_interrupt = 5.0  # a process gets Ctrl-C from the terminal, and once more from its launcher

    def __init__(self, device=None):
        on_cpu = usable_device(device).type != "cuda" or parse_flag_from_env("ACCELERATE_USE_CPU")
        here = get_int_from_env(("LOCAL_WORLD_SIZE",), 1)
        if not on_cpu and here > torch.cuda.device_count():
            raise ValueError(
                f"{here} processes were started on a machine with {torch.cuda.device_count()} GPUs: start one for each "
                "GPU, or set ACCELERATE_USE_CPU=true to train on processors."
            )
        # The weights are to be those of one process, so a mixed precision set up for Accelerate is not taken over.
        self.accelerator = Accelerator(cpu=on_cpu, mixed_precision="no")
        if not self.accelerator.distributed_type.value.startswith("MULTI_"):
            raise ValueError(
                f"the processes were launched for {self.accelerator.distributed_type.value}, expected a whole network "
                "in each: use torchrun, or accelerate launch with --multi_gpu."
            )
        self.count, self.is_main = self.accelerator.num_processes, self.accelerator.is_main_process
        self.device = self.accelerator.device

    def share(self, model):
        return SharedModel(model, self.accelerator)

    def any(self, mark: bool) -> bool:
        marks = torch.tensor(float(mark), device=self.device)
        return self.accelerator.reduce(marks, reduction="sum").item() > 0

    def from_main(self, make):
        return broadcast_object_list([make() if self.is_main else None])[0]

    def main_first(self):
        return self.accelerator.local_main_process_first()

    def require_same(self, identity: dict):
        for index, other in enumerate(gather_object([identity])):
            differing = [name for name in identity if other.get(name) != identity[name]]
            if differing:
                name = differing[0]
                raise ValueError(
                    f"{name} is {identity[name]!r} in process {self.accelerator.process_index} and {other.get(name)!r} in "
                    f"process {index}: start all processes alike, with the same data."
                )


class SharedModel(torch.nn.Module):
    """A model that is called with the same whole batch in every process, and does one part of it in each.

    Every process gets the whole prediction, so each computes the same loss, as one process alone would. Gradients
    flow through its own part only; DistributedDataParallel adds them up in the backward pass.
    """

    def __init__(self, model, accelerator: Accelerator):
        super().__init__()
        self.accelerator, self.parallel = accelerator, accelerator.prepare_model(model)

    def forward(self, images, timesteps, labels):
        """Same arguments and result as the model's."""
        first, count = self.accelerator.process_index, self.accelerator.num_processes
        if first < len(images):
            part = self.parallel(images[first::count], timesteps[first::count], labels[first::count])
        else:  # fewer images than processes: this one must call the network all the same, but nothing comes of it
            part = self.parallel(images[:1], timesteps[:1], labels[:1])[:0]
        if part.requires_grad:
            part.register_hook(lambda grad: grad * count)  # their sum is wanted, DistributedDataParallel takes the mean
        prediction = torch.zeros_like(images)
        prediction[first::count] = part
        mine = prediction.detach()
        return prediction + (self.accelerator.reduce(mine, reduction="sum") - mine)
