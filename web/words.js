// What the pack's page parts say. Sentences of the library (errors) come as they are.

import { app } from "../../scripts/app.js";

const ENGLISH = {
  photo: "Photo, faces numbered",
  aligned: "aligned",
  face_picture: "the model sees",
  unconnected: "Connect a photo: Load Image to photos.",
  elsewhere: "The photo comes from “{title}”. Run once to see and choose its faces.",
  searching: "Searching for faces …",
  no_answer: "No answer from the server ({reason}).",
  again: "Try again",
  previous: "Previous photo",
  next: "Next photo",
  page: "{page} of {pages}",
  face: "Face {number}",
  face_used: "Face {number}, used",
  used: "{count} faces, face {number} is used",
  one: "The only face is used",
  absent: "There is no face {number} here: choose one",
  choose: "{count} faces: choose one",
  closest: "The face closest to the identity is used; a run shows which",
  linked: "face_index or face_order comes over a link",
  video: "Shape of the video",
  length: "{frames} frames, {seconds} s at {fps} fps",
  rounded: "rounded from {frames}",
  one_frame: "1 frame, a still",
  from_link: "The size comes over a link: a run decides",
  length_from_link: "the length comes over a link",
  untrained: "not one of the trained sizes",
  curve: "Likeness of each frame",
  mean: "mean {value} ± {deviation}",
  worst: "worst {value}, frame {frame}",
  frame: "frame {frame}: {value}",
  blank: "frame {frame}: no face",
  no_score: "Run to see how alike each frame is.",
  no_faces: "No face in any of {count} frames.",
  faceless: "no face in {count} of {frames} frames",
};

const WORDS = { en: ENGLISH };

/** The sentence `key` in the page's language, {names} filled in. */
export function say(key, values = {}) {
  const language = String(app.extensionManager?.setting?.get?.("Comfy.Locale") ?? "en");
  const words = WORDS[language] ?? WORDS[language.split("-")[0]] ?? ENGLISH;
  return (words[key] ?? ENGLISH[key]).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}
