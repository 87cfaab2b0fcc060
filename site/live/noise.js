// Noise: the same seed gives the same numbers as PyTorch's torch.randn with torch.Generator().manual_seed(seed).

const STATE = 624, SHIFT = 397; // sizes of the Mersenne Twister (Matsumoto and Nishimura, 1998), which PyTorch uses

/** A function that returns the next of a stream of whole numbers, 0 .. 2^32 - 1. */
function mersenneTwister(seed) {
  const state = new Uint32Array(STATE);
  state[0] = seed;
  for (let i = 1; i < STATE; i++) {
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  }
  let place = STATE;
  return () => {
    if (place === STATE) {
      for (let i = 0; i < STATE; i++) {
        const joined = (state[i] & 0x80000000) | (state[(i + 1) % STATE] & 0x7fffffff);
        state[i] = state[(i + SHIFT) % STATE] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
      }
      place = 0;
    }
    let number = state[place++];
    number ^= number >>> 11;
    number ^= (number << 7) & 0x9d2c5680;
    number ^= (number << 15) & 0xefc60000;
    return (number ^ (number >>> 18)) >>> 0;
  };
}

/** `count` normally distributed numbers, as a Float32Array; `count` must be a multiple of 16, as 28 x 28 is. */
export function noise(seed, count) {
  const next = mersenneTwister(seed);
  const numbers = Float32Array.from({ length: count }, () => (next() & 0xffffff) / 2 ** 24); // uniform, 0 .. 1
  for (let block = 0; block < count; block += 16) {
    for (let i = block; i < block + 8; i++) { // Box and Muller: two uniform numbers become two normal ones
      const radius = Math.sqrt(-2 * Math.log(1 - numbers[i]));
      const angle = 2 * Math.PI * numbers[i + 8];
      numbers[i] = radius * Math.cos(angle);
      numbers[i + 8] = radius * Math.sin(angle);
    }
  }
  return numbers;
}
