// @ts-check
// The masks, images and statuses of the mouse on the review screen, and the numbers counted from them.
import { BLOOD_POOL, MYOCARDIUM, countLabels } from "./review_drawing.js";

/**
 * @typedef {import("./review_drawing.js").Box} Box
 * @typedef {import("./review_server.js").Status} Status
 * @typedef {import("./review_server.js").Numbers} Numbers
 */

const MARGIN_MM = 2;
const INSIDE_ALPHA = 70;
const OUTLINE_ALPHA = 220;

/** @param {string} hex @param {number} alpha */
const toRgba = (hex, alpha) => {
  const [r, g, b] = [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
  return ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
};

/** The images and masks of the shown mouse, and what is known of each slice. */
export class Data {
  /** @param {import("./review_server.js").Meta} meta @param {Uint8Array} masks */
  constructor(meta, masks) {
    this.meta = meta;
    this.frames = meta.shape[0];
    this.slices = meta.shape[1];
    this.height = meta.shape[2];
    this.width = meta.shape[3];
    this.pixels = this.height * this.width;
    this.masks = masks;
    /** @type {(Uint8Array | undefined)[]} */
    this.images = new Array(this.frames);
    this.aspect = meta.voxel_mm[1] / meta.voxel_mm[2];
    this.counts = new Uint32Array(this.frames * this.slices * 2);
    /** @type {Status[]} */
    this.status = new Array(this.frames * this.slices).fill("auto");
    /** @type {string[]} */
    this.history = new Array(this.frames * this.slices).fill("");
    /** @type {Map<number, {mask: Uint8Array, status: Status}>} */
    this.beforeExclusion = new Map();
    for (const s of meta.slices) {
      this.status[this.at(s.frame, s.slice)] = s.status;
      this.history[this.at(s.frame, s.slice)] = `${s.status} by ${s.reader}, ${s.time.slice(0, 16).replace("T", " ")} UTC`;
    }
    for (let f = 0; f < this.frames; f++) for (let s = 0; s < this.slices; s++) this.count(f, s);
    this.automaticPool = this.computeCurve();
    this.colours = [0, 1, 2].map((label) => {
      const hex = meta.labels.find((l) => l.label === label)?.colour ?? "#000000";
      return { inside: toRgba(hex, INSIDE_ALPHA), outline: toRgba(hex, OUTLINE_ALPHA) };
    });
  }

  /** @param {number} frame @param {number} slice */
  at(frame, slice) {
    return frame * this.slices + slice;
  }

  /** @param {number} frame @param {number} slice */
  getMask(frame, slice) {
    const start = this.at(frame, slice) * this.pixels;
    return this.masks.subarray(start, start + this.pixels);
  }

  /** @param {number} frame @param {number} slice */
  count(frame, slice) {
    const [, myocardium, pool] = countLabels(this.getMask(frame, slice));
    this.counts.set([myocardium, pool], this.at(frame, slice) * 2);
  }

  /** Pixels of a label in a slice. @param {number} frame @param {number} slice @param {number} label */
  getCount(frame, slice, label) {
    return this.counts[this.at(frame, slice) * 2 + label - 1];
  }

  /** @param {number} frame @param {number} slice */
  isEmpty(frame, slice) {
    return !(this.getCount(frame, slice, MYOCARDIUM) + this.getCount(frame, slice, BLOOD_POOL));
  }

  /** Volume of a structure in a frame, in µL. @param {number} frame @param {number} label */
  computeVolume(frame, label) {
    let voxels = 0;
    for (let s = 0; s < this.slices; s++) voxels += this.getCount(frame, s, label);
    const [z, y, x] = this.meta.voxel_mm;
    return voxels * (z * y * x);
  }

  computeCurve() {
    return Array.from({ length: this.frames }, (_, f) => this.computeVolume(f, BLOOD_POOL));
  }

  /** The numbers, by the formulas of mousecmr_data.metrics.volumes. @param {number} ed @param {number} es @returns {Numbers} */
  computeNumbers(ed, es) {
    if (this.frames < 2) {
      return { ed_frame: null, es_frame: null, edv_ul: null, esv_ul: null, sv_ul: null, ef_percent: null,
        mass_ed_mg: null, mass_es_mg: null }; // prettier-ignore
    }
    const edv = this.computeVolume(ed, BLOOD_POOL);
    const esv = this.computeVolume(es, BLOOD_POOL);
    const isStack = this.slices > 1;
    return {
      ed_frame: ed,
      es_frame: es,
      edv_ul: edv,
      esv_ul: esv,
      sv_ul: isStack ? edv - esv : null,
      ef_percent: isStack && edv > 0 ? (100 * (edv - esv)) / edv : null,
      mass_ed_mg: this.computeVolume(ed, MYOCARDIUM) * this.meta.density,
      mass_es_mg: this.computeVolume(es, MYOCARDIUM) * this.meta.density,
    };
  }

  /** The part of the image with the heart in any frame, with a margin. @returns {Box} */
  findHeart() {
    const box = { x0: this.width, y0: this.height, x1: 0, y1: 0 };
    for (let k = 0; k < this.masks.length; k++) {
      if (!this.masks[k]) continue;
      const i = k % this.width;
      const j = Math.floor(k / this.width) % this.height;
      box.x0 = Math.min(box.x0, i);
      box.x1 = Math.max(box.x1, i + 1);
      box.y0 = Math.min(box.y0, j);
      box.y1 = Math.max(box.y1, j + 1);
    }
    if (box.x1 <= box.x0) return { x0: 0, y0: 0, x1: this.width, y1: this.height };
    const [, dy, dx] = this.meta.voxel_mm;
    const [my, mx] = [Math.ceil(MARGIN_MM / dy), Math.ceil(MARGIN_MM / dx)];
    return {
      x0: Math.max(0, box.x0 - mx),
      x1: Math.min(this.width, box.x1 + mx),
      y0: Math.max(0, box.y0 - my),
      y1: Math.min(this.height, box.y1 + my),
    };
  }
}
