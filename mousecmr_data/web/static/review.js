// @ts-check
// The review screen: look at the masks of a mouse, correct them, and see the numbers change. Masks are kept here and on
// the server, pixel by pixel on the grid of the images; each change is sent at once.
import {
  BACKGROUND, BLOOD_POOL, MYOCARDIUM, clipBox, compare, drawMask, fillPolygon, grow, paintLine, shrink,
} from "./review_drawing.js"; // prettier-ignore
import { Curve } from "./review_curve.js";
import { Data } from "./review_data.js";
import { SaveQueue } from "./review_saving.js";
import { Server } from "./review_server.js";

/**
 * @typedef {import("./review_drawing.js").Point} Point
 * @typedef {import("./review_drawing.js").Box} Box
 * @typedef {import("./review_drawing.js").Change} Change
 * @typedef {import("./review_server.js").Status} Status
 * @typedef {import("./review_server.js").Numbers} Numbers
 * @typedef {{frame: number, slice: number, change: Change, before: Status, after: Status}} SliceStep
 * @typedef {{slices: SliceStep[], phases: {before: [number, number], after: [number, number]} | null}} Step
 * @typedef {{frame: number, slice: number, mask: Uint8Array, status: Status}} NewSlice
 * @typedef {"brush" | "eraser" | "polygon" | "pan" | "window"} Tool
 */

const SHOWN = { edv_ul: "EDV µL", esv_ul: "ESV µL", sv_ul: "SV µL", ef_percent: "EF %", mass_ed_mg: "mass ED mg",
  mass_es_mg: "mass ES mg" }; // prettier-ignore
const STATUS_TEXTS = { auto: "", edited: "edited", excluded: "excluded", confirmed: "confirmed" };
const THUMB_PIXELS = 188;
const CLOSE_PIXELS = 10; // distance at which a click closes a polygon
const LASSO_PIXELS = 40; // length of a drag that is a whole outline
const IDLE_MS = 60_000; // a longer pause is not time spent

/** @type {<T extends Element = HTMLElement>(selector: string, parent?: ParentNode) => T} */
const find = (selector, parent = document) => /** @type {any} */ (parent.querySelector(selector));
/** @param {number} value @param {number} low @param {number} high */
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const server = new Server(new URL("./", document.baseURI).href);
const canvas = find("#view");
const view = /** @type {HTMLCanvasElement} */ (/** @type {unknown} */ (canvas));
const context = /** @type {CanvasRenderingContext2D} */ (view.getContext("2d", { alpha: false }));
const inputs = Object.fromEntries(
  ["reader", "radius", "slice", "frame", "level", "window", "masks"].map((id) => [id, find(`#${id}`)]),
);
const input = /** @type {Record<string, HTMLInputElement>} */ (inputs);
const mouseSelect = /** @type {HTMLSelectElement} */ (find("#mouse"));

/** What is shown and how; the data of the mouse is in `data`. */
const state = {
  frame: 0,
  slice: 0,
  ed: 0,
  es: 0,
  isBaseFirst: true,
  tool: /** @type {Tool} */ ("brush"),
  label: BLOOD_POOL,
  scale: 1, // CSS pixels per pixel of the image
  x: 0, // the image's point in the middle of the view
  y: 0,
  polygon: /** @type {Point[]} */ ([]),
  cross: /** @type {Point | null} */ (null), // place of the brush, moved by keys
  pointer: /** @type {Point | null} */ (null),
};
/** @type {Data} */
let data;
/** @type {Step[]} */
let undone = [];
/** @type {Step[]} */
let done = [];

// ---- saving

const queue = new SaveQueue({ showState: showSaved, showError, check: checkNumbers });
/** @type {Set<number>} slices whose mask the server does not have yet */
const unsentMasks = new Set();
let activeSince = performance.now();
let spentMs = 0;

function noteActivity() {
  const now = performance.now();
  spentMs += Math.min(now - activeSince, IDLE_MS);
  activeSince = now;
}

/** @returns {[string, number]} the reader's name, and the minutes since the last change */
function takeReader() {
  const minutes = spentMs / 60_000;
  spentMs = 0;
  return [input.reader.value.trim(), minutes];
}

/** @param {number} frame @param {number} slice */
function saveSlice(frame, slice) {
  const shown = data;
  const { mouse } = mouseSelect.selectedOptions[0].dataset;
  const at = shown.at(frame, slice);
  const name = /** @type {string} */ (mouse);
  queue.add(`${mouse} ${frame} ${slice}`, async () => {
    const status = shown.status[at];
    const [reader, minutes] = takeReader();
    const mask = shown.getMask(frame, slice).slice();
    if (status === "confirmed" && unsentMasks.has(at)) {
      await server.putSlice(name, frame, slice, "edited", mask, reader, 0);
    }
    unsentMasks.delete(at);
    return server.putSlice(name, frame, slice, status, status === "edited" ? mask : null, reader, minutes);
  });
  const now = new Date().toISOString().slice(0, 16).replace("T", " ");
  shown.history[at] =
    shown.status[at] === "auto" ? "" : `${shown.status[at]} by ${input.reader.value.trim() || "you"}, ${now} UTC`;
}

function savePhases() {
  const name = /** @type {string} */ (mouseSelect.selectedOptions[0].dataset.mouse);
  queue.add(`${name} phases`, () => server.putPhases(name, state.ed, state.es, ...takeReader()));
}

/** Compare the numbers of this page with those of the server. @param {Numbers} theirs */
function checkNumbers(theirs) {
  const own = data.computeNumbers(state.ed, state.es);
  for (const name of /** @type {(keyof Numbers)[]} */ (Object.keys(own))) {
    const [a, b] = [own[name], theirs[name]];
    if (a === b || (a !== null && b !== null && Math.abs(a - b) <= 1e-6 * Math.max(1, Math.abs(a)))) continue;
    throw new Error(`This page counts ${name} = ${a}, the program ${b}.`);
  }
}

/** @param {string} saved @param {string} text */
function showSaved(saved, text) {
  find("#saved").dataset.state = saved;
  find("#saved").textContent = text;
}

/** @param {string} text */
function showError(text) {
  find("#error").textContent = text;
  find("#error").hidden = !text;
}

// ---- changing

/** Change slices, as one step that can be undone. @param {NewSlice[]} slices */
function changeSlices(slices) {
  /** @type {SliceStep[]} */
  const steps = [];
  for (const { frame, slice, mask, status } of slices) {
    const own = data.getMask(frame, slice);
    const change = compare(own, mask);
    const before = data.status[data.at(frame, slice)];
    if (change.index.length || before !== status) steps.push({ frame, slice, change, before, after: status });
  }
  if (steps.length) take({ slices: steps, phases: null });
}

/** @param {Step} step a new one */
function take(step) {
  done.push(step);
  undone = [];
  apply(step, false);
}

/** @param {Step} step @param {boolean} isUndo */
function apply(step, isUndo) {
  for (const { frame, slice, change, before, after } of step.slices) {
    const mask = data.getMask(frame, slice);
    const values = isUndo ? change.before : change.after;
    change.index.forEach((k, n) => (mask[k] = values[n]));
    if (change.index.length) unsentMasks.add(data.at(frame, slice));
    data.status[data.at(frame, slice)] = isUndo ? before : after;
    data.count(frame, slice);
    saveSlice(frame, slice);
    if (frame === state.ed) drawThumb("ed", slice);
    if (frame === state.es) drawThumb("es", slice);
  }
  if (step.phases) {
    [state.ed, state.es] = isUndo ? step.phases.before : step.phases.after;
    savePhases();
    refresh("thumbs");
  }
  refresh("mask", "view", "numbers", "texts");
}

/**
 * Take the last step from one list, apply it backwards or forwards, and put it on the other.
 * @param {Step[]} from
 * @param {Step[]} to
 */
function moveStep(from, to) {
  const step = from.pop();
  if (!step) return;
  to.push(step);
  apply(step, from === done);
  showStep(step);
}

const undo = () => moveStep(done, undone);
const redo = () => moveStep(undone, done);

/** @param {Step} step */
function showStep(step) {
  const isShown = step.slices.some((s) => s.frame === state.frame && s.slice === state.slice);
  if (step.slices.length && !isShown) goTo(step.slices[0].frame, step.slices[0].slice);
}

/** @param {number} ed @param {number} es */
function setPhases(ed, es) {
  if (ed === es || data.frames < 2 || (ed === state.ed && es === state.es)) return;
  take({ slices: [], phases: { before: [state.ed, state.es], after: [ed, es] } });
}

const getCurrent = () => data.getMask(state.frame, state.slice);

/** @param {Uint8Array} mask */
function editCurrent(mask) {
  changeSlices([{ frame: state.frame, slice: state.slice, mask, status: "edited" }]);
}

/** @param {number} frame @param {number} slice @returns {NewSlice} */
function makeExcluded(frame, slice) {
  const at = data.at(frame, slice);
  if (data.status[at] !== "excluded") {
    data.beforeExclusion.set(at, { mask: data.getMask(frame, slice).slice(), status: data.status[at] });
  }
  return { frame, slice, mask: new Uint8Array(data.pixels), status: "excluded" };
}

/** A tick of a thumbnail was changed. @param {number} frame @param {number} slice @param {boolean} hasVentricle */
async function setVentricle(frame, slice, hasVentricle) {
  const at = data.at(frame, slice);
  if (!hasVentricle) {
    changeSlices([makeExcluded(frame, slice)]);
    goTo(frame, slice);
    say("No ventricle in this slice of this frame. T carries the exclusions at ED and ES to the other frames.");
  } else if (data.status[at] === "excluded") {
    const earlier = data.beforeExclusion.get(at);
    if (earlier) changeSlices([{ frame, slice, ...earlier }]);
    else await takeAutomatic(frame, slice);
  }
  if (hasVentricle && data.isEmpty(frame, slice)) await proposeSlice(frame, slice);
  refresh("thumbs");
}

/** Take a mask from the frames or slices beside one that has none. @param {number} frame @param {number} slice */
async function proposeSlice(frame, slice) {
  const name = /** @type {string} */ (mouseSelect.selectedOptions[0].dataset.mouse);
  try {
    await queue.wait();
    const mask = await server.proposeSlice(name, frame, slice);
    goTo(frame, slice);
    if (mask.some((label) => label !== BACKGROUND)) {
      changeSlices([{ frame, slice, mask, status: "edited" }]);
      say("There was no mask here: this one comes from the frames or slices beside it. Correct it.");
    } else {
      say("There is no mask here, nor beside it: draw it.");
    }
  } catch (e) {
    showError(`${e instanceof Error ? e.message : e}`);
  }
}

/** @param {number} frame @param {number} slice */
async function takeAutomatic(frame, slice) {
  const name = /** @type {string} */ (mouseSelect.selectedOptions[0].dataset.mouse);
  try {
    const mask = await server.getAutomaticSlice(name, frame, slice);
    changeSlices([{ frame, slice, mask, status: "auto" }]);
  } catch (e) {
    showError(`${e instanceof Error ? e.message : e}`);
  }
}

/** Exclude the slices of other frames that go with those excluded at ED and ES. */
async function carryExclusions() {
  const name = /** @type {string} */ (mouseSelect.selectedOptions[0].dataset.mouse);
  try {
    await queue.wait();
    const places = await server.proposeExclusions(name);
    changeSlices(places.map(([frame, slice]) => makeExcluded(frame, slice)));
    say(`${places.length} slices of other frames were excluded.`);
  } catch (e) {
    showError(`${e instanceof Error ? e.message : e}`);
  }
}

/** @param {number} frame @param {number} slice where to copy from */
function copyFrom(frame, slice) {
  if (frame < 0 || frame >= data.frames || slice < 0 || slice >= data.slices) return say("There is no such neighbour.");
  editCurrent(data.getMask(frame, slice).slice());
}

async function propagate() {
  const { slice } = state;
  const name = /** @type {string} */ (mouseSelect.selectedOptions[0].dataset.mouse);
  const isOpen = (/** @type {number} */ frame) => data.status[data.at(frame, slice)] === "auto";
  if (isOpen(state.frame)) return say("Correct this slice first, or confirm it; then it is carried to other frames.");
  await queue.wait();
  try {
    const proposed = await server.propagate(name, slice);
    /** @type {NewSlice[]} */
    const slices = [];
    for (let frame = 0; frame < data.frames; frame++) {
      const mask = proposed.slice(frame * data.pixels, (frame + 1) * data.pixels);
      const isNew = isOpen(frame) && compare(data.getMask(frame, slice), mask).index.length > 0;
      if (isNew) slices.push({ frame, slice, mask, status: "edited" });
    }
    changeSlices(slices);
    say(`Slice ${slice} was changed in ${slices.length} other frames.`);
  } catch (e) {
    showError(`${e instanceof Error ? e.message : e}`);
  }
}

// ---- drawing

const imageLayer = document.createElement("canvas");
const maskLayer = document.createElement("canvas");
const thumbLayer = document.createElement("canvas");
/** @type {Record<string, {context: CanvasRenderingContext2D, image: ImageData, pixels: Uint32Array}>} */
const layers = {};
/** @type {Set<string>} */
const stale = new Set();
/** @type {Box} */
let heart = { x0: 0, y0: 0, x1: 1, y1: 1 };

/** Draw parts of the page in the next frame. @param {...("image" | "mask" | "view" | "thumbs" | "numbers" | "texts")} parts */
function refresh(...parts) {
  if (!stale.size) requestAnimationFrame(draw);
  for (const part of parts) stale.add(part);
}

function draw() {
  const parts = new Set(stale);
  stale.clear();
  if (!data) return;
  if (parts.has("image")) drawImage();
  if (parts.has("mask")) drawMaskLayer({ x0: 0, y0: 0, x1: data.width, y1: data.height });
  if (parts.has("image") || parts.has("mask") || parts.has("view")) drawView();
  if (parts.has("numbers")) {
    showNumbers();
    curve.draw();
  }
  if (parts.has("thumbs")) drawThumbs();
  if (parts.has("texts")) showTexts();
  view.dataset.place = `${state.x} ${state.y} ${state.scale}`;
  document.body.dataset.shown = `${state.frame}/${state.slice}/${data.images[state.frame] ? "image" : ""}`;
}

function makeLayers() {
  for (const [name, layer] of Object.entries({ image: imageLayer, mask: maskLayer, thumb: thumbLayer })) {
    layer.width = data.width;
    layer.height = data.height;
    const own = /** @type {CanvasRenderingContext2D} */ (layer.getContext("2d"));
    const image = own.createImageData(data.width, data.height);
    layers[name] = { context: own, image, pixels: new Uint32Array(image.data.buffer) };
  }
}

/** RGBA of each grey value for the chosen level and window. */
function makeGreys() {
  const [level, width] = [Number(input.level.value), Number(input.window.value)];
  return Uint32Array.from({ length: 256 }, (_, v) => {
    const g = Math.round(clamp((v - level + width / 2) / width, 0, 1) * 255);
    return (0xff000000 | (g << 16) | (g << 8) | g) >>> 0;
  });
}

/** @param {Uint32Array} pixels @param {number} frame @param {number} slice @param {Uint32Array} greys */
function fillGrey(pixels, frame, slice, greys) {
  const image = data.images[frame];
  if (!image) return pixels.fill(0xff000000);
  const start = slice * data.pixels;
  for (let k = 0; k < data.pixels; k++) pixels[k] = greys[image[start + k]];
  return pixels;
}

function drawImage() {
  const { context: own, image, pixels } = layers.image;
  fillGrey(pixels, state.frame, state.slice, makeGreys());
  own.putImageData(image, 0, 0);
}

/** @param {Box} box */
function drawMaskLayer(box) {
  const { context: own, image, pixels } = layers.mask;
  drawMask(getCurrent(), data, pixels, box, data.colours);
  own.putImageData(image, 0, 0, box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0);
}

function drawView() {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [view.width, view.height];
  const sx = state.scale * ratio;
  const sy = sx * data.aspect;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#000";
  context.fillRect(0, 0, w, h);
  context.setTransform(sx, 0, 0, sy, w / 2 - state.x * sx, h / 2 - state.y * sy);
  // only the visible part: scaling the rest takes most of the time
  const box = clipBox(
    { x0: state.x - w / sx / 2 - 1, y0: state.y - h / sy / 2 - 1, x1: state.x + w / sx / 2, y1: state.y + h / sy / 2 },
    data,
  );
  const [bw, bh] = [box.x1 - box.x0, box.y1 - box.y0];
  if (bw > 0 && bh > 0) {
    context.imageSmoothingEnabled = true;
    context.drawImage(imageLayer, box.x0, box.y0, bw, bh, box.x0, box.y0, bw, bh);
    if (input.masks.checked) {
      context.imageSmoothingEnabled = false;
      context.drawImage(maskLayer, box.x0, box.y0, bw, bh, box.x0, box.y0, bw, bh);
    }
  }
  drawMarks(ratio);
}

/** The brush, an open polygon, a scale bar. @param {number} ratio */
function drawMarks(ratio) {
  const colour = data.meta.labels.find((l) => l.label === state.label)?.colour ?? "#fff";
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.lineWidth = 1.5;
  const at = state.cross ?? state.pointer;
  if (at && (state.tool === "brush" || state.tool === "eraser")) {
    const p = toView(at);
    context.strokeStyle = state.tool === "eraser" ? "#fff" : colour;
    context.beginPath();
    context.arc(p.x, p.y, Math.max(2, getRadius() * state.scale), 0, 2 * Math.PI);
    context.stroke();
  }
  if (state.cross) {
    const p = toView(state.cross);
    context.strokeStyle = "#fff";
    context.beginPath();
    for (const [dx, dy] of [[9, 0], [0, 9]]) { // prettier-ignore
      context.moveTo(p.x - dx, p.y - dy);
      context.lineTo(p.x + dx, p.y + dy);
    }
    context.stroke();
  }
  if (state.polygon.length) {
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.beginPath();
    state.polygon.map(toView).forEach((p, k) => (k ? context.lineTo(p.x, p.y) : context.moveTo(p.x, p.y)));
    context.stroke();
    const first = toView(state.polygon[0]);
    context.fillRect(first.x - 4, first.y - 4, 8, 8);
  }
  const bar = state.scale / data.meta.voxel_mm[2];
  const bottom = view.height / ratio;
  context.fillStyle = "#fff";
  context.fillRect(14, bottom - 16, bar, 3);
  context.font = "13px system-ui, sans-serif";
  context.fillText("1 mm", 14, bottom - 22);
  const notes = data.meta.marks.filter((m) => m.startsWith("SYNTHETIC")).length ? "SYNTHETIC images" : "";
  context.fillText(notes, 14, 20);
}

/** @param {Point} p in the image @returns {Point} in the view, in CSS pixels */
function toView(p) {
  const x = view.clientWidth / 2 + (p.x - state.x) * state.scale;
  return { x, y: view.clientHeight / 2 + (p.y - state.y) * state.scale * data.aspect };
}

/** @param {{clientX: number, clientY: number}} event @returns {Point} in the image */
function toImage(event) {
  const box = view.getBoundingClientRect();
  return {
    x: state.x + (event.clientX - box.left - view.clientWidth / 2) / state.scale,
    y: state.y + (event.clientY - box.top - view.clientHeight / 2) / (state.scale * data.aspect),
  };
}

/** @param {Box} box */
function fit(box) {
  const scale = Math.min(view.clientWidth / (box.x1 - box.x0), view.clientHeight / ((box.y1 - box.y0) * data.aspect));
  Object.assign(state, { scale, x: (box.x0 + box.x1) / 2, y: (box.y0 + box.y1) / 2 });
  refresh("view", "texts");
}

/** @param {number} factor @param {Point} at stays in its place */
function zoom(factor, at) {
  const scale = clamp(state.scale * factor, 0.5, 80);
  const share = 1 - state.scale / scale;
  state.x += (at.x - state.x) * share;
  state.y += (at.y - state.y) * share;
  state.scale = scale;
  refresh("view");
}

// ---- thumbnails, numbers, flags

const curve = new Curve(/** @type {SVGSVGElement} */ (find("#curve")), {
  getData: () => data,
  state,
  goTo,
  setPhases,
  showPhases: () => {
    for (const frame of [state.ed, state.es]) loadImage(data, frame);
    refresh("numbers", "texts", "thumbs");
  },
});

/** Slices from base to apex. */
const getOrder = () => {
  const order = Array.from({ length: data.slices }, (_, k) => k);
  return state.isBaseFirst ? order : order.reverse();
};
/** @param {"ed" | "es"} phase */
const getPhaseFrame = (phase) => (phase === "ed" ? state.ed : state.es);

function buildThumbs() {
  const template = document.createElement("li");
  template.innerHTML =
    `<button type="button"><canvas width="${THUMB_PIXELS}" height="${THUMB_PIXELS}"></canvas></button>` +
    `<label><input type="checkbox"><span></span></label><span class="about"></span>`;
  for (const phase of /** @type {("ed" | "es")[]} */ (["ed", "es"])) {
    const items = getOrder().map((slice) => {
      const item = /** @type {HTMLElement} */ (template.cloneNode(true));
      item.dataset.slice = `${slice}`;
      find("button", item).addEventListener("click", () => goTo(getPhaseFrame(phase), slice));
      const tick = /** @type {HTMLInputElement} */ (find("input", item));
      tick.addEventListener("change", () => setVentricle(getPhaseFrame(phase), slice, tick.checked));
      return item;
    });
    find(`#stack-${phase}`).replaceChildren(...items);
  }
}

function drawThumbs() {
  for (const phase of /** @type {("ed" | "es")[]} */ (["ed", "es"])) {
    for (let s = 0; s < data.slices; s++) drawThumb(phase, s);
  }
}

/** @param {"ed" | "es"} phase @param {number} slice */
function drawThumb(phase, slice) {
  const frame = getPhaseFrame(phase);
  const item = find(`#stack-${phase} [data-slice="${slice}"]`);
  const { context: own, image, pixels } = layers.thumb;
  const whole = { x0: 0, y0: 0, x1: data.width, y1: data.height };
  const target = /** @type {HTMLCanvasElement} */ (/** @type {unknown} */ (find("canvas", item)));
  const out = /** @type {CanvasRenderingContext2D} */ (target.getContext("2d"));
  out.fillStyle = "#000";
  out.fillRect(0, 0, THUMB_PIXELS, THUMB_PIXELS);
  const size = Math.max(heart.x1 - heart.x0, (heart.y1 - heart.y0) * data.aspect);
  const [w, h] = [heart.x1 - heart.x0, heart.y1 - heart.y0];
  const k = THUMB_PIXELS / size;
  const place = [(THUMB_PIXELS - w * k) / 2, (THUMB_PIXELS - h * data.aspect * k) / 2, w * k, h * data.aspect * k];
  const from = /** @type {const} */ ([heart.x0, heart.y0, w, h]);
  fillGrey(pixels, frame, slice, makeGreys());
  own.putImageData(image, 0, 0);
  out.drawImage(thumbLayer, ...from, place[0], place[1], place[2], place[3]);
  drawMask(data.getMask(frame, slice), data, pixels, whole, data.colours);
  own.putImageData(image, 0, 0);
  out.drawImage(thumbLayer, ...from, place[0], place[1], place[2], place[3]);
  describeThumb(item, phase, slice);
}

/** @param {HTMLElement} item @param {"ed" | "es"} phase @param {number} slice */
function describeThumb(item, phase, slice) {
  const frame = getPhaseFrame(phase);
  const status = data.status[data.at(frame, slice)];
  const order = getOrder();
  const filled = order.filter((s) => !data.isEmpty(frame, s));
  const ends = { [filled[0]]: "base end", [filled[filled.length - 1]]: "apex end" };
  const place = slice === order[0] ? "base" : slice === order[order.length - 1] ? "apex" : "";
  const flags = getFlagsAt(frame, slice);
  const words = [ends[slice] ?? place, STATUS_TEXTS[status]].filter(Boolean);
  const named = [...new Set(flags.map((f) => f.flag.replaceAll("_", " ")))];
  const about = [...words, ...named].join(", ");
  item.dataset.status = status;
  item.toggleAttribute("data-end", slice in ends);
  item.toggleAttribute("data-flagged", flags.length > 0);
  item.toggleAttribute("data-current", frame === state.frame && slice === state.slice);
  const tick = /** @type {HTMLInputElement} */ (find("input", item));
  tick.checked = status !== "excluded" && !data.isEmpty(frame, slice);
  tick.setAttribute("aria-label", `slice ${slice} has ventricle at ${phase.toUpperCase()}`);
  find("label span", item).textContent = `slice ${slice}`;
  find(".about", item).textContent = `${flags.length ? "⚑ " : ""}${words.join(", ")}`;
  find(".about", item).title = [about, data.history[data.at(frame, slice)]].filter(Boolean).join("; ");
  find("button", item).setAttribute("aria-label", `Show slice ${slice} at ${phase.toUpperCase()}${about ? `: ${about}` : ""}`);
}

/** Flags of a slice of a frame that name a slice. @param {number} frame @param {number} slice */
function getFlagsAt(frame, slice) {
  return data.meta.flags.filter((f) => f.slice === slice && (f.frame === null || f.frame === frame));
}

function guessBase() {
  const areas = Array.from({ length: data.slices }, (_, s) => data.getCount(state.ed, s, MYOCARDIUM) + data.getCount(state.ed, s, BLOOD_POOL));
  const filled = areas.filter((a) => a > 0);
  const half = Math.floor(filled.length / 2);
  const sum = (/** @type {number[]} */ part) => part.reduce((a, b) => a + b, 0);
  return sum(filled.slice(0, half)) >= sum(filled.slice(filled.length - half));
}

const getEndsKey = () => `mousecmr-base ${data.meta.mouse} ${data.slices}`;

function showEnds() {
  const stored = localStorage.getItem(getEndsKey());
  state.isBaseFirst = stored ? stored === "first" : guessBase();
  const base = state.isBaseFirst ? 0 : data.slices - 1;
  const why = stored ? "as you said" : "a guess: the ventricle is larger on that side";
  find("#ends").textContent = `Slice ${base} is at the base (${why}).`;
}

/** @param {number | null} value */
const format = (value) => (value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(1));

function showNumbers() {
  const now = data.computeNumbers(state.ed, state.es);
  for (const [id, numbers] of Object.entries({ final: now, automatic: data.meta.automatic })) {
    const row = find(`#${id}`);
    for (const name of /** @type {(keyof typeof SHOWN)[]} */ (Object.keys(SHOWN))) {
      const cell = find(`[data-number=${name}]`, row);
      const text = format(numbers[name]);
      if (cell.textContent !== text) cell.textContent = text;
      cell.dataset.value = `${numbers[name]}`;
    }
  }
}

/** Flags with a place, one entry for each kind and slice. */
function groupFlags() {
  /** @type {Map<string, {flag: import("./review_server.js").Flag, frames: number[]}>} */
  const groups = new Map();
  for (const flag of data.meta.flags) {
    const key = `${flag.flag} ${flag.slice}`;
    const group = groups.get(key) ?? { flag, frames: [] };
    if (flag.frame !== null) group.frames.push(flag.frame);
    groups.set(key, group);
  }
  const list = [...groups.values()];
  const isFirst = (/** @type {{flag: {flag: string}}} */ g) => (g.flag.flag === "check_slice" ? 0 : 1);
  return list.sort((a, b) => isFirst(a) - isFirst(b));
}

function buildFlags() {
  const items = groupFlags().map(({ flag, frames }) => {
    const item = document.createElement("li");
    const isPlace = flag.frame !== null || flag.slice !== null;
    const box = document.createElement(isPlace ? "button" : "div");
    const place = [flag.slice === null ? "" : `slice ${flag.slice}`, frames.length ? `frame ${frames.slice(0, 8).join(", ")}${frames.length > 8 ? " …" : ""}` : ""];
    const where = place.filter(Boolean).join(", ");
    box.textContent = `${where ? `${where[0].toUpperCase()}${where.slice(1)}: ` : ""}${flag.message}`;
    const why = document.createElement("span");
    why.textContent = `${flag.flag}: ${data.meta.flag_texts[flag.flag] ?? ""}`;
    box.append(why);
    if (isPlace) {
      /** @type {HTMLButtonElement} */ (box).type = "button";
      const best = frames.includes(state.ed) ? state.ed : frames.includes(state.es) ? state.es : frames[0];
      box.addEventListener("click", () => goTo(best ?? state.frame, flag.slice ?? state.slice));
    }
    item.append(box);
    return item;
  });
  const none = document.createElement("li");
  none.textContent = "None. That does not mean that everything is right.";
  find("#flags").replaceChildren(...(items.length ? items : [none]));
}

let flagShown = -1;
function showNextFlag() {
  const buttons = document.querySelectorAll("#flags button");
  if (!buttons.length) return say("There is no flag with a place.");
  flagShown = (flagShown + 1) % buttons.length;
  /** @type {HTMLElement} */ (buttons[flagShown]).click();
}

/** @param {string} text */
function say(text) {
  find("#said").textContent = text;
}

function showTexts() {
  const { frame, slice } = state;
  const phase = frame === state.ed ? " (ED)" : frame === state.es ? " (ES)" : "";
  const time = data.meta.time_ms ? `, ${data.meta.time_ms[frame].toFixed(0)} ms` : "";
  const status = data.status[data.at(frame, slice)];
  const text = `Slice ${slice}, frame ${frame}${phase}${time}: ${status === "auto" ? "by the network" : status}.`;
  const flags = getFlagsAt(frame, slice).map((f) => f.message);
  find("#now").textContent = [text, ...flags].join(" ");
  find("#history").textContent = data.history[data.at(frame, slice)] || "By the network, not reviewed.";
  for (const [name, value] of Object.entries({ slice, frame })) {
    input[name].value = `${value}`;
    /** @type {HTMLElement} */ (input[name].nextElementSibling).textContent = `${value} of ${data[name === "slice" ? "slices" : "frames"] - 1}`;
  }
  for (const name of ["level", "window"]) {
    /** @type {HTMLElement} */ (input[name].nextElementSibling).textContent = input[name].value;
  }
  find("#radius-text").textContent = `${Number(input.radius.value) * 2} pixels`;
  find("#head-ed").textContent = `ED frame ${state.ed}`;
  find("#head-es").textContent = `ES frame ${state.es}`;
  for (const item of document.querySelectorAll(".stack li")) {
    const own = /** @type {HTMLElement} */ (item);
    const at = item.parentElement?.id === "stack-ed" ? state.ed : state.es;
    item.toggleAttribute("data-current", at === frame && Number(own.dataset.slice) === slice);
  }
  for (const [name, steps] of Object.entries({ undo: done, redo: undone })) {
    /** @type {HTMLButtonElement} */ (find(`[data-do=${name}]`)).disabled = !steps.length;
  }
}

// ---- places and tools

/** @param {number} frame @param {number} slice */
function goTo(frame, slice) {
  if (!data) return;
  state.frame = clamp(frame, 0, data.frames - 1);
  state.slice = clamp(slice, 0, data.slices - 1);
  state.polygon = [];
  say("");
  if (!data.images[state.frame]) loadImage(data, state.frame);
  refresh("image", "mask", "view", "numbers", "texts");
}

/** The slice beside this one. @param {number} step 1: towards the apex */
const getBeside = (step) => state.slice + (state.isBaseFirst ? step : -step);
const getRadius = () => Number(input.radius.value);

/** @param {Tool} tool */
function chooseTool(tool) {
  state.tool = tool;
  state.polygon = [];
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", `${/** @type {HTMLElement} */ (button).dataset.tool === tool}`);
  }
  view.style.cursor = tool === "pan" ? "grab" : tool === "window" ? "ns-resize" : "crosshair";
  refresh("view");
}

/** @param {number} label */
function chooseLabel(label) {
  state.label = label;
  for (const button of document.querySelectorAll("[data-label]")) {
    button.setAttribute("aria-pressed", `${Number(/** @type {HTMLElement} */ (button).dataset.label) === label}`);
  }
  if (state.tool === "eraser") chooseTool("brush");
  refresh("view");
}

function closePolygon() {
  if (state.polygon.length > 2) {
    const mask = getCurrent().slice();
    fillPolygon(mask, data, state.polygon, state.label);
    state.polygon = [];
    editCurrent(mask);
  }
  state.polygon = [];
  refresh("view");
}

/** @type {Record<string, () => unknown>} */
const actions = {
  undo,
  redo,
  grow: () => editCurrent(grow(getCurrent(), data, state.label)),
  shrink: () => editCurrent(shrink(getCurrent(), data, state.label)),
  "copy-base": () => copyFrom(state.frame, getBeside(-1)),
  "copy-apex": () => copyFrom(state.frame, getBeside(1)),
  "copy-before": () => copyFrom(state.frame - 1, state.slice),
  "copy-after": () => copyFrom(state.frame + 1, state.slice),
  propagate,
  exclude: () => changeSlices([makeExcluded(state.frame, state.slice)]),
  "carry-exclusions": carryExclusions,
  "exclude-all": () => changeSlices(Array.from({ length: data.frames }, (_, f) => makeExcluded(f, state.slice))),
  confirm: () => changeSlices([{ frame: state.frame, slice: state.slice, mask: getCurrent(), status: "confirmed" }]),
  "confirm-frame": () => {
    const open = getOrder().filter((s) => data.status[data.at(state.frame, s)] === "auto");
    changeSlices(open.map((slice) => ({ frame: state.frame, slice, mask: data.getMask(state.frame, slice), status: "confirmed" })));
  },
  automatic: () => takeAutomatic(state.frame, state.slice),
  propose: () => {
    if (data.isEmpty(state.frame, state.slice)) return proposeSlice(state.frame, state.slice);
    return say("This slice has a mask; only one without can be proposed.");
  },
  "zoom-in": () => zoom(1.25, { x: state.x, y: state.y }),
  "zoom-out": () => zoom(0.8, { x: state.x, y: state.y }),
  "fit-heart": () => fit(heart),
  "fit-image": () => fit({ x0: 0, y0: 0, x1: data.width, y1: data.height }),
  "set-ed": () => setPhases(state.frame, state.es),
  "set-es": () => setPhases(state.ed, state.frame),
  "slice-up": () => goTo(state.frame, getBeside(-1)),
  "slice-down": () => goTo(state.frame, getBeside(1)),
  "frame-back": () => goTo((state.frame + data.frames - 1) % data.frames, state.slice),
  "frame-on": () => goTo((state.frame + 1) % data.frames, state.slice),
  "go-ed": () => goTo(state.ed, state.slice),
  "go-es": () => goTo(state.es, state.slice),
  "next-flag": showNextFlag,
  smaller: () => setInput("radius", Number(input.radius.value) - 0.5),
  larger: () => setInput("radius", Number(input.radius.value) + 0.5),
  darker: () => setInput("level", Number(input.level.value) + 8),
  brighter: () => setInput("level", Number(input.level.value) - 8),
  harder: () => setInput("window", Number(input.window.value) - 16),
  softer: () => setInput("window", Number(input.window.value) + 16),
  masks: () => {
    input.masks.checked = !input.masks.checked;
    refresh("view");
  },
  brush: () => chooseTool("brush"),
  eraser: () => chooseTool("eraser"),
  polygon: () => chooseTool("polygon"),
  pan: () => chooseTool("pan"),
  window: () => chooseTool("window"),
  myocardium: () => chooseLabel(MYOCARDIUM),
  pool: () => chooseLabel(BLOOD_POOL),
  paint: paintAtCross,
  close: closePolygon,
  cancel: () => {
    state.polygon = [];
    state.cross = null;
    refresh("view");
  },
  help: () => /** @type {HTMLDialogElement} */ (find("#help")).showModal(),
};

/** Keys (with Ctrl+, Alt+, Shift+), action, and what it does. @type {[string[], string, string][]} */
const KEYS = [
  [["ArrowUp"], "slice-up", "slice towards the base"],
  [["ArrowDown"], "slice-down", "slice towards the apex"],
  [["ArrowLeft"], "frame-back", "frame before"],
  [["ArrowRight"], "frame-on", "frame after"],
  [["e"], "go-ed", "go to ED"],
  [["s"], "go-es", "go to ES"],
  [["Shift+E"], "set-ed", "ED is this frame"],
  [["Shift+S"], "set-es", "ES is this frame"],
  [["n"], "next-flag", "next flag"],
  [["b"], "brush", "brush"],
  [["x"], "eraser", "eraser"],
  [["p"], "polygon", "polygon: click corners, or drag an outline"],
  [["1"], "myocardium", "draw myocardium"],
  [["2"], "pool", "draw blood pool"],
  [["["], "smaller", "smaller brush"],
  [["]"], "larger", "larger brush"],
  [["Enter"], "paint", "paint at the cross, which Alt and arrows move; polygon: add a corner"],
  [["Shift+Enter"], "close", "close the polygon (or double click)"],
  [["Escape"], "cancel", "drop the polygon and the cross"],
  [["g"], "grow", "grow the structure by a pixel"],
  [["k"], "shrink", "shrink the structure by a pixel"],
  [["Shift+ArrowUp"], "copy-base", "copy from the slice on the base's side"],
  [["Shift+ArrowDown"], "copy-apex", "copy from the slice on the apex's side"],
  [["Shift+ArrowLeft"], "copy-before", "copy from the frame before"],
  [["Shift+ArrowRight"], "copy-after", "copy from the frame after"],
  [["r"], "propagate", "propagate corrections of this slice to other frames"],
  [["Delete", "Backspace"], "exclude", "no ventricle in this slice of this frame"],
  [["Shift+Delete", "Shift+Backspace"], "exclude-all", "no ventricle in this slice in all frames"],
  [["t"], "carry-exclusions", "exclude in the other frames what is excluded at ED and ES"],
  [["c"], "confirm", "this slice is right"],
  [["Shift+C"], "confirm-frame", "all slices of this frame are right"],
  [["a"], "automatic", "back to the network's mask"],
  [["v"], "propose", "a mask for a slice without one, from those beside it"],
  [["Ctrl+z", "Meta+z"], "undo", "undo"],
  [["Ctrl+y", "Ctrl+Shift+Z", "Meta+Shift+Z"], "redo", "redo"],
  [["h"], "pan", "move the image (or hold Space, or the middle button)"],
  [["+", "="], "zoom-in", "zoom in (or the wheel, or two fingers)"],
  [["-"], "zoom-out", "zoom out"],
  [["0"], "fit-heart", "show the heart"],
  [["9"], "fit-image", "show the whole image"],
  [["m"], "masks", "masks on and off"],
  [["w"], "window", "grey values: drag sideways for window, up and down for level"],
  [[","], "darker", "darker"],
  [["."], "brighter", "brighter"],
  [[";"], "harder", "more contrast"],
  [["'"], "softer", "less contrast"],
  [["?"], "help", "this list"],
];

/** @param {string} name @param {number} value */
function setInput(name, value) {
  input[name].value = `${value}`;
  input[name].dispatchEvent(new Event("input"));
}

function paintAtCross() {
  const at = state.cross ?? { x: state.x, y: state.y };
  state.cross = at;
  if (state.tool === "polygon") {
    state.polygon.push(at);
    return refresh("view");
  }
  const mask = getCurrent().slice();
  paintLine(mask, data, at, at, getRadius(), state.tool === "eraser" ? BACKGROUND : state.label, data.aspect);
  return editCurrent(mask);
}

/** @param {KeyboardEvent} event */
function moveCross(event) {
  const step = event.shiftKey ? 5 : 1;
  const at = state.cross ?? { x: Math.floor(state.x) + 0.5, y: Math.floor(state.y) + 0.5 };
  const dx = { ArrowLeft: -step, ArrowRight: step }[event.key] ?? 0;
  const dy = { ArrowUp: -step, ArrowDown: step }[event.key] ?? 0;
  state.cross = { x: clamp(at.x + dx, 0, data.width), y: clamp(at.y + dy, 0, data.height) };
  refresh("view");
}

let isSpaceHeld = false;

/** @param {KeyboardEvent} event */
function handleKey(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const kind = target instanceof HTMLInputElement ? target.type : target.tagName;
  noteActivity();
  if (!data || ["text", "SELECT"].includes(kind) || /** @type {HTMLDialogElement} */ (find("#help")).open) return;
  if (kind === "range" && !event.shiftKey && !event.altKey && /^(Arrow|Page|Home|End)/.test(event.key)) return;
  if (["BUTTON", "checkbox", "A"].includes(kind) && [" ", "Enter"].includes(event.key)) return;
  if (event.altKey && event.key.startsWith("Arrow")) {
    event.preventDefault();
    return moveCross(event);
  }
  if (event.key === " ") {
    isSpaceHeld = true;
    event.preventDefault();
    return;
  }
  const isLetter = /^[a-z]$/i.test(event.key);
  const shift = event.shiftKey && (isLetter || event.key.length > 1) ? "Shift+" : "";
  const name = `${event.ctrlKey ? "Ctrl+" : ""}${event.metaKey ? "Meta+" : ""}${shift}${isLetter && !shift ? event.key.toLowerCase() : event.key}`;
  const found = KEYS.find(([keys]) => keys.includes(name));
  if (!found) return;
  event.preventDefault();
  actions[found[1]]();
}

// ---- pointers

/** @type {Map<number, PointerEvent>} */
const pointers = new Map();
/** @type {{kind: "stroke" | "pan" | "pinch" | "window" | "lasso", last: Point, before: Uint8Array | null, label: number,
 *  frame: number, slice: number, length: number} | null} */
let gesture = null;

/** @param {PointerEvent} event */
function startGesture(event) {
  if (!data) return;
  view.focus({ preventScroll: true });
  view.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
  noteActivity();
  const at = toImage(event);
  const base = { last: at, before: null, label: 0, frame: state.frame, slice: state.slice, length: 0 };
  if (pointers.size === 2) {
    cancelStroke();
    gesture = { ...base, kind: "pinch" };
  } else if (pointers.size === 1) {
    state.cross = null;
    const isPenEraser = (event.buttons & 32) > 0;
    if (state.tool === "pan" || isSpaceHeld || event.button === 1 || event.button === 2) gesture = { ...base, kind: "pan" };
    else if (state.tool === "window") gesture = { ...base, kind: "window" };
    else if (state.tool === "polygon") addCorner(event, at, base);
    else {
      const label = state.tool === "eraser" || isPenEraser ? BACKGROUND : state.label;
      gesture = { ...base, kind: "stroke", before: getCurrent().slice(), label };
      paintTo(at);
    }
  }
}

/** @param {PointerEvent} event @param {Point} at @param {any} base */
function addCorner(event, at, base) {
  const first = state.polygon[0] && toView(state.polygon[0]);
  const own = toView(at);
  if (first && state.polygon.length > 2 && Math.hypot(first.x - own.x, first.y - own.y) < CLOSE_PIXELS) {
    closePolygon();
    return;
  }
  state.polygon.push(at);
  gesture = { ...base, kind: "lasso" };
  refresh("view");
  event.preventDefault();
}

/** @param {Point} at */
function paintTo(at) {
  if (!gesture) return;
  const mask = data.getMask(gesture.frame, gesture.slice);
  const box = paintLine(mask, data, gesture.last, at, getRadius(), gesture.label, data.aspect);
  gesture.last = at;
  data.count(gesture.frame, gesture.slice);
  drawMaskLayer(clipBox({ x0: box.x0 - 2, y0: box.y0 - 2, x1: box.x1 + 1, y1: box.y1 + 1 }, data));
  refresh("view", "numbers");
}

/** @param {PointerEvent} event */
function moveGesture(event) {
  if (!data) return;
  state.pointer = event.pointerType === "touch" ? null : toImage(event);
  const before = pointers.get(event.pointerId);
  if (!gesture || !before) return refresh("view");
  noteActivity();
  const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
  if (gesture.kind === "stroke") {
    const events = event.getCoalescedEvents?.() ?? [];
    for (const e of events.length ? events : [event]) paintTo(toImage(e));
  } else if (gesture.kind === "pan") {
    state.x -= dx / state.scale;
    state.y -= dy / (state.scale * data.aspect);
  } else if (gesture.kind === "window") {
    input.window.value = `${Number(input.window.value) + Math.round(dx)}`;
    input.level.value = `${Number(input.level.value) + Math.round(dy)}`;
    refresh("image", "texts");
  } else if (gesture.kind === "lasso") {
    gesture.length += Math.hypot(dx, dy);
    state.polygon.push(toImage(event));
  } else if (pointers.size === 2) {
    const other = /** @type {PointerEvent} */ ([...pointers.values()].find((p) => p.pointerId !== event.pointerId));
    const distance = (/** @type {PointerEvent} */ p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY);
    zoom(distance(event) / Math.max(1, distance(before)), toImage(other));
    state.x -= dx / 2 / state.scale;
    state.y -= dy / 2 / (state.scale * data.aspect);
  }
  pointers.set(event.pointerId, event);
  return refresh("view");
}

/** @param {PointerEvent} event */
function endGesture(event) {
  if (!pointers.delete(event.pointerId) || !gesture) return;
  if (gesture.kind === "stroke") finishStroke();
  else if (gesture.kind === "lasso" && gesture.length > LASSO_PIXELS) closePolygon();
  if (!pointers.size) gesture = null;
}

function finishStroke() {
  if (!gesture?.before) return;
  const { frame, slice, before } = gesture;
  const mask = data.getMask(frame, slice);
  const after = mask.slice();
  mask.set(before);
  gesture = null;
  changeSlices([{ frame, slice, mask: after, status: "edited" }]);
}

/** A second finger came: the first one was not a stroke. */
function cancelStroke() {
  if (gesture?.kind === "stroke" && gesture.before) {
    data.getMask(gesture.frame, gesture.slice).set(gesture.before);
    data.count(gesture.frame, gesture.slice);
    refresh("mask", "numbers");
  }
  if (gesture?.kind === "lasso") state.polygon.pop();
}

function listen() {
  view.addEventListener("pointerdown", startGesture);
  view.addEventListener("pointermove", moveGesture);
  view.addEventListener("pointerup", endGesture);
  view.addEventListener("pointercancel", endGesture);
  view.addEventListener("pointerleave", () => {
    state.pointer = null;
    refresh("view");
  });
  view.addEventListener("dblclick", closePolygon);
  view.addEventListener("contextmenu", (event) => event.preventDefault());
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), toImage(event));
  }, { passive: false }); // prettier-ignore
  document.addEventListener("keydown", handleKey);
  document.addEventListener("keyup", (event) => {
    if (event.key === " ") isSpaceHeld = false;
  });
  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => {
      noteActivity();
      if (data) actions[/** @type {string} */ (/** @type {HTMLElement} */ (button).dataset.do)]();
    });
  }
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => chooseTool(/** @type {Tool} */ (/** @type {HTMLElement} */ (button).dataset.tool)));
  }
  for (const name of ["slice", "frame"]) {
    input[name].addEventListener("input", () => goTo(Number(input.frame.value), Number(input.slice.value)));
  }
  for (const name of ["level", "window"]) input[name].addEventListener("input", () => refresh("image", "texts"));
  for (const name of ["level", "window"]) input[name].addEventListener("change", () => refresh("thumbs"));
  input.radius.addEventListener("input", () => refresh("view", "texts"));
  input.masks.addEventListener("change", () => refresh("view"));
  input.reader.value = localStorage.getItem("mousecmr-reader") ?? "";
  input.reader.addEventListener("change", () => localStorage.setItem("mousecmr-reader", input.reader.value.trim()));
  find("#help-button").addEventListener("click", () => actions.help());
  find("#tables").addEventListener("click", writeTables);
  find("#tune").addEventListener("click", tune);
  void followTuning();
  find("#download").addEventListener("click", async (event) => {
    if (queue.isEmpty) return;
    event.preventDefault();
    await queue.wait();
    find("#download").click();
  });
  find("#swap").addEventListener("click", () => {
    localStorage.setItem(getEndsKey(), state.isBaseFirst ? "last" : "first");
    showEnds();
    buildThumbs();
    refresh("thumbs", "texts");
  });
  mouseSelect.addEventListener("change", async () => {
    await queue.wait();
    await openMouse();
  });
  window.addEventListener("beforeunload", (event) => {
    if (!queue.isEmpty) event.preventDefault();
  });
  new ResizeObserver(() => {
    const ratio = window.devicePixelRatio || 1;
    view.width = Math.round(view.clientWidth * ratio);
    view.height = Math.round(view.clientHeight * ratio);
    refresh("view");
  }).observe(view);
  curve.listen();
}

async function writeTables() {
  await queue.wait();
  showSaved("saving", "Writing tables and pictures …");
  try {
    await server.updateTables();
    data.meta = await server.getMeta(/** @type {string} */ (mouseSelect.selectedOptions[0].dataset.mouse));
    buildFlags();
    showMarks();
    refresh("thumbs", "numbers", "texts");
    showSaved("saved", "Tables written");
  } catch (e) {
    showSaved("failed", "Tables NOT written");
    showError(`${e instanceof Error ? e.message : e}`);
  }
}

/** A name that the program was started with cannot be changed; what a blind review hides has no link. */
function showReader() {
  input.reader.value = data.meta.reader || input.reader.value;
  input.reader.readOnly = Boolean(data.meta.reader);
  find("#download").hidden = data.meta.blind;
}

async function tune() {
  const name = window.prompt("A name of your own for the new weights:", "my-mice")?.trim();
  if (!name) return;
  await queue.wait();
  try {
    await server.startTuning(name);
    await followTuning();
  } catch (e) {
    showError(`${e instanceof Error ? e.message : e}`);
  }
}

/** Show how far the tuning is until it ends; nothing where nobody may tune. */
async function followTuning() {
  const button = /** @type {HTMLButtonElement} */ (find("#tune"));
  for (;;) {
    const status = await server.getTuning().catch(() => null);
    find("#network").hidden = !status;
    button.disabled = status?.running ?? false;
    find("#tuning").textContent = status?.text ?? "";
    if (!status?.running) return;
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

function showMarks() {
  const blind = data.meta.blind ? ["Blind review: names and groups are hidden."] : [];
  const items = [...data.meta.marks, ...blind, `Masks: ${data.meta.weights}.`].map((mark) => {
    const item = document.createElement("li");
    item.textContent = mark;
    return item;
  });
  find("#marks").replaceChildren(...items);
}

// ---- start

/** @param {Data} owner @param {number} frame */
async function loadImage(owner, frame) {
  if (owner.images[frame]) return;
  const image = await server.getImage(owner.meta.mouse, frame);
  owner.images[frame] = image;
  if (owner !== data) return;
  if (frame === state.frame) refresh("image");
  if (frame === state.ed || frame === state.es) refresh("thumbs");
}

async function openMouse() {
  const name = /** @type {string} */ (mouseSelect.selectedOptions[0].dataset.mouse);
  showSaved("loading", "Loading …");
  try {
    const [meta, masks] = await Promise.all([server.getMeta(name), server.getMasks(name)]);
    meta.mouse = name;
    data = new Data(meta, masks);
    [done, undone] = [[], []];
    unsentMasks.clear();
    Object.assign(state, { ed: meta.numbers.ed_frame ?? 0, es: meta.numbers.es_frame ?? 0, polygon: [], cross: null });
    for (const [id, n] of Object.entries({ slice: data.slices, frame: data.frames })) input[id].max = `${n - 1}`;
    heart = data.findHeart();
    buildLabels();
    showReader();
    makeLayers();
    showEnds();
    buildThumbs();
    curve.build();
    buildFlags();
    showMarks();
    fit(heart);
    goTo(state.ed, getOrder().find((slice) => !data.isEmpty(state.ed, slice)) ?? 0);
    goToPlace();
    refresh("thumbs");
    const order = [...new Set([state.ed, state.es, ...Array.from({ length: data.frames }, (_, f) => f)])];
    const owner = data;
    for (const frame of order) {
      if (owner !== data) return;
      await loadImage(owner, frame);
      if (frame === state.es) showSaved("saved", "Nothing to save yet");
    }
  } catch (e) {
    showSaved("failed", "Not loaded");
    showError(`${e instanceof Error ? e.message : e}`);
  }
}

/** Go to the place that the address names, such as #mouse=M1&slice=7&frame=3: a link to a flag. */
async function goToPlace() {
  const place = new URLSearchParams(location.hash.slice(1));
  const name = place.get("mouse");
  const option = [...mouseSelect.options].find((o) => o.dataset.mouse === name);
  if (!option) return;
  if (!option.selected) {
    await queue.wait();
    option.selected = true;
    await openMouse();
  } else if (data) {
    // without it, so that the same link leads there again
    history.replaceState(null, "", location.pathname + location.search);
    const read = (/** @type {string} */ key, /** @type {number} */ other) => {
      const text = place.get(key) ?? "";
      return /^\d+$/.test(text) ? Number(text) : other;
    };
    goTo(read("frame", state.frame), read("slice", state.slice));
  }
}

function buildLabels() {
  const buttons = data.meta.labels.map(({ label, name, colour }) => {
    const button = document.createElement("button");
    const sample = document.createElement("i");
    sample.style.background = colour;
    const key = document.createElement("kbd");
    key.textContent = `${label}`;
    button.type = "button";
    button.dataset.label = `${label}`;
    button.append(sample, name, " ", key);
    button.addEventListener("click", () => chooseLabel(label));
    return button;
  });
  find("#labels").replaceChildren(...buttons);
  chooseLabel(state.label);
}

function buildTables() {
  for (const [name, text] of Object.entries(SHOWN)) {
    const head = document.createElement("th");
    head.scope = "col";
    head.textContent = text;
    find("#number-heads").append(head);
    for (const id of ["final", "automatic"]) {
      const cell = document.createElement("td");
      cell.dataset.number = name;
      find(`#${id}`).append(cell);
    }
  }
  const names = /** @type {Record<string, string>} */ ({ ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→" });
  for (const [keys, , text] of KEYS) {
    const row = /** @type {HTMLTableElement} */ (/** @type {unknown} */ (find("#keys"))).tBodies[0].insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    const shown = keys.filter((k) => !k.startsWith("Meta")).map((k) => k.split("+").map((part) => names[part] ?? part).join(" "));
    head.textContent = keys[0] === "+" ? "+" : shown.join(", ");
    row.append(head);
    row.insertCell().textContent = text;
  }
}

async function start() {
  buildTables();
  listen();
  try {
    const mice = await server.listMice();
    for (const { mouse, flags, readers } of mice) {
      const option = document.createElement("option");
      option.dataset.mouse = mouse;
      const about = [flags ? `${flags} flags` : "", readers ? `reviewed by ${readers}` : ""].filter(Boolean).join(", ");
      option.textContent = about ? `${mouse} (${about})` : mouse;
      mouseSelect.append(option);
    }
    const asked = new URLSearchParams(location.hash.slice(1)).get("mouse");
    for (const option of mouseSelect.options) option.selected = option.dataset.mouse === asked;
    if (mouseSelect.selectedIndex < 0) mouseSelect.selectedIndex = 0;
    window.addEventListener("hashchange", goToPlace);
    await openMouse();
  } catch (e) {
    showSaved("failed", "Not loaded");
    showError(`${e instanceof Error ? e.message : e}`);
  }
}

start();
