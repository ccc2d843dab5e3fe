// Run a model that `onnxviz export explain --fold-preprocess` wrote, and lay its heatmap over the picture.

import * as ort from "./ort/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send

// matplotlib's inferno at sixteen places: legible to the colour-blind, and in grey.
const INFERNO = [
  [0, 0, 4], [12, 8, 38], [36, 12, 79], [66, 10, 104], [93, 18, 110], [120, 28, 109], [147, 38, 103], [174, 48, 92],
  [199, 62, 76], [221, 81, 58], [237, 105, 37], [248, 133, 15], [252, 165, 10], [250, 198, 45], [242, 230, 97],
  [252, 255, 164],
];

/** The session of a model that explains itself. */
export async function load(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} is missing (${answer.status}); write it with onnxviz export explain`);
  return ort.InferenceSession.create(await answer.arrayBuffer(), { executionProviders: ["wasm"] });
}

/**
 * What the model says of a picture, and why.
 *
 * @param session what `load` gave.
 * @param pixels an ImageData.
 * @param target the class to explain; below 0, the strongest.
 * @returns {{scores: Float32Array, heatmap: Float32Array, width: number, height: number}} The heatmap is in [0, 1],
 *   row by row, and has the picture's size.
 */
export async function explain(session, pixels, target = -1) {
  const { width, height } = pixels;
  const [image, wanted] = session.inputNames;
  const answers = await session.run({
    [image]: new ort.Tensor("uint8", withoutAlpha(pixels.data), [1, height, width, 3]),
    [wanted]: new ort.Tensor("int64", BigInt64Array.of(BigInt(target)), [1]),
  });
  const [scores] = session.outputNames;
  const heatmap = session.outputNames.at(-1);
  return { scores: Float32Array.from(answers[scores].data), heatmap: answers[heatmap].data, width, height };
}

/** The strongest classes, as {index, chance}; scores become probabilities unless they are some already. */
export function strongest(scores, count = 5) {
  const sum = scores.reduce((total, score) => total + score, 0);
  const chances = Math.abs(sum - 1) < 1e-2 && scores.every((score) => score >= 0) ? [...scores] : softmax(scores);
  return chances
    .map((chance, index) => ({ index, chance }))
    .sort((one, other) => other.chance - one.chance)
    .slice(0, count);
}

/** A picture with a heatmap laid over it: the hotter, the more opaque; an ImageData. */
export function overlay(pixels, heatmap, opacity) {
  const laid = new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height);
  heatmap.forEach((heat, place) => {
    const color = inferno(heat);
    const share = opacity * heat;
    for (let channel = 0; channel < 3; channel++) {
      const at = 4 * place + channel;
      laid.data[at] += share * (color[channel] - laid.data[at]);
    }
  });
  return laid;
}

function inferno(heat) {
  const at = Math.min(Math.max(heat, 0), 1) * (INFERNO.length - 1);
  const low = Math.min(Math.floor(at), INFERNO.length - 2);
  return INFERNO[low].map((value, channel) => value + (at - low) * (INFERNO[low + 1][channel] - value));
}

function softmax(scores) {
  const highest = scores.reduce((most, score) => Math.max(most, score), -Infinity);
  const powers = [...scores].map((score) => Math.exp(score - highest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

function withoutAlpha(data) {
  const rgb = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return rgb;
}
