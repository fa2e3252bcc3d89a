// The faces of a batch's photos, in view or not: one choice applies to all of them.

import { api } from "../../scripts/api.js";

export class Batch {
  #found = new Map();
  #asking = new AbortController();

  /** `complete` is called when all photos have been asked for. */
  constructor(complete) {
    this.complete = complete;
  }

  /** The answer to a query, once there is one. */
  found(query) {
    return this.#found.get(query);
  }

  /** Asks for what is not known yet, one photo after another; forgets all other photos and ends what was under way. */
  async look(queries) {
    this.#asking.abort();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    this.#found = new Map([...this.#found].filter(([query]) => queries.includes(query)));
    for (const query of queries.filter((one) => !this.#found.has(one))) {
      const answer = await api.fetchApi(`/echovideo/faces?${query}`, { signal }).catch(() => null);
      const found = answer?.ok ? await answer.json().catch(() => null) : null;
      if (signal.aborted) return;
      if (found) this.#found.set(query, found); // a failure is shown when the photo is in view
    }
    if (queries.length) this.complete();
  }
}
