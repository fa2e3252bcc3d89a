"""A face recogniser with nothing to train: a random projection keeps angles, and so tells pictures apart.

Its input and output are those of ArcFace: an aligned face [N, 3, 112, 112] and an un-normalised embedding
[N, 512] of length about sqrt(512), as the released one's is. The face is shrunk to 14 x 14 pixels, its mean colour
taken out and its contrast set to 1, so that light and size hardly matter, and projected by seeded weights. The
same drawing comes out close to itself, two drawings apart; of who somebody is it knows nothing.
"""

from __future__ import annotations

import numpy as np

from .graph import Graph
from .weights import seeded

FACE, POOL, WIDTH = 112, 8, 512


def recogniser_file() -> bytes:
    """glintr100.onnx: RGB, (x - 127.5) / 127.5, to the embedding."""
    graph = Graph()
    pixels = (FACE // POOL) ** 2
    small = graph.add("AveragePool", "input", kernel_shape=[POOL, POOL], strides=[POOL, POOL])
    colours = graph.add("Reshape", small, np.array([-1, 3, pixels]))
    centred = graph.add("Sub", colours, graph.add("ReduceMean", colours, axes=[2]))
    values = graph.add("Reshape", centred, np.array([-1, 3 * pixels]))
    power = graph.add("ReduceMean", graph.add("Mul", values, values), axes=[1])
    contrast = graph.add("Sqrt", graph.add("Add", power, 1e-6))  # of one plain colour: the embedding is zero
    weights = seeded("recogniser.weight", (WIDTH, 3 * pixels)).numpy().T  # [588, 512]
    graph.add("MatMul", graph.add("Div", values, contrast), weights, output="embedding")
    return graph.model({"input": ("faces", 3, FACE, FACE)}, {"embedding": ("faces", WIDTH)})


__all__ = ["recogniser_file"]
