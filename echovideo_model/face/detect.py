"""Finding the faces of a photo: box and landmarks of each, and its identity embedding once it is asked for."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import numpy as np

from ..errors import ModelFileMissing, NoFaceFound, WrongModelFile
from ..facts import ENCODERS_KEY
from ..weights.headers import recognise
from . import DOWNLOAD, import_optional
from .views import View, crop_around, measure_overlap, pad, take_whole, turn

# antelopev2's, which EchoVideo was trained with
DETECTOR, RECOGNISER = "scrfd_10g_bnkps.onnx", "glintr100.onnx"
EMBEDDING_WIDTH = 512
# The reference's first. It misses faces that fill more than 0.6 of the photo; 192 sees all of these, and costs a tenth.
DETECTOR_SIZES = (640, 192, 512, 384, 320)
PADDINGS = (0.25, 0.5)  # black on every side, as a share of it: for faces that the photo cuts off
SAME_FACE = 0.4  # boxes that overlap more (intersection over union) are one face; insightface's own threshold
# Upright faces got 0.76 and more at their better size, upside-down ones at most 0.67, sideways ones 0.78.
SURE, CLEAR, CLEARLY_BETTER = 0.6, 0.75, 0.1
TURNS = (180, 90, 270)  # degrees
MIN_FACE = 40  # pixels: in narrower faces landmarks are off more than twice as far as in wide ones


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo. Coordinates are photo pixels, x to the right and y down; they may lie outside it."""

    box: np.ndarray  # float32 [4]: left, top, right, bottom
    landmarks: np.ndarray  # float32 [5, 2]: eyes, nose tip, mouth corners, from the viewer's left
    confidence: float  # the detector's, 0..1: the highest among the sizes that saw the face
    embedding: np.ndarray  # float32 [512]: ArcFace, not normalised
    turned: int = 0  # degrees, counter-clockwise, by which the photo was turned for this face to be upright

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    @property
    def centre(self) -> tuple[float, float]:
        """Of the box: x, y."""
        return float(self.box[0] + self.box[2]) / 2, float(self.box[1] + self.box[3]) / 2

    @property
    def warning(self) -> str:
        """Why a video made from this face may not look like the person; empty if nothing suggests so."""
        width, height = self.box[2:] - self.box[:2]
        if min(width, height) < MIN_FACE:
            return (
                f"the face is only {width:.0f} x {height:.0f} pixels, too small to recognise a person "
                f"(at least {MIN_FACE} are needed after the photo's longer side is reduced to 1024): "
                "use a larger photo, or crop this one to the face"
            )
        if self.turned:
            lies = "upside down" if self.turned == 180 else "on its side"
            return f"the face is {lies} in the photo and was turned upright: check the face picture"
        if self.confidence < SURE:
            return (
                f"this may not be an upright face (confidence {self.confidence:.2f}): check the face picture"
            )
        return ""


class _FoundFace(Face):
    """A face whose embedding is computed when it is first read: for most faces in a group, it never is."""

    def __init__(self, seen: _Seen, recognise: Callable[[], np.ndarray]) -> None:
        vars(self).update(vars(seen), _recognise=recognise)  # the class is frozen

    @cached_property
    def embedding(self) -> np.ndarray:  # type: ignore[override]
        return self._recognise()  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class _Seen:
    """A face as one look of the detector saw it: fields as Face's."""

    box: np.ndarray
    landmarks: np.ndarray
    confidence: float
    turned: int = 0

    def is_same(self, other: _Seen) -> bool:
        return measure_overlap(self.box, other.box) > SAME_FACE

    @property
    def area(self) -> float:
        return float(np.prod(self.box[2:] - self.box[:2]))


class FaceDetector:
    """antelopev2 through insightface: detector and recogniser. It may be used from several threads."""

    def __init__(self, folder: str | Path) -> None:
        """Loads the two ONNX files, which may lie anywhere below `folder` as long as they lie together.

        Raises DependencyMissing without insightface or onnxruntime, ModelFileMissing, WrongModelFile.
        """
        self.folder = _model_folder(Path(folder))
        for name in (DETECTOR, RECOGNISER):
            if what := recognise(self.folder / name):
                raise WrongModelFile(f"{self.folder / name} is not a face model but {what}; {DOWNLOAD}")
        analysis = import_optional("insightface.app").FaceAnalysis
        with guard_insightface(self.folder, AssertionError, OSError, RuntimeError, ValueError):
            app = analysis(
                name=str(self.folder),  # a path: a mere name would be downloaded
                allowed_modules=["detection", "recognition"],
                providers=["CPUExecutionProvider"],  # there is only one photo
            )
            absent = {"detection", "recognition"} - set(app.models)
            if not absent:
                app.prepare(ctx_id=0, det_size=DETECTOR_SIZES[:1] * 2)  # each look names its own size
        if absent:
            raise WrongModelFile(f"{self.folder} has no model for {' and '.join(sorted(absent))}; {DOWNLOAD}")
        self._finder, self._recogniser = app.models["detection"], app.models["recognition"]
        said = self._recogniser.session.get_modelmeta().custom_metadata_map
        self.made_by = str(said.get(ENCODERS_KEY, ""))
        """The name that the recogniser's file gives the set of face encoders."""

    def detect(self, photo: np.ndarray) -> list[Face]:
        """The faces of `photo` (uint8 RGB [H, W, 3]), largest first, each once however many detector sizes see it.

        Where the reference's size sees a face, box, landmarks and embedding are the reference's. A photo without a face
        is searched again with each of PADDINGS, then turned by 90, 180 and 270 degrees; a face that is not CLEAR is
        also looked at in a turned photo, and reported as seen there if that is clearly better. Raises NoFaceFound with
        the photo's size and what was tried.
        """
        faces = [
            face if face.confidence >= CLEAR else self._turn_upright(photo, face)
            for face in self._search(take_whole(photo))
        ]
        if not faces:
            faces = self._search_harder(photo)
        if not faces:
            raise explain_no_face(photo.shape[1], photo.shape[0])
        return self._sort_by_size(photo, faces)

    def detect_at(self, photo: np.ndarray, size: int) -> list[Face]:
        """The faces of `photo` as `detect` gives them, found at one detector size alone; empty if there is none."""
        return self._sort_by_size(photo, self._look(take_whole(photo), size))

    def _sort_by_size(self, photo: np.ndarray, faces: list[_Seen]) -> list[Face]:
        faces.sort(key=lambda face: face.area, reverse=True)
        return [_FoundFace(face, partial(self._embed, photo, face.landmarks)) for face in faces]

    def _search(self, view: View, degrees: int = 0) -> list[_Seen]:
        """What all DETECTOR_SIZES see, each face once.

        Two sizes are enough where both see the largest face. Any other is seen better by the first of them, which
        has the most pixels; what that misses is so large that the second has pixels enough.
        """
        looks = [self._look(view, size, degrees) for size in DETECTOR_SIZES[:2]]
        largest = max(chain(*looks), key=lambda face: face.area, default=None)
        if largest is None or not all(any(map(largest.is_same, look)) for look in looks):
            looks += [self._look(view, size, degrees) for size in DETECTOR_SIZES[2:]]
        return _merge(looks)

    def _search_harder(self, photo: np.ndarray) -> list[_Seen]:
        """The faces of the first other view of the photo that shows any."""
        for share in PADDINGS:
            if faces := self._look(pad(photo, share), DETECTOR_SIZES[0]):
                return faces
        for degrees in TURNS:
            looks = [
                self._look(turn(take_whole(photo), degrees), size, degrees) for size in DETECTOR_SIZES[:2]
            ]
            if faces := [
                face for face in _merge(looks) if face.confidence >= CLEAR
            ]:  # or a cup of coffee is one
                return faces
        return []

    def _turn_upright(self, photo: np.ndarray, face: _Seen) -> _Seen:
        """`face`, or the same face as seen when the photo around it is turned, if that is clearly better."""
        around = crop_around(photo, face.box)
        seen = chain(*(self._look(turn(around, degrees), DETECTOR_SIZES[1], degrees) for degrees in TURNS))
        best = max(filter(face.is_same, seen), key=lambda one: one.confidence, default=face)
        return best if best.confidence >= face.confidence + CLEARLY_BETTER else face

    def _look(self, view: View, size: int, degrees: int = 0) -> list[_Seen]:
        """What the detector sees in a view brought to `size` x `size`, in photo coordinates."""
        bgr = np.ascontiguousarray(view.pixels[..., ::-1])
        with guard_insightface(self.folder):
            # the size is explicit because insightface by itself adds a second one
            boxes, landmarks = self._finder.detect(
                bgr, input_size=(size, size)
            )  # [n, 5] with scores, [n, 5, 2]
        if landmarks is None and len(boxes):
            raise self._refuse_models()
        return [
            _Seen(view.box(box[:4]), view.points(points), float(box[4]), degrees)
            for box, points in zip(boxes, landmarks if len(boxes) else (), strict=True)
        ]

    def _embed(self, photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """ArcFace's, float32 [512]: of the face aligned by its landmarks, black beyond the photo."""
        found = import_optional("insightface.app.common").Face(kps=landmarks)
        with guard_insightface(self.folder):
            embedding = self._recogniser.get(np.ascontiguousarray(photo[..., ::-1]), found)
        embedding = np.asarray(embedding, np.float32).reshape(-1)
        if embedding.size != EMBEDDING_WIDTH or not np.isfinite(embedding).all():
            raise self._refuse_models()
        return embedding

    def _refuse_models(self) -> WrongModelFile:
        return WrongModelFile(
            f"{self.folder} does not hold antelopev2: its models give no landmarks, or an embedding "
            f"that is not {EMBEDDING_WIDTH} finite numbers; {DOWNLOAD}"
        )


def _merge(looks: Sequence[Sequence[_Seen]]) -> list[_Seen]:
    """Each face once, with its highest confidence: as the first look saw it, else as the most confident other look
    did."""
    first, *others = looks
    faces = list(first)
    for seen in sorted(chain(*others), key=lambda face: face.confidence, reverse=True):
        known = next((number for number, face in enumerate(faces) if face.is_same(seen)), None)
        if known is None:
            faces.append(seen)
        elif seen.confidence > faces[known].confidence:
            faces[known] = replace(faces[known], confidence=seen.confidence)
    return faces


def explain_no_face(width: int, height: int) -> NoFaceFound:
    """The error for a photo of this size, in pixels."""
    return NoFaceFound(
        "no face found: use a photo in which the face is upright, sharp and uncovered; this one has "
        f"{width} x {height} pixels and was searched at detector sizes "
        f"{', '.join(map(str, sorted(DETECTOR_SIZES, reverse=True)))}, with "
        f"{' and '.join(f'{share:.0%}' for share in PADDINGS)} black padding, and rotated"
    )


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
        f"{DETECTOR} and {RECOGNISER} are in different folders: put both in one; searched {searched}"
    )


_RUNNING = threading.Lock()


@contextlib.contextmanager
def guard_insightface(folder: Path, *broken: type[Exception]) -> Iterator[None]:
    """Sends what insightface 1 prints to stderr, hides warnings about its use of scikit-image's older names, and turns
    onnxruntime's errors, and `broken`, into WrongModelFile. One thread at a time, because it redirects the whole
    process's output."""
    runtime = import_optional("onnxruntime.capi.onnxruntime_pybind11_state")
    refusals: tuple[type[Exception], ...] = tuple(  # they have no base class of their own
        entry for entry in vars(runtime).values() if isinstance(entry, type) and issubclass(entry, Exception)
    )
    try:
        with _RUNNING, contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    except (*refusals, *broken) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise WrongModelFile(f"the face models in {folder} cannot be used ({reason}); {DOWNLOAD}") from error
