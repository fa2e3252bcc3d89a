// The photo with a numbered box around each face, to choose one with the mouse or the keyboard; beside it, that face.

import { api } from "../../scripts/api.js";
import { Batch } from "./batch.js";
import { element } from "./dom.js";
import { thumbnail } from "./thumbnail.js";
import { say } from "./words.js";

const BY_HAND = "left to right"; // the order in which a click chooses, if the node's own is known only during a run
const STEP = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
const OWN_KEYS = new Set(["Enter", " ", "Backspace", "Delete"]); // with these, the page would run or delete nodes

export class FacePicker {
  /** `choose` is called with the widgets' new values. */
  constructor(choose) {
    this.choose = choose;
    this.page = 0;
    this.pages = [];
    this.batch = new Batch(() => this.found && this.#present(this.found));
    this.photo = element("img", { className: "echovideo-photo", alt: say("photo"), draggable: false });
    this.photo.addEventListener("load", () => this.#fit());
    this.photo.addEventListener("error", () => (this.photo.hidden = true));
    this.faces = element("div", { className: "echovideo-faces", role: "radiogroup", "aria-label": say("photo") });
    this.faces.addEventListener("keydown", (event) => this.#key(event));
    this.frame = element("div", { className: "echovideo-frame" }, this.photo, this.faces);
    this.notice = element("div", { className: "echovideo-notice", role: "status" });
    this.aligned = thumbnail("aligned");
    this.picture = thumbnail("face_picture");
    this.previous = this.#turner("previous", "‹", -1);
    this.next = this.#turner("next", "›", 1);
    this.counter = element("span");
    this.pager = element("div", { className: "echovideo-pager" }, this.previous, this.counter, this.next);
    this.status = element("div", { className: "echovideo-status", role: "status" });
    this.root = element(
      "div",
      { className: "echovideo echovideo-picker" },
      element("div", { className: "echovideo-stage" }, this.frame, this.notice),
      element("div", { className: "echovideo-side" }, this.aligned.figure, this.picture.figure),
      element("div", { className: "echovideo-bar" }, this.pager, this.status),
    );
    this.root.addEventListener("keydown", (event) => OWN_KEYS.has(event.key) && event.stopPropagation());
  }

  /** Shows a state: {connected, photos, elsewhere, order, index, padding, needed, linked, parser, run}. */
  show(now) {
    this.now = now;
    if (this.root.dataset.state === "error") this.query = undefined; // what was missing may be there now
    this.pages = now.run ? now.run.faces.map((found) => ({ found })) : now.photos.map((photo) => ({ photo }));
    this.page = Math.min(this.page, Math.max(0, this.pages.length - 1));
    this.#render();
    const several = this.pages.length > 1 && !now.run;
    this.batch.look(several ? this.pages.map(({ photo }) => this.#queryOf(photo)) : []);
  }

  /** Ends what is under way. */
  remove() {
    this.asking?.abort();
    this.batch.look([]);
  }

  #render() {
    const page = this.pages[this.page];
    this.pager.hidden = this.pages.length < 2;
    this.counter.textContent = say("page", { page: this.page + 1, pages: this.pages.length });
    this.previous.disabled = this.page === 0;
    this.next.disabled = this.page >= this.pages.length - 1;
    if (!page) {
      this.#forget();
      const { connected, elsewhere } = this.now;
      this.#tell("empty", connected ? say("elsewhere", { title: elsewhere }) : say("unconnected"));
    } else if (page.found) {
      if (this.shown !== page.found) {
        this.#forget();
        this.#view(page.found.photo, 0);
      }
      this.#present(page.found);
    } else {
      this.#search(page.photo);
    }
  }

  #search(photo) {
    const query = this.#queryOf(photo);
    if (query === this.query) {
      if (this.found) this.#present(this.found);
      return;
    }
    this.#forget();
    this.query = query;
    this.#view(photo, this.now.padding);
    this.#tell("searching", say("searching"));
    this.asking = new AbortController();
    this.#ask(query, this.asking.signal);
  }

  #queryOf(photo) {
    const { padding, parser: encoders } = this.now;
    return new URLSearchParams({ ...photo, padding, encoders }).toString();
  }

  /** What is known of each photo: {faces, orders}, or undefined. */
  #known() {
    return this.pages.map(({ photo, found }) => found ?? this.batch.found(this.#queryOf(photo)));
  }

  async #ask(query, signal) {
    try {
      const answer = await api.fetchApi(`/echovideo/faces?${query}`, { signal });
      const found = await answer.json().catch(() => ({}));
      if (signal.aborted) return;
      if (answer.ok) {
        this.found = found;
        this.#present(found);
      } else {
        this.#tell("error", found.error?.message ?? say("no_answer", { reason: answer.status }), true);
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#tell("error", say("no_answer", { reason: error.message }), true);
    }
  }

  /** Clears everything of the previous photo. */
  #forget() {
    this.asking?.abort();
    this.query = this.found = this.shown = undefined;
    this.faces.replaceChildren();
    this.photo.removeAttribute("src");
    this.photo.hidden = true;
    this.aligned.clear();
    this.picture.clear();
  }

  /** Shows one of the host's pictures with `padding` of black around it. */
  #view(photo, padding) {
    const share = 100 / (1 + 2 * padding);
    const [at, size] = [`${share * padding}%`, `${share}%`];
    Object.assign(this.photo.style, { left: at, top: at, width: size, height: size });
    this.border = padding;
    this.photo.hidden = false;
    this.photo.src = api.apiURL(viewOf(photo));
  }

  #fit(width = this.photo.naturalWidth, height = this.photo.naturalHeight) {
    const share = 1 + 2 * (this.border ?? 0);
    if (!width || this.shown) return;
    this.frame.style.setProperty("--width", width * share);
    this.frame.style.setProperty("--height", height * share);
  }

  #tell(state, sentence, again = false) {
    this.root.dataset.state = state;
    this.status.textContent = "";
    const retry = element("button", { type: "button", className: "echovideo-button", textContent: say("again") });
    retry.addEventListener("click", () => {
      this.query = undefined;
      this.#render();
    });
    this.notice.replaceChildren(element("p", { textContent: sentence }), ...(again ? [retry] : []));
  }

  #present(found) {
    const { order, index, linked, run, parser } = this.now;
    if (!found.faces.length) {
      this.#tell("nobody", found.message || say("searching"));
      return;
    }
    this.root.dataset.state = "faces";
    this.notice.replaceChildren();
    const known = found.orders[order];
    const places = known ?? found.orders[BY_HAND];
    const chosen = known ? places[index] : undefined;
    if (this.shown !== found) this.#draw(found);
    [...this.faces.children].forEach((box, place) => {
      const counted = places.indexOf(place);
      const number = counted + 1; // people count from 1, face_index from 0
      const used = place === chosen;
      box.dataset.number = number;
      box.disabled = linked;
      box.tabIndex = used || (chosen === undefined && counted === 0) ? 0 : -1;
      box.classList.toggle("echovideo-chosen", used);
      box.setAttribute("aria-checked", used);
      box.setAttribute("aria-label", say(used ? "face_used" : "face", { number }));
      box.title = used || linked ? box.ariaLabel : say("take", { number });
      box.firstChild.textContent = used ? `✓ ${number}` : `${number}`;
    });
    const lacking = known ? this.#lacking() : [];
    const doubt = found.faces[chosen]?.warning ?? "";
    const missing = known !== undefined && (chosen === undefined || lacking.length > 0);
    this.status.classList.toggle("echovideo-warning", missing || doubt !== "");
    const sentence = linked || !known ? say(linked ? "linked" : "closest") : this.#sentence(chosen, lacking);
    this.status.textContent = doubt ? `${sentence}: ${doubt}` : sentence;
    this.#beside(found, chosen, run, parser);
  }

  /** The numbers, from 1, of the batch's photos that lack the chosen face or, if one is needed, any face. */
  #lacking() {
    const { order, index, needed } = this.now;
    const lacks = (found) => found?.orders[order] && index >= found.faces.length && (needed || found.faces.length > 0);
    return this.#known().flatMap((found, page) => (lacks(found) ? [page + 1] : []));
  }

  #sentence(chosen, lacking) {
    const number = this.now.index + 1;
    const [pages, count] = [this.pages.length, this.shown.faces.length];
    if (pages > 1 && lacking.length) return say("lacking", { number, photos: lacking.join(", ") });
    if (chosen === undefined) return say("absent", { number });
    if (pages > 1 && this.#known().every(Boolean)) return say("shared", { number, pages });
    return count === 1 ? say("one") : say("used", { number, count });
  }

  /** A button over each face; positions are shares of the photo, so that it can be shown at any size. */
  #draw(found) {
    this.shown = undefined;
    this.border = 0;
    this.#fit(found.width, found.height);
    this.shown = found;
    const share = (pixels, whole) => `${(100 * pixels) / whole}%`;
    this.faces.replaceChildren(
      ...found.faces.map(({ box: [left, top, right, bottom], landmarks }, place) => {
        const box = element("button", { type: "button", className: "echovideo-face", role: "radio" });
        Object.assign(box.style, {
          left: share(left, found.width),
          top: share(top, found.height),
          width: share(right - left, found.width),
          height: share(bottom - top, found.height),
        });
        box.append(element("span", { className: "echovideo-number" }));
        for (const [x, y] of landmarks) {
          const dot = element("i", { className: "echovideo-landmark" });
          dot.style.left = share(x - left, right - left);
          dot.style.top = share(y - top, bottom - top);
          box.append(dot);
        }
        box.addEventListener("click", () => this.#take(place));
        return box;
      }),
    );
  }

  #take(place) {
    const { order } = this.now;
    const face_order = this.shown.orders[order] ? order : BY_HAND;
    this.choose({ face_order, face_index: this.shown.orders[face_order].indexOf(place) });
  }

  /** The chosen face as aligned and as the model sees it, from the route or from the run. */
  #beside(found, chosen, run, parser) {
    if (chosen === undefined) {
      this.aligned.clear();
      this.picture.clear();
    } else if (run) {
      const same = found.chosen === chosen; // the next run will show another choice
      this.aligned.set(same && found.aligned && viewOf(found.aligned), say("by_run"));
      this.picture.set(same && run.picture && viewOf(run.picture), say("by_run"));
    } else {
      const face = `/echovideo/face?${this.query}&number=${chosen}&v=${found.digest.slice(0, 16)}`;
      this.aligned.set(face);
      this.picture.set(parser && `${face}&${new URLSearchParams({ parser })}`);
    }
  }

  /** As in any group of radio buttons: an arrow chooses the next face by number, Space the focused one. */
  #key(event) {
    if (!(event.key in STEP)) return;
    event.stopPropagation(); // otherwise the canvas handles it
    event.preventDefault();
    const boxes = [...this.faces.children].sort((one, other) => one.dataset.number - other.dataset.number);
    const to = boxes.indexOf(document.activeElement) + STEP[event.key];
    const next = boxes[(to + boxes.length) % boxes.length];
    next.focus();
    next.click();
  }

  #turner(key, sign, by) {
    const button = element("button", {
      type: "button",
      className: "echovideo-button",
      textContent: sign,
      title: say(key),
      "aria-label": say(key),
    });
    button.addEventListener("click", () => {
      this.page += by;
      this.#render();
    });
    return button;
  }
}

/** The address at which the host shows a file from its folders. */
function viewOf(file) {
  return `/view?${new URLSearchParams(file)}`;
}
