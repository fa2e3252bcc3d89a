"""How much the person in a video looks like the person it was made for: ArcFace similarity, frame by frame.

`score` is this package's own measure, over every frame; what follows it is FaceSim as ConsisID's script measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from ..errors import InvalidRequest, NoFaceFound, WrongModelFile
from ..face import import_optional
from ..face.detect import Face, cosine_similarity, guard_insightface
from ..face.photo import limit_long_edge
from ..video import to_uint8
from .judges import DOWNLOAD

if TYPE_CHECKING:
    from ..face.detect import FaceDetector


@dataclass(frozen=True)
class Scores:
    """Cosine similarity (-1..1) of each frame's face with the reference, None where a frame shows no face.

    Frames count from 0. The figures cover the frames with a face; they are None if no frame has one.
    """

    per_frame: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        return fmean(self._found) if self._found else None

    @property
    def standard_deviation(self) -> float | None:
        """Over these frames (divided by their number, not by one less)."""
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

    `frames` are [H, W, 3], float in 0..1 or uint8 RGB, one by one; each is treated like a photo (long edge at most
    1024). The largest face is compared: choosing the most similar one would hide that somebody else is in the lead.
    Raises InvalidRequest for a reference without a direction and for frames with NaN.
    """
    embedding = _require_somebody(reference)
    return Scores(
        tuple(
            _similarity(limit_long_edge(to_uint8(frame, f"frame {index}")), embedding, detector)
            for index, frame in enumerate(frames)
        )
    )


def _require_somebody(reference: Tensor | np.ndarray) -> np.ndarray:
    """float64 [512]. Raises InvalidRequest for an embedding without a direction, such as nobody's."""
    embedding = np.asarray(reference, np.float64).ravel()
    if not np.isfinite(embedding).all() or not embedding.any():
        raise InvalidRequest("the reference embedding is zero or not finite: make the identity again")
    return embedding


def _similarity(frame: np.ndarray, reference: np.ndarray, detector: FaceDetector) -> float | None:
    try:
        return cosine_similarity(detector.detect(frame)[0].embedding, reference)
    except NoFaceFound:
        return None


SCRIPT_DETECTOR_SIZE = 320  # of FaceSim's script; EchoVideo looks at 640 first
SCRIPT_MARGIN, GREY = 0.25, 128  # added on every side where no face is found
CROP_SIDE = 224
RECOGNISER = (
    "w600k_r50.onnx"  # ArcFace R50 of buffalo_l, trained on WebFace600K; antelopev2's R100 on Glint360K
)


class Seen(NamedTuple):
    """The face that FaceSim looks at in a frame."""

    picture: np.ndarray  # uint8 RGB [H, W, 3]: the frame, or the frame with grey around it
    face: Face  # in the picture's pixels
    margin: np.ndarray  # [2]: x and y of the frame in the picture

    def crop(self) -> np.ndarray:
        """The face turned upright, uint8 RGB [224, 224, 3], out of the frame without the grey, as the script does."""
        left, top = self.margin
        frame = self.picture[top : self.picture.shape[0] - top, left : self.picture.shape[1] - left]
        face_align = import_optional("insightface.utils.face_align")
        with guard_insightface(Path()):
            return np.asarray(face_align.norm_crop(frame, self.face.landmarks - self.margin, CROP_SIDE))


def look(frame: np.ndarray, detector: FaceDetector) -> Seen | None:
    """The largest face of a frame (uint8 RGB [H, W, 3]) by the rule of FaceSim's script; None without one.

    Only at detector size 320 and, if that finds nothing, once more with 25 % of grey on every side.
    """
    rows, columns = (int(length * SCRIPT_MARGIN) for length in frame.shape[:2])
    for margin in ((0, 0), (columns, rows)):
        sides = ((margin[1],) * 2, (margin[0],) * 2, (0, 0))
        picture = np.pad(frame, sides, constant_values=GREY) if any(margin) else frame
        if faces := detector.detect_at(picture, SCRIPT_DETECTOR_SIZE):
            return Seen(picture, faces[0], np.array(margin))
    return None


def embed_as_conditioned(seen: Seen) -> np.ndarray:
    """antelopev2's embedding [512]: what EchoVideo is conditioned on, so a score by it alone is circular."""
    return seen.face.embedding


class Recogniser:
    """buffalo_l's recogniser through insightface: the one used for the published FaceSim-Arc, not EchoVideo's own."""

    def __init__(self, path: Path) -> None:
        """Raises WrongModelFile, or DependencyMissing without insightface or onnxruntime."""
        get_model = import_optional("insightface.model_zoo").get_model
        self._folder = path.parent
        with guard_insightface(self._folder, AssertionError, OSError, RuntimeError, ValueError):
            self._network = get_model(str(path), providers=["CPUExecutionProvider"])
        if getattr(self._network, "taskname", None) != "recognition":
            raise WrongModelFile(f"{path} is not a face recogniser; {DOWNLOAD}")

    def embed(self, seen: Seen) -> np.ndarray:
        """ArcFace, float32 [512], not normalised."""
        face = import_optional("insightface.app.common").Face(kps=seen.face.landmarks)
        with guard_insightface(self._folder):
            embedding = self._network.get(np.ascontiguousarray(seen.picture[..., ::-1]), face)
        return np.asarray(embedding, np.float32)


def face_sim(
    sightings: Iterable[Seen | None], reference: np.ndarray, embed: Callable[[Seen], np.ndarray]
) -> Scores:
    """FaceSim (ConsisID, get_facesim_fid.py): cosine with `reference` [512], clamped at 0, of each sampled frame.

    `sightings` are those of frames.spread(n), 16 of n frames. The mean is the video's; the script counts a video
    without any face as 0. Raises InvalidRequest for a reference without a direction.
    """
    person = _require_somebody(reference)
    return Scores(
        tuple(
            None if seen is None else max(0.0, cosine_similarity(embed(seen), person)) for seen in sightings
        )
    )
