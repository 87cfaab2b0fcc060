"""The live page: its networks against PyTorch, and a real browser on a phone and on a desk."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from browsing import ARTIFACTS, chromium, unavailable
from course_utils.classifier import load_classifier
from course_utils.data import scale_to_model
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import denoise, guidance_scales
from live_server import serving
from tools import live_page

PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
SHARED = {
    "mnist": "#weights=mnist&label=3&seed=42",
    "fashion_mnist": "#weights=fashion_mnist&label=9&seed=42&guidance=2.5",
}
MOST_BYTES = 6_000_000
PATIENCE = 60_000  # milliseconds
AXE = live_page.SOURCE / "node_modules" / "axe-core" / "axe.min.js"

# Numbers, not pixels: what the page's worker answers to a wish.
ASK_WORKER = """wanted => new Promise((resolve, reject) => {
    const worker = new Worker('worker.js', {type: 'module'});
    worker.onerror = reject;
    worker.onmessage = ({data}) => {
        if (data.type === 'progress') return;
        worker.terminate();
        if (data.type === 'failed') reject(data.sentence);
        resolve({...data, pictures: data.pictures.map(x => [...x]), believed: data.believed.map(x => [...x])});
    };
    worker.postMessage(wanted);
})"""
PIXELS = "[...document.querySelectorAll('#picture, #strip canvas')].map(canvas => canvas.toDataURL())"
AT_REST = """() => {
    const panel = document.getElementById('panel'), last = [...document.querySelectorAll('#strip canvas')];
    return panel.dataset.drawn && panel.getAttribute('aria-busy') === 'false' &&
        document.getElementById('picture').toDataURL() === last[last.length >> 1].toDataURL();
}"""


@pytest.fixture(scope="module")
def exporter():
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        unavailable("the exporter is not installed: pip install onnx onnxscript onnxruntime")
    from tools import onnx_export

    return onnx_export


@pytest.fixture(scope="module")
def graphs(exporter):
    """By name of the weights: the network and the judge, as float32 graphs."""
    return {
        name: dict(
            network=exporter.export_network(ClassConditionedPipeline.from_pretrained(name).unet),
            judge=exporter.export_judge(load_classifier(name)),
        )
        for name in live_page.WEIGHTS
    }


@pytest.fixture(scope="module")
def page_folder(exporter, tmp_path_factory) -> Path:
    """The page as it is published."""
    if not (live_page.ENGINE / live_page.CODE).is_file() or not AXE.is_file():
        unavailable("npm's packages are not installed: npm ci --prefix site/live")
    folder = tmp_path_factory.mktemp("live")
    live_page.build(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def server(page_folder):
    with serving(page_folder) as server:
        yield server


@pytest.fixture
def open_page(browser, server):
    """A function that opens the page at an address; whatever the page complains about fails the test at its end."""
    contexts, complaints = [], []

    def open_page(address: str = "", viewport=DESKTOP, at_rest: bool = True, strict: bool = True, **options):
        contexts.append(context := browser.new_context(viewport=viewport, **options))
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        if strict:
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda message: complaints.append(message.text))
        page.goto(server.address + address)
        if at_rest:
            page.wait_for_function(AT_REST)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def inputs_of_a_step(timestep: int, label: int) -> dict[str, torch.Tensor]:
    noise = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(label))
    return dict(sample=noise, timestep=torch.tensor([timestep]), class_label=torch.tensor([label]))


def as_arrays(inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in inputs.items()}


# ---- The export


@pytest.mark.parametrize("name", live_page.WEIGHTS)
def test_the_exported_network_predicts_as_pytorch_does(graphs, name):
    pipe, exported = ClassConditionedPipeline.from_pretrained(name), session(graphs[name]["network"])
    for timestep in (0, 249, 499, 749, 999):
        for label in (0, 3, 9, pipe.unet.null_label):
            inputs = inputs_of_a_step(timestep, label)
            with torch.no_grad():
                expected = pipe.unet(*inputs.values())
            (found,) = exported.run(None, as_arrays(inputs))
            assert np.abs(found - expected.numpy()).max() < 1e-4


@pytest.mark.parametrize("name", live_page.WEIGHTS)
def test_the_exported_judge_judges_as_pytorch_does(graphs, name):
    judge, exported = load_classifier(name).eval(), session(graphs[name]["judge"])
    pipe = ClassConditionedPipeline.from_pretrained(name)
    pictures = pipe(range(10), generator=torch.Generator().manual_seed(0), output_type="pt").images * 2 - 1
    with torch.no_grad():
        expected = judge(pictures)
    found = np.concatenate([exported.run(None, {"picture": picture[None].numpy()})[0] for picture in pictures])
    assert np.abs(found - expected.numpy()).max() < 1e-4


def test_nothing_of_this_machine_is_in_the_files(graphs):
    for parts in graphs.values():
        for graph in parts.values():
            assert str(live_page.SOURCE.parents[1]).encode() not in graph.SerializeToString()
            assert b"site-packages" not in graph.SerializeToString()


@pytest.mark.parametrize("shape", [(7, 5, 3, 3), (40, 3), (9,)])
def test_int8_is_within_half_a_step_of_every_row(exporter, shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values[0] = 0  # a row that has no scale
    (stored, scale), _ = exporter.as_int8("weight", values)
    whole, scale = (exporter.numpy_helper.to_array(tensor) for tensor in (stored, scale))
    assert whole.dtype == np.int8
    assert (np.abs(whole * scale - values) <= 0.501 * scale).all()
    rows = np.abs(values).reshape(len(values), -1).max(axis=1)
    assert np.allclose(rows, 127 * scale.reshape(-1), rtol=1e-6, atol=1e-9)  # no scale is wider than its row needs


@pytest.mark.parametrize("name", live_page.WEIGHTS)
def test_the_compressed_network_is_small_and_near(exporter, graphs, name):
    """As far off as its 8 bits let one expect: predictions are about 1 in size."""
    full = graphs[name]["network"]
    small = exporter.compressed(full)
    assert small.ByteSize() < full.ByteSize() / 3
    inputs = as_arrays(inputs_of_a_step(749, 3))
    off = session(small).run(None, inputs)[0] - session(full).run(None, inputs)[0]
    assert 0 < np.sqrt((off**2).mean()) < 0.02


def test_weights_with_another_sampler_are_refused():
    pipe = ClassConditionedPipeline.from_pretrained("mnist-untuned")
    with pytest.raises(ValueError, match="'mnist-untuned' draw with DPMSolverMultistepScheduler"):
        live_page.sampling_steps("mnist-untuned", pipe.scheduler, 4, 0.0)


def test_what_is_missing_is_said_before_any_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(live_page, "EXPORTERS", ("no_such_package",))
    with pytest.raises(ModuleNotFoundError, match="pip install no_such_package"):
        live_page.build(tmp_path / "live")
    monkeypatch.setattr(live_page, "EXPORTERS", ())
    monkeypatch.setattr(live_page, "ENGINE", tmp_path)
    monkeypatch.setattr("sys.argv", ["live_page", str(tmp_path / "live")])
    with pytest.raises(SystemExit, match="error: .*npm ci --prefix site/live"):
        live_page.main()
    assert not (tmp_path / "live").exists()


def test_the_lock_file_names_no_registry():
    lock = json.loads((live_page.SOURCE / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages and all("integrity" in package and "resolved" not in package for package in packages.values())


# ---- What is built


def test_the_page_is_complete_and_small(page_folder, server, open_page):
    page = open_page()
    wait_for_everything(page, server, page_folder)
    assert server.sent < MOST_BYTES
    files = {path.name for path in page_folder.iterdir()}
    assert {f"/{name}" for name in files - {"index.html"}} | {"/"} == set(server.requests)
    large = [path for path in server.requests if path.endswith(".bin")]
    assert len(large) == len(set(large)) == 5


def test_the_pictures_for_those_without_scripts_are_what_was_asked_for(page_folder):
    for name in live_page.WEIGHTS:
        row = 255 - np.asarray(Image.open(page_folder / f"{name}.png"))
        pictures = torch.tensor(row).view(28, -1, 28).permute(1, 0, 2)[:, None]
        with torch.no_grad():
            seen = load_classifier(name).eval()(scale_to_model(pictures)).argmax(1)
        assert seen.tolist() == list(range(10))


# ---- The page's pictures against PyTorch's


@pytest.fixture
def exact_page(browser, page_folder, graphs, tmp_path):
    """The page with the same graphs in float32."""
    folder = shutil.copytree(page_folder, tmp_path / "exact")
    for name, parts in graphs.items():
        for part, graph in parts.items():
            live_page.write_packed(folder / f"{name}-{part}.bin", graph.SerializeToString())
    with serving(folder) as server:
        page = browser.new_page()
        page.goto(server.address + "style.css")  # a page of the same server that loads nothing else
        yield page
        page.close()


def test_the_noise_is_pytorchs(open_page):
    page = open_page()
    for seed in (0, 1, 42, 9_999, 2**32 - 1):
        found = page.evaluate("async seed => [...(await import('./noise.js')).noise(seed, 784)]", seed)
        expected = torch.randn(784, generator=torch.Generator().manual_seed(seed))
        assert torch.allclose(torch.tensor(found), expected, atol=1e-5)


@pytest.mark.parametrize(
    "name, label, seed, guidance",
    [("mnist", 3, 42, None), ("mnist", 8, 0, None), ("fashion_mnist", 9, 42, None), ("fashion_mnist", 6, 7, 4.0)],
)
def test_every_step_is_pytorchs(exact_page, name, label, seed, guidance):
    pipe = ClassConditionedPipeline.from_pretrained(name)
    guidance = pipe.config.guidance_scale if guidance is None else guidance
    drawn = exact_page.evaluate(ASK_WORKER, dict(name=name, label=label, seed=seed, guidance=guidance))
    scales = guidance_scales(pipe.config.num_inference_steps, guidance, pipe.config.guidance_start)
    generator, labels = torch.Generator().manual_seed(seed), torch.tensor([label])
    with torch.no_grad():
        expected = torch.stack(list(denoise(pipe.unet, pipe.scheduler, labels, scales, generator)))
        shares = load_classifier(name).eval()(expected[-1]).softmax(1)
    found = torch.tensor(drawn["pictures"][1:]).view(expected.shape)
    assert (found - expected).abs().max() < 1e-3
    assert torch.tensor(drawn["believed"]).shape == (len(scales), 784)
    assert drawn["believed"][-1] == drawn["pictures"][-1]
    assert torch.allclose(torch.tensor(drawn["shares"]), shares[0], atol=1e-3)


# ---- How it is used


def drawn(page) -> dict[str, str]:
    """What the page shows, once it is at rest."""
    page.wait_for_function(AT_REST)
    return dict(part.split("=") for part in page.get_attribute("#panel", "data-drawn")[1:].split("&"))


def wait_for(page, label: int):
    page.wait_for_function(f"document.getElementById('panel').dataset.drawn.includes('label={label}&')")
    page.wait_for_function(AT_REST)


def wait_for_everything(page, server, folder: Path):
    names = {f"/{path.name}" for path in folder.glob("*.bin")}
    for _ in range(600):
        if names <= set(server.requests):
            break
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)


def place_on_slider(page, label: int) -> tuple[float, float]:
    box, thumb = page.locator("#slider").bounding_box(), 28
    return box["x"] + thumb / 2 + (box["width"] - thumb) * label / 9, box["y"] + box["height"] / 2


def test_drag_with_a_mouse(open_page):
    page = open_page(SHARED["mnist"])
    before = page.evaluate(PIXELS)
    page.mouse.move(*place_on_slider(page, 3))
    page.mouse.down()
    for label in (4, 5, 6, 7):
        page.mouse.move(*place_on_slider(page, label))
    page.mouse.up()
    wait_for(page, 7)
    after = page.evaluate(PIXELS)
    assert page.inner_text("#asked") == "7" and page.inner_text("#verdict").startswith("A classifier sees: 7")
    assert page.inner_text("#status").startswith("drawn in ") and "(seed 42)" in page.inner_text("#status")
    changed = [a != b for a, b in zip(before, after)]
    assert changed == [True, False, True, True, True, True]  # all but the noise, from which each digit is drawn
    page.click("#ticks span:nth-child(2)")
    wait_for(page, 1)


def test_keys(open_page):
    page = open_page(SHARED["mnist"])
    page.focus("#slider")
    page.keyboard.press("ArrowRight")
    wait_for(page, 4)
    page.keyboard.press("Home")
    wait_for(page, 0)
    page.keyboard.press("End")
    wait_for(page, 9)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "resample"
    page.keyboard.press("Enter")
    page.wait_for_function("!document.getElementById('panel').dataset.drawn.includes('seed=42')")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowRight")  # from one choice to the other
    wait_for(page, 9)
    assert drawn(page)["weights"] == "fashion_mnist"


def test_touch(open_page):
    page = open_page(SHARED["mnist"], PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.touchscreen.tap(*place_on_slider(page, 7))
    wait_for(page, 7)
    finger = page.context.new_cdp_session(page)

    def touch(kind: str, *labels: int):
        places = [place_on_slider(page, label) for label in labels]
        points = [dict(x=x, y=y) for x, y in places]
        finger.send("Input.dispatchTouchEvent", dict(type=kind, touchPoints=points))

    touch("touchStart", 7)
    for label in (6, 5, 4, 3, 2):
        touch("touchMove", label)
    touch("touchEnd")
    wait_for(page, 2)
    page.tap("#resample")
    page.wait_for_function("!document.getElementById('panel').dataset.drawn.includes('seed=42')")
    page.tap("#fashion_mnist")
    wait_for(page, 2)
    assert page.inner_text("#asked") == "Pullover"


def test_resample_draws_the_same_class_from_other_noise(open_page):
    page = open_page(SHARED["mnist"])
    before, wish = page.evaluate(PIXELS), drawn(page)
    page.click("#resample")
    page.wait_for_function("!document.getElementById('panel').dataset.drawn.includes('seed=42')")
    after = drawn(page)
    assert after["label"] == wish["label"] and 0 <= int(after["seed"]) < 10_000
    assert all(a != b for a, b in zip(before, page.evaluate(PIXELS)))


def test_both_data_sets(open_page):
    page = open_page(SHARED["mnist"])
    assert page.locator("#strip canvas").count() == 3 + 2 and not page.is_visible("#guided")
    page.check("#fashion_mnist")
    page.wait_for_function("document.getElementById('panel').dataset.drawn.includes('fashion_mnist')")
    assert drawn(page) == {"weights": "fashion_mnist", "label": "3", "seed": "42"}
    assert page.inner_text("#asked") == "Dress" and page.get_attribute("#slider", "aria-valuetext") == "Dress"
    assert page.locator("#strip canvas").count() == 5 + 4 and page.inner_text("#guidance-value") == "1.3"
    before = page.evaluate(PIXELS)
    page.fill("#guidance", "5")
    page.wait_for_function("document.getElementById('panel').dataset.drawn.includes('guidance=5')")
    page.wait_for_function(AT_REST)
    after = page.evaluate(PIXELS)
    # Guidance sets in late: noise, the picture after the first step and what is believed in it stay as they were.
    changed = [a != b for a, b in zip(before[1:], after[1:])]
    assert changed == [False, False, True, True, True, False, True, True, True]
    page.check("#mnist")
    page.wait_for_function("document.getElementById('panel').dataset.drawn.includes('weights=mnist')")
    assert "guidance" not in drawn(page)


@pytest.mark.parametrize("name", live_page.WEIGHTS)
def test_a_shared_address_shows_the_same_pixels(open_page, name):
    page = open_page(SHARED[name])
    first = page.evaluate(PIXELS)
    page.click("#resample")
    page.wait_for_function("!location.hash.includes('seed=42')")
    page.wait_for_function(AT_REST)
    resampled = page.evaluate(PIXELS)
    address = page.evaluate("location.hash")
    page.reload()
    page.wait_for_function(AT_REST)
    assert page.evaluate(PIXELS) == resampled
    page.evaluate("hash => { location.hash = hash; }", SHARED[name])  # typed over the old one, without a reload
    page.wait_for_function("document.getElementById('panel').dataset.drawn.includes('seed=42')")
    page.wait_for_function(AT_REST)
    assert page.evaluate(PIXELS) == first
    assert open_page(address).evaluate(PIXELS) == resampled


def test_share_copies_an_address_that_shows_the_same(open_page):
    page = open_page("?embed=1" + SHARED["fashion_mnist"], permissions=["clipboard-read", "clipboard-write"])
    page.evaluate("delete Navigator.prototype.share")
    page.click("#share")
    page.get_by_text("The link is copied.").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.evaluate("location.origin") + "/" + SHARED["fashion_mnist"]


@pytest.mark.parametrize(
    "address",
    [
        "#weights=mnist&label=99&seed=abc",
        "#weights=constructor&label=-1&seed=-1",
        "#label=3.5&seed=4294967296&guidance=NaN",
        "#weights=fashion_mnist&label=&seed=1e3&guidance=99",
        "#weights=%E0%A4%A&=&&&",
        "#<script>alert(1)</script>",
    ],
)
def test_damaged_addresses_fall_back(open_page, address):
    page = open_page(address)
    shown = drawn(page)
    assert shown["weights"] in live_page.WEIGHTS and int(shown["label"]) < 10 and int(shown["seed"]) < 10_000
    assert "guidance" not in shown


def test_nothing_is_asked_of_the_server_once_all_is_there(open_page, server, page_folder):
    page = open_page(SHARED["mnist"])
    wait_for_everything(page, server, page_folder)
    others = []
    page.on("request", lambda request: others.append(request.url))
    before = len(server.requests)
    page.context.set_offline(True)
    page.focus("#slider")
    page.keyboard.press("End")
    wait_for(page, 9)
    page.check("#fashion_mnist")
    page.wait_for_function("document.getElementById('panel').dataset.drawn.includes('fashion_mnist')")
    page.click("#resample")
    page.wait_for_function("!document.getElementById('panel').dataset.drawn.includes('seed=42')")
    page.wait_for_function(AT_REST)
    assert len(server.requests) == before and not [url for url in others if not url.startswith("data:")]


# ---- When something goes wrong


@pytest.mark.parametrize("trouble", ["missing", "cut", "damaged"])
@pytest.mark.parametrize("file", ["mnist-network.bin", "mnist-judge.bin", "onnxruntime.bin"])
def test_a_broken_download_is_said_and_can_be_tried_again(open_page, server, file, trouble):
    server.troubles[f"/{file}"] = trouble
    page = open_page(SHARED["mnist"], at_rest=False, strict=False)
    page.get_by_text("The network could not be loaded").wait_for()
    assert not page.is_visible("#received")
    server.troubles.clear()
    page.click("#retry")
    page.wait_for_function(AT_REST)
    assert drawn(page) == {"weights": "mnist", "label": "3", "seed": "42"} and not page.is_visible("#problem")


def test_the_other_networks_broken_download_is_said_when_it_is_wanted(open_page, server):
    server.troubles["/fashion_mnist-network.bin"] = "cut"
    page = open_page(SHARED["mnist"], strict=False)
    page.check("#fashion_mnist")
    page.get_by_text("The network could not be loaded").wait_for()
    server.troubles.clear()
    page.click("#retry")
    page.wait_for_function("document.getElementById('panel').dataset.drawn.includes('fashion_mnist')")
    page.wait_for_function(AT_REST)


@pytest.mark.parametrize("file", ["page.js", "pictures.js", "worker.js", "sampling.js", "onnxruntime.js"])
def test_a_script_that_does_not_arrive_is_said(open_page, server, file):
    server.troubles[f"/{file}"] = "missing"
    page = open_page(SHARED["mnist"], at_rest=False, strict=False)
    page.locator("text=A part of the page did not arrive >> visible=true").wait_for()
    server.troubles.clear()
    page.locator("text=Try again >> visible=true").click()
    page.wait_for_function(AT_REST)


def test_a_download_that_stands_still_is_said_and_can_be_tried_again(open_page, server, browser):
    server.troubles["/mnist-network.bin"] = "stands still"
    page = browser.new_context().new_page()
    page.clock.install()
    page.goto(server.address + SHARED["mnist"])
    page.wait_for_function("document.getElementById('received').value > 3.6e6")  # all but the half that does not come
    assert page.is_visible("#received") and not page.is_visible("#problem")
    page.clock.fast_forward(11_000)
    assert "stands still" in page.inner_text("#problem")
    server.troubles.clear()
    page.click("#retry")
    page.wait_for_function("document.getElementById('panel').dataset.drawn")
    assert not page.is_visible("#problem") and not page.is_visible("#received")
    page.context.close()


def test_without_scripts_there_are_pictures_and_a_sentence(open_page):
    page = open_page(at_rest=False, java_script_enabled=False)
    assert "only with JavaScript" in page.inner_text("body") and not page.is_visible("#panel")
    assert page.get_by_alt_text("The digits 0 to 9").is_visible()
    save(page, "live-without-scripts")


def test_a_browser_without_simd_is_told_so(open_page, browser, server):
    page = browser.new_page()
    page.add_init_script("WebAssembly.validate = () => false")
    page.goto(server.address)
    page.get_by_text("needs WebAssembly with SIMD").wait_for()
    page.close()


# ---- How it looks


def save(page, name: str):
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", live_page.WEIGHTS)
@pytest.mark.parametrize("device, viewport", [("phone", PHONE), ("desktop", DESKTOP)])
def test_looks_and_accessibility(open_page, device, viewport, name, scheme):
    page = open_page(SHARED[name], viewport, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.add_script_tag(path=AXE)
    violations = page.evaluate("axe.run().then(results => results.violations)")
    assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []
    save(page, f"live-{name}-{device}-{scheme}")


def test_on_a_phone_all_that_one_plays_with_is_in_sight(open_page):
    page = open_page(SHARED["mnist"], PHONE)
    for part in ("#picture", "#slider", "#verdict", "#resample"):
        box = page.locator(part).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= PHONE["height"], part


def test_embedded_it_is_the_panel_alone(open_page):
    page = open_page("?embed=1" + SHARED["mnist"], {"width": 320, "height": 700})
    assert page.is_visible("#panel") and not page.is_visible("h1") and not page.is_visible("footer")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("motion, most", [("reduce", 1), ("no-preference", 3)])
def test_the_steps_play_unless_stillness_is_asked_for(open_page, motion, most):
    page = open_page(SHARED["mnist"], reduced_motion=motion)
    page.evaluate("""() => {
        window.shown = new Set();
        const context = document.getElementById('picture').getContext('2d'), put = context.putImageData.bind(context);
        context.putImageData = (image, ...place) => { window.shown.add(image.data.join()); put(image, ...place); };
    }""")
    page.click("#resample")
    page.wait_for_function("!document.getElementById('panel').dataset.drawn.includes('seed=42')")
    page.wait_for_function(AT_REST)
    assert page.evaluate("window.shown.size") == most
