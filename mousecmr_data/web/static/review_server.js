// @ts-check
// The interface between the review screen and what keeps the results. Here it is the server of `mousecmr review` and
// `mousecmr serve`; docs/reviewing.md describes its addresses. Another object with these methods can replace it.

/**
 * @typedef {"auto" | "edited" | "excluded" | "confirmed"} Status
 * @typedef {{mouse: string, flags: number, readers: string}} MouseEntry
 * @typedef {{flag: string, message: string, frame: number | null, slice: number | null}} Flag
 * @typedef {{frame: number, slice: number, status: Status, reader: string, time: string}} SliceReview
 * @typedef {{ed_frame: number | null, es_frame: number | null, edv_ul: number | null, esv_ul: number | null,
 *   sv_ul: number | null, ef_percent: number | null, mass_ed_mg: number | null, mass_es_mg: number | null}} Numbers
 * @typedef {{label: number, name: string, colour: string}} LabelEntry
 * @typedef {{mouse: string, shape: [number, number, number, number], voxel_mm: [number, number, number],
 *   density: number, time_ms: number[] | null, flags: Flag[], flag_texts: Record<string, string>,
 *   slices: SliceReview[], numbers: Numbers, automatic: Numbers, weights: string, marks: string[],
 *   labels: LabelEntry[], reader: string, blind: boolean}} Meta `reader`: who reviews; empty: whose name is typed
 */

/** An answer of the server that is not what was asked for. */
export class ServerError extends Error {
  /** @param {string} message @param {number} status of HTTP; 0: there was no answer */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class Server {
  /** @param {string} address of the folder of the results, ending with a slash */
  constructor(address) {
    this.address = address;
  }

  /** @param {string} mouse @param {string} path */
  #find(mouse, path) {
    return `mice/${encodeURIComponent(mouse)}/${path}`;
  }

  /** @param {string} path @param {RequestInit} [options] */
  async #request(path, options) {
    let response;
    try {
      response = await fetch(new URL(path, this.address), options);
    } catch {
      throw new ServerError("The program does not answer. Is it still running?", 0);
    }
    if (!response.ok) throw new ServerError(await response.text(), response.status);
    return response;
  }

  /** @param {string} path @returns {Promise<any>} */
  async #getJson(path) {
    return (await this.#request(path)).json();
  }

  /** @param {string} path @param {RequestInit} [options] */
  async #getBytes(path, options) {
    return new Uint8Array(await (await this.#request(path, options)).arrayBuffer());
  }

  /** @returns {Promise<MouseEntry[]>} */
  listMice() {
    return this.#getJson("mice");
  }

  /** @param {string} mouse @returns {Promise<Meta>} */
  getMeta(mouse) {
    return this.#getJson(this.#find(mouse, "meta"));
  }

  /** Grey values (slice, y, x) of a frame. @param {string} mouse @param {number} frame */
  getImage(mouse, frame) {
    return this.#getBytes(this.#find(mouse, `images/${frame}`));
  }

  /** Labels (frame, slice, y, x). @param {string} mouse */
  getMasks(mouse) {
    return this.#getBytes(this.#find(mouse, "masks"));
  }

  /** The network's labels (y, x) of a slice. @param {string} mouse @param {number} frame @param {number} slice */
  getAutomaticSlice(mouse, frame, slice) {
    return this.#getBytes(this.#find(mouse, `automatic/${frame}/${slice}`));
  }

  /** Labels (y, x) for a slice without a mask, from those beside it. @param {string} mouse @param {number} frame @param {number} slice */
  proposeSlice(mouse, frame, slice) {
    return this.#getBytes(this.#find(mouse, `proposal/${frame}/${slice}`));
  }

  /** Frames and slices to exclude, as at ED and ES. @param {string} mouse @returns {Promise<[number, number][]>} */
  proposeExclusions(mouse) {
    return this.#getJson(this.#find(mouse, "exclusions"));
  }

  /**
   * Save a slice of a frame; `mask` (y, x) only with the status "edited".
   * @param {string} mouse @param {number} frame @param {number} slice @param {Status} status
   * @param {Uint8Array | null} mask @param {string} reader @param {number} minutes spent since the last change
   * @returns {Promise<Numbers>}
   */
  async putSlice(mouse, frame, slice, status, mask, reader, minutes) {
    const query = new URLSearchParams({ status, reader, minutes: minutes.toFixed(4) });
    const body = /** @type {BodyInit | null} */ (mask);
    const path = this.#find(mouse, `slices/${frame}/${slice}?${query}`);
    return (await this.#request(path, { method: "PUT", body })).json();
  }

  /**
   * @param {string} mouse @param {number} ed @param {number} es @param {string} reader @param {number} minutes
   * @returns {Promise<Numbers>}
   */
  async putPhases(mouse, ed, es, reader, minutes) {
    const query = new URLSearchParams({ ed: `${ed}`, es: `${es}`, reader, minutes: minutes.toFixed(4) });
    return (await this.#request(this.#find(mouse, `phases?${query}`), { method: "PUT" })).json();
  }

  /**
   * Labels (frame, y, x) that the corrected frames of a slice suggest for all its frames; nothing is saved.
   * @param {string} mouse @param {number} slice
   */
  propagate(mouse, slice) {
    return this.#getBytes(this.#find(mouse, `propagate/${slice}`), { method: "POST" });
  }

  /** How far the tuning of a network is; null where nobody may. @returns {Promise<{running: boolean, text: string} | null>} */
  getTuning() {
    return this.#getJson("tuning");
  }

  /** Tune a network on the reviewed mice. @param {string} name of the new weights */
  async startTuning(name) {
    await this.#request(`tuning?${new URLSearchParams({ name })}`, { method: "POST" });
  }

  /** Measure what was changed and write the tables and pictures again. */
  async updateTables() {
    await this.#request("tables", { method: "POST" });
  }
}
