// EchoVideo Identity Score: the likeness of each frame as a curve, the worst frame marked.

import { app } from "../../scripts/app.js";
import { addLivePart, element, reported, svg } from "./dom.js";
import { say } from "./words.js";

const MARGIN = { left: 28, right: 10, top: 8, bottom: 18 }; // pixels around the axes, for their numbers

app.registerExtension({
  name: "EchoVideo.IdentityScore",
  nodeCreated(node) {
    if (node.comfyClass !== "EchoVideoIdentityScore") return;
    node.hideOutputImages = true; // the curve as a picture is for other nodes and for API clients
    node.onDrawBackground = () => {};
    const root = element("div", { className: "echovideo echovideo-score" });
    const scores = () => reported(node).echovideo_scores?.[0] ?? null;
    const draw = () => fill(root, scores());
    const sized = new ResizeObserver(draw);
    sized.observe(root);
    const look = addLivePart(node, "score_curve", root, {
      height: 170,
      width: 380,
      watch: scores,
      update: draw,
      removed: () => sized.disconnect(),
    });
    const executed = node.onExecuted;
    node.onExecuted = function (report, ...rest) {
      node.echovideoReport = report;
      look(true);
      return executed?.call(this, report, ...rest);
    };
  },
});

function fill(root, scores) {
  if (!scores) {
    root.replaceChildren(element("p", { className: "echovideo-quiet", textContent: say("no_score") }));
    return;
  }
  const { frames, mean, minimum, standard_deviation: deviation, every, name } = scores;
  const who = name ? [element("strong", { textContent: name })] : [];
  if (mean === null) {
    root.replaceChildren(element("p", {}, ...who, " ", say("no_faces", { count: frames })));
    return;
  }
  const figure = (key, values, className = "") => element("span", { className, textContent: say(key, values) });
  const figures = [
    ...who,
    figure("mean", { value: mean.toFixed(3), deviation: deviation.toFixed(3) }),
    figure("worst", { value: minimum.toFixed(3), frame: scores.worst_frame * every }, "echovideo-least"),
  ];
  const faceless = scores.frames_without_face.length;
  if (faceless) figures.push(figure("faceless", { count: faceless, frames }, "echovideo-quiet"));
  const chart = element("div", { className: "echovideo-chart" });
  root.replaceChildren(chart, element("div", { className: "echovideo-figures" }, ...figures));
  if (chart.clientWidth && chart.clientHeight) chart.append(curve(scores, chart.clientWidth, chart.clientHeight));
}

/** Scaled from 0 to 1, so that two videos can be compared; it goes below 0 if a frame does. */
function curve({ per_frame: values, mean, minimum, worst_frame: worst, every }, width, height) {
  const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
  const floor = Math.min(0, Math.floor(minimum * 5) / 5);
  const last = Math.max(1, values.length - 1);
  const x = (frame) => left + ((right - left) * (values.length > 1 ? frame : 0.5)) / last;
  const y = (value) => bottom - ((bottom - top) * (value - floor)) / (1 - floor);
  const level = (value, attributes = {}) =>
    svg("line", { x1: left, x2: right, y1: y(value), y2: y(value), ...attributes });
  const label = (text, attributes) => svg("text", attributes, text);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": say("curve") });
  for (let value = floor; value < 1.01; value += floor < 0 ? 0.4 : 0.5) {
    picture.append(level(value), label(value.toFixed(1), { x: left - 5, y: y(value) + 3, "text-anchor": "end" }));
  }
  const ends = values.length > 1 ? [0, last] : [0];
  for (const frame of ends) picture.append(label(`${frame * every}`, { x: x(frame), y: height - 4, "text-anchor": "middle" }));
  picture.append(level(mean, { class: "echovideo-mean" }));
  const half = (right - left) / last / 2;
  for (const run of runs(values)) {
    if (run.length > 1) picture.append(svg("polyline", { points: run.map((at) => `${x(at)},${y(values[at])}`).join(" ") }));
    else picture.append(svg("circle", { cx: x(run[0]), cy: y(values[run[0]]), r: 3 }));
  }
  values.forEach((value, frame) => {
    const said = value === null ? say("blank", { frame: frame * every }) : say("frame", { frame: frame * every, value: value.toFixed(3) });
    const hit = { x: x(frame) - half, y: top, width: 2 * half, height: bottom - top };
    picture.append(svg("rect", { ...hit, class: value === null ? "echovideo-gap" : "echovideo-hit" }, svg("title", {}, said)));
  });
  picture.append(svg("circle", { class: "echovideo-worst", cx: x(worst), cy: y(minimum), r: 5 }));
  return picture;
}

/** Frames with a face, in unbroken rows: [[0, 1, 2], [5, 6]]. */
function runs(values) {
  const rows = [];
  values.forEach((value, frame) => {
    if (value === null) return;
    if (frame > 0 && values[frame - 1] !== null) rows.at(-1).push(frame);
    else rows.push([frame]);
  });
  return rows;
}
