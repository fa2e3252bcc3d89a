"""How likeness holds in videos longer than the training's, on the nano model (17 frames) in a real host.

    COMFYUI_PATH=... python -m benchmarks.long_videos 97|193 [--people N]     (in that host's environment)

Mean identity score of the whole video and of each eighth of it, where a frame without a face counts as 0: in one run,
with and without RIFLEx, and in context windows of the trained length, each with one anchor more than the one before.
RIFLEx slows the frequency that makes the released model, trained on 49 frames, repeat itself; nano was trained on 17.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from benchmarks.on_nano import (
    Made,
    Subject,
    average,
    invite,
    ksampler,
    make,
    nano_host,
    parse,
    person,
    print_table,
    watched,
)
from echovideo_model.limits import FRAME_STEP
from echovideo_model.nano.clip import FRAMES
from testbed.graphs import Graph, node, out
from testbed.harness import Host

STEPS, PARTS = 10, 8
IN_ONE_RUN = {"one run": "model", "one run, RIFLEx": "riflex"}
WINDOW = {"context_length": (FRAMES - 1) // FRAME_STEP + 1, "context_overlap": 2, "dim": 2}  # latent frames
NOTHING = {"causal_window_fix": False}
ANCHORS = {
    "windows, no face latent": NOTHING,
    "windows, face latent in each": NOTHING,
    "the same, the frame before each kept": {"causal_window_fix": True},  # the host's default
    "the same, the first frame kept in each": {"causal_window_fix": True, "latent_retain_index_list": "0"},
}


def main() -> None:
    arguments = parse(__doc__, 1, add_frames)
    with nano_host() as host:
        subjects = invite(host, arguments.people)
        print(f"\n{arguments.people} people, {arguments.frames} frames, euler, simple, {STEPS} steps\n")
        head = ("", "mean", "frames with a face", *(f"{part}/{PARTS}" for part in range(1, PARTS + 1)))
        print_table(head, make_rows(host, subjects, arguments.frames))


def add_frames(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("frames", type=int, choices=(97, 193))


def make_rows(host: Host, subjects: list[Subject], frames: int) -> Iterator[tuple[str, ...]]:
    rows = [(f"{FRAMES} frames, as trained", [video(one, FRAMES, "model") for one in subjects])]
    rows += [(name, [video(one, frames, model) for one in subjects]) for name, model in IN_ONE_RUN.items()]
    rows += [(name, [in_windows(host, one, frames, name) for one in subjects]) for name in ANCHORS]
    for name, graphs in tqdm(rows, desc="rows", disable=None):
        made = [make(host, graph) for graph in graphs]
        parts = over_time(made) if len(made[0].curve) >= PARTS else []
        likeness = average(one.similarity for one in made), average(one.faces for one in made)
        yield name, *(f"{value:.3f}" for value in likeness), *(f"{value:.3f}" for value in parts)


def video(subject: Subject, frames: int, model: str, **changed: None) -> Graph:
    graph = person(subject, frames, **changed) | ksampler(subject, STEPS, model) | watched(frames=False)
    return graph | {"riflex": node("EchoVideoRIFLEx", model=out("model"))}


def in_windows(host: Host, subject: Subject, frames: int, name: str) -> Graph:
    windows = host.node("ContextWindowsManual", model=out("model"), **WINDOW, **ANCHORS[name])
    without = {"vae": None} if "no face latent" in name else {}
    return video(subject, frames, "windows", **without) | {"windows": windows}


def over_time(made: list[Made]) -> list[float]:
    """The mean similarity in each of PARTS equal parts of the videos."""
    curves = np.array([[value or 0.0 for value in one.curve] for one in made]).mean(0)
    return [float(part.mean()) for part in np.array_split(curves, PARTS)]


if __name__ == "__main__":
    main()
