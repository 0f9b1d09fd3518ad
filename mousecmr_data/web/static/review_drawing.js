// @ts-check
// Operations on the mask of one slice: a Uint8Array of height × width numbers, row by row. Nothing here knows the page.

export const BACKGROUND = 0;
export const MYOCARDIUM = 1;
export const BLOOD_POOL = 2;

/**
 * @typedef {{width: number, height: number}} Size in pixels
 * @typedef {{x: number, y: number}} Point in pixels; pixel (i, j) covers i to i + 1 and j to j + 1
 * @typedef {{x0: number, y0: number, x1: number, y1: number}} Box of pixels; x1 and y1 are outside
 * @typedef {{index: Uint32Array, before: Uint8Array, after: Uint8Array}} Change of a mask, pixel by pixel
 */

/**
 * Give `label` to all pixels whose centre is within `radius` of the line from `a` to `b`; return the touched box.
 * @param {Uint8Array} mask
 * @param {Size} size
 * @param {Point} a
 * @param {Point} b
 * @param {number} radius in pixels along x
 * @param {number} label
 * @param {number} aspect height of a pixel divided by its width
 * @returns {Box}
 */
export function paintLine(mask, size, a, b, radius, label, aspect = 1) {
  const box = clipBox(
    {
      x0: Math.min(a.x, b.x) - radius,
      y0: Math.min(a.y, b.y) - radius / aspect,
      x1: Math.max(a.x, b.x) + radius,
      y1: Math.max(a.y, b.y) + radius / aspect,
    },
    size,
  );
  const dx = b.x - a.x;
  const dy = (b.y - a.y) * aspect;
  const length2 = dx * dx + dy * dy;
  for (let j = box.y0; j < box.y1; j++) {
    for (let i = box.x0; i < box.x1; i++) {
      const px = i + 0.5 - a.x;
      const py = (j + 0.5 - a.y) * aspect;
      const t = length2 ? Math.min(1, Math.max(0, (px * dx + py * dy) / length2)) : 0;
      if ((px - t * dx) ** 2 + (py - t * dy) ** 2 <= radius * radius) mask[j * size.width + i] = label;
    }
  }
  return box;
}

/**
 * Give `label` to all pixels whose centre is inside the polygon (even-odd rule); return the touched box.
 * @param {Uint8Array} mask
 * @param {Size} size
 * @param {Point[]} points
 * @param {number} label
 * @returns {Box}
 */
export function fillPolygon(mask, size, points, label) {
  const xs = points.map((p) => p.x);
  const ys = points.map((p) => p.y);
  const corners = { x0: Math.min(...xs), y0: Math.min(...ys), x1: Math.max(...xs), y1: Math.max(...ys) };
  const box = clipBox(corners, size);
  for (let j = box.y0; j < box.y1; j++) {
    const y = j + 0.5;
    /** @type {number[]} */
    const crossings = [];
    points.forEach((p, k) => {
      const q = points[(k + 1) % points.length];
      if (p.y <= y !== q.y <= y) crossings.push(p.x + ((y - p.y) / (q.y - p.y)) * (q.x - p.x));
    });
    crossings.sort((m, n) => m - n);
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      const first = Math.max(box.x0, Math.ceil(crossings[k] - 0.5));
      const last = Math.min(box.x1 - 1, Math.ceil(crossings[k + 1] - 0.5) - 1);
      mask.fill(label, j * size.width + first, j * size.width + Math.max(first, last + 1));
    }
  }
  return box;
}

/**
 * Return the mask with the structure one pixel larger: the blood pool grows into everything, the myocardium into the
 * background only.
 * @param {Uint8Array} mask
 * @param {Size} size
 * @param {number} label
 */
export function grow(mask, size, label) {
  return mapWithNeighbours(mask, size, (own, around) => {
    const mayChange = own === BACKGROUND || (label === BLOOD_POOL && own === MYOCARDIUM);
    return mayChange && around.includes(label) ? label : own;
  });
}

/**
 * Return the mask with the structure one pixel smaller: the outermost blood pool becomes myocardium where it touches
 * myocardium, else background; the outermost myocardium, which touches the background, becomes background.
 * @param {Uint8Array} mask
 * @param {Size} size
 * @param {number} label
 */
export function shrink(mask, size, label) {
  return mapWithNeighbours(mask, size, (own, around) => {
    if (own !== label) return own;
    if (label === BLOOD_POOL && around.includes(MYOCARDIUM)) return MYOCARDIUM;
    return around.includes(BACKGROUND) ? BACKGROUND : own;
  });
}

/**
 * @param {Uint8Array} mask
 * @param {Size} size
 * @param {(own: number, around: number[]) => number} rule takes a pixel and the four beside it
 */
function mapWithNeighbours(mask, { width, height }, rule) {
  const out = mask.slice();
  for (let j = 0, k = 0; j < height; j++) {
    for (let i = 0; i < width; i++, k++) {
      const left = i > 0 ? mask[k - 1] : BACKGROUND;
      const right = i < width - 1 ? mask[k + 1] : BACKGROUND;
      const above = j > 0 ? mask[k - width] : BACKGROUND;
      const below = j < height - 1 ? mask[k + width] : BACKGROUND;
      if (mask[k] | left | right | above | below) out[k] = rule(mask[k], [left, right, above, below]);
    }
  }
  return out;
}

/**
 * Return the number of pixels of each label.
 * @param {Uint8Array} mask
 * @returns {[number, number, number]}
 */
export function countLabels(mask) {
  let myocardium = 0;
  let pool = 0;
  for (let k = 0; k < mask.length; k++) {
    if (mask[k] === MYOCARDIUM) myocardium++;
    else if (mask[k] === BLOOD_POOL) pool++;
  }
  return [mask.length - myocardium - pool, myocardium, pool];
}

/**
 * Return the pixels in which two masks differ.
 * @param {Uint8Array} before
 * @param {Uint8Array} after
 * @returns {Change}
 */
export function compare(before, after) {
  /** @type {number[]} */
  const index = [];
  for (let k = 0; k < before.length; k++) if (before[k] !== after[k]) index.push(k);
  return {
    index: Uint32Array.from(index),
    before: Uint8Array.from(index, (k) => before[k]),
    after: Uint8Array.from(index, (k) => after[k]),
  };
}

/**
 * Draw a mask into RGBA pixels: opaque at the outline of each structure, light inside.
 * @param {Uint8Array} mask
 * @param {Size} size
 * @param {Uint32Array} pixels of the whole slice
 * @param {Box} box the part to draw
 * @param {{inside: number, outline: number}[]} colours by label, as little-endian RGBA
 */
export function drawMask(mask, { width, height }, pixels, box, colours) {
  for (let j = box.y0; j < box.y1; j++) {
    for (let i = box.x0, k = j * width + box.x0; i < box.x1; i++, k++) {
      const own = mask[k];
      if (own === BACKGROUND) {
        pixels[k] = 0;
        continue;
      }
      const isOutline =
        i === 0 || j === 0 || i === width - 1 || j === height - 1 ||
        mask[k - 1] < own || mask[k + 1] < own || mask[k - width] < own || mask[k + width] < own; // prettier-ignore
      pixels[k] = isOutline ? colours[own].outline : colours[own].inside;
    }
  }
}

/**
 * Return the box in whole pixels, inside the slice.
 * @param {Box} box
 * @param {Size} size
 * @returns {Box}
 */
export function clipBox(box, size) {
  return {
    x0: Math.max(0, Math.floor(box.x0)),
    y0: Math.max(0, Math.floor(box.y0)),
    x1: Math.min(size.width, Math.ceil(box.x1) + 1),
    y1: Math.min(size.height, Math.ceil(box.y1) + 1),
  };
}
