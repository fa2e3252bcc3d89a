// A small picture with its caption.

import { api } from "../../scripts/api.js";
import { element } from "./dom.js";
import { say } from "./words.js";

/**
 * {figure, set(path, hint), clear(hint)}: shows what the host has at `path` or, without one, the hint. If there is no
 * picture to be had, it says why.
 */
export function thumbnail(caption) {
  const image = element("img", { alt: say(caption), draggable: false, hidden: true });
  const box = element("div", { className: "echovideo-thumbnail" }, image);
  const figure = element("figure", {}, box, element("figcaption", { textContent: say(caption) }));
  let wanted;
  image.addEventListener("error", async () => {
    const path = wanted;
    const answer = await api.fetchApi(path).catch(() => null);
    const body = await answer?.json().catch(() => null);
    if (path !== wanted) return;
    image.hidden = true;
    figure.title = body?.error?.message ?? say("no_answer", { reason: answer?.status ?? "" });
    figure.classList.add("echovideo-failed");
  });
  const clear = (hint = "") => {
    wanted = undefined;
    box.dataset.hint = hint;
    image.removeAttribute("src");
    image.hidden = true;
    figure.title = "";
    figure.classList.remove("echovideo-failed");
  };
  const set = (path, hint) => {
    if (path && path === wanted) return;
    clear(path ? "" : hint);
    if (!path) return;
    wanted = path;
    image.hidden = false;
    image.src = api.apiURL(path);
  };
  return { figure, set, clear };
}
