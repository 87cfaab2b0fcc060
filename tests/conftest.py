"""What several tests share: a tiny data set, an untrained pipeline and a web server."""

import threading

import pytest
import torch

import mirrors
from course_utils import data
from course_utils.data import SOURCES, ImageDataset
from course_utils.model import ClassConditionedUnet
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import make_scheduler
from tiny import make_tiny_model


@pytest.fixture
def stripes() -> ImageDataset:
    """60 pictures of ten classes: a bright row whose height is the label."""
    labels = torch.arange(60) % 10
    images = torch.zeros(60, 1, 28, 28, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        images[i, 0, 2 * label + 4 : 2 * label + 7] = 255
    return ImageDataset(images, labels, SOURCES["mnist"].class_names, "mnist")


@pytest.fixture
def tiny_model() -> ClassConditionedUnet:
    """An untrained network that is small enough for a test."""
    return make_tiny_model()


@pytest.fixture
def tiny_pipe(tiny_model) -> ClassConditionedPipeline:
    scheduler = make_scheduler("dpmsolver++", "v_prediction")
    return ClassConditionedPipeline(tiny_model, scheduler, "mnist", num_inference_steps=2, guidance_scale=1.5)


@pytest.fixture(scope="session")
def web_server(tmp_path_factory):
    """A web server that serves two tiny data sets, well or badly."""
    with mirrors.Server(tmp_path_factory.mktemp("served")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture
def use_mirrors(web_server, tmp_path, monkeypatch):
    """A function that puts the tiny data sets in the real ones' place, from mirrors that behave as it is told."""
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    web_server.requests.clear()

    def use(*behaviours):
        for name, source in mirrors.sources(web_server.mirrors(*behaviours)).items():
            monkeypatch.setitem(data.SOURCES, name, source)

    use("good")
    return use
