"""A face detector with nothing to train: a drawn face, looked for at every place and size.

Its inputs and outputs are those of SCRFD with landmarks (strides 8, 16 and 32, two anchors each), so the
library that runs the released detector runs this one the same way. Inside is a matched filter: the grey
picture is averaged into cells of half a stride and compared with a small bank of face templates by weighted,
normalised correlation, which neither brightness nor contrast changes. The score follows that correlation; box
and landmarks are those of the best template. It finds flatly drawn, frontal, upright faces of 60 to 500 of the
detector's pixels, such as the portraits in assets/; photographs of people it mostly misses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph import Graph, Shape

STRIDES = (8, 16, 32)
ANCHORS = 2
SIZES = 15.5 * 2.0 ** (np.arange(8) / 7)  # face widths in cells of half a stride: one octave, as the strides
SHIFTS = (-0.5, 0.5)  # a template is tried at four places around an anchor's centre, in cells, each axis
REACH = 20  # cells from the middle of a template to its edge
# Correlation becomes score: drawn faces reach 0.69 and more, noise, textures and photographs at most 0.52.
MIDDLE, STEEPNESS = 0.57, 20.0
QUIET = 0.02  # deviation added to every patch: one flatter than two grey levels holds no face

# A face in its own frame: the nose tip is the origin, the box is 1 wide, y points down.
LANDMARKS = np.array([(-0.231, -0.263), (0.231, -0.263), (0.0, 0.0), (-0.192, 0.263), (0.192, 0.263)])
BOX = np.array([-0.5, -0.72, 0.5, 0.60])  # left, top, right, bottom
SPOTS = (  # what is darker than skin: depth, x, y, half width, half height
    (1.0, -0.231, -0.263, 0.06, 0.07),
    (1.0, 0.231, -0.263, 0.06, 0.07),
    (0.65, -0.235, -0.48, 0.10, 0.04),
    (0.65, 0.235, -0.48, 0.10, 0.04),
    (0.35, 0.0, 0.05, 0.09, 0.03),
    (0.85, 0.0, 0.31, 0.15, 0.055),
)
OVAL = (0.0, -0.1, 0.46, 0.62)  # where the comparison looks: x, y, half width, half height


def _template(size: float, dx: float, dy: float) -> tuple[np.ndarray, np.ndarray]:
    """Window and window x template of a face `size` cells wide around (dx, dy): two [2 REACH, 2 REACH] kernels.

    The window sums to 1; under it the template has mean 0 and variance 1, as correlation asks.
    """
    cells = np.arange(2 * REACH) - REACH + 0.5
    x, y = (cells[None, :] - dx) / size, (cells[:, None] - dy) / size
    cx, cy, rx, ry = OVAL
    window = np.clip((1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2) * 4, 0, 1)
    window /= window.sum()
    face = -sum(d * np.exp(-(((x - u) / w) ** 2) - ((y - v) / h) ** 2) for d, u, v, w, h in SPOTS)
    face -= (window * face).sum()
    face /= np.sqrt((window * face**2).sum())
    return window, window * face


def _bank() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All templates, anchor after anchor: windows and templates [32, 1, h, w]; boxes [32, 4], landmarks [32, 10].

    Boxes are distances to the four sides, landmarks are offsets, both from the anchor and in strides.
    """
    places = [(size, dx, dy) for size in SIZES for dy in SHIFTS for dx in SHIFTS]
    kernels = np.array([_template(*place) for place in places], np.float32)[:, :, None]
    # an anchor stands in the corner of its stride's square, the templates around the square's middle
    centres = np.array([(dx + 1, dy + 1) for _, dx, dy in places])[:, None] / 2
    widths = np.array([size for size, _, _ in places])[:, None, None] / 2
    corners = centres + widths * BOX.reshape(2, 2)
    boxes = np.concatenate([-corners[:, 0], corners[:, 1]], axis=1)
    landmarks = (centres + widths * LANDMARKS).reshape(-1, 10)
    return kernels[:, 0], kernels[:, 1], boxes.astype(np.float32), landmarks.astype(np.float32)


def make_detector_file() -> bytes:
    """scrfd_10g_bnkps.onnx: picture [1, 3, H, W] in RGB, (x - 127.5) / 128, to SCRFD's nine outputs.

    For each stride s and its (H // s) (W // s) 2 anchors: score_s [n, 1], bbox_s [n, 4], kps_s [n, 10].
    """
    graph = Graph()
    window, template, boxes, landmarks = map(graph.constant, _bank())
    per_anchor = len(SIZES) * len(SHIFTS) ** 2 // ANCHORS
    first_of_anchor = graph.constant(np.arange(ANCHORS) * per_anchor)
    around: dict[str, Any] = {"strides": [2, 2], "pads": [REACH - 1] * 4}

    grey = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)
    cells = graph.add("Conv", "input", grey)
    for stride in STRIDES:
        pool = [4, 4] if stride == STRIDES[0] else [2, 2]
        cells = graph.add("AveragePool", cells, kernel_shape=pool, strides=pool)
        mean = graph.add("Conv", cells, window, **around)
        power = graph.add("Conv", graph.add("Mul", cells, cells), window, **around)
        variance = graph.add("Max", graph.add("Sub", power, graph.add("Mul", mean, mean)), 0.0)
        deviation = graph.add("Sqrt", graph.add("Add", variance, QUIET**2))
        likeness = graph.add("Div", graph.add("Conv", cells, template, **around), deviation)
        rows = graph.add("Transpose", likeness, perm=[0, 2, 3, 1])  # [1, h, w, 32]
        rows = graph.add("Reshape", rows, np.array([-1, ANCHORS, per_anchor]))  # [h w, 2, 16]
        above = graph.add("Sub", graph.add("ReduceMax", rows, axes=[2], keepdims=0), MIDDLE)  # [h w, 2]
        score = graph.add("Sigmoid", graph.add("Mul", above, STEEPNESS))
        best = graph.add("Add", graph.add("ArgMax", rows, axis=2, keepdims=0), first_of_anchor)  # [h w, 2]
        for kind, width, values in (
            ("score", 1, score),
            ("bbox", 4, graph.add("Gather", boxes, best)),
            ("kps", 10, graph.add("Gather", landmarks, best)),
        ):
            graph.add("Reshape", values, np.array([-1, width]), output=f"{kind}_{stride}")
    outputs: dict[str, Shape] = {
        f"{kind}_{stride}": (f"anchors_{stride}", width)
        for kind, width in (("score", 1), ("bbox", 4), ("kps", 10))
        for stride in STRIDES
    }
    return graph.model({"input": (1, 3, "height", "width")}, outputs)
