// Where a node's photos come from: its IMAGE input followed upstream to Load Image, through batches and reroutes.

import { widgetOf } from "./dom.js";

const LOADERS = new Set(["LoadImage", "LoadImageOutput"]);
const BATCHES = new Set(["BatchImagesNode", "ImageBatch"]);
const PASSING = new Set(["Reroute"]);
const MUTED = 2;
const BYPASSED = 4;
const MOST_STEPS = 64; // a graph may be wired in a circle while it is being edited

/**
 * {connected, photos: [{filename, subfolder, type}], unlisted: [value], elsewhere}: every photo that can be known
 * before a run, in the order of the batch; those that the page does not list yet, because an upload under a missing
 * name changes nothing else; and the title of the first node whose picture cannot be known ("" if there is none).
 */
export function photosOf(node, input) {
  const found = { connected: false, photos: [], unlisted: [], elsewhere: "" };
  const slot = node.inputs?.findIndex((one) => one.name === input) ?? -1;
  if (slot >= 0) follow(node, slot, found, MOST_STEPS);
  return found;
}

/** The value of widget `name` of the node linked to `input`, if it is set there and not over a link. */
export function upstreamValue(node, input, name) {
  const slot = node.inputs?.findIndex((one) => one.name === input) ?? -1;
  const origin = slot >= 0 && node.inputs[slot].link != null ? node.getInputNode(slot) : null;
  return origin ? widgetOf(origin, name)?.value : undefined;
}

function follow(node, slot, found, steps) {
  if (node.inputs[slot].link == null) return;
  const origin = node.getInputNode(slot);
  if (!origin || steps === 0) {
    found.connected = true; // from outside a subgraph
    found.elsewhere ||= node.inputs[slot].label ?? node.inputs[slot].name;
    return;
  }
  if (origin.mode === MUTED) return;
  const kind = origin.comfyClass ?? origin.type;
  const pictures = origin.inputs?.flatMap((one, index) => (isPicture(one) ? [index] : [])) ?? [];
  if (origin.mode === BYPASSED || PASSING.has(kind)) {
    if (pictures.length) follow(origin, pictures[0], found, steps - 1);
  } else if (BATCHES.has(kind)) {
    for (const index of pictures) follow(origin, index, found, steps - 1);
  } else {
    found.connected = true;
    const widget = widgetOf(origin, "image");
    const image = widget?.value;
    const isLinked = origin.inputs?.some((one) => one.widget?.name === "image" && one.link != null);
    if (LOADERS.has(kind) && typeof image === "string" && image && !isLinked) {
      found.photos.push(fileOf(image));
      if (!widget.options?.values?.includes?.(image)) found.unlisted.push(image);
    } else {
      found.elsewhere ||= origin.title || kind;
    }
  }
}

function isPicture(input) {
  return !input.widget && (input.type === "IMAGE" || input.type === "*");
}

/** "people/ann.png [input]" as the three parts that the host uses. */
function fileOf(value) {
  const [, path, type = "input"] = /^([^]*?)(?:\s*\[(input|output|temp)\])?$/.exec(value);
  const cut = path.lastIndexOf("/") + 1;
  return { filename: path.slice(cut), subfolder: path.slice(0, Math.max(0, cut - 1)), type };
}
