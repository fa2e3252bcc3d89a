"""What the model was trained on and the limits of a request, for library, command line and nodes.

Nothing heavy is imported, so that a command can name its choices without loading PyTorch.
"""

from __future__ import annotations

from typing import Literal

FPS = 16.0  # frames per second of the clips that it was trained on
MIN_FPS, MAX_FPS = 1, 240  # of a video file
TRAINED_SIZES = ((480, 640), (480, 848), (480, 480), (848, 480), (640, 480))  # height x width, in pixels
TRAINED_FRAMES = 49
TEXT_TOKENS = 226  # of the released transformer, padding included; any other says its own in text_proj

# Pixels; the VAE makes 8 of them one, the transformer 2 of those.
MIN_SIDE, MAX_SIDE, SIDE_STEP = 16, 4096, 16
# Frames are 4n + 1: after the first one, the VAE makes 4 of them one.
MAX_FRAMES, FRAME_STEP = 1025, 4
TRAIN_STEPS = 1000  # noise levels in training, and so the most steps of a run
MAX_GUIDANCE_SCALE = 100.0
MAX_STRENGTH = 1.5  # of an identity: 0 is nobody, 1 the person
MAX_SEED = 2**64 - 1  # what PyTorch's generators take

Sampler = Literal["dpm", "ddim"]
SAMPLERS: tuple[Sampler, ...] = ("dpm", "ddim")
Guidance = Literal["constant", "smooth", "reference"]
GUIDANCES: tuple[Guidance, ...] = ("reference", "smooth", "constant")

FACE_ORDERS = ("largest", "left to right", "top to bottom", "confidence", "closest")
ON_NO_FACE = ("error", "skip photo", "no identity")
"""What to do with a photo without a face: stop; skip it; or skip it and, if no photo shows a face, use nobody's
identity."""
MAX_PADDING = 1.0  # black on every side of a photo, as a share of its size
