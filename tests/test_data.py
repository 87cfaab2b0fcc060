import functools
import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest
import torch
from torchvision import datasets

from course_utils import data
from course_utils.data import Source, default_root, load_dataset, load_sample, save_sample, scale_to_model

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_images(count, shade):
    return struct.pack(">IIII", 0x803, count, 28, 28) + bytes([shade]) * (count * 28 * 28)


def idx_labels(count):
    return struct.pack(">II", 0x801, count) + bytes(i % 10 for i in range(count))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def web_server(tmp_path):
    """The address of a local web server that serves the folder tmp_path / "mirror"."""
    handler = functools.partial(QuietHandler, directory=tmp_path / "mirror")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def mirror(tmp_path, monkeypatch, web_server):
    """Two tiny data sets in MNIST's format, served by a mirror of our own; returns their raw files."""
    served = {}
    for name, torchvision_class, shade in (
        ("mnist", datasets.MNIST, 10),
        ("fashion_mnist", datasets.FashionMNIST, 200),
    ):
        raw = dict(
            zip(FILES, (idx_images(20, shade), idx_labels(20), idx_images(10, shade), idx_labels(10)), strict=True)
        )
        folder = tmp_path / "mirror" / name
        folder.mkdir(parents=True)
        resources = []
        for file, content in raw.items():
            zipped = folder / f"{file}.gz"
            zipped.write_bytes(gzip.compress(content))
            resources.append((zipped.name, hashlib.md5(zipped.read_bytes()).hexdigest()))
        monkeypatch.setattr(torchvision_class, "mirrors", [f"{web_server}/{name}/"])
        monkeypatch.setattr(torchvision_class, "resources", resources)
        md5 = {file: hashlib.md5(content).hexdigest() for file, content in raw.items()}
        source = data.SOURCES[name]
        monkeypatch.setitem(data.SOURCES, name, Source(torchvision_class, source.class_names, md5))
        served[name] = raw
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    return served


def raw_file(tmp_path, name, file):
    return tmp_path / "data" / {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[name] / "raw" / file


@pytest.mark.parametrize("name, shade", [("mnist", 10), ("fashion_mnist", 200)])
def test_download_and_contract(mirror, name, shade):
    ds = load_dataset(name)
    assert (len(ds), ds.is_sample, ds.split, len(ds.class_names)) == (20, False, "train", 10)
    assert ds.images.shape == (20, 1, 28, 28) and ds.images.dtype == torch.uint8
    assert ds.labels.dtype == torch.int64
    image, label = ds[13]
    assert image.shape == (1, 28, 28) and image.dtype == torch.float32 and label == 3 and isinstance(label, int)
    assert image.mean().item() == pytest.approx(shade / 255)
    assert len(load_dataset(name, "test")) == 10


DAMAGES = {
    "truncated": lambda content: content[:-7],
    "empty": lambda content: b"",
    "web page": lambda content: b"<!DOCTYPE html><html>Please log in</html>",
    "garbage of the same size": lambda content: bytes(len(content)),
    "one bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_fetched_again(mirror, tmp_path, file, damage):
    load_dataset("mnist")
    path = raw_file(tmp_path, "mnist", file)
    path.write_bytes(DAMAGES[damage](mirror["mnist"][file]))
    assert not load_dataset("mnist").is_sample
    assert path.read_bytes() == mirror["mnist"][file]


def test_files_of_the_other_data_set_are_noticed(mirror, tmp_path):
    load_dataset("mnist")
    path = raw_file(tmp_path, "mnist", FILES[0])
    path.write_bytes(mirror["fashion_mnist"][FILES[0]])
    assert load_dataset("mnist").images[0, 0, 0, 0] == 10


def test_good_files_are_left_alone_and_nothing_is_left_over(mirror, tmp_path):
    load_dataset("mnist")
    good, bad = (raw_file(tmp_path, "mnist", file) for file in FILES[:2])
    before = good.stat().st_mtime_ns
    bad.write_bytes(b"")
    load_dataset("mnist")
    assert good.stat().st_mtime_ns == before
    assert sorted(path.name for path in good.parent.iterdir()) == sorted(FILES)
    assert not [path for path in (tmp_path / "data").iterdir() if path.name.startswith(".incoming")]


def test_without_a_mirror_the_sample_stands_in_and_says_why(mirror, monkeypatch):
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.warns(UserWarning, match="bundled sample.*connect to the internet"):
        ds = load_dataset("mnist")
    assert ds.is_sample and len(ds) == 1600 and ds.images.shape[1:] == (1, 28, 28)


def test_without_a_mirror_good_files_survive(mirror, tmp_path, monkeypatch):
    load_dataset("mnist")
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    raw_file(tmp_path, "mnist", FILES[0]).write_bytes(b"")
    with pytest.warns(UserWarning, match="bundled sample"):
        load_dataset("mnist")
    for file in FILES[1:]:
        assert raw_file(tmp_path, "mnist", file).read_bytes() == mirror["mnist"][file]


def test_a_mirror_with_wrong_files_is_not_believed(mirror, monkeypatch):
    monkeypatch.setattr(datasets.MNIST, "mirrors", datasets.FashionMNIST.mirrors)
    monkeypatch.setattr(datasets.MNIST, "resources", datasets.FashionMNIST.resources)
    with pytest.warns(UserWarning, match="not the file it should be"):
        assert load_dataset("mnist").is_sample


def test_asking_from_several_threads_downloads_once(mirror, monkeypatch):
    downloads, results = [], []
    plain = datasets.MNIST.download
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: (downloads.append(1), plain(self)))
    threads = [threading.Thread(target=lambda: results.append(load_dataset("mnist"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1
    assert [len(ds) for ds in results] == [20] * 4 and not any(ds.is_sample for ds in results)


def test_without_download_a_missing_file_is_named(mirror):
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        load_dataset("mnist", download=False)


def test_a_folder_that_cannot_be_written_to(mirror, tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="cannot write to") as error:
        load_dataset("mnist", root=tmp_path / "file")
    assert "\n" not in str(error.value)


def test_unknown_names():
    with pytest.raises(ValueError, match="'fashion_mnist'"):
        load_dataset("cifar")
    with pytest.raises(ValueError, match="'train' or 'test'"):
        load_dataset("mnist", "validation")


def test_root_comes_from_argument_then_environment_then_cache(mirror, tmp_path, monkeypatch):
    load_dataset("mnist", root=tmp_path / "argument")
    assert (tmp_path / "argument" / "MNIST").is_dir() and not (tmp_path / "data").exists()
    monkeypatch.delenv("COURSE_DATA_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_dataset("mnist")
    assert default_root().is_relative_to(tmp_path / "cache") and (default_root() / "MNIST").is_dir()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_bundled_sample_is_balanced_and_full_of_ink(name):
    train, test = load_sample(name), load_sample(name, "test")
    assert (len(train), len(test)) == (1600, 400) and train.is_sample
    assert torch.bincount(train.labels).tolist() == [160] * 10
    assert (train.images.float().flatten(1).mean(1) > 5).all()
    assert train.class_names == list(data.SOURCES[name].class_names)


def test_sample_sheet_keeps_every_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "SAMPLES_FOLDER", tmp_path)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2000, 28, 28), dtype=np.uint8))
    save_sample(images, tmp_path / "mnist.png")
    stored = torch.cat([load_sample("mnist").images, load_sample("mnist", "test").images])
    assert torch.equal(stored[:, 0], images)


def test_scale_to_model_uses_the_whole_range():
    assert scale_to_model(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
