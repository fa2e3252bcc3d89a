"""The faces of photos in the host's input folder, for the face picker on the page: searched once, kept for a while."""

from __future__ import annotations

import hashlib
import io
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, TypeVar

import folder_paths
import numpy as np
from PIL import Image

from ...echovideo_model.errors import InvalidRequest, NoFaceFound
from ...echovideo_model.face.align import align_face
from ...echovideo_model.face.choice import FaceChoice, choose_face, rank_faces
from ...echovideo_model.face.detect import Face
from ...echovideo_model.face.opening import NotAPicture, TooManyPixels
from ...echovideo_model.face.parse import FaceParser
from ...echovideo_model.face.photo import decode_photo
from ...echovideo_model.identity import Detector, find_face
from ...echovideo_model.limits import FACE_ORDERS
from ...echovideo_model.nano.models import FILES
from . import folders
from .encoders import find_detector

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000  # checked before decoding; a run itself allows more
FORMATS = (
    "PNG",
    "JPEG",
    "MPO",
    "WEBP",
    "AVIF",
    "GIF",
    "BMP",
    "TIFF",
)  # no formats that Pillow hands to other programs
PICTURE_SIZE = 256  # pixels of a face picture on the page
KEPT_PHOTOS, KEPT_PICTURES = 8, 128
ANNOTATED = re.compile(r"(.*?)\s*\[(input|output|temp)\]", re.DOTALL)  # the host's "name [folder]"

Value = TypeVar("Value")


class NotServed(InvalidRequest):
    """A photo that the picker may not or cannot read; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class RecordingDetector:
    """A detector that records the photos it was shown and the faces it found."""

    detector: Detector
    seen: list[tuple[np.ndarray, list[Face]]] = field(default_factory=list)

    def detect(self, photo: np.ndarray) -> list[Face]:
        self.seen.append((photo, []))
        self.seen[-1] = (photo, self.detector.detect(photo))
        return self.seen[-1][1]


@dataclass(frozen=True, eq=False)
class Searched:
    """A photo as the detector saw it (limited in size, padded), and the faces in it, largest first."""

    digest: str
    photo: np.ndarray  # uint8 [H, W, 3]
    faces: list[Face]
    nothing: str = ""  # why there are no faces, in a sentence

    def describe(self) -> dict[str, Any]:
        return {"digest": self.digest, "message": self.nothing, **describe(self.photo, self.faces)}


def describe(photo: np.ndarray, faces: Sequence[Face], like: np.ndarray | None = None) -> dict[str, Any]:
    """As JSON takes it: the photo's size in pixels, every face, and each order as positions in the list of faces."""
    height, width = photo.shape[:2]
    orders = [order for order in FACE_ORDERS if order != "closest" or like is not None]
    return {
        "width": width,
        "height": height,
        "faces": [
            {
                "box": [round(float(side), 1) for side in face.box],
                "landmarks": [[round(float(x), 1), round(float(y), 1)] for x, y in face.landmarks],
                "confidence": round(face.confidence, 3),
                "warning": face.warning,
            }
            for face in faces
        ],
        "orders": {order: rank_faces(faces, FaceChoice(order, like=like)) for order in orders},
    }


def find_input_file(name: str, subfolder: str = "", kind: str = "input") -> Path:
    """The file in the host's input folder that a page means; "portrait.png [input]" is understood.

    Raises NotServed for any other folder, for a path out of this one (by name or by link), and for a missing file.
    """
    if annotated := ANNOTATED.fullmatch(name):
        name, kind = annotated.groups()
    if kind != "input":
        raise NotServed(403, f'only photos in the input folder are searched, not in "{kind}"')
    if not name or "\0" in name + subfolder:
        raise NotServed(400, "a photo's name is needed, without zero bytes")
    asked = PurePath(subfolder, name)
    outside = NotServed(403, f"{asked.name} is not inside the input folder: copy the photo there")
    if asked.anchor or PurePath(name).anchor or ".." in asked.parts:
        raise outside
    root = Path(folder_paths.get_input_directory()).resolve()
    try:
        path = (root / asked).resolve()
        if not path.is_relative_to(root):
            raise outside
        if path.is_file():
            return path
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # too long, links in a circle, characters that a file name cannot have
        pass
    raise NotServed(404, f"there is no photo {name} in the input folder: choose or upload one")


def read(path: Path) -> bytes:
    """Raises NotServed for a file of more than MAX_BYTES, or one that the host may not read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotServed(403, f"{path.name} cannot be read ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise NotServed(413, f"{path.name} is larger than {MAX_BYTES >> 20} MiB: save it smaller")
    return data


def decode(data: bytes, name: str) -> np.ndarray:
    """uint8 RGB [H, W, 3]. Raises NotServed, or InvalidRequest for damage and for impossible sizes."""
    Image.init()
    formats = [known for known in FORMATS if known in Image.OPEN]  # AVIF came with Pillow 11.3
    try:
        return decode_photo(data, name, formats, MAX_PIXELS)
    except TooManyPixels as error:
        raise NotServed(413, f"{error} before a run") from error
    except NotAPicture as error:
        raise NotServed(415, f"{name} is not a photo ({error})") from error


class FaceSearch:
    """What the picker asks for. Every method is slow; call them from one thread only."""

    def __init__(self) -> None:
        self.searched: OrderedDict[tuple[str, float, bool], Searched] = OrderedDict()
        self.pictures: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self.parsers: OrderedDict[tuple[Path, int], FaceParser] = OrderedDict()

    def faces(self, name: str, subfolder: str, kind: str, padding: float, encoders: str) -> Searched:
        """All faces of a photo, as the detector that goes with the parser `encoders` finds them.

        Raises EchoVideoError, but not if there is no face: the result then says why.
        """
        nano = encoders == FILES["face_encoder"]
        path = find_input_file(name, subfolder, kind)
        data = read(path)
        digest = hashlib.sha256(data).hexdigest()
        return recall(
            self.searched,
            (digest, padding, nano),
            KEPT_PHOTOS,
            lambda: search(data, path.name, digest, padding, nano),
        )

    def picture(
        self,
        name: str,
        subfolder: str,
        kind: str,
        padding: float,
        encoders: str,
        number: int,
        parser: str | None,
    ) -> bytes:
        """Face `number` (largest first) aligned, as JPEG; with a `parser`'s name, everything else is black."""
        found = self.faces(name, subfolder, kind, padding, encoders)
        if not found.faces:
            raise NoFaceFound(found.nothing)
        face = choose_face(found.faces, FaceChoice(index=number))
        parse = self.parser(parser) if parser is not None else None
        key = (found.digest, padding, encoders, number, parse and id(parse))
        return recall(self.pictures, key, KEPT_PICTURES, lambda: draw(found.photo, face, parse))

    def parser(self, name: str) -> FaceParser:
        if name not in folders.list_files(folders.FACE_PARSERS):
            raise folders.explain_missing([(folders.FACE_PARSERS, name or "parsing_bisenet.pth")])
        path = folders.resolve(folders.FACE_PARSERS, name)
        key = (path, path.stat().st_mtime_ns)
        return recall(self.parsers, key, 1, lambda: FaceParser.load(path))


def search(data: bytes, name: str, digest: str, padding: float, nano: bool) -> Searched:
    """The library's own search (find_face), so that the picker and a run see the same faces."""
    detector = RecordingDetector(find_detector(nano))
    try:
        find_face(decode(data, name), detector, FaceChoice(padding=padding))
    except NoFaceFound as error:
        return Searched(digest, detector.seen[-1][0], [], str(error))
    photo, faces = detector.seen[-1]
    return Searched(digest, photo, faces)


def draw(photo: np.ndarray, face: Face, parser: FaceParser | None) -> bytes:
    picture = align_face(photo, face.landmarks)
    if parser is not None:
        picture = parser.face_picture(picture)
    stream = io.BytesIO()
    Image.fromarray(picture).resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS).save(
        stream, "JPEG", quality=90
    )
    return stream.getvalue()


def recall(memory: OrderedDict[Any, Value], key: Any, most: int, make: Callable[[], Value]) -> Value:
    """`memory[key]`, made if it is missing; the least recently used entry makes room."""
    if key not in memory:
        memory[key] = make()
        while len(memory) > most:
            memory.popitem(last=False)
    memory.move_to_end(key)
    return memory[key]
