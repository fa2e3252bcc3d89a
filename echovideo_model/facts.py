"""What a transformer was trained on: in its file's metadata, under KEY, as JSON; a file that says nothing is taken as
the released one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import InvalidRequest, WrongModelFile
from .limits import FPS, TRAINED_FRAMES, TRAINED_SIZES, Guidance

KEY = "echovideo.model"


@dataclass(frozen=True)
class ModelFacts:
    """The defaults are the released transformer's; `size` and the two on guidance are what a request takes by default.

    face_encoders: the name that the encoders of its identities have in their files' metadata (ENCODERS_KEY); released
    ones have none. whole_person: whether it has seen identities of whole persons.
    """

    sizes: tuple[tuple[int, int], ...] = TRAINED_SIZES  # height x width
    size: tuple[int, int] = (480, 848)
    frames: int = TRAINED_FRAMES
    fps: float = FPS
    guidance: Guidance = "reference"
    guidance_scale: float = 6.0
    face_encoders: str = ""
    whole_person: bool = False

    @property
    def defaults(self) -> dict[str, Any]:
        """Fields of a Request that the model sets unless the user does."""
        height, width = self.size
        return {
            "height": height,
            "width": width,
            "frames": self.frames,
            "guidance": self.guidance,
            "guidance_scale": self.guidance_scale,
        }

    def metadata(self) -> dict[str, str]:
        """For the transformer's file."""
        return {KEY: json.dumps(asdict(self))}

    @classmethod
    def parse(cls, metadata: Mapping[str, str] | None) -> ModelFacts:
        """What a transformer's metadata says. Raises WrongModelFile if it cannot be read."""
        try:
            said = json.loads((metadata or {}).get(KEY, "{}"))
            if "sizes" in said:
                said["sizes"] = tuple((int(height), int(width)) for height, width in said["sizes"])
            if "size" in said:
                said["size"] = tuple(map(int, said["size"]))
            return cls(**said)
        except (ValueError, TypeError) as error:
            raise WrongModelFile(
                f"the training facts in the transformer file cannot be read ({error}): download it again"
            ) from error


RELEASED = ModelFacts()
ENCODERS_KEY = "echovideo.face_encoders"
"""In the metadata of SigLIP's file and of the recogniser's: the name of the set that they belong to."""


def describe_set(name: str) -> str:
    """Face encoders by the name that their files give them."""
    return f"the face encoders {name}" if name else "the released face encoders"


def read_facts(path: str | Path) -> ModelFacts:
    """Of the transformer at `path`, from its header alone. Raises ModelFileMissing, WrongModelFile."""
    from .weights.reading import open_tensors

    return ModelFacts.parse(open_tensors(path).metadata)


def check_encoders_fit(encoders: str, facts: ModelFacts) -> None:
    """Raises InvalidRequest if an identity was made by other `encoders` than the transformer was trained with: it would
    show a stranger."""
    if encoders != facts.face_encoders:
        made, wanted = map(describe_set, (encoders, facts.face_encoders))
        raise InvalidRequest(
            f"this identity was made by {made}, but the model was trained with {wanted}: make the "
            f"identity again with {wanted}"
        )
