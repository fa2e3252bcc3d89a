"""The results as one table: printed, and as report.json and report.csv."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from .. import __version__
from ..files import write_atomically
from .definitions import VERSION, Metric
from .measure import Measured
from .samples import Sample


@dataclass
class Row:
    """A video with its measurements."""

    sample: Sample
    frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    measured: dict[str, Measured] = field(default_factory=dict)
    fault: str = ""  # why there are none


class Published(NamedTuple):
    """Numbers that others have published for a model, by the names of our metrics."""

    model: str
    source: str
    values: dict[str, float]


def _table_1(clip: float, dynamic: float, aesthetic: float, distance: float, face: float) -> dict[str, float]:
    return {
        "clipscore": clip,
        "dynamic_degree": dynamic,
        "aesthetic_quality": aesthetic,
        "face_feature_distance": distance,
        "facesim_buffalo_l": face,
    }


def _readme(average: float, variation: float, distance: float, dynamic: float) -> dict[str, float]:
    return {
        "facesim_buffalo_l": average,
        "identity_variation": variation,
        "face_feature_distance": distance,
        "dynamic_degree": dynamic,
    }


PAPER, README = "paper, Table 1", "README"
PUBLISHED = (
    Published("ID-Animator", PAPER, _table_1(28.921, 0.280, 0.595, 159.109, 0.349)),
    Published("ConsisID", PAPER, _table_1(30.610, 0.871, 0.594, 200.400, 0.414)),
    Published("EchoVideo", PAPER, _table_1(30.567, 0.771, 0.601, 154.678, 0.138)),
    Published("ID-Animator", README, _readme(0.349, 0.032, 159.11, 0.280)),
    Published("ConsisID", README, _readme(0.414, 0.094, 200.40, 0.871)),
    Published("pika", README, _readme(0.329, 0.091, 268.35, 0.954)),
    Published("EchoVideo", README, _readme(0.516, 0.075, 176.53, 0.955)),
)
COMPARABLE = (
    "The published numbers were measured on other photos and prompts, which are not public: "
    "differences are meaningful only between sets made from the same ones.",
    "The paper and EchoVideo's README are two evaluations (FaceSim is 0.138 in one, 0.516 in the "
    "other): never mix their rows.",
    "The published FaceSim does not name its recogniser. It is listed under buffalo_l, which the "
    "script that they cite loads.",
    'Judging by its size, the published "FID" or "inception distance" is what that script prints as '
    "FID, the face feature distance, and is listed there. Our FID is the real one, over whole frames, "
    "and has no published counterpart.",
    "The published identity average equals FaceSim in the rows that both tables share; the published "
    "identity variation has no public formula, so ours is an inference.",
    "FaceSim with antelopev2 is circular for EchoVideo, which is conditioned on that embedding. Judge "
    "by buffalo_l.",
)


class Summary(NamedTuple):
    """A metric over all videos: the mean of those that have it, their number, and why the others lack it."""

    mean: float | None
    videos: int
    lacking: str


def summarise(rows: Sequence[Row], metric: Metric) -> Summary:
    found = [row.measured[metric.name] for row in rows if metric.name in row.measured]
    values = [measured.value for measured in found if measured.value is not None]
    reasons = Counter(measured.note for measured in found if measured.value is None)
    said = "; ".join(
        f"{reason} ({count})" if len(rows) > 1 else reason for reason, count in reasons.most_common(2)
    )
    return Summary(fmean(values) if values else None, len(values), said)


def format_number(value: float | None) -> str:
    """Three digits after the point, as the papers write them; fewer for large numbers."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def as_text(rows: Sequence[Row], metrics: Sequence[Metric], fid: Measured | None) -> str:
    """The table for a terminal: a line per metric, then a line per video that could not be read."""
    lines = [f"{'metric':<26}{'mean':>9}  videos"]
    for metric in metrics:
        mean, count, lacking = summarise(rows, metric)
        note = f"  {lacking}" if lacking else ""
        lines.append(f"{metric.title:<26}{format_number(mean):>9}  {count} of {len(rows)}{note}")
    if fid is not None:
        lines.append(f"{'FID':<26}{format_number(fid.value):>9}  {fid.note}")
    faults = [f"{row.sample.video}: {row.fault}" for row in rows if row.fault]
    lines += faults[:10]
    if len(faults) > 10:
        lines.append(f"... and {len(faults) - 10} more that could not be read, see report.csv")
    return "\n".join(lines)


def as_json(rows: Sequence[Row], metrics: Sequence[Metric], fid: Measured | None) -> dict[str, Any]:
    """Everything, for a program."""
    return {
        "software": f"echovideo {__version__}",
        "version_of_the_rules": VERSION,
        "metrics": [
            {"name": one.name, "title": one.title, "better": one.better, "definition": one.about}
            | summarise(rows, one)._asdict()
            for one in metrics
        ],
        "fid": None if fid is None else {"value": fid.value, "note": fid.note},
        "videos": [_row_as_json(row) for row in rows],
        "published": [one._asdict() for one in PUBLISHED],
        "what_is_comparable": list(COMPARABLE),
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    sample = row.sample
    return {
        "video": str(sample.video),
        "photo": None if sample.photo is None else str(sample.photo),
        "prompt": sample.prompt,
        "settings": sample.settings,
        "frames": row.frames,
        "fps": row.fps,
        "width": row.width,
        "height": row.height,
        "fault": row.fault,
        "metrics": {
            name: {"value": one.value, "note": one.note, "curve": one.curve, "frames": one.frames}
            for name, one in row.measured.items()
        },
    }


def as_csv(rows: Sequence[Row], metrics: Sequence[Metric]) -> str:
    """A line per video; if a number is missing, the last column says why."""
    text = io.StringIO()
    names = [metric.name for metric in metrics]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "photo", "prompt", "seed", "frames", "fps", "width", "height", *names, "notes"])
    for row in rows:
        sample = row.sample
        about = [sample.video, sample.photo or "", sample.prompt, sample.settings.get("seed", "")]
        found = [row.measured.get(name) for name in names]
        values = ["" if one is None or one.value is None else repr(one.value) for one in found]
        reasons = dict.fromkeys(one.note for one in found if one is not None and one.value is None)
        notes = "; ".join(filter(None, [row.fault, sample.settings.get("note"), *reasons]))
        writer.writerow([*about, row.frames, row.fps, row.width, row.height, *values, notes])
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    """Writes a file completely or not at all. Raises InvalidRequest."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")


def write_report(
    folder: Path, rows: Sequence[Row], metrics: Sequence[Metric], fid: Measured | None, page: str
) -> None:
    """report.json, report.csv and report.html (`page`) in `folder`. Raises InvalidRequest if they cannot be written."""
    write_text(
        folder / "report.json", json.dumps(as_json(rows, metrics, fid), indent=1, ensure_ascii=False) + "\n"
    )
    write_text(folder / "report.csv", as_csv(rows, metrics))
    write_text(folder / "report.html", page)
