"""A face recogniser with nothing to train: a random projection keeps angles, and so tells drawings apart.

Its input and output are those of ArcFace: an aligned face [N, 3, 112, 112] and an un-normalised embedding
[N, 512] of a length about that of the released one's. What is projected, by seeded weights, is the middle of the
face in 14 x 14 pixels, with its mean colour taken out and its contrast set to 1, so that light and size hardly
matter; and how warm that mean colour is. So a portrait of assets/ comes out at a cosine above 0.7 to itself, at any
size, and below 0.2 to the other one, as people do with the released recogniser; of others it knows nothing.
"""

from __future__ import annotations

import numpy as np

from .graph import Graph
from .weights import draw_parameter

FACE, POOL, WIDTH = 112, 8, 512
SIDE = FACE // POOL
MIDDLE = (0.55, 0.25)  # of the face in the aligned picture: where from its top, and how far it reaches
USUAL_WARMTH = 0.57  # (red - blue) / mean of a drawn face: 0.4 and 0.8 in the portraits, 0 in grey photos
COLOUR_WEIGHT = 6.0  # against a pattern of length 1


def _window() -> np.ndarray:
    """How much each of the 14 x 14 pixels counts: [196, 1], the sum is 1."""
    height, reach = MIDDLE
    places = (np.arange(SIDE) + 0.5) / SIDE
    away = (places[None, :] - 0.5) ** 2 + (places[:, None] - height) ** 2
    window = np.exp(-away / (2 * reach**2)).reshape(-1, 1)
    return (window / window.sum()).astype(np.float32)


def make_recogniser_file() -> bytes:
    """glintr100.onnx: RGB, (x - 127.5) / 127.5, to the embedding."""
    graph, window = Graph(), _window()
    small = graph.add("AveragePool", "input", kernel_shape=[POOL, POOL], strides=[POOL, POOL])
    colours = graph.add("Reshape", small, np.array([-1, 3, SIDE**2]))
    mean = graph.add("MatMul", colours, window)  # [N, 3, 1]
    centred = graph.add("Mul", graph.add("Sub", colours, mean), np.sqrt(window).T)
    values = graph.add("Reshape", centred, np.array([-1, 3 * SIDE**2]))
    contrast = graph.add("ReduceL2", values, axes=[1])
    pattern = graph.add("Div", values, graph.add("Add", contrast, 1e-3))  # zero for one plain colour

    light = graph.add("Reshape", graph.add("Add", mean, 1.0 + 1e-3), np.array([-1, 3]))
    red_less_blue = graph.add("MatMul", light, np.array([[1], [0], [-1]], np.float32))  # [N, 1]
    warmth = graph.add("Div", red_less_blue, graph.add("ReduceMean", light, axes=[1]))
    # zero for grey photos, which have lost their colour, and of opposite signs on the two sides of the usual
    colour = graph.add("Mul", warmth, graph.add("Sub", warmth, USUAL_WARMTH))

    features = graph.add("Concat", pattern, graph.add("Mul", colour, COLOUR_WEIGHT), axis=1)  # [N, 589]
    weights = draw_parameter("recogniser.weight", (WIDTH, 3 * SIDE**2 + 1)).numpy()
    weights *= np.sqrt(weights.shape[1])  # a pattern of length 1 then gives an embedding of about sqrt(512)
    graph.add("MatMul", features, weights.T, output="embedding")
    return graph.model({"input": ("faces", 3, FACE, FACE)}, {"embedding": ("faces", WIDTH)})
