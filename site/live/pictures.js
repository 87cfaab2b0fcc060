// Pictures on the page: 28 x 28 numbers from -1 (paper) to 1 (ink), shown as black ink on white paper.

import { SIDE } from "./networks.js";

/** Show a picture on a canvas. */
export function ink(canvas, numbers) {
  const image = new ImageData(SIDE, SIDE);
  numbers.forEach((number, i) => {
    const grey = Math.round(255 * (0.5 - Math.min(1, Math.max(-1, number)) / 2));
    image.data.set([grey, grey, grey, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Fill a place with a column for the noise and one for each step; `show` shows pictures in them. */
export function makeStrip(place, steps) {
  const names = ["noise", ...Array.from({ length: steps }, (_, i) => `after step ${i + 1}`)];
  const pictures = names.map((name) => makeCanvas(name));
  const believed = names.slice(0, -1).map((name) => makeCanvas(`what the network believes the picture will be, ${name}`));
  const heading = makeName("what the network believes the picture will be");
  place.style.setProperty("--columns", names.length);
  place.replaceChildren(...names.map(makeName), ...pictures, heading, ...believed);
  return {
    show(newPictures, newBelieved) {
      pictures.forEach((canvas, i) => ink(canvas, newPictures[i]));
      believed.forEach((canvas, i) => ink(canvas, newBelieved[i]));
    },
  };
}

function makeCanvas(label) {
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE, role: "img" });
  canvas.setAttribute("aria-label", label);
  return canvas;
}

function makeName(text) {
  return Object.assign(document.createElement("span"), { textContent: text });
}
