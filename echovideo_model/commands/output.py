"""Writes a finished video: the mp4, the contact sheet, and the JSON facts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .arguments import Bars

if TYPE_CHECKING:
    import numpy as np

    from ..identity import Identity
    from ..pipeline import Result


class Target(NamedTuple):
    """Where one video goes, and its contact sheet if one is wanted."""

    video: Path
    sheet: Path | None

    @property
    def paths(self) -> list[Path]:
        return [path for path in self if path is not None]


def write(
    result: Result,
    identity: Identity,
    photo: np.ndarray | None,
    source: Path,
    target: Target,
    fps: float,
    bars: Bars,
    note: str = "",
    ai_tag: bool = True,
) -> None:
    """The mp4 with its metadata, and the contact sheet; `note` goes into both.

    `source` is the file that the person came from, a photo (its pixels are `photo`) or an identity.
    ai_tag: both say that AI made them.
    """
    from ..metrics.samples import describe_photo
    from ..picture import draw_contact_sheet, save_picture
    from ..provenance import TRAINED
    from ..video import write_mp4

    request = result.request
    metadata = result.metadata() | describe_photo(source, target.video) | {"fps": f"{fps:g}"}
    metadata |= {"note": note} if note else {}
    write_mp4(
        target.video,
        result.frames,
        fps,
        metadata,
        lambda done, total: bars("writing", done, total, "frames"),
        ai_tag,
    )
    if target.sheet is not None:
        caption = (
            f"seed {request.seed}, {request.steps} steps, {request.sampler}, "
            f"{request.guidance} guidance {request.guidance_scale:g}" + (f". {note}" if note else "")
        )
        sheet = draw_contact_sheet(photo, identity.face_picture, result.frames, request.prompt, caption, fps)
        save_picture(sheet, target.sheet, TRAINED if ai_tag else None)


def list_facts(result: Result, target: Target, fps: float) -> dict[str, Any]:
    """What a program wants to know of a finished video."""
    return {
        "video": str(target.video),
        "contact_sheet": None if target.sheet is None else str(target.sheet),
        "fps": fps,
        "settings": asdict(result.request),
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.seconds.items()},
    }
