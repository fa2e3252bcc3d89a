"""How much the person in a video looks like the person it was made for: ArcFace similarity, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..errors import InvalidRequest, NoFaceFound
from ..face.detect import cosine_similarity
from ..face.photo import limit_long_edge
from ..video import to_uint8

if TYPE_CHECKING:
    from ..face.detect import FaceDetector


@dataclass(frozen=True)
class Scores:
    """Cosine similarity (-1..1) of each frame's face with the reference, None where a frame shows no face.

    Frames count from 0. The figures are over the frames with a face, and None where no frame has one.
    """

    per_frame: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        return fmean(self._found) if self._found else None

    @property
    def standard_deviation(self) -> float | None:
        """Of these frames (divided by their number, not by one less)."""
        return pstdev(self._found) if self._found else None

    @property
    def minimum(self) -> float | None:
        return min(self._found, default=None)

    @property
    def worst_frame(self) -> int | None:
        """The first frame with the least similarity."""
        return None if self.minimum is None else self.per_frame.index(self.minimum)

    @property
    def frames_without_face(self) -> tuple[int, ...]:
        return tuple(index for index, value in enumerate(self.per_frame) if value is None)

    def __str__(self) -> str:
        count, absent = len(self.per_frame), len(self.frames_without_face)
        if absent == count:
            return f"no face in any of {count} frames, so there is no similarity"
        text = f"mean {self.mean:.3f}, standard deviation {self.standard_deviation:.3f}, "
        text += f"minimum {self.minimum:.3f} at frame {self.worst_frame}"
        return f"{text}, no face in {absent} of {count} frames" if absent else text

    def as_dict(self) -> dict[str, Any]:
        """Everything above under its own name, and `frames`, their number; ready for JSON."""
        return {
            "frames": len(self.per_frame),
            "mean": self.mean,
            "standard_deviation": self.standard_deviation,
            "minimum": self.minimum,
            "worst_frame": self.worst_frame,
            "frames_without_face": list(self.frames_without_face),
            "per_frame": list(self.per_frame),
        }

    @property
    def _found(self) -> list[float]:
        return [value for value in self.per_frame if value is not None]


def score(
    frames: Iterable[Tensor | np.ndarray], reference: Tensor | np.ndarray, detector: FaceDetector
) -> Scores:
    """Compares the largest face of each frame with `reference`, an ArcFace embedding [512] of any length.

    `frames` are [H, W, 3], float in 0..1 or uint8 RGB, one by one; each is treated as a photo is (long edge at most
    1024). The largest face is the one meant: choosing the most similar would hide that the lead was recast.
    Raises InvalidRequest for a reference without a direction and for frames with NaN.
    """
    embedding = np.asarray(reference, np.float64).ravel()  # [512]
    if not np.isfinite(embedding).all() or not embedding.any():
        raise InvalidRequest("the reference embedding is zero or not finite: make the identity again")
    return Scores(
        tuple(
            _similarity(limit_long_edge(to_uint8(frame, f"frame {index}")), embedding, detector)
            for index, frame in enumerate(frames)
        )
    )


def _similarity(frame: np.ndarray, reference: np.ndarray, detector: FaceDetector) -> float | None:
    try:
        return cosine_similarity(detector.detect(frame)[0].embedding, reference)
    except NoFaceFound:
        return None
