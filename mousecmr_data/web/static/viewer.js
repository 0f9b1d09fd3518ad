// The cine of one mouse with its masks, and its time–volume curve. Pictures hold all frames of a slice in a grid.
const SLOWED = 20; // as in the movie
const NS = "http://www.w3.org/2000/svg";
const AREA = { left: 44, right: 448, top: 14, bottom: 222 };
const root = element.querySelector(".m-viewer");
const canvas = root.querySelector("canvas");
const pen = canvas.getContext("2d");
const select = root.querySelector("select");
const svg = root.querySelector("svg");
const slides = { slice: root.querySelector("[data-slide=slice]"), frame: root.querySelector("[data-slide=frame]") };
const play = root.querySelector("[data-do=play]");
const on = (name) => root.querySelector(`[data-switch=${name}]`).checked;
let pictures = new Map();
let view = null;
let timer = null;
let at = { slice: 0, frame: 0 };

function picture(slice) {
  if (!pictures.has(slice)) {
    const pair = {};
    for (const [name, ending] of [["cine", "webp"], ["masks", "png"]]) {
      pair[name] = new Image();
      pair[name].onload = () => slice === at.slice && draw();
      pair[name].src = new URL(`mice/${props.value.token}/view/${view.prefix}-${slice}.${ending}`, document.baseURI);
    }
    pictures.set(slice, pair);
  }
  return pictures.get(slice);
}

const ready = (image) => image.complete && image.naturalWidth > 0;

function draw() {
  if (!view) return;
  const [x0, y0, x1, y1] = on("zoom") ? view.heart : [0, 0, view.width, view.height];
  const size = [x1 - x0, y1 - y0];
  const scale = 720 / Math.max(size[0], size[1] * view.aspect);
  canvas.width = Math.round(size[0] * scale);
  canvas.height = Math.round(size[1] * view.aspect * scale);
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  const { cine, masks } = picture(at.slice);
  const column = at.frame % view.columns;
  const row = Math.floor(at.frame / view.columns);
  const from = [column * view.width + x0, row * view.height + y0, ...size];
  if (ready(cine)) {
    pen.imageSmoothingEnabled = true;
    pen.drawImage(cine, ...from, 0, 0, canvas.width, canvas.height);
  }
  if (on("masks") && ready(masks)) {
    pen.imageSmoothingEnabled = false;
    pen.drawImage(masks, ...from, 0, 0, canvas.width, canvas.height);
  }
  pen.fillStyle = "#fff";
  const bar = (2 / view.pixel_mm) * scale;
  pen.fillRect(16, canvas.height - 20, bar, 4);
  pen.font = "20px sans-serif";
  pen.fillText("2 mm", 16, canvas.height - 30);
  const said = [view.synthetic && "SYNTHETIC", view.shrunk > 1 && `shown at 1/${view.shrunk} of its resolution`];
  pen.fillText(said.filter(Boolean).join(", "), 16, 30);
  root.dataset.drawn = `${at.slice}/${at.frame}/${on("masks")}/${ready(cine) && ready(masks)}`;
  words();
}

function words() {
  const phase = view.phase[at.frame];
  const when = view.time_ms ? `, ${view.time_ms[at.frame].toFixed(0)} ms` : "";
  slides.slice.nextElementSibling.textContent = `${at.slice} (0–${view.slices - 1})`;
  slides.frame.nextElementSibling.textContent = `${at.frame} (0–${view.frames - 1})`;
  const name = phase ? ` (${phase})` : "";
  root.querySelector(".m-viewer-now").textContent =
    `Frame ${at.frame}${name}${when}: blood pool ${view.volume_ul[at.frame].toFixed(1)} µL. Slice ${at.slice}.`;
  const here = view.flags.filter(
    (f) => (f.frame === null || f.frame === at.frame) && (f.slice === null || f.slice === at.slice),
  );
  root.querySelector(".m-viewer-flags").textContent = here.map((f) => f.message).join(" ");
  const cursor = svg.querySelector(".m-cursor");
  if (cursor) for (const end of ["x1", "x2"]) cursor.setAttribute(end, place(at.frame));
}

const place = (frame) => AREA.left + ((AREA.right - AREA.left) * frame) / Math.max(1, view.frames - 1);

function add(name, attributes, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  svg.append(node);
}

function curve() {
  svg.replaceChildren();
  const most = Math.max(1, ...view.volume_ul) * 1.12;
  const colour = view.legend[1].colour;
  const y = (v) => AREA.bottom - ((AREA.bottom - AREA.top) * v) / most;
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((s) => most / s <= 6) || 1000;
  for (let v = 0; v < most; v += step) {
    add("line", { class: "m-grid", x1: AREA.left, x2: AREA.right, y1: y(v), y2: y(v) });
    add("text", { x: AREA.left - 6, y: y(v) + 4, "text-anchor": "end" }, v);
  }
  const label = (f) => (view.time_ms ? view.time_ms[f].toFixed(0) : f);
  const every = Math.max(1, Math.ceil(view.frames / 6));
  for (let f = 0; f < view.frames; f += every) {
    add("text", { x: place(f), y: AREA.bottom + 16, "text-anchor": "middle" }, label(f));
  }
  const middle = (AREA.left + AREA.right) / 2;
  add("text", { x: middle, y: 254, "text-anchor": "middle" }, view.time_ms ? "time (ms)" : "frame (time is not known)");
  add("text", { x: 4, y: 10 }, "µL");
  add("line", { class: "m-cursor", x1: 0, x2: 0, y1: AREA.top, y2: AREA.bottom });
  const line = view.smoothed_ul.map((v, f) => `${place(f)},${y(v)}`).join(" ");
  add("polyline", { points: line, fill: "none", stroke: colour, "stroke-width": 1.5 });
  view.volume_ul.forEach((v, f) => {
    const phase = view.phase[f];
    add("circle", { cx: place(f), cy: y(v), r: phase ? 5 : 3, fill: colour });
    if (!phase) return;
    const side = f > view.frames * 0.8 ? "end" : f < view.frames * 0.2 ? "start" : "middle";
    const x = place(f) + { start: 8, middle: 0, end: -8 }[side];
    add("text", { x, y: y(v) + (phase === "ED" ? -8 : 18), "text-anchor": side }, `${phase} ${v.toFixed(1)} µL`);
  });
}

function go(part) {
  at = { ...at, ...part };
  for (const name of ["slice", "frame"]) slides[name].value = at[name];
  draw();
}

function stop() {
  clearInterval(timer);
  timer = null;
  play.textContent = "Play";
  play.setAttribute("aria-pressed", "false");
}

function open(index) {
  stop();
  view = props.value.views[index];
  pictures = new Map();
  slides.slice.max = view.slices - 1;
  slides.frame.max = view.frames - 1;
  root.querySelector(".m-viewer-marks").textContent = [`masks: ${view.weights}.`, ...view.marks].join(" ");
  const legend = root.querySelector(".m-viewer-legend");
  legend.replaceChildren();
  for (const { name, colour } of view.legend) {
    const one = document.createElement("span");
    one.textContent = name;
    one.style.setProperty("--m-colour", colour);
    legend.append(one);
  }
  at = view.start;
  curve();
  go({});
  const rest = [...Array(view.slices).keys()].sort((a, b) => Math.abs(a - at.slice) - Math.abs(b - at.slice));
  const mine = view;
  const next = (k) => {
    if (k >= rest.length || view !== mine) return;
    const image = picture(rest[k]).masks;
    if (ready(image)) return next(k + 1);
    image.addEventListener("load", () => next(k + 1), { once: true });
  };
  next(0);
}

function start() {
  const views = (props.value && props.value.views) || [];
  root.hidden = !views.length;
  stop();
  view = null;
  select.replaceChildren();
  views.forEach((v, k) => select.append(new Option(v.name, k)));
  select.disabled = views.length < 2;
  if (views.length) open(0);
}

for (const name of ["slice", "frame"]) slides[name].addEventListener("input", () => go({ [name]: +slides[name].value }));
for (const box of root.querySelectorAll("[data-switch]")) box.addEventListener("change", draw);
select.addEventListener("change", () => open(+select.value));
play.addEventListener("click", () => {
  if (timer) return stop();
  play.textContent = "Pause";
  play.setAttribute("aria-pressed", "true");
  timer = setInterval(() => go({ frame: (at.frame + 1) % view.frames }), Math.max(40, view.frame_ms * SLOWED));
});
svg.addEventListener("click", (e) => {
  const point = new DOMPoint(e.clientX, e.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const share = (point.x - AREA.left) / (AREA.right - AREA.left);
  go({ frame: Math.min(view.frames - 1, Math.max(0, Math.round(share * (view.frames - 1)))) });
});
watch("value", start);
start();
