// @ts-check
// Changes of the review screen on their way to the server, one at a time.
import { ServerError } from "./review_server.js";

/** @typedef {import("./review_server.js").Numbers} Numbers */

const RETRY_MS = 2000;
const POLL_MS = 50;

export class SaveQueue {
  /** Changes that are not saved yet, in the order of their first one. @type {Map<string, () => Promise<Numbers>>} */
  #waiting = new Map();
  #isSaving = false;
  #page;

  /**
   * @param {{showState: (state: string, text: string) => void, showError: (text: string) => void,
   *   check: (numbers: Numbers) => void}} page `check` takes the numbers of the server when all is saved
   */
  constructor(page) {
    this.#page = page;
  }

  get isEmpty() {
    return !this.#waiting.size && !this.#isSaving;
  }

  /** Send a change; a later one of the same key replaces one that still waits. @param {string} key @param {() => Promise<Numbers>} send */
  add(key, send) {
    this.#waiting.set(key, send);
    this.#page.showState("saving", "Saving …");
    this.#save();
  }

  async wait() {
    while (!this.isEmpty) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }

  async #save() {
    if (this.#isSaving) return;
    this.#isSaving = true;
    for (let [next] = this.#waiting; next; [next] = this.#waiting) {
      const [key, send] = next;
      this.#waiting.delete(key);
      try {
        const numbers = await send();
        if (!this.#waiting.size) this.#page.check(numbers);
        this.#page.showError("");
      } catch (e) {
        if (!this.#waiting.has(key)) this.#waiting.set(key, send);
        const isLost = e instanceof ServerError && e.status === 0;
        const advice = isLost ? "Your last change will be sent again." : "Reload this page.";
        this.#page.showState("failed", "NOT saved");
        this.#page.showError(`${e instanceof Error ? e.message : e} ${advice}`);
        if (!isLost) break;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    this.#isSaving = false;
    if (!this.#waiting.size) this.#page.showState("saved", "All changes saved");
  }
}
