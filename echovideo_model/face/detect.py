"""Finding the faces of a photo: box, landmarks and identity embedding of each, all from one detection."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelFileMissing, NoFaceFound, WrongModelFile
from . import DOWNLOAD, import_optional

logger = logging.getLogger(__name__)

# antelopev2's, which EchoVideo was trained with
DETECTOR, RECOGNISER = "scrfd_10g_bnkps.onnx", "glintr100.onnx"
EMBEDDING_WIDTH = 512
DETECTOR_SIZES = (640, 512, 384, 320)  # the reference's first; smaller ones find faces that fill the photo
PADDINGS = (0.25, 0.5)  # black on every side, as a share of it: for faces that the photo cuts off


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo. Coordinates are photo pixels, x to the right and y down; they may lie outside it."""

    box: np.ndarray  # float32 [4]: left, top, right, bottom
    landmarks: np.ndarray  # float32 [5, 2]: eyes, nose tip, mouth corners, from the viewer's left
    confidence: float  # the detector's, 0..1
    embedding: np.ndarray  # float32 [512]: ArcFace, not normalised

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    @property
    def centre(self) -> tuple[float, float]:
        """Of the box: x, y."""
        return float(self.box[0] + self.box[2]) / 2, float(self.box[1] + self.box[3]) / 2


class FaceDetector:
    """antelopev2 through insightface: detector and recogniser."""

    def __init__(self, folder: str | Path) -> None:
        """Loads the two ONNX files, which may lie anywhere below `folder` as long as they lie together.

        Raises DependencyMissing without insightface or onnxruntime, ModelFileMissing, WrongModelFile.
        """
        self.folder = _model_folder(Path(folder))
        analysis = import_optional("insightface.app").FaceAnalysis
        with insightface_running(self.folder, AssertionError, OSError, RuntimeError, ValueError):
            self._app = analysis(
                name=str(self.folder),  # a path: a mere name would be downloaded
                allowed_modules=["detection", "recognition"],
                providers=["CPUExecutionProvider"],  # it is one photo
            )
        absent = {"detection", "recognition"} - set(self._app.models)
        if absent:
            raise WrongModelFile(
                f"{self.folder} holds no model for {' and '.join(sorted(absent))}; {DOWNLOAD}"
            )

    def detect(self, photo: np.ndarray) -> list[Face]:
        """The faces of `photo` (uint8 RGB [H, W, 3]), largest first.

        Tries each of DETECTOR_SIZES, then the first of them with each of PADDINGS, until something is found.
        Raises NoFaceFound with the photo's size and what was tried.
        """
        for size in DETECTOR_SIZES:
            if faces := self.detect_at(photo, size):
                return faces
        height, width = photo.shape[:2]
        for share in PADDINGS:
            rows, columns = round(height * share), round(width * share)
            padded = np.pad(photo, ((rows, rows), (columns, columns), (0, 0)))
            if faces := self.detect_at(padded, DETECTOR_SIZES[0]):
                offset = np.array([columns, rows], np.float32)
                return [
                    replace(face, box=face.box - np.tile(offset, 2), landmarks=face.landmarks - offset)
                    for face in faces
                ]
        raise NoFaceFound(
            f"no face found in the photo of {width} x {height} pixels, tried at detector sizes "
            f"{', '.join(map(str, DETECTOR_SIZES))} and with {' and '.join(f'{share:.0%}' for share in PADDINGS)} "
            "black padding: use a photo in which the face is upright, sharp and uncovered"
        )

    def detect_at(self, photo: np.ndarray, size: int) -> list[Face]:
        """The faces of `photo` as `detect` gives them, found at one detector size alone; empty if there is none."""
        with insightface_running(self.folder):
            # the size is explicit because insightface by itself adds a second one
            self._app.prepare(ctx_id=0, det_size=(size, size))
            found = self._app.get(np.ascontiguousarray(photo[..., ::-1]))  # it takes BGR
        if not found:
            logger.debug(
                "no face at detector size %d in %d x %d pixels", size, photo.shape[1], photo.shape[0]
            )
        return sorted((self._face(one) for one in found), key=lambda face: face.area, reverse=True)

    def _face(self, found: Any) -> Face:
        """insightface's record of a face as ours."""
        embedding = np.asarray(found["embedding"], np.float32).reshape(-1)
        if found["kps"] is None or embedding.size != EMBEDDING_WIDTH or not np.isfinite(embedding).all():
            raise WrongModelFile(
                f"{self.folder} does not hold antelopev2: it gives no landmarks, or an embedding that is not "
                f"{EMBEDDING_WIDTH} finite numbers; {DOWNLOAD}"
            )
        box, landmarks = (np.asarray(found[key], np.float32) for key in ("bbox", "kps"))
        return Face(box, landmarks, float(found["det_score"]), embedding)


def cosine_similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Of two embeddings of one width: 1 for the same direction, around 0 for strangers; 0 if one is zero."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


def _model_folder(folder: Path) -> Path:
    """The folder at or below `folder` that holds both models; archives often unpack to antelopev2/antelopev2."""
    holding = {name: {path.parent for path in folder.rglob(name)} for name in (DETECTOR, RECOGNISER)}
    if together := holding[DETECTOR] & holding[RECOGNISER]:
        return min(together, key=lambda path: (len(path.parts), path)).resolve()
    searched = ", ".join([str(folder), *sorted(str(path) for path in folder.rglob("*") if path.is_dir())])
    if missing := [name for name, places in holding.items() if not places]:
        raise ModelFileMissing(
            f"{' and '.join(missing)} of antelopev2 not found; searched {searched}; {DOWNLOAD}"
        )
    raise ModelFileMissing(
        f"{DETECTOR} and {RECOGNISER} lie in different folders, put them into one; searched {searched}"
    )


@contextlib.contextmanager
def insightface_running(folder: Path, *broken: type[Exception]) -> Iterator[None]:
    """What insightface 1 prints goes to stderr, and its use of scikit-image's older names is not told to the user;
    onnxruntime's refusals, and `broken`, become WrongModelFile."""
    runtime = import_optional("onnxruntime.capi.onnxruntime_pybind11_state")
    refusals: tuple[type[Exception], ...] = tuple(  # they have no base class of their own
        entry for entry in vars(runtime).values() if isinstance(entry, type) and issubclass(entry, Exception)
    )
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    except (*refusals, *broken) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise WrongModelFile(f"the face models in {folder} cannot be used ({reason}); {DOWNLOAD}") from error
