// The panel: its controls say what is wanted, the worker draws it, and the last wish wins.

import { GUIDANCE, readAddress, resampled, writeAddress } from "./address.js";
import { NETWORKS, SIDE } from "./networks.js";
import { noise } from "./noise.js";
import { ink, makeStrip } from "./pictures.js";

const PATIENCE = 10_000; // milliseconds without a byte, after which the page offers to try again
const MOMENT = 150; // milliseconds for which each step is shown after Resample
const SETTLED = 300; // milliseconds after which a choice goes into the address; browsers refuse many changes in a row
// The smallest program with an instruction for many numbers at once (SIMD), which the engine needs.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

const part = (id) => document.getElementById(id);
const [panel, picture, slider, guidance] = ["panel", "picture", "slider", "guidance"].map(part);
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

let wanted; // { name, label, seed, guidance }, as the controls say
let drawing, shown; // what the worker draws at the moment; what was drawn last
let playing; // whether the next picture is shown step by step
let worker, strip;
const rows = {}; // for each network, an image of one picture of each class
const timers = {};

// ---- Wishes

/** Something else is wanted; the worker is asked for it at once, unless it draws: then the last wish waits for it. */
function want(changes, play = false) {
  const before = wanted?.name;
  wanted = { ...wanted, ...changes };
  if (wanted.name !== before) showNetwork();
  showWish();
  playing = play;
  later("address", SETTLED, () => history.replaceState(null, "", location.search + writeAddress(wanted)));
  ask();
}

function ask() {
  if (drawing || (shown && writeAddress(wanted) === writeAddress(shown))) return;
  drawing = wanted;
  panel.setAttribute("aria-busy", "true");
  bePatient();
  worker.postMessage(wanted);
}

function later(name, milliseconds, action) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(action, milliseconds);
}

// ---- The worker

/** Start a worker, or a new one where the last one failed or hangs; what arrived before is in the browser's cache. */
function start() {
  worker?.terminate();
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => answers[data.type](data);
  worker.onerror = () => answers.failed({ sentence: "A part of the page did not arrive." });
  drawing = shown = undefined;
  waitForBytes();
  want(wanted ?? readAddress(location.hash), true);
}

const answers = {
  progress({ name, received, total }) {
    if (name !== drawing?.name) return; // the other network, for which nobody waits
    waitForBytes();
    part("received").max = total;
    part("received").value = received;
  },
  drawn(drawn) {
    stopWaiting();
    shown = drawing;
    drawing = undefined;
    if (shown.name === wanted.name) showDrawn(drawn);
    panel.setAttribute("aria-busy", "false");
    ask();
  },
  failed({ sentence }) {
    worker.terminate(); // the other downloads have no say in this
    clearTimeout(timers.patience);
    complain(sentence);
  },
};

function waitForBytes() {
  complain("");
  part("waiting").hidden = false;
  bePatient();
}

function bePatient() {
  later("patience", PATIENCE, () => complain("The download stands still. The connection may be slow."));
}

function stopWaiting() {
  clearTimeout(timers.patience);
  part("waiting").hidden = true;
}

function complain(sentence) {
  part("problem").textContent = sentence;
  part("problem").hidden = part("retry").hidden = !sentence;
  if (sentence) part("waiting").hidden = false;
}

// ---- What is seen

/** The controls of another network. */
function showNetwork() {
  const { kind, classNames, guidanceScale, steps } = NETWORKS[wanted.name];
  part(wanted.name).checked = true;
  part("kind").textContent = kind;
  slider.max = classNames.length - 1;
  const ticks = classNames.map((_, label) => tick(label));
  part("ticks").replaceChildren(...ticks);
  part("guided").hidden = guidanceScale === 1;
  strip = makeStrip(part("strip"), steps.length);
  showPicture([noise(wanted.seed, SIDE * SIDE)]); // until the network draws
}

/** A class's mark under the slider: its name, where that is short, or else a small picture. */
function tick(label) {
  const text = NETWORKS[wanted.name].classNames[label];
  const mark = document.createElement(text.length < 3 ? "span" : "canvas");
  if (text.length < 3) mark.textContent = text;
  else drawFromRow(mark, rows[wanted.name], label);
  mark.onclick = () => want({ label });
  return mark;
}

function drawFromRow(canvas, row, label) {
  canvas.width = canvas.height = SIDE;
  const draw = () => canvas.getContext("2d").drawImage(row, -label * SIDE, 0);
  if (row.complete) draw();
  else row.addEventListener("load", draw);
}

function showWish() {
  const name = NETWORKS[wanted.name].classNames[wanted.label];
  slider.value = wanted.label;
  slider.setAttribute("aria-valuetext", name);
  part("asked").textContent = name;
  guidance.value = part("guidance-value").textContent = wanted.guidance;
}

function showDrawn({ wanted: { name, label, seed }, pictures, believed, shares, milliseconds }) {
  const { kind, classNames } = NETWORKS[name];
  const seen = shares.indexOf(Math.max(...shares));
  strip.show(pictures, believed);
  picture.setAttribute("aria-label", `${kind} ${classNames[label]}, drawn by the network`);
  part("verdict").textContent = `A classifier sees: ${classNames[seen]} (${Math.round(100 * shares[seen])} %)`;
  part("status").textContent = `drawn in ${Math.round(milliseconds)} ms (seed ${seed})`;
  showPicture(playing && !stillness.matches ? pictures : pictures.slice(-1));
  playing = false;
  panel.dataset.drawn = writeAddress(shown);
}

/** Show pictures one after the other; the last one stays. */
function showPicture([first, ...others]) {
  ink(picture, first);
  clearTimeout(timers.play);
  if (others.length) later("play", MOMENT, () => showPicture(others));
}

// ---- Controls

function makeControls() {
  for (const [name, { title }] of Object.entries(NETWORKS)) {
    const choice = Object.assign(document.createElement("input"), { type: "radio", name: "network", id: name });
    const text = Object.assign(document.createElement("span"), { textContent: title });
    const label = document.createElement("label");
    label.append(choice, text);
    part("networks").append(label);
    choice.onchange = () => want({ name, guidance: NETWORKS[name].guidanceScale }, true);
    rows[name] = Object.assign(new Image(), { src: `${name}.png` });
  }
  Object.assign(guidance, GUIDANCE);
  slider.oninput = () => want({ label: slider.valueAsNumber });
  guidance.oninput = () => want({ guidance: guidance.valueAsNumber });
  part("resample").onclick = () => want({ seed: resampled(wanted.seed) }, true);
  part("share").onclick = share;
  part("retry").onclick = () => {
    start();
    slider.focus(); // the button is gone
  };
  onhashchange = () => want(readAddress(location.hash), true);
}

/** Hand the picture's address on, or copy it where the browser cannot. */
async function share() {
  const address = new URL(writeAddress(wanted), location.origin + location.pathname).href;
  try {
    if (navigator.share) await navigator.share({ title: document.title, url: address });
    else await navigator.clipboard.writeText(address).then(() => (part("status").textContent = "The link is copied."));
  } catch (error) {
    if (error.name !== "AbortError") part("status").textContent = address; // to be copied by hand
  }
}

document.documentElement.classList.toggle("embedded", new URLSearchParams(location.search).has("embed"));
panel.hidden = false;
if (self.DecompressionStream && self.WebAssembly?.validate(new Uint8Array(SIMD))) {
  makeControls();
  start();
} else {
  panel.replaceChildren("This browser is too old for the network, which needs WebAssembly with SIMD: Chrome 91, Firefox 114, Safari 16.4 or newer.");
}
