"""What the model was trained on and what may be asked of it: library, command line and nodes read it here.

Nothing is imported, so that a command can name its choices without loading PyTorch.
"""

from __future__ import annotations

FACE_ORDERS = ("largest", "left to right", "top to bottom", "confidence", "closest")
ON_NO_FACE = ("error", "skip photo", "no identity")
"""What a photo without a face does: stop; be left out; or, if no photo shows one, make the identity of nobody."""
