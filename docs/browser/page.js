// The page: choose a picture, see what the model says of it and why.

import { explain, load, overlay, strongest } from "./explain.js";

const MOST = 640; // pixels of the longer side; larger pictures are made smaller first
const byId = (id) => document.getElementById(id);

/** What is on the page now: the picture, its explanation and the class explained. */
export const state = { session: null, labels: [], pixels: null, found: null, target: -1 };

async function start() {
  state.session = await load("explained.onnx");
  state.labels = await fetch("labels.json").then((answer) => (answer.ok ? answer.json() : [])).catch(() => []);
  byId("classes").replaceChildren(...state.labels.map((name) => new Option(name.split(",")[0])));
  say("Choose a picture.");
}

async function show(source) {
  say("Reading the picture …");
  const bitmap = await createImageBitmap(source).catch(() => {
    throw new Error("This file is not a picture that the browser reads.");
  });
  const scale = Math.min(1, MOST / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  canvas.fillStyle = "white"; // behind what is transparent
  canvas.fillRect(0, 0, width, height);
  canvas.drawImage(bitmap, 0, 0, width, height);
  state.pixels = canvas.getImageData(0, 0, width, height);
  byId("target").value = "";
  await ask(-1);
}

async function ask(target) {
  say("Asking the model …");
  const started = performance.now();
  state.found = await explain(state.session, state.pixels, target);
  const top = strongest(state.found.scores);
  state.target = target < 0 ? top[0].index : target;
  byId("result").hidden = false;
  list(top);
  draw();
  const empty = state.found.heatmap.every((heat) => heat === 0) ? " Nothing at this layer speaks for it." : "";
  say(`${name(state.target)}, in ${Math.round(performance.now() - started)} ms.${empty}`);
}

function draw() {
  const canvas = byId("canvas");
  canvas.width = state.pixels.width;
  canvas.height = state.pixels.height;
  const laid = overlay(state.pixels, state.found.heatmap, Number(byId("opacity").value));
  canvas.getContext("2d").putImageData(laid, 0, 0);
}

function list(top) {
  byId("top").replaceChildren(
    ...top.map(({ index, chance }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.style.setProperty("--share", `${100 * chance}%`);
      button.setAttribute("aria-pressed", String(index === state.target));
      const [label, share] = [document.createElement("span"), document.createElement("span")];
      label.textContent = name(index);
      share.textContent = `${(100 * chance).toFixed(1)} %`;
      button.append(label, share);
      button.addEventListener("click", () => run(() => ask(index)));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

function wanted(text) {
  const typed = text.trim().toLowerCase();
  if (typed === "") return -1;
  const count = state.found.scores.length;
  if (/^\d+$/.test(typed) && Number(typed) < count) return Number(typed);
  const index = state.labels.findIndex((label) =>
    label.split(",").some((synonym) => synonym.trim().toLowerCase() === typed),
  );
  if (index < 0) throw new Error(`No class is called “${text}”; there are ${count}.`);
  return index;
}

function name(index) {
  return state.labels[index]?.split(",")[0] ?? `class ${index}`;
}

function say(text, wrong = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", wrong);
}

/** One thing after the other, and what goes wrong in words. */
let last = Promise.resolve();
function run(task) {
  last = last.then(task).catch((error) => say(error.message ?? String(error), true));
  return last;
}

byId("file").addEventListener("change", ({ target }) => target.files[0] && run(() => show(target.files[0])));
byId("sample").addEventListener("click", () =>
  run(async () => show(await (await fetch("cat.png")).blob())),
);
byId("target").addEventListener("change", ({ target }) => run(() => ask(wanted(target.value))));
byId("opacity").addEventListener("input", () => state.found && draw());

const drop = byId("drop");
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) run(() => show(file));
});

run(start);
