"""The face encoders: detector with recogniser, parser and SigLIP, which a model knows as one set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import InvalidRequest
from ..facts import describe_set
from .detect import Face, FaceDetector
from .parse import FaceParser
from .siglip import SiglipEncoder


class Detector(Protocol):
    """What finds faces: a FaceDetector, or a wrapper around one."""

    def detect(self, photo: np.ndarray) -> list[Face]: ...


@dataclass
class FaceEncoders:
    """The three networks that turn a photo into an identity."""

    detector: Detector
    parser: FaceParser
    siglip: SiglipEncoder

    def __post_init__(self) -> None:
        recogniser = getattr(self.detector, "made_by", self.name)  # a wrapper around a detector has no name
        if recogniser != self.name:
            raise InvalidRequest(
                f"the recogniser belongs to {describe_set(recogniser)}, but SigLIP to "
                f"{describe_set(self.name)}: choose both from the same set"
            )

    @property
    def name(self) -> str:
        """Of the set, as its files have it (facts.ENCODERS_KEY); "" is the released one."""
        return str(getattr(self.siglip, "made_by", ""))

    @classmethod
    def load(cls, folder: str | Path) -> FaceEncoders:
        """From the released folder: clip_visual_encoder/, and face_encoder/ with BiSeNet and antelopev2 in it.

        Raises ModelFileMissing, WrongModelFile or DependencyMissing.
        """
        faces = Path(folder) / "face_encoder"
        safe, released = faces / "parsing_bisenet.safetensors", faces / "parsing_bisenet.pth"
        parsers = filter(Path.is_file, (safe, released, *sorted(faces.glob("*.safetensors"))))
        return cls(
            detector=FaceDetector(faces),
            parser=FaceParser.load(next(parsers, released)),
            siglip=SiglipEncoder.load(Path(folder) / "clip_visual_encoder"),
        )


def require_same_set(name: str, made_by: str) -> None:
    """Raises InvalidRequest if an identity was `made_by` other face encoders than the set `name`: their embeddings
    cannot be compared."""
    if name != made_by:
        raise InvalidRequest(
            f"this identity was made by {describe_set(made_by)} and cannot be compared with "
            f"{describe_set(name)}: make it again with {describe_set(name)}"
        )
