// Beside the page, so that it never stands still: this worker downloads the networks, and draws what the page asks for.

import * as ort from "./onnxruntime.js";
import { ENGINE, NETWORKS, SIDE } from "./networks.js";
import { noise } from "./noise.js";
import { denoise } from "./sampling.js";

const loaded = {}; // by the network's name, a promise of its two functions
let engine; // a promise: WebAssembly code that evaluates networks

onmessage = async ({ data: wanted }) => {
  let trouble = "The network could not be loaded. The connection broke off, or a file is damaged.";
  try {
    const functions = await load(wanted.name);
    trouble = "The network could not draw.";
    postMessage(await draw(functions, wanted));
  } catch (error) {
    console.error(error);
    postMessage({ type: "failed", sentence: trouble });
  }
  for (const name in NETWORKS) load(name).catch(() => {}); // nothing is left to download when it is asked for
};

function load(name) {
  return (loaded[name] ??= start(name));
}

async function start(name) {
  const { network, judge } = NETWORKS[name].files;
  const wanted = engine ? [network, judge] : [network, judge, ENGINE];
  const progress = { type: "progress", name, received: 0, total: wanted.reduce((sum, file) => sum + file.bytes, 0) };
  const arrived = (bytes) => postMessage({ ...progress, received: (progress.received += bytes) });
  const files = [download(network, arrived), download(judge, arrived)];
  engine ??= download(ENGINE, arrived).then((code) => {
    ort.env.wasm.wasmBinary = code;
    ort.env.wasm.numThreads = 1; // more would need HTTP headers that GitHub Pages does not send
  });
  const [networkFile, judgeFile] = await Promise.all([...files, engine]);
  return { predict: await predictor(networkFile), recognise: await recogniser(judgeFile) };
}

/** A file's bytes. It is stored as gzip, so that it is small on every server, and damage shows. */
async function download(file, arrived) {
  const answer = await fetch(new URL(file.address, import.meta.url), { cache: "no-cache" });
  if (!answer.ok) throw new Error(`the server answers ${answer.status} for ${file.address}`);
  const counted = new TransformStream({
    transform(chunk, controller) {
      arrived(chunk.length);
      controller.enqueue(chunk);
    },
  });
  const stream = answer.body.pipeThrough(counted).pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const tensor = (values) => new ort.Tensor("float32", values, [1, 1, SIDE, SIDE]);
const wholeNumber = (value) => new ort.Tensor("int64", [BigInt(value)], [1]);

/** The network as a function, for one picture at a time. */
async function predictor(file) {
  const session = await ort.InferenceSession.create(file);
  return async (x, timestep, label) => {
    const inputs = { sample: tensor(x), timestep: wholeNumber(timestep), class_label: wholeNumber(label) };
    return (await session.run(inputs)).prediction.data;
  };
}

/** The judge as a function: how much of its belief a picture's classes get, each 0 .. 1, 1 together. */
async function recogniser(file) {
  const session = await ort.InferenceSession.create(file);
  return async (picture) => {
    const scores = Array.from((await session.run({ picture: tensor(picture) })).scores.data);
    const powers = scores.map((score) => Math.exp(score - Math.max(...scores)));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((power) => power / sum);
  };
}

async function draw({ predict, recognise }, wanted) {
  const start = performance.now();
  let x = noise(wanted.seed, SIDE * SIDE);
  const pictures = [x], believed = [];
  for await (const step of denoise(predict, NETWORKS[wanted.name], x, wanted.label, wanted.guidance)) {
    pictures.push((x = step.x));
    believed.push(step.believed);
  }
  if (!x.every(Number.isFinite)) throw new Error("the network's numbers are no longer finite");
  const milliseconds = performance.now() - start;
  return { type: "drawn", wanted, pictures, believed, shares: await recognise(x), milliseconds };
}
