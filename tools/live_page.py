"""For maintainers: build the live page, on which a browser draws with the bundled weights.

npm ci --prefix site/live
python -m tools.live_page build/live
"""

import argparse
import gzip
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import DDIMScheduler

from course_utils.classifier import load_classifier
from course_utils.pictures import on_paper, tiled
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import guidance_scales, make_solver
from course_utils.storage.files import folder_written_whole, path_of

SOURCE = Path(__file__).parent.parent / "site" / "live"
PAGE = ("index.html", "style.css", "page.js", "address.js", "pictures.js", "noise.js", "sampling.js", "worker.js")
ENGINE = SOURCE / "node_modules" / "onnxruntime-web" / "dist"
LIBRARY, CODE = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"  # the smallest that npm has: no WebGPU
WEIGHTS = {"mnist": ("Digits", "digit"), "fashion_mnist": ("Clothes", "class")}  # how the page calls what they draw
EXPORTERS = ("onnx", "onnxscript")
ROW_SEED = 12  # of the pictures that are drawn here: for browsers that run no scripts, and as marks under the slider


def build(folder: Path):
    """Write the live page, complete, into a folder; nothing is downloaded.

    Args:
        folder: made if it is missing; other files in it stay as they are.

    Raises:
        FileNotFoundError: if onnxruntime-web is not installed.
        ModuleNotFoundError: if the packages that export networks are not installed.
        OSError: if the folder cannot be written to.
        ValueError: for weights that draw with another sampler than the page's.
    """
    check_installed()
    pipes = {name: ClassConditionedPipeline.from_pretrained(name) for name in WEIGHTS}
    settings = {name: network_settings(name, pipe) for name, pipe in pipes.items()}
    with folder_written_whole(path_of(folder)) as incoming:
        for name in PAGE:
            shutil.copy(SOURCE / name, incoming)
        for name, pipe in pipes.items():
            settings[name]["files"] = write_networks(incoming, name, pipe)
            write_row(incoming / f"{name}.png", pipe)
        write_settings(incoming / "networks.js", settings, write_engine(incoming))


def check_installed():
    """Say before any work what is missing."""
    missing = [name for name in EXPORTERS if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"the live page needs {' and '.join(missing)}, not installed here: pip install {' '.join(EXPORTERS)}"
        )
    if not (ENGINE / CODE).is_file():
        raise FileNotFoundError(
            "the live page needs onnxruntime-web, which is not installed here: run `npm ci --prefix site/live` once. "
            "npm comes with Node.js."
        )


def network_settings(name: str, pipe: ClassConditionedPipeline) -> dict:
    """What the page must know of a pipeline to draw as it does.

    Raises:
        ValueError: if it draws with another sampler than the page's.
    """
    config, title_and_kind = pipe.config, WEIGHTS[name]
    return dict(
        title=title_and_kind[0],
        kind=title_and_kind[1],
        classNames=pipe.class_names,
        nullLabel=pipe.unet.config.num_classes,
        guidanceScale=config.guidance_scale,
        steps=sampling_steps(name, pipe.scheduler, config.num_inference_steps, config.guidance_start),
    )


def sampling_steps(name: str, scheduler, num_inference_steps: int, guidance_start: float) -> list[dict]:
    """For each step its timestep, how much of the picture there is before and after it, and whether it is guided."""
    check_sampler(name, scheduler)
    solver = make_solver(scheduler, num_inference_steps)
    timesteps = solver.timesteps.tolist()
    alphas = [solver.alphas_cumprod[t].item() for t in timesteps] + [solver.final_alpha_cumprod.item()]
    guided = [scale != 1 for scale in guidance_scales(num_inference_steps, 2.0, guidance_start)]
    rows = zip(timesteps, alphas, alphas[1:], guided, strict=False)
    return [dict(zip(("timestep", "alpha", "nextAlpha", "guided"), row)) for row in rows]


def check_sampler(name: str, scheduler):
    """Refuse weights that sampling.js would draw with otherwise than the course does.

    Raises:
        ValueError: with what was found and what was expected.
    """
    found = [type(scheduler).__name__, scheduler.config.prediction_type]
    config = scheduler.config
    if found != [DDIMScheduler.__name__, "v_prediction"] or not config.clip_sample or config.clip_sample_range != 1:
        raise ValueError(
            f"the weights {name!r} draw with {' and '.join(found)}: the live page has DDIM, v_prediction and clipping "
            "only, so extend site/live/sampling.js first."
        )


def write_networks(folder: Path, name: str, pipe: ClassConditionedPipeline) -> dict[str, dict]:
    """Write a pipeline's network and its judge for the browser."""
    from tools.onnx_export import compressed, export_judge, export_network  # they need EXPORTERS

    graphs = dict(network=export_network(pipe.unet), judge=export_judge(load_classifier(pipe.config.dataset)))
    return {
        part: write_packed(folder / f"{name}-{part}.bin", compressed(graph).SerializeToString())
        for part, graph in graphs.items()
    }


def write_engine(folder: Path) -> dict:
    """Copy onnxruntime-web: its library, and its WebAssembly code."""
    library = (ENGINE / LIBRARY).read_text(encoding="utf-8")
    lines = [line for line in library.splitlines() if not line.startswith("//# sourceMappingURL")]
    (folder / "onnxruntime.js").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return write_packed(folder / "onnxruntime.bin", (ENGINE / CODE).read_bytes())


def write_packed(path: Path, content: bytes) -> dict:
    """Write a file as gzip, which the page itself unpacks: it is small on every server, and its size is known.

    Its name does not end in .gz, because some servers let the browser unpack such files.
    """
    packed = gzip.compress(content, mtime=0)
    path.write_bytes(packed)
    return dict(address=path.name, bytes=len(packed))


def write_settings(path: Path, networks: dict, engine: dict):
    """Write the module that tells the page's other modules what there is."""
    parts = dict(SIDE=28, ENGINE=engine, NETWORKS=networks)
    lines = [f"export const {name} = {json.dumps(value, indent=2)};\n" for name, value in parts.items()]
    path.write_text(
        "// Written by tools/live_page.py from the bundled weights.\n\n" + "\n".join(lines), encoding="utf-8"
    )


def write_row(path: Path, pipe: ClassConditionedPipeline):
    """Draw one picture of each class, and write them side by side."""
    from PIL import Image

    labels = range(len(pipe.class_names))
    generator = torch.Generator().manual_seed(ROW_SEED)
    pictures = pipe(list(labels), generator=generator, output_type="pt").images
    row = on_paper(tiled(pictures, len(pictures))).mul(255).round().byte()
    Image.fromarray(row.numpy()).save(path)


def main():
    parser = argparse.ArgumentParser(description="Build the live page, complete, from the bundled weights.")
    parser.add_argument("folder", type=Path, help="where to write it, such as build/live")
    try:
        build(parser.parse_args().folder)
    except (ModuleNotFoundError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
