"""Folders of weights that a stranger may have written: they load, or are refused in one sentence, and nothing else."""

import faulthandler
import json
import os
import pickle
import random
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from course_utils import pipeline
from course_utils.classifier import Classifier
from course_utils.pipeline import HUB_ERRORS, ClassConditionedPipeline
from course_utils.sampling import make_scheduler
from tiny import make_tiny_model

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and pipes are made as on Linux and macOS")
CONFIG, WEIGHTS = "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
INDEX, SCHEDULER = "model_index.json", "scheduler/scheduler_config.json"
SETTINGS = (CONFIG, INDEX, SCHEDULER)
MUTANTS = 2000
MOST_MEMORY = 200  # MB that a refusal, or a tiny pipeline, may take


def make_smallest_pipe() -> ClassConditionedPipeline:
    """A pipeline that is loaded and drawn with in milliseconds."""
    model = make_tiny_model(block_out_channels=(4,), norm_num_groups=2, attention_levels=(), attention_head_dim=4)
    return ClassConditionedPipeline(model, make_scheduler("dpmsolver++"), "mnist", 1, 1.5)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with weights as they should be."""
    make_smallest_pipe().save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


def refusal(folder, kinds=(ValueError, OSError)) -> str:
    """The one sentence with which a folder is refused."""
    with pytest.raises(kinds) as refused:
        ClassConditionedPipeline.from_pretrained(folder)
    message = str(refused.value)
    assert message and "\n" not in message and len(message) < 1000
    return message


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


# Pickles


def test_the_bomb_works(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("torch_made", [True, False])
@pytest.mark.parametrize(
    "name",
    ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.pt", "model.ckpt", "diffusion_pytorch_model.safetensors"],
)
def test_a_pickle_is_refused_and_never_opened(folder, tmp_path, name, torch_made):
    (folder / WEIGHTS).unlink()
    file, mark = folder / "unet" / name, tmp_path / "mark"
    torch.save(Bomb(mark), file) if torch_made else file.write_bytes(pickle.dumps(Bomb(mark)))
    message = refusal(folder)
    assert "safetensors" in message and not mark.exists()


# Settings


def changed(folder, file, **changes):
    settings = json.loads((folder / file).read_text(encoding="utf-8"))
    (folder / file).write_text(json.dumps(settings | changes), encoding="utf-8")


@pytest.mark.parametrize(
    "file, changes, words",
    [
        (CONFIG, dict(block_out_channels=[10**6]), "from 1 to 1024"),
        (CONFIG, dict(block_out_channels=[[4]]), "from 1 to 1024"),
        (CONFIG, dict(block_out_channels=[4] * 50_000), "too many for settings"),
        (CONFIG, dict(block_out_channels="4"), "1 to 3 widths"),
        (CONFIG, dict(block_out_channels=[True]), "whole number"),
        (CONFIG, dict(block_out_channels=[]), "1 to 3 widths"),
        (CONFIG, dict(block_out_channels={"4": 4}), "1 to 3 widths"),
        (CONFIG, dict(num_classes=10**9), "from 1 to 1000"),
        (CONFIG, dict(num_classes=True), "from 1 to 1000"),
        (CONFIG, dict(num_classes=float("nan")), "from 1 to 1000"),
        (CONFIG, dict(num_classes=11), "expected 'F32' \\[12, 4\\]"),
        (CONFIG, dict(class_emb_size=-4), "from 1 to 512"),
        (CONFIG, dict(layers_per_block=10**6), "from 1 to 8"),
        (CONFIG, dict(layers_per_block=2), "hold no tensor"),
        (CONFIG, dict(conditioning=["os", "system"]), "conditioning is"),
        (CONFIG, dict(conditioning="x" * 90_000), "conditioning is"),
        (CONFIG, dict(unconditional=1), "True or False"),
        (CONFIG, dict(zero_init="no"), "True or False"),
        (CONFIG, dict(attention_levels=[0, 1, 2, 0]), "at most 3 levels"),
        (CONFIG, dict(attention_levels=[10**9]), "from 0 to 2"),
        (CONFIG, dict(attention_levels=7), "at most 3 levels"),
        (CONFIG, dict(attention_head_dim=0), "from 1 to 4"),
        (CONFIG, dict(attention_head_dim=10**9), "from 1 to 4"),
        (CONFIG, dict(norm_num_groups=0), "norm_num_groups"),
        (CONFIG, dict(norm_num_groups=None), "norm_num_groups"),
        (CONFIG, dict(dropout=0.5), "unknown setting 'dropout'"),
        (CONFIG, dict(_class_name="UNet2DModel"), "those of 'UNet2DModel'"),
        (CONFIG, dict(_class_name=["os", "system"]), "those of \\['os', 'system'\\]"),
        (INDEX, dict(_class_name="../../evil"), "those of '../../evil'"),
        (INDEX, dict(_class_name=["pipeline", "Evil"]), "expected 'ClassConditionedPipeline'"),
        (INDEX, dict(unet=["os", "system"]), "unet is \\['os', 'system'\\]"),
        (INDEX, dict(scheduler=["canary", "Canary"]), "scheduler is \\['canary', 'Canary'\\]"),
        (INDEX, dict(scheduler=["diffusers", "DDIMScheduler"]), "expected \\['diffusers', 'DPMSolver"),
        (INDEX, dict(custom_pipeline="evil"), "unknown setting 'custom_pipeline'"),
        (INDEX, dict(num_inference_steps=10**9), "from 1 to 1000"),
        (INDEX, dict(num_inference_steps=True), "from 1 to 1000"),
        (INDEX, dict(guidance_scale=float("inf")), "from 0 to 20"),
        (INDEX, dict(guidance_scale=float("nan")), "from 0 to 20"),
        (INDEX, dict(guidance_scale=True), "from 0 to 20"),
        (INDEX, dict(guidance_scale=[1]), "from 0 to 20"),
        (INDEX, dict(guidance_start=2), "from 0 to 1"),
        (INDEX, dict(guidance_start=None), "from 0 to 1"),
        (INDEX, dict(dataset=["mnist"]), "unknown data set"),
        (INDEX, dict(dataset="../../etc"), "unknown data set"),
        (INDEX, dict(dataset="C:\\etc"), "unknown data set"),
        (INDEX, dict(dataset="two\nlines"), "unknown data set"),
        (INDEX, dict(dataset="x" * 101), "unknown data set"),
        (INDEX, dict(class_names=["a"] * 9), "has 9 names, expected 10"),
        (INDEX, dict(class_names=[]), "has 0 names, expected 10"),
        (INDEX, dict(class_names=["a"] * 9 + [1]), "expected a list of 10 names"),
        (INDEX, dict(class_names="0123456789"), "expected a list of 10 names"),
        (INDEX, dict(class_names={"a": 1}), "expected a list of 10 names"),
        (INDEX, dict(class_names=["a"] * 9 + ["b" * 101]), "at most 100 characters"),
        (SCHEDULER, dict(_class_name=["os", "system"]), "unknown scheduler"),
        (SCHEDULER, dict(_class_name="canary"), "unknown scheduler 'canary'"),
        (SCHEDULER, dict(_class_name="DDIMScheduler"), "scheduler is|expected"),
        (SCHEDULER, dict(num_train_timesteps=10**12), "num_train_timesteps is 1000000000000"),
        (SCHEDULER, dict(num_train_timesteps=1000.0), "num_train_timesteps is 1000.0"),
        (SCHEDULER, dict(trained_betas=[0.1] * 1000), "trained_betas is"),
        (SCHEDULER, dict(beta_end=float("nan")), "beta_end is nan"),
        (SCHEDULER, dict(solver_order=10**6), "solver_order is"),
        (SCHEDULER, dict(use_karras_sigmas=True), "use_karras_sigmas is True"),
        (SCHEDULER, dict(thresholding=1), "thresholding is 1"),
        (SCHEDULER, dict(prediction_type="sample"), "prediction_type is 'sample'"),
        (SCHEDULER, dict(surprise=1), "unknown setting 'surprise'"),
    ],
)
def test_absurd_settings_are_refused(folder, file, changes, words):
    changed(folder, file, **changes)
    with pytest.raises(ValueError, match=words):
        ClassConditionedPipeline.from_pretrained(folder)
    refusal(folder)


@pytest.mark.parametrize("file", SETTINGS)
@pytest.mark.parametrize(
    "text, words",
    [
        ("[" * 90_000, "not the JSON"),
        ('{"a": ' * 12_000 + "1" + "}" * 12_000, "not the JSON"),
        ('{"_class_name": 1, "_class_name": 2}', "'_class_name' appears more than once"),
        ('{"x": "' + "y" * 3_000_000 + '"}', "too many for settings"),
        ('{"num_classes": ' + "9" * 90_000 + "}", "not the JSON"),
        (b"\xff\xfe\x00\xd8", "not the JSON"),
        ('{"\\ud800\\n": 1}', "expected|unknown"),
        ("NaN", "holds no settings"),
    ],
    ids=["deep list", "deep dict", "twice", "megabytes", "long number", "no text", "odd text", "no object"],
)
def test_odd_json_is_refused(folder, file, text, words):
    (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=words):
        ClassConditionedPipeline.from_pretrained(folder)
    refusal(folder).encode()


@pytest.mark.parametrize("changes", [dict(widths=[10**9] * 3), dict(widths=5), dict(num_classes=10**9)])
def test_a_classifier_is_checked_too(tmp_path, changes):
    Classifier(widths=(2, 2, 2)).save_pretrained(tmp_path)
    assert not Classifier.from_pretrained(tmp_path).training
    changed(tmp_path, "config.json", **changes)
    with pytest.raises(ValueError, match="damaged or do not fit"):
        Classifier.from_pretrained(tmp_path)


def test_a_scheduler_made_from_anothers_settings_comes_back(folder):
    pipe = ClassConditionedPipeline.from_pretrained(folder)
    pipe.scheduler = make_scheduler("ddim").from_config(pipe.scheduler.config)  # as diffusers' manual has it
    pipe.save_pretrained(folder)
    again = ClassConditionedPipeline.from_pretrained(folder)
    assert type(again.scheduler) is type(pipe.scheduler) and again.scheduler.config.thresholding is True


# Weights


def parts_of(content: bytes) -> tuple[dict, bytes]:
    """A safetensors file's header and data."""
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def whole(header: dict, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_tensors_that_do_not_fit_are_refused_by_name(folder):
    name, weights = "class_emb.weight", load_file(folder / WEIGHTS)
    others = {other: tensor for other, tensor in weights.items() if other != name}
    for change, words in (
        (others | {name: weights[name].T.contiguous()}, "expected 'F32' \\[11, 4\\]"),
        (others | {name: weights[name].int()}, "expected 'F32' \\[11, 4\\]"),
        (others | {name: weights[name].half()[:5]}, "expected 'F16' \\[11, 4\\]"),
        (others, "hold no tensor 'class_emb.weight'"),
        (weights | {"surprise": weights[name].clone()}, "tensor 'surprise' that the network does not have"),
    ):
        save_file(change, folder / WEIGHTS)
        with pytest.raises(ValueError, match=words):
            ClassConditionedPipeline.from_pretrained(folder)


@pytest.mark.parametrize("lie", [None, {}, [], dict(dtype="F32", shape=[11, 4], data_offsets=[4, 180]), "a hole"])
def test_a_header_that_describes_no_tensors_is_refused(folder, lie):
    header, data = parts_of((folder / WEIGHTS).read_bytes())
    header["class_emb.weight"] = lie
    if lie == "a hole":
        del header["class_emb.weight"]
    (folder / WEIGHTS).write_bytes(whole(header, data))
    assert "describes no tensors" in refusal(folder, ValueError)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(folder, number):
    header, data = parts_of((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).write_bytes(whole(header, data[:-4] + struct.pack("<f", number)))
    assert "NaN or infinity" in refusal(folder, ValueError)


@pytest.mark.parametrize("length", [0, 10**7, 2**32, 2**63, 2**64 - 1])
def test_a_header_that_lies_about_its_length_is_refused(folder, length):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + content[8:])
    assert "damaged" in refusal(folder, ValueError)


def test_data_too_short_or_too_long_is_refused_before_it_is_read(folder):
    content = (folder / WEIGHTS).read_bytes()
    for other in (content[:-1], content + b"x"):
        (folder / WEIGHTS).write_bytes(other)
        assert f"has {len(other):,} bytes" in refusal(folder, ValueError)
    with open(folder / WEIGHTS, "r+b") as file:
        file.truncate(10**12)  # a file of holes: a terabyte that takes no room
    assert "has 1,000,000,000,000 bytes" in refusal(folder, ValueError)


def test_weights_that_draw_no_numbers_say_so(folder):
    header, data = parts_of((folder / WEIGHTS).read_bytes())
    huge = struct.pack("<f", 3e38) * (len(data) // 4)
    (folder / WEIGHTS).write_bytes(whole(header, huge))
    with pytest.raises(FloatingPointError, match="no longer finite"):
        ClassConditionedPipeline.from_pretrained(folder)([3])


# Files that are none


@pytest.mark.parametrize("file", [*SETTINGS, WEIGHTS])
def test_what_is_no_file_is_refused(folder, file):
    path = folder / file
    for kind in ("nothing", "folder", "dead link", "link in a circle", "device", "pipe", "empty"):
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        if kind == "folder":
            path.mkdir()
        elif kind in ("dead link", "link in a circle", "device"):
            path.symlink_to({"dead link": "nowhere", "link in a circle": path.name, "device": "/dev/zero"}[kind])
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "empty":
            path.write_bytes(b"")
        message = refusal(folder, ValueError if kind == "empty" else FileNotFoundError)
        assert kind == "empty" or f"holds no {path.name}" in message


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("file", [*SETTINGS, WEIGHTS])
def test_a_file_that_cannot_be_read_says_so(folder, file):
    (folder / file).unlink()
    (folder / file).symlink_to("/proc/self/mem")  # a file as far as anyone can tell, but no read of it succeeds
    assert "cannot read" in refusal(folder, OSError)


def test_links_to_files_will_do(folder, tmp_path):
    """The Hub's cache is made of links."""
    for file in (*SETTINGS, WEIGHTS):
        blob = tmp_path / file.replace("/", "-")
        shutil.move(folder / file, blob)
        (folder / file).symlink_to(blob)
    assert ClassConditionedPipeline.from_pretrained(folder)([3], output_type="pt").images.shape == (1, 1, 28, 28)


# The Hub


@pytest.fixture
def hub(folder, monkeypatch):
    """A Hub that has the folder's files, of sizes that can be changed, and notes what it is asked for."""
    files = {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    hub = SimpleNamespace(files=files, asked={}, fetched={})

    def model_info(name, **options):
        hub.asked = dict(options, name=name)
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file, size=size) for file, size in files.items()])

    def snapshot_download(name, **options):
        hub.fetched = dict(options, name=name)
        return str(folder)

    monkeypatch.setattr(pipeline, "model_info", model_info)
    monkeypatch.setattr(pipeline, "snapshot_download", snapshot_download)
    return hub


def test_only_named_files_are_fetched_from_the_hub(folder, hub, tmp_path):
    (folder / "pipeline.py").write_text(f"import os; os.mkdir({str(tmp_path / 'mark')!r})", encoding="utf-8")
    pipe = ClassConditionedPipeline.from_pretrained("someone/digits")
    assert pipe([3], output_type="pt").images.isfinite().all() and not (tmp_path / "mark").exists()
    patterns = hub.fetched["allow_patterns"]
    assert hub.fetched["name"] == hub.asked["name"] == "someone/digits"
    assert not any(letter in pattern for pattern in patterns for letter in "*?[")
    assert {Path(name).suffix for name in patterns} == {".json", ".safetensors", ".md"}


def test_the_hub_is_asked_as_diffusers_would_ask_it(hub, tmp_path):
    asked = dict(revision="v1", cache_dir=tmp_path, token="secret")
    ClassConditionedPipeline.from_pretrained("someone/digits", **asked)
    assert asked.items() <= hub.fetched.items() and hub.fetched["local_files_only"] is False
    assert dict(revision="v1", token="secret", files_metadata=True).items() <= hub.asked.items()
    hub.asked = {}
    ClassConditionedPipeline.from_pretrained("someone/digits", local_files_only=True)
    assert hub.fetched["local_files_only"] is True and not hub.asked


@pytest.mark.parametrize("file", [*SETTINGS, WEIGHTS])
def test_what_is_too_large_is_not_fetched(hub, file):
    hub.files[file] = 10**10
    with pytest.raises(ValueError, match=f"{file} in someone/digits has 10,000,000,000 bytes, expected at most"):
        ClassConditionedPipeline.from_pretrained("someone/digits")
    assert not hub.fetched
    hub.files |= {file: 10, "huge.bin": 10**12}  # nobody wants that one
    ClassConditionedPipeline.from_pretrained("someone/digits")


def test_without_internet_what_was_fetched_before_is_used(hub, monkeypatch):
    def no_internet(name, **options):
        raise HUB_ERRORS[2]("no route to the Hub")

    monkeypatch.setattr(pipeline, "model_info", no_internet)
    ClassConditionedPipeline.from_pretrained("someone/digits")
    assert hub.fetched["local_files_only"] is True
    monkeypatch.setattr(pipeline, "snapshot_download", no_internet)
    with pytest.raises(FileNotFoundError, match="the Hub gave no such weights .no route to the Hub."):
        ClassConditionedPipeline.from_pretrained("someone/digits")


# Mutants

ODD_VALUES = (
    *(None, True, False, -1, 0, 1, 2, 3, 10**6, 10**12, 10**30, -1.5, 0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "canary", "x" * 10_000, "../../evil", [], [[]], [1, 2, 3], ["os", "system"], ["canary", "Canary"], {}),
    {"a": {"b": [1]}},
)


def mutate_bytes(content: bytes, chance: random.Random) -> bytes:
    """One to three flipped bits, a cut, something inserted or removed, or a lie in the first eight bytes."""
    content, place = bytearray(content), chance.randrange(len(content))
    kind = chance.choice(["flip", "flip", "cut", "insert", "remove", "lie", "swap"])
    if kind == "flip":
        for _ in range(chance.randint(1, 3)):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "insert":
        content[place:place] = chance.randbytes(chance.choice([1, 2, 8, 1000]))
    elif kind == "remove":
        del content[place : place + chance.choice([1, 2, 8, 1000])]
    elif kind == "lie":
        content[:8] = struct.pack("<Q", chance.choice([0, 1, chance.randrange(10**5), chance.randrange(2**64)]))
    else:
        other = chance.randrange(len(content))
        content[place], content[other] = content[other], content[place]
    return bytes(content)


def mutate_tree(tree: dict, chance: random.Random) -> str:
    """JSON in which a value, somewhere, is swapped, buried, deleted, renamed or said twice."""
    branch = tree
    key = chance.choice(sorted(branch))
    while isinstance(branch[key], dict) and branch[key] and chance.random() < 0.8:
        branch = branch[key]
        key = chance.choice(sorted(branch))
    kind = chance.choice(["swap", "swap", "swap", "bury", "delete", "rename", "add", "exchange"])
    if kind == "swap":
        branch[key] = chance.choice(ODD_VALUES)
    elif kind == "bury":
        depth = chance.choice([1, 10, 900, 3000])
        branch[key] = "BURIED"
        return json.dumps(tree).replace('"BURIED"', "[" * depth + "1" + "]" * depth)
    elif kind == "delete":
        del branch[key]
    elif kind == "rename":
        branch[key + "_"] = branch.pop(key)
    elif kind == "exchange":
        other = chance.choice(sorted(branch))
        branch[key], branch[other] = branch[other], branch[key]
    else:
        return json.dumps(tree)[:-1] + f", {json.dumps(key)}: {json.dumps(chance.choice(ODD_VALUES))}}}"
    return json.dumps(tree)


def mutant(file: str, content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.4:
        return mutate_bytes(content, chance)
    if file != WEIGHTS:
        return mutate_tree(json.loads(content), chance).encode()
    header, data = parts_of(content)
    text = mutate_tree(header, chance).encode()
    return struct.pack("<Q", len(text)) + text + data


def outcome(folder: Path) -> str:
    """ "loaded" or "refused", or what else happened."""
    try:
        pipe = ClassConditionedPipeline.from_pretrained(folder)
    except (ValueError, OSError) as error:
        message = str(error)
        return "refused" if message and "\n" not in message and len(message) < 1000 else f"message: {message!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if not all(parameter.isfinite().all() for parameter in pipe.unet.parameters()):
        return "loaded weights that are not finite"
    if not 1 <= pipe.config.num_inference_steps <= 1000:
        return "loaded a number of steps that is none"
    return "loaded"


def drawing(folder: Path) -> str:
    """What comes of drawing with what was loaded."""
    try:
        pictures = ClassConditionedPipeline.from_pretrained(folder)([3], 2, output_type="pt").images
    except FloatingPointError:
        return "drawing refused: numbers no longer finite"
    return "drawn" if pictures.shape == (1, 1, 28, 28) and pictures.abs().max() <= 1 else "drawn wrongly"


def peak_memory() -> int:
    """The most this process has had, in MB; 0 where the system does not say. (`getrusage` may count a parent's.)"""
    status = Path("/proc/self/status")
    return (
        int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8")).group(1)) // 1024
        if status.exists()
        else 0
    )


def try_mutants(folder: Path):
    """Change one file after another, load each time, put it back; print what happened, and the memory it took."""
    faulthandler.dump_traceback_later(300, exit=True)
    chance, outcomes = random.Random(0), Counter()
    pristine = {file: (folder / file).read_bytes() for file in (*SETTINGS, WEIGHTS)}
    assert (outcome(folder), drawing(folder)) == ("loaded", "drawn")
    before = peak_memory()
    for number in range(MUTANTS):
        file = (*SETTINGS, WEIGHTS)[number % 4]
        (folder / file).write_bytes(mutant(file, pristine[file], chance))
        result = outcome(folder)
        outcomes[result] += 1
        if result == "loaded" and outcomes[result] % 10 == 0:
            outcomes[drawing(folder)] += 1
        (folder / file).write_bytes(pristine[file])
    grown = peak_memory() - before
    imported = [name for name in ("canary", "evil") if name in sys.modules]
    print(json.dumps({"outcomes": outcomes, "grown": grown, "imported": imported}))


def test_mutants_load_or_are_refused(folder, tmp_path):
    """2,000 mutants of the four files, in a process of its own so that its memory can be told from the other tests'."""
    (tmp_path / "canary.py").write_text("class Canary: pass", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = f"from pathlib import Path; import test_untrusted_files as t; t.try_mutants(Path({str(folder)!r}))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([path, str(Path(__file__).parent)])}
    run = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, timeout=320, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr[-3000:]
    report = json.loads(run.stdout.splitlines()[-1])
    print(report)
    outcomes = report["outcomes"]
    allowed = {"loaded", "refused", "drawn", "drawing refused: numbers no longer finite"}
    assert set(outcomes) <= allowed and outcomes["loaded"] + outcomes["refused"] == MUTANTS
    assert outcomes["refused"] > MUTANTS / 2 and outcomes["loaded"] > MUTANTS / 20 and outcomes["drawn"] > 0
    assert report["grown"] < MOST_MEMORY and not report["imported"]
