"""A video to measure, the networks that judge it, and the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import EchoVideoError, InvalidRequest, NoFaceFound
from ..face.detect import FaceDetector
from ..face.encoders import require_same_set
from ..face.photo import limit_long_edge
from ..progress import OnProgress, ignore_progress
from .frames import Frames, spread
from .identity import RECOGNISER, Recogniser, Scores, Seen, look, score
from .judges import find
from .motion import RAFT, RaftThings
from .realism import (
    AESTHETIC,
    CLIP_LARGE,
    DINO,
    FID_INCEPTION,
    INCEPTION,
    MUSIQ,
    AestheticScorer,
    FidInception,
    ImagingQuality,
    InceptionFeatures,
    SubjectConsistency,
)
from .text import CLIP, ClipScorer

VERSION = 1  # of the rules: raise it whenever a number changes, so that older results are not reused


@dataclass(frozen=True)
class Measured:
    """A metric of a video: `value` is None where `note` says why; `curve` has a value for each of `frames`."""

    value: float | None
    note: str = ""
    curve: tuple[float | None, ...] = ()
    frames: tuple[int, ...] = ()


class Judges:
    """The networks in a models folder, each loaded when it is first asked for, once."""

    LOADERS: Mapping[
        str, tuple[str, Callable[[Path, Any], Any]]
    ] = {  # files below evaluation/, how they are loaded
        "recogniser": (f"buffalo_l/{RECOGNISER}", lambda path, device: Recogniser(path)),
        "clip": (CLIP, ClipScorer.load),
        "flow": (RAFT, RaftThings.load),
        "clip_large": (
            CLIP_LARGE,
            lambda path, device: AestheticScorer.load(path, path.parent / AESTHETIC, device),
        ),
        "dino": (DINO, SubjectConsistency.load),
        "musiq": (MUSIQ, ImagingQuality.load),
        "inception": (INCEPTION, InceptionFeatures.load),
        "fid_inception": (FID_INCEPTION, FidInception.load),
    }

    def __init__(self, models: Path | None = None, device: torch.device | str = "cpu", **loaded: Any) -> None:
        """`loaded`: judges that are loaded already, by name, such as a host's `detector`."""
        self.models, self.device = models, device
        self._known: dict[str, Any] = dict(loaded)

    def get(self, name: str) -> Any:
        """Raises ModelFileMissing, WrongModelFile or DependencyMissing, the same one each time."""
        if name not in self._known:
            try:
                self._known[name] = self._load(name)
            except EchoVideoError as error:
                self._known[name] = error
        if isinstance(self._known[name], EchoVideoError):
            raise self._known[name]
        return self._known[name]

    def lacking(self, names: Iterable[str]) -> str:
        """Why one of these judges cannot be asked; empty if all can."""
        for name in names:
            try:
                self.get(name)
            except EchoVideoError as error:
                return str(error)
        return ""

    def _load(self, name: str) -> Any:
        if self.models is None:
            raise InvalidRequest(f"no models folder was given to find {name} in")
        if name == "detector":
            return FaceDetector(self.models / "face_encoder")
        place, load = self.LOADERS[name]
        return load(find(self.models, place), self.device)

    def files(self, name: str) -> list[Path]:
        """A judge's files that exist, to tell whether it is still the same one."""
        if self.models is None:
            return []
        place = self.models / (
            "face_encoder" if name == "detector" else f"evaluation/{self.LOADERS[name][0]}"
        )
        extra = [self.models / "evaluation" / AESTHETIC] if name == "clip_large" else []
        return [path for path in sorted([place, *place.rglob("*"), *extra]) if path.is_file()]


@dataclass
class Clip:
    """A video and what it should show; what several metrics need is computed once."""

    frames: Frames
    fps: float
    judges: Judges
    prompt: str = ""
    photo: np.ndarray | None = None  # uint8 RGB [H, W, 3]
    embedding: np.ndarray | None = None  # antelopev2's [512], of an identity in place of the photo
    encoders: str = ""  # the name of the face encoders that made that identity
    no_person: str = "no photo of the person to compare with"
    on_progress: OnProgress = ignore_progress

    @cached_property
    def sampled(self) -> list[int]:
        return spread(len(self.frames))

    @cached_property
    def seen(self) -> list[Seen | None]:
        """The faces of the sampled frames, by the rule of FaceSim's script."""
        found: dict[int, Seen | None] = {}
        for number in self.sampled:
            if number not in found:
                found[number] = look(self.frames[number], self.judges.get("detector"))
            self.on_progress("faces", len(found), len(set(self.sampled)), "frames")
        return [found[number] for number in self.sampled]

    @cached_property
    def person(self) -> Seen:
        """The photo's face. Raises InvalidRequest without a photo, NoFaceFound without a face in it."""
        if self.photo is None:
            raise InvalidRequest(self.no_person)
        seen = look(self.photo, self.judges.get("detector"))
        if seen is None:
            raise NoFaceFound("no face was found in the photo of the person")
        return seen

    @property
    def reference(self) -> np.ndarray | None:
        """The identity's embedding [512]. Raises InvalidRequest if other face encoders than the detector's made it."""
        if self.embedding is not None:
            require_same_set(self.judges.get("detector").made_by, self.encoders)
        return self.embedding

    @cached_property
    def scores(self) -> Scores:
        """The similarity of every frame, as `echovideo score` measures it."""
        reference = self.reference
        if reference is None and self.photo is None:
            raise InvalidRequest(self.no_person)
        detector = self.judges.get("detector")
        if reference is None and self.photo is not None:
            reference = detector.detect(limit_long_edge(self.photo))[0].embedding

        def watched() -> Any:
            for number, frame in enumerate(self.frames, start=1):
                yield frame
                self.on_progress("similarity", number, len(self.frames), "frames")

        return score(watched(), np.asarray(reference), detector)

    def report_on(self, stage: str, unit: str) -> Callable[[int, int], None]:
        return lambda done, total: self.on_progress(stage, done, total, unit)
