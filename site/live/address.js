// What is drawn, in the page's address, so that it can be shared: #weights=mnist&label=3&seed=42

import { NETWORKS } from "./networks.js";

const SEEDS = 10_000; // the page takes one of so many; an address may name any up to 2^32 - 1
export const GUIDANCE = { min: 1, max: 8, step: 0.1 }; // 1 is off

const randomNumber = (limit) => Math.floor(Math.random() * limit);

/** Another seed than the last one. */
export const resampled = (seed) => (seed + 1 + randomNumber(SEEDS - 1)) % SEEDS;

/** What an address asks for. What it does not say, or says wrongly, is chosen here. */
export function readAddress(hash) {
  const asked = new URLSearchParams(hash.replace(/^#/, ""));
  const name = Object.hasOwn(NETWORKS, asked.get("weights")) ? asked.get("weights") : Object.keys(NETWORKS)[0];
  const { classNames, guidanceScale } = NETWORKS[name];
  const guidance = /^\d+(\.\d+)?$/.test(asked.get("guidance")) ? Number(asked.get("guidance")) : NaN;
  const fits = guidanceScale !== 1 && guidance >= GUIDANCE.min && guidance <= GUIDANCE.max;
  return {
    name,
    label: wholeNumber(asked.get("label"), classNames.length) ?? randomNumber(classNames.length),
    seed: wholeNumber(asked.get("seed"), 2 ** 32) ?? randomNumber(SEEDS),
    guidance: fits ? guidance : guidanceScale,
  };
}

/** The part of an address that asks for the same picture. */
export function writeAddress({ name, label, seed, guidance }) {
  const parts = { weights: name, label, seed };
  if (guidance !== NETWORKS[name].guidanceScale) parts.guidance = guidance;
  return "#" + new URLSearchParams(parts);
}

function wholeNumber(text, limit) {
  return /^\d{1,10}$/.test(text) && Number(text) < limit ? Number(text) : undefined;
}
