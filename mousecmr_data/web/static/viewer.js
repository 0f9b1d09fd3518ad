// The viewer: the cine of one mouse with its masks, and its time–volume curve. Each picture is a grid with all frames
// of a slice.
const SLOWDOWN = 20; // as in the movie
const NS = "http://www.w3.org/2000/svg";
const AREA = { left: 44, right: 448, top: 14, bottom: 222 };
const root = element.querySelector(".m-viewer");
const canvas = root.querySelector("canvas");
const context = canvas.getContext("2d");
const select = root.querySelector("select");
const svg = root.querySelector("svg");
const slides = { slice: root.querySelector("[data-slide=slice]"), frame: root.querySelector("[data-slide=frame]") };
const play = root.querySelector("[data-do=play]");
const isOn = (name) => root.querySelector(`[data-switch=${name}]`).checked;
let pictures = new Map();
let view = null;
let timer = null;
let position = { slice: 0, frame: 0 };

function loadPicture(slice, suffix) {
  const image = new Image();
  image.onload = () => slice === position.slice && draw();
  image.src = new URL(`mice/${props.value.token}/view/${view.prefix}-${slice}.${suffix}`, document.baseURI);
  return image;
}

function getPictures(slice) {
  if (!pictures.has(slice)) pictures.set(slice, { cine: loadPicture(slice, "webp"), masks: loadPicture(slice, "png") });
  return pictures.get(slice);
}

const isReady = (image) => image.complete && image.naturalWidth > 0;

function draw() {
  if (!view) return;
  const [x0, y0, x1, y1] = isOn("zoom") ? view.heart : [0, 0, view.width, view.height];
  const size = [x1 - x0, y1 - y0];
  const scale = 720 / Math.max(size[0], size[1] * view.aspect);
  canvas.width = Math.round(size[0] * scale);
  canvas.height = Math.round(size[1] * view.aspect * scale);
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const { cine, masks } = getPictures(position.slice);
  const column = position.frame % view.columns;
  const row = Math.floor(position.frame / view.columns);
  const from = [column * view.width + x0, row * view.height + y0, ...size];
  if (isReady(cine)) {
    context.imageSmoothingEnabled = true;
    context.drawImage(cine, ...from, 0, 0, canvas.width, canvas.height);
  }
  if (isOn("masks") && isReady(masks)) {
    context.imageSmoothingEnabled = false;
    context.drawImage(masks, ...from, 0, 0, canvas.width, canvas.height);
  }
  context.fillStyle = "#fff";
  const bar = (2 / view.pixel_mm) * scale;
  context.fillRect(16, canvas.height - 20, bar, 4);
  context.font = "20px sans-serif";
  context.fillText("2 mm", 16, canvas.height - 30);
  const notices = [view.synthetic && "SYNTHETIC", view.shrunk > 1 && `shown at 1/${view.shrunk} of its resolution`];
  context.fillText(notices.filter(Boolean).join(", "), 16, 30);
  root.dataset.drawn = `${position.slice}/${position.frame}/${isOn("masks")}/${isReady(cine) && isReady(masks)}`;
  showTexts();
}

function showTexts() {
  const { slice, frame } = position;
  const phase = view.phase[frame] ? ` (${view.phase[frame]})` : "";
  const time = view.time_ms ? `, ${view.time_ms[frame].toFixed(0)} ms` : "";
  slides.slice.nextElementSibling.textContent = `${slice} (0–${view.slices - 1})`;
  slides.frame.nextElementSibling.textContent = `${frame} (0–${view.frames - 1})`;
  root.querySelector(".m-viewer-now").textContent =
    `Frame ${frame}${phase}${time}: blood pool ${view.volume_ul[frame].toFixed(1)} µL. Slice ${slice}.`;
  const flags = view.flags.filter(
    (f) => (f.frame === null || f.frame === frame) && (f.slice === null || f.slice === slice),
  );
  root.querySelector(".m-viewer-flags").textContent = flags.map((f) => f.message).join(" ");
  const cursor = svg.querySelector(".m-cursor");
  if (cursor) for (const end of ["x1", "x2"]) cursor.setAttribute(end, getX(frame));
}

const getX = (frame) => AREA.left + ((AREA.right - AREA.left) * frame) / Math.max(1, view.frames - 1);

function addToCurve(name, attributes, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  svg.append(node);
}

function drawCurve() {
  svg.replaceChildren();
  const maximum = Math.max(1, ...view.volume_ul) * 1.12;
  const colour = view.legend[1].colour;
  const y = (v) => AREA.bottom - ((AREA.bottom - AREA.top) * v) / maximum;
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((s) => maximum / s <= 6) || 1000;
  for (let v = 0; v < maximum; v += step) {
    addToCurve("line", { class: "m-grid", x1: AREA.left, x2: AREA.right, y1: y(v), y2: y(v) });
    addToCurve("text", { x: AREA.left - 6, y: y(v) + 4, "text-anchor": "end" }, v);
  }
  const label = (f) => (view.time_ms ? view.time_ms[f].toFixed(0) : f);
  const frameStep = Math.max(1, Math.ceil(view.frames / 6));
  for (let f = 0; f < view.frames; f += frameStep) {
    addToCurve("text", { x: getX(f), y: AREA.bottom + 16, "text-anchor": "middle" }, label(f));
  }
  const middle = (AREA.left + AREA.right) / 2;
  const axis = view.time_ms ? "time (ms)" : "frame (time is unknown)";
  addToCurve("text", { x: middle, y: 254, "text-anchor": "middle" }, axis);
  addToCurve("text", { x: 4, y: 10 }, "µL");
  addToCurve("line", { class: "m-cursor", x1: 0, x2: 0, y1: AREA.top, y2: AREA.bottom });
  const line = view.smoothed_ul.map((v, f) => `${getX(f)},${y(v)}`).join(" ");
  addToCurve("polyline", { points: line, fill: "none", stroke: colour, "stroke-width": 1.5 });
  view.volume_ul.forEach((v, f) => {
    const phase = view.phase[f];
    addToCurve("circle", { cx: getX(f), cy: y(v), r: phase ? 5 : 3, fill: colour });
    if (!phase) return;
    const side = f > view.frames * 0.8 ? "end" : f < view.frames * 0.2 ? "start" : "middle";
    const x = getX(f) + { start: 8, middle: 0, end: -8 }[side];
    const text = `${phase} ${v.toFixed(1)} µL`;
    addToCurve("text", { x, y: y(v) + (phase === "ED" ? -8 : 18), "text-anchor": side }, text);
  });
}

function moveTo(changes) {
  position = { ...position, ...changes };
  for (const [name, slide] of Object.entries(slides)) slide.value = position[name];
  draw();
}

function stop() {
  clearInterval(timer);
  timer = null;
  play.textContent = "Play";
  play.setAttribute("aria-pressed", "false");
}

function openMouse(index) {
  stop();
  view = props.value.views[index];
  pictures = new Map();
  slides.slice.max = view.slices - 1;
  slides.frame.max = view.frames - 1;
  root.querySelector(".m-viewer-marks").textContent = [`masks: ${view.weights}.`, ...view.marks].join(" ");
  const legend = view.legend.map(({ name, colour }) => {
    const label = document.createElement("span");
    label.textContent = name;
    label.style.setProperty("--m-colour", colour);
    return label;
  });
  root.querySelector(".m-viewer-legend").replaceChildren(...legend);
  position = view.start;
  drawCurve();
  moveTo({});
  // Load the other slices one after the other, the nearest first, until another mouse is opened.
  const slices = [...Array(view.slices).keys()];
  slices.sort((a, b) => Math.abs(a - position.slice) - Math.abs(b - position.slice));
  const current = view;
  const preload = (k) => {
    if (k >= slices.length || view !== current) return;
    const image = getPictures(slices[k]).masks;
    if (isReady(image)) return preload(k + 1);
    image.addEventListener("load", () => preload(k + 1), { once: true });
  };
  preload(0);
}

function showMice() {
  const views = (props.value && props.value.views) || [];
  root.hidden = !views.length;
  stop();
  view = null;
  select.replaceChildren();
  views.forEach((v, k) => select.append(new Option(v.name, k)));
  select.disabled = views.length < 2;
  if (views.length) openMouse(0);
}

for (const [name, slide] of Object.entries(slides)) {
  slide.addEventListener("input", () => moveTo({ [name]: +slide.value }));
}
for (const box of root.querySelectorAll("[data-switch]")) box.addEventListener("change", draw);
select.addEventListener("change", () => openMouse(+select.value));
play.addEventListener("click", () => {
  if (timer) return stop();
  play.textContent = "Pause";
  play.setAttribute("aria-pressed", "true");
  const showNext = () => moveTo({ frame: (position.frame + 1) % view.frames });
  timer = setInterval(showNext, Math.max(40, view.frame_ms * SLOWDOWN));
});
svg.addEventListener("click", (e) => {
  const point = new DOMPoint(e.clientX, e.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const share = (point.x - AREA.left) / (AREA.right - AREA.left);
  moveTo({ frame: Math.min(view.frames - 1, Math.max(0, Math.round(share * (view.frames - 1)))) });
});
watch("value", showMice);
showMice();
