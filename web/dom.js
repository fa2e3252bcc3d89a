// Small helpers of the pack's page parts: elements without innerHTML, the stylesheet, the values of a node's widgets.

import { app } from "../../scripts/app.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties set and children inside; text is always text, never markup. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** An SVG element with attributes set and children inside. */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Brings in the pack's stylesheet, once. */
export function useStyles() {
  const href = new URL("./echovideo.css", import.meta.url).href;
  if ([...document.styleSheets].some((sheet) => sheet.href === href)) return;
  if (document.querySelector(`link[href="${CSS.escape(href)}"]`)) return;
  document.head.append(element("link", { rel: "stylesheet", href }));
}

/**
 * Puts `content` into a node as a widget that is neither saved nor sent, and calls `update` whenever what
 * `watch` returns (compared as JSON) has changed: by hand, by undo, by loading, or somewhere upstream.
 */
export function addLivePart(node, name, content, { height, width = 0, watch, update, removed }) {
  useStyles();
  const widget = node.addDOMWidget(name, "echovideo", content, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => height,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false;
  // Otherwise the panel beside the canvas lists it as an empty row, and gives it that panel's width in the node, too.
  Object.defineProperty(widget.options, "canvasOnly", { get: () => !window.LiteGraph.vueNodesMode });
  content.addEventListener("wheel", passToCanvas);
  let before;
  const look = (force = false) => {
    if (!node.graph) return; // not placed yet
    const now = JSON.stringify(watch());
    if (!force && now === before) return;
    before = now;
    update();
  };
  const timer = setInterval(look, 300);
  const remove = node.onRemoved;
  node.onRemoved = function (...given) {
    clearInterval(timer);
    removed?.();
    return remove?.apply(this, given);
  };
  const least = node.computeSize();
  node.setSize([Math.max(node.size[0], width, least[0]), Math.max(node.size[1], least[1])]);
  return look;
}

/** Lets the wheel zoom and move the canvas over our parts, too. */
function passToCanvas(event) {
  if (event.defaultPrevented || !app.canvas?.canvas || app.canvas.canvas.contains(event.target)) return;
  event.preventDefault();
  event.stopPropagation();
  app.canvas.canvas.dispatchEvent(new WheelEvent("wheel", event));
}

/** The widget called `name`. */
export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** Whether the value of widget `name` comes over a link, and so is not known before a run. */
export function isLinked(node, name) {
  return !!node.inputs?.some((input) => input.widget?.name === name && input.link != null);
}

/** Sets widgets as a user would: callbacks run, and the change can be undone in one step. */
export function setWidgets(node, values) {
  for (const [name, value] of Object.entries(values)) {
    const widget = widgetOf(node, name);
    if (!widget || widget.value === value) continue;
    widget.value = value;
    widget.callback?.(value, app.canvas, node);
  }
  node.graph?.setDirtyCanvas(true, true);
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  if (tracker?.captureCanvasState) tracker.captureCanvasState();
  else tracker?.checkState?.();
}

/** What the node's last run reported for the page, if it ran; also after loading or undoing. */
export function reported(node) {
  if (node.echovideoReport) return node.echovideoReport;
  const known = node.graph?.isRootGraph === false ? undefined : app.nodeOutputs?.[String(node.id)];
  return known ?? {}; // inside subgraphs, node numbers are not unique
}
