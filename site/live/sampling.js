// From noise to a picture: the loop of course_utils/sampling.py, for DDIM (arXiv:2010.02502) and predicted velocities.

/**
 * Yields, after each step, the picture so far, and the finished picture that the network believed in during the step.
 *
 * predict(x, timestep, label): the network; numbers in, as many numbers out.
 * network: from networks.js; its `steps` say how much of the picture (alpha) and of the noise (1 - alpha) there is.
 * x: the noise. Pictures are 28 x 28 numbers, row after row, from -1 (paper) to 1 (ink).
 */
export async function* denoise(predict, network, x, label, guidanceScale) {
  for (const { timestep, alpha, nextAlpha, guided } of network.steps) {
    const velocity = await guide(predict, network, x, timestep, label, guided ? guidanceScale : 1);
    const picture = Math.sqrt(alpha), noise = Math.sqrt(1 - alpha);
    const nextPicture = Math.sqrt(nextAlpha), nextNoise = Math.sqrt(1 - nextAlpha);
    const believed = x.map((value, i) => clip(picture * value - noise * velocity[i]));
    x = x.map((value, i) => nextPicture * believed[i] + (nextNoise * (value - picture * believed[i])) / noise);
    yield { x, believed };
  }
}

/** Classifier-free guidance (arXiv:2207.12598): away from what the network predicts when it is told no class. */
async function guide(predict, network, x, timestep, label, scale) {
  const told = await predict(x, timestep, label);
  if (scale === 1) return told;
  const untold = await predict(x, timestep, network.nullLabel);
  return told.map((value, i) => untold[i] + scale * (value - untold[i]));
}

const clip = (value) => Math.min(1, Math.max(-1, value));
