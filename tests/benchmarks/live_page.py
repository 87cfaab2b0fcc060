"""The live page in a browser beside PyTorch on one thread, in one run: bytes, milliseconds per drag, pixels, quality.

    npm ci --prefix site/live
    python tests/benchmarks/live_page.py

A drag's cost grows in proportion to steps, and guided steps count twice. The weights that the page ships are rounded to
8 bits, and 16 where they are few: the quality of their pictures is measured beside that of the weights as they are.
"""

import copy
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from browsing import chromium
from course_utils.classifier import load_classifier
from course_utils.evaluation import evaluate, score_cells
from course_utils.pipeline import ClassConditionedPipeline
from live_server import serving
from tools import live_page
from tools.onnx_export import compressed, export_network

DRAGS, ROUNDS = 100, 10  # drags, in rounds with PyTorch's between them: other programs disturb both
COMPARED = 50  # pictures whose pixels are compared
COUNT, PICTURE_SEEDS = 400, 5

# From a movement of the slider until the new picture is on the page.
DRAG = """async label => {
    const panel = document.getElementById('panel'), slider = document.getElementById('slider');
    const start = performance.now();
    const drawn = new Promise(resolve => new MutationObserver((_, observer) => {
        observer.disconnect();
        resolve();
    }).observe(panel, {attributeFilter: ['data-drawn']}));
    slider.value = label;
    slider.dispatchEvent(new Event('input'));
    await drawn;
    return performance.now() - start;
}"""
DRAW = """wishes => new Promise((resolve, reject) => {
    const worker = new Worker('worker.js', {type: 'module'}), pictures = [];
    worker.onmessage = ({data}) => {
        if (data.type === 'progress') return;
        if (data.type === 'failed') reject(data.sentence);
        pictures.push([...data.pictures.at(-1)]);
        if (pictures.length === wishes.length) resolve(pictures), worker.terminate();
        else worker.postMessage(wishes[pictures.length]);
    };
    worker.postMessage(wishes[0]);
})"""


def bytes_over_the_wire(browser, server, folder: Path) -> dict[str, int]:
    """What a browser that has nothing is sent, with both data sets; and how much of it is the engine and the weights."""
    page = browser.new_context().new_page()
    page.goto(server.address)
    names = {f"/{path.name}" for path in folder.glob("*.bin")}
    while not names <= set(server.requests):
        page.wait_for_timeout(100)
    page.wait_for_timeout(1000)
    page.context.close()
    size = {part: sum(path.stat().st_size for path in folder.glob(f"{part}.bin")) for part in ("onnxruntime", "*-*")}
    return dict(bytes=server.sent, engine_bytes=size["onnxruntime"], weights_bytes=size["*-*"])


def milliseconds(browser, server, name: str, pipe) -> dict[str, float]:
    """A drag on the page, and the same picture and verdict from PyTorch on one thread."""
    page, judge, noise = browser.new_page(), load_classifier(name).eval(), torch.Generator()
    page.goto(f"{server.address}#weights={name}&label=9&seed=0")
    page.wait_for_selector("#panel[data-drawn]")
    page.wait_for_timeout(3000)  # until the browser has compiled what it uses, and downloaded the rest
    drags, pytorchs = [], []
    for _ in range(ROUNDS):
        for i in range(DRAGS // ROUNDS):
            drags.append(page.evaluate(DRAG, i % 10))
        for i in range(DRAGS // ROUNDS):
            start = time.perf_counter()
            with torch.inference_mode():
                judge(pipe([i % 10], generator=noise.manual_seed(0), output_type="pt").images * 2 - 1)
            pytorchs.append(1000 * (time.perf_counter() - start))
    page.close()
    page_ms, pytorch_ms = statistics.median(drags), statistics.median(pytorchs)
    return dict(page_ms=page_ms, pytorch_ms=pytorch_ms, ratio=page_ms / pytorch_ms)


def pixels(browser, server, name: str, pipe) -> dict[str, float]:
    """How far the page's pixels are from PyTorch's, for the same labels and noise; 1 is from paper to ink."""
    wishes = [dict(name=name, label=i % 10, seed=i, guidance=pipe.config.guidance_scale) for i in range(COMPARED)]
    page = browser.new_page()
    page.goto(server.address + "style.css")  # a page of this server that loads nothing else
    found = torch.tensor(page.evaluate(DRAW, wishes)).view(-1, 1, 28, 28) / 2 + 0.5
    page.close()
    generators = [torch.Generator().manual_seed(wish["seed"]) for wish in wishes]
    expected = pipe([wish["label"] for wish in wishes], generator=generators, output_type="pt").images
    off = (found - expected).abs()
    largest = off.flatten(1).amax(1)
    return dict(mean=off.mean().item(), median_largest=largest.median().item(), largest=largest.max().item())


def shipped(pipe):
    """A pipeline that draws with the page's graph, by onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = compressed(export_network(pipe.unet)).SerializeToString()
    session, unet = onnxruntime.InferenceSession(graph, options), copy.deepcopy(pipe.unet)

    def forward(sample, timestep, class_labels):
        one = dict(timestep=timestep.view(1).numpy())
        rows = zip(sample.split(1), class_labels.split(1))
        inputs = [one | dict(sample=picture.numpy(), class_label=label.numpy()) for picture, label in rows]
        return torch.cat([torch.from_numpy(session.run(None, each)[0]) for each in inputs])

    unet.forward = forward
    return pipe.with_unet(unet)


def measure(browser, server, name: str) -> dict:
    """All about one data set."""
    pipe = ClassConditionedPipeline.from_pretrained(name)
    quality = {
        kind: score_cells(evaluate(drawer, COUNT, PICTURE_SEEDS))
        for kind, drawer in (("as they are", pipe), ("shipped", shipped(pipe)))
    }
    times, off = milliseconds(browser, server, name, pipe), pixels(browser, server, name, pipe)
    return dict(weights=name, **times, pixels=off, quality=quality)


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        live_page.build(Path(folder))
        with serving(Path(folder)) as server:
            result = bytes_over_the_wire(browser, server, Path(folder))
            print(f"{result['bytes']:,} bytes over the wire, {result['engine_bytes']:,} of them the engine, ", end="")
            print(f"{result['weights_bytes']:,} weights")
            rows = [measure(browser, server, name) for name in live_page.WEIGHTS]
    print(f"weights | ms per drag (median of {DRAGS}) | PyTorch, one thread | ratio | pixels off: mean | ", end="")
    print(f"the largest of a picture, median | of {COMPARED} | accuracy, excess as they are | shipped")
    for row in rows:
        off, quality = row["pixels"], [", ".join(list(cells.values())[:2]) for cells in row["quality"].values()]
        print(f"{row['weights']} | {row['page_ms']:.0f} | {row['pytorch_ms']:.0f} | {row['ratio']:.2f} | ", end="")
        print(f"{off['mean']:.4f} | {off['median_largest']:.3f} | {off['largest']:.2f} | {' | '.join(quality)}")
    print(json.dumps(result | dict(rows=rows)))


if __name__ == "__main__":
    main()
