// EchoVideo Identity: the face picker.

import { app } from "../../scripts/app.js";
import { addLivePart, isLinked, reported, setWidgets, widgetOf } from "./dom.js";
import { FacePicker } from "./face_picker.js";
import { photosOf, upstreamValue } from "./photos.js";

const HEIGHT = 260;
const WIDTH = 420;

app.registerExtension({
  name: "EchoVideo.Identity",
  nodeCreated(node) {
    if (node.comfyClass !== "EchoVideoIdentity") return;
    node.hideOutputImages = true; // the run's sheet shows what the picker shows
    node.onDrawBackground = () => {}; // and for hosts that do not know that property
    const picker = new FacePicker((values) => {
      setWidgets(node, values);
      look();
    });
    const look = addLivePart(node, "face_picker", picker.root, {
      height: HEIGHT,
      width: WIDTH,
      watch: () => situation(node),
      update: () => picker.show(situation(node)),
      removed: () => picker.remove(),
    });
    const executed = node.onExecuted;
    node.onExecuted = function (report, ...rest) {
      node.echovideoReport = report;
      node.echovideoSource = sourceOf(node);
      look(true);
      return executed?.call(this, report, ...rest);
    };
  },
});

/** Everything that decides what the picker shows, in a form that can be compared. */
function situation(node) {
  const value = (name) => widgetOf(node, name)?.value;
  const found = photosOf(node, "photos");
  return {
    ...found,
    order: value("face_order"),
    index: Number(value("face_index") ?? 0),
    padding: Number(value("padding") ?? 0),
    needed: value("on_no_face") === "error",
    linked: ["face_order", "face_index", "padding"].some((name) => isLinked(node, name)),
    parser: upstreamValue(node, "face_encoders", "parser_name") ?? "",
    run: found.connected ? lastRun(node, found) : null,
  };
}

/**
 * What the last run saw. It is shown if the photos cannot be known otherwise, and for several photos (which Batch
 * Images crops to one size) as long as they are the same ones; a single photo is searched by itself.
 */
function lastRun(node, { photos, elsewhere }) {
  const { echovideo_faces: faces, echovideo_face_picture: picture } = reported(node);
  const same = elsewhere !== "" || (photos.length > 1 && node.echovideoSource === sourceOf(node));
  return faces?.length && same ? { faces, picture: picture?.[0] } : null;
}

function sourceOf(node) {
  return JSON.stringify([photosOf(node, "photos"), widgetOf(node, "padding")?.value]);
}
