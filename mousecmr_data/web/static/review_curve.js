// @ts-check
// The volume curve of the review screen, with the marks of ED and ES, which are dragged or moved by keys.

/**
 * @typedef {{frame: number, slice: number, ed: number, es: number}} State
 * @typedef {{getData: () => import("./review_data.js").Data, state: State,
 *   goTo: (frame: number, slice: number) => void, setPhases: (ed: number, es: number) => void,
 *   showPhases: () => void}} Page `showPhases` shows ED and ES of the state, which are not chosen yet
 * @typedef {"ed" | "es"} Phase
 */

const WIDTH = 460; // as in the page
const AREA = { left: 44, right: 440, top: 22, bottom: 222 };
const NS = "http://www.w3.org/2000/svg";
const GRID_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500];

/** @param {string} name @param {Record<string, string | number>} attributes @param {string} [text] */
function makeSvg(name, attributes, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, `${value}`);
  if (text !== undefined) node.textContent = text;
  return node;
}

/** @param {Element} marker @returns {Phase} */
const getPhase = (marker) => (/** @type {SVGElement} */ (marker).dataset.phase === "ed" ? "ed" : "es");

export class Curve {
  #svg;
  #page;
  #maximum = 1;
  /** @type {{phase: Phase, before: [number, number]} | null} */
  #dragged = null;

  /** @param {SVGSVGElement} svg @param {Page} page */
  constructor(svg, page) {
    this.#svg = svg;
    this.#page = page;
  }

  /** @param {number} frame */
  #getX(frame) {
    return AREA.left + ((AREA.right - AREA.left) * frame) / Math.max(1, this.#page.getData().frames - 1);
  }

  /** @param {number} volume in µL */
  #getY(volume) {
    return AREA.bottom - ((AREA.bottom - AREA.top) * volume) / this.#maximum;
  }

  /** Make the axes, lines and marks for the mouse. */
  build() {
    const data = this.#page.getData();
    this.#maximum = Math.max(1, ...data.computeCurve()) * 1.15;
    const nodes = [];
    const step = GRID_STEPS.find((s) => this.#maximum / s <= 6) || 1000;
    for (let v = 0; v < this.#maximum; v += step) {
      const y = this.#getY(v);
      nodes.push(makeSvg("line", { class: "grid", x1: AREA.left, x2: AREA.right, y1: y, y2: y }));
      nodes.push(makeSvg("text", { x: AREA.left - 6, y: y + 4, "text-anchor": "end" }, `${v}`));
    }
    const times = data.meta.time_ms;
    const frameStep = Math.max(1, Math.ceil(data.frames / 6));
    for (let f = 0; f < data.frames; f += frameStep) {
      const text = times ? times[f].toFixed(0) : `${f}`;
      nodes.push(makeSvg("text", { x: this.#getX(f), y: AREA.bottom + 16, "text-anchor": "middle" }, text));
    }
    const axis = times ? "time (ms)" : "frame (time is unknown)";
    nodes.push(makeSvg("text", { x: (AREA.left + AREA.right) / 2, y: 254, "text-anchor": "middle" }, axis));
    nodes.push(makeSvg("text", { x: 4, y: 14 }, "µL"));
    nodes.push(makeSvg("line", { class: "now", y1: AREA.top, y2: AREA.bottom }));
    nodes.push(makeSvg("polyline", { class: "automatic" }), makeSvg("polyline", { class: "final" }));
    for (let f = 0; f < data.frames; f++) nodes.push(makeSvg("circle", { r: 3, cx: this.#getX(f) }));
    for (const phase of data.frames > 1 ? ["ed", "es"] : []) nodes.push(this.#makeMarker(phase));
    this.#svg.replaceChildren(...nodes);
  }

  /** @param {string} phase */
  #makeMarker(phase) {
    const name = phase.toUpperCase();
    const marker = makeSvg("g", {
      class: "marker", role: "slider", tabindex: 0, "data-phase": phase, "aria-valuemin": 0,
      "aria-valuemax": this.#page.getData().frames - 1, "aria-label": `Frame of ${name}`,
    }); // prettier-ignore
    marker.append(
      makeSvg("line", { y1: AREA.top, y2: AREA.bottom }),
      makeSvg("rect", { x: -15, y: AREA.top - 20, width: 30, height: 20, rx: 4 }),
      makeSvg("text", { y: AREA.top - 6, "text-anchor": "middle" }, name),
    );
    return marker;
  }

  /** Show the volumes as they are now. */
  draw() {
    const { getData, state } = this.#page;
    const data = getData();
    const volumes = data.computeCurve();
    if (Math.max(...volumes) > this.#maximum) this.build();
    for (const [name, values] of Object.entries({ final: volumes, automatic: data.automaticPool })) {
      const points = values.map((v, f) => `${this.#getX(f)},${this.#getY(v)}`).join(" ");
      this.#svg.querySelector(`.${name}`)?.setAttribute("points", points);
    }
    this.#svg.querySelectorAll("circle").forEach((c, f) => c.setAttribute("cy", `${this.#getY(volumes[f])}`));
    for (const end of ["x1", "x2"]) this.#svg.querySelector(".now")?.setAttribute(end, `${this.#getX(state.frame)}`);
    for (const marker of this.#svg.querySelectorAll(".marker")) {
      const frame = state[getPhase(marker)];
      marker.setAttribute("transform", `translate(${this.#getX(frame)} 0)`);
      marker.setAttribute("aria-valuenow", `${frame}`);
      marker.setAttribute("aria-valuetext", `frame ${frame}, ${volumes[frame].toFixed(1)} µL`);
    }
  }

  /** @param {{clientX: number}} event */
  #findFrame(event) {
    const last = this.#page.getData().frames - 1;
    const box = this.#svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    return Math.min(last, Math.max(0, Math.round(((x - AREA.left) / (AREA.right - AREA.left)) * last)));
  }

  /** A click goes to a frame; marks are dragged. */
  listen() {
    this.#svg.addEventListener("pointerdown", (event) => this.#start(event));
    this.#svg.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) this.#svg.addEventListener(end, () => this.#drop());
    this.#svg.addEventListener("keydown", (event) => this.#moveByKey(event));
  }

  /** @param {PointerEvent} event */
  #start(event) {
    const { state, goTo, getData } = this.#page;
    const marker = /** @type {Element} */ (event.target).closest(".marker");
    if (!getData()) return undefined; // still loading
    if (!marker) return goTo(this.#findFrame(event), state.slice);
    this.#svg.setPointerCapture(event.pointerId);
    this.#dragged = { phase: getPhase(marker), before: [state.ed, state.es] };
    return undefined;
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    const { state, showPhases } = this.#page;
    if (!this.#dragged) return;
    const frame = this.#findFrame(event);
    const { phase } = this.#dragged;
    if (frame === (phase === "ed" ? state.es : state.ed)) return;
    state[phase] = frame;
    showPhases();
  }

  #drop() {
    const { state, setPhases, goTo } = this.#page;
    if (!this.#dragged) return;
    const { before, phase } = this.#dragged;
    const { ed, es } = state;
    [state.ed, state.es] = before;
    this.#dragged = null;
    setPhases(ed, es);
    goTo(state[phase], state.slice);
  }

  /** @param {KeyboardEvent} event */
  #moveByKey(event) {
    const { state, getData, setPhases, goTo } = this.#page;
    const marker = /** @type {Element} */ (event.target).closest(".marker");
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!marker || !step || event.shiftKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const [own, other] = getPhase(marker) === "ed" ? [state.ed, state.es] : [state.es, state.ed];
    const frame = own + step === other ? own + 2 * step : own + step;
    if (frame < 0 || frame >= getData().frames) return;
    if (getPhase(marker) === "ed") setPhases(frame, state.es);
    else setPhases(state.ed, frame);
    goTo(frame, state.slice);
  }
}
