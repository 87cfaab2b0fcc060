import os
import re
import shutil
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from course_utils import data
from course_utils.data import (
    data_folder,
    default_root,
    load_dataset,
    load_sample,
    read_idx,
    save_sample,
    scale_to_model,
)
from mirrors import ARCHIVES, EVERY_FILE, FILES, FOLDERS, LOGIN_PAGE, NAMES, RAW, SPLITS, identities, put_good_files

OTHER = dict(zip(NAMES, reversed(NAMES)))
every_file = pytest.mark.parametrize("name, file", EVERY_FILE)


def left_over(root):
    """Everything under a data folder that should not stay there."""
    known = {".download.lock", *FILES, *(f"{file}.gz" for file in FILES)}
    return [path for path in root.rglob("*") if path.name not in known and path.name not in (*FOLDERS.values(), "raw")]


@pytest.mark.parametrize("name, shade, first", [("mnist", 10, 0), ("fashion_mnist", 200, 5)])
def test_download_and_contract(use_mirrors, name, shade, first):
    ds = load_dataset(name)
    assert (len(ds), ds.is_sample, ds.split, len(ds.class_names), ds.note) == (20, False, "train", 10, "")
    assert ds.images.shape == (20, 1, 28, 28) and ds.images.dtype == torch.uint8
    assert ds.labels.dtype == torch.int64
    image, label = ds[13]
    assert image.shape == (1, 28, 28) and image.dtype == torch.float32 and isinstance(label, int)
    assert label == (13 + first) % 10 and ds.images[0, 0, 0, 0] == shade
    assert ds[0][0][0, 0, 0].item() == pytest.approx(shade / 255)
    assert len(load_dataset(name, "test")) == 10


def folder_in_place(path, name):
    path.unlink()
    path.mkdir()


def full_folder_in_place(path, name):
    folder_in_place(path, name)
    (path / "thesis.txt").write_text("years of work", encoding="utf-8")


def truncated_archive(path, name):
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(ARCHIVES[name][path.name][:-9])


def other_archive(path, name):
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(ARCHIVES[OTHER[name]][path.name])


def dangling_link(path, name):
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


DAMAGES = {
    "truncated": lambda path, name: path.write_bytes(path.read_bytes()[:-7]),
    "empty": lambda path, name: path.write_bytes(b""),
    "web page": lambda path, name: path.write_bytes(LOGIN_PAGE),
    "garbage of the same size": lambda path, name: path.write_bytes(bytes(path.stat().st_size)),
    "one bit": lambda path, name: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "too long": lambda path, name: path.write_bytes(path.read_bytes() + b"x"),
    "the other data set's": lambda path, name: path.write_bytes(RAW[OTHER[name]][path.name]),
    "missing": lambda path, name: path.unlink(),
    "a folder": folder_in_place,
    "a link to nowhere": dangling_link,
    "a truncated archive": truncated_archive,
    "the other data set's archive": other_archive,
}


@every_file
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_fetched_again_and_good_ones_are_left_alone(
    use_mirrors, web_server, tmp_path, damage, name, file
):
    folder = put_good_files(tmp_path / "data", name)
    good = {path: identity for path, identity in identities(folder).items() if path != file}
    DAMAGES[damage](folder / file, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = load_dataset(name, SPLITS[file])
    assert not ds.is_sample and (folder / file).read_bytes() == RAW[name][file]
    assert good.items() <= identities(folder).items()
    assert [path.rpartition("/")[2] for path in web_server.requests] == [f"{file}.gz"]
    assert left_over(tmp_path / "data") == []


@every_file
@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_network_the_sample_stands_in_and_good_files_survive(
    use_mirrors, web_server, tmp_path, damage, name, file
):
    use_mirrors("dropped")
    folder = put_good_files(tmp_path / "data", name)
    good = {path: identity for path, identity in identities(folder).items() if path != file}
    DAMAGES[damage](folder / file, name)
    with pytest.warns(UserWarning, match="bundled sample.*put this right") as caught:
        ds = load_dataset(name, SPLITS[file])
    assert ds.is_sample and len(caught) == 1 and "\n" not in str(caught[0].message)
    assert good.items() <= identities(folder).items()
    assert left_over(tmp_path / "data") == []
    other_split = "test" if SPLITS[file] == "train" else "train"
    web_server.requests.clear()
    assert not load_dataset(name, other_split).is_sample and web_server.requests == []  # its own files are good


@every_file
def test_a_folder_that_holds_something_is_named_and_kept(use_mirrors, web_server, tmp_path, name, file):
    path = put_good_files(tmp_path / "data", name) / file
    full_folder_in_place(path, name)
    with pytest.warns(UserWarning, match=f"{file} is a folder that holds something.*move it away.*bundled sample"):
        assert load_dataset(name, SPLITS[file]).is_sample
    assert (path / "thesis.txt").read_text(encoding="utf-8") == "years of work" and web_server.requests == []


@every_file
def test_a_good_archive_saves_the_download(use_mirrors, web_server, tmp_path, name, file):
    path = put_good_files(tmp_path / "data", name) / file
    path.write_bytes(b"")
    path.with_name(f"{file}.gz").write_bytes(ARCHIVES[name][file])
    assert not load_dataset(name, SPLITS[file]).is_sample
    assert path.read_bytes() == RAW[name][file] and web_server.requests == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split, other", [("train", "test"), ("test", "train")])
def test_half_a_data_set_is_enough_for_its_split(use_mirrors, name, split, other):
    use_mirrors(f"only_{split}")
    assert not load_dataset(name, split).is_sample
    with pytest.warns(UserWarning, match="HTTP Error 404.*bundled sample"):
        assert load_dataset(name, other).is_sample


@pytest.mark.parametrize("name", NAMES)
def test_a_cache_of_an_old_torchvision_is_not_believed(use_mirrors, tmp_path, name):
    put_good_files(tmp_path / "data", name)
    processed = tmp_path / "data" / FOLDERS[name] / "processed"
    processed.mkdir()
    for file in ("training.pt", "test.pt"):
        torch.save((torch.zeros(5, 28, 28, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64)), processed / file)
    assert len(load_dataset(name)) == 20


def test_asking_from_several_threads_downloads_once(use_mirrors, web_server):
    results = []
    threads = [threading.Thread(target=lambda: results.append(load_dataset("mnist"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(web_server.requests) == 4  # one for each file
    assert [len(ds) for ds in results] == [20] * 4 and not any(ds.is_sample for ds in results)


def test_without_download_a_missing_file_is_named(use_mirrors):
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        load_dataset("mnist", download=False)


on_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has other permissions, and no such limits")


@on_posix
def test_a_disk_that_takes_no_more_leaves_no_half_file(use_mirrors, tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # less than the images have
    try:
        with pytest.warns(UserWarning, match="File too large.*bundled sample"):
            assert load_dataset("mnist").is_sample
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "data" / "MNIST" / "raw").iterdir()) == []


@pytest.fixture
def unprivileged():
    """A folder of a user to whom permissions apply, also where the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        yield folder
    else:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        yield folder
        os.seteuid(0)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700)
    shutil.rmtree(folder)


def make_read_only(root):
    for path in [*root.rglob("*"), root]:
        path.chmod(0o500 if path.is_dir() else 0o400)


@on_posix
@pytest.mark.parametrize("name", NAMES)
def test_good_files_in_a_read_only_folder_are_enough(use_mirrors, unprivileged, name):
    put_good_files(unprivileged, name)
    make_read_only(unprivileged)
    before = sorted(unprivileged.rglob("*"))
    for split in ("train", "test"):
        assert not load_dataset(name, split, root=unprivileged).is_sample
    assert sorted(unprivileged.rglob("*")) == before


@on_posix
@every_file
def test_a_file_that_cannot_be_read_is_replaced(use_mirrors, unprivileged, name, file):
    path = put_good_files(unprivileged, name) / file
    path.chmod(0)
    assert not load_dataset(name, SPLITS[file], root=unprivileged).is_sample
    assert path.read_bytes() == RAW[name][file]


@on_posix
@every_file
def test_a_file_that_can_neither_be_read_nor_replaced(use_mirrors, unprivileged, name, file):
    path = put_good_files(unprivileged, name) / file
    make_read_only(unprivileged)
    path.chmod(0)
    with pytest.raises(OSError, match="^cannot write to .*name a folder that you may write to.$"):
        load_dataset(name, SPLITS[file], root=unprivileged)


@on_posix
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o500])
def test_an_unwritable_folder(use_mirrors, unprivileged, mode):
    unprivileged.chmod(mode)
    with pytest.raises(OSError, match="^cannot write to .*name a folder that you may write to.$"):
        load_dataset("mnist", root=unprivileged)


def test_a_file_where_the_folder_should_be(use_mirrors, tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be", encoding="utf-8")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="^cannot write to .*name a folder that you may write to.$") as error:
            load_dataset("mnist", root=root)
        assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "a file where a folder should be"


def test_unknown_names():
    with pytest.raises(ValueError, match="'fashion_mnist'"):
        load_dataset("cifar")
    with pytest.raises(ValueError, match="'train' or 'test'"):
        load_dataset("mnist", "validation")


@pytest.mark.parametrize("wrong", [None, 3, ["mnist"], np.array(["mnist", "x"])])
def test_names_and_roots_of_other_kinds_get_one_sentence(wrong):
    for arguments in ((wrong,), ("mnist", wrong), ("mnist", "train", 5)):
        with pytest.raises(ValueError, match="expected") as error:
            load_dataset(*arguments)
        assert "\n" not in str(error.value)


def test_root_comes_from_argument_then_environment_then_cache(use_mirrors, tmp_path, monkeypatch):
    load_dataset("mnist", root=tmp_path / "argument")
    assert (tmp_path / "argument" / "MNIST").is_dir() and not (tmp_path / "data").exists()
    monkeypatch.delenv("COURSE_DATA_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_dataset("mnist")
    assert default_root().is_relative_to(tmp_path / "cache") and (default_root() / "MNIST").is_dir()


@pytest.mark.parametrize("name", ["with space", "Übung 猫", "100 % {x}", "trailing/", "~/data", "as a Path"])
def test_folders_of_any_name(use_mirrors, tmp_path, monkeypatch, name):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    root = name if name.startswith("~") else str(tmp_path / name) + ("/" if name.endswith("/") else "")
    monkeypatch.setenv("COURSE_DATA_DIR", root)
    assert not load_dataset("mnist").is_sample
    assert not load_dataset("mnist", root=Path(root), download=False).is_sample
    assert data_folder().is_absolute() and (data_folder() / "MNIST" / "raw").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [Path(root).name]


def test_a_relative_folder_is_shown_whole(use_mirrors, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", "data")
    for place in ("clone", "clone/notebooks"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / place / "data" / "MNIST" / "raw"))):
            load_dataset("mnist", download=False)


@on_posix
@pytest.mark.parametrize("chosen_by", ["nobody", "COURSE_DATA_DIR"])
def test_where_nothing_can_be_written_the_sample_stands_in_and_says_how(
    use_mirrors, unprivileged, monkeypatch, chosen_by
):
    """A home that is read-only, as on some servers for classes."""
    make_read_only(unprivileged)
    monkeypatch.setenv("HOME", str(unprivileged))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("COURSE_DATA_DIR", "" if chosen_by == "nobody" else str(unprivileged / "data"))
    with pytest.warns(UserWarning, match="cannot write to .*bundled sample stands in.*COURSE_DATA_DIR") as caught:
        assert load_dataset("mnist").is_sample
    assert len(caught) == 1 and "\n" not in str(caught[0].message)


def test_no_home_at_all(monkeypatch):
    """As in some containers, whose user is in no list of users."""
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", lambda path: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(OSError, match="no home folder is known.*set COURSE_DATA_DIR"):
        load_dataset("mnist")


@on_posix
def test_files_have_the_rights_that_the_user_asks_for(use_mirrors, tmp_path):
    before = os.umask(0o022)
    try:
        load_dataset("mnist")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "data" / "MNIST" / "raw").iterdir()}
    assert modes == {0o644}


IDX_DAMAGES = {
    "another format": b"<html>",
    "empty": b"",
    "shorts": b"\0\0\x0b\x01" + bytes(8),
    "cut off": b"\0\0\x08\x01\0\0\0\x05" + bytes(4),
    "too long": b"\0\0\x08\x01\0\0\0\x05" + bytes(6),
    "a header alone": b"\0\0\x08\x03\0\0",
}


@pytest.mark.parametrize("damage", IDX_DAMAGES)
def test_a_damaged_idx_file_is_named(tmp_path, damage):
    (tmp_path / "file").write_bytes(IDX_DAMAGES[damage])
    with pytest.raises(ValueError, match="file (is no file|has .* bytes).*remove it"):
        read_idx(tmp_path / "file")


@pytest.mark.parametrize("name", NAMES)
def test_files_are_read_as_torchvision_reads_them(use_mirrors, tmp_path, name):
    ours = load_dataset(name)
    theirs = getattr(datasets, FOLDERS[name])(tmp_path / "data")
    assert torch.equal(ours.images[:, 0], theirs.data) and torch.equal(ours.labels, theirs.targets)


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
