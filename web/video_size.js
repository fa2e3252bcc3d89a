// EchoVideo Video Size: shows the frame's shape and the resulting length while the values are being set.

import { app } from "../../scripts/app.js";
import { addLivePart, element, isLinked, svg, widgetOf } from "./dom.js";
import { say } from "./words.js";

const FPS = 16;
const FREE = "free";
const BOX = { width: 96, height: 64 };
const LARGEST = 848; // pixels that fill the box's width, so that sizes can be compared

app.registerExtension({
  name: "EchoVideo.VideoSize",
  nodeCreated(node) {
    if (node.comfyClass !== "EchoVideoVideoSize") return;
    const frame = svg("rect", { rx: 2 });
    const size = element("b");
    const length = element("p");
    const remark = element("p", { className: "echovideo-quiet" });
    const shape = svg("svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, role: "img", "aria-label": say("video") }, frame);
    const root = element("div", { className: "echovideo echovideo-size" }, shape, element("div", {}, size, length, remark));
    addLivePart(node, "video_shape", root, {
      height: 84,
      width: 320,
      watch: () => settings(node),
      update: () => {
        greyUnused(node);
        draw(settings(node), { frame, size, length, remark });
      },
    });
  },
});

function settings(node) {
  const names = ["size", "free_width", "free_height", "measure", "frames", "seconds"];
  const [size, width, height, measure, frames, seconds] = names.map((name) => widgetOf(node, name)?.value);
  const free = size === FREE;
  return {
    free,
    pixels: free ? [width, height].map((side) => Math.floor(side / 16) * 16) : String(size).split(" x ").map(Number),
    wanted: measure === "frames" ? Number(frames) : Number(seconds) * FPS,
    sizeLinked: isLinked(node, "size") || (free && (isLinked(node, "free_width") || isLinked(node, "free_height"))),
    lengthLinked: isLinked(node, "measure") || isLinked(node, measure),
  };
}

/** Greys a number that another setting leaves unused; one whose setting comes over a link may still be used. */
function greyUnused(node) {
  const size = isLinked(node, "size") ? FREE : widgetOf(node, "size")?.value;
  const measure = isLinked(node, "measure") ? undefined : widgetOf(node, "measure")?.value;
  const unused = {
    free_width: size !== FREE,
    free_height: size !== FREE,
    frames: measure === "seconds",
    seconds: measure === "frames",
  };
  for (const [name, grey] of Object.entries(unused)) {
    const widget = widgetOf(node, name);
    if (widget) widget.disabled = grey;
  }
  node.setDirtyCanvas(true, true);
}

function draw({ free, pixels, wanted, sizeLinked, lengthLinked }, { frame, size, length, remark }) {
  const [width, height] = pixels;
  const scale = Math.min(BOX.width / Math.max(LARGEST, width), BOX.height / Math.max(LARGEST * (2 / 3), height)) * 0.96;
  frame.setAttribute("x", (BOX.width - width * scale) / 2);
  frame.setAttribute("y", (BOX.height - height * scale) / 2);
  frame.setAttribute("width", width * scale);
  frame.setAttribute("height", height * scale);
  frame.style.visibility = sizeLinked ? "hidden" : "visible";
  size.textContent = sizeLinked ? say("from_link") : `${width} × ${height}`;
  const frames = framesOf(wanted);
  const seconds = (frames / FPS).toFixed(2);
  if (lengthLinked) length.textContent = say("length_from_link");
  else length.textContent = frames === 1 ? say("one_frame") : say("length", { frames, seconds, fps: FPS });
  remark.textContent = free && !sizeLinked ? say("untrained") : "";
}

/** What the node makes of it: the nearest of 1, 5, 9, ... (of two, the one with an even n in 4n + 1). */
export function framesOf(wanted) {
  const n = (wanted - 1) / 4;
  const below = Math.floor(n);
  const nearest = n - below === 0.5 ? below + (below % 2) : Math.round(n);
  return 4 * Math.max(0, nearest) + 1;
}
