"""report.html: one self-contained page, light or dark like the reader's system."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from .. import __version__
from ..errors import EchoVideoError
from ..face.photo import load_photo
from ..video import iter_frames
from .definitions import VERSION, Metric
from .measure import Measured
from .motion import choose_threshold
from .report import COMPARABLE, PUBLISHED, Row, format_number, summarise

STYLE = Path(__file__).with_name("page.css")
MAX_CARDS, MAX_LINES = 24, 500  # videos with curves and pictures, and in the table; report.csv has all
WORST_FRAMES = 3
THUMBNAIL = 240  # pixels
_ORDER = (
    "facesim_buffalo_l",
    "facesim_antelopev2",
    "identity_average",
)  # sorted by these, least similar first
_ARROWS = {"higher": "↑", "lower": "↓"}
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 170, 34, 8, 10, 24  # of a curve and its margins


def draw_page(rows: Sequence[Row], metrics: Sequence[Metric], fid: Measured | None) -> str:
    """The page as HTML with its style, curves and pictures inside; it loads nothing from elsewhere."""
    shown = sorted((row for row in rows if not row.fault), key=_likeness)[:MAX_CARDS]
    videos = f"{len(rows)} video" + ("s" if len(rows) != 1 else "")
    faults = sum(bool(row.fault) for row in rows)
    unread = f", {faults} of which cannot be read" if faults else ""
    made = f"echovideo {__version__}, version {VERSION} of the rules"
    head = f"<h1>Evaluation</h1><p class=quiet>{videos}{unread}; {made}</p>"
    few = f" The {MAX_CARDS} least alike of {len(rows)}." if len(rows) > MAX_CARDS else ""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Evaluation of {videos}</title><style>{STYLE.read_text('utf-8')}</style></head><body>",
            f"<header>{head}</header><main>",
            f"<section><h2>All videos</h2>{_summary(rows, metrics, fid)}</section>",
            f"<section><h2>What is comparable</h2>{_list(COMPARABLE)}</section>",
            f"<section><h2>Frame by frame</h2><p class=quiet>Worst frames are those least like the person.{few}</p>",
            *(_card(row) for row in shown),
            f"</section><section><h2>Each video</h2>{_each(rows, metrics)}</section>",
            f"<section><h2>What the metrics are</h2>{_definitions(metrics)}</section>",
            "</main></body></html>",
        ]
    )


def _likeness(row: Row) -> float:
    values = [row.measured[name].value for name in _ORDER if name in row.measured]
    known = [value for value in values if value is not None]
    return known[0] if known else 2.0  # those without a value come last


def _summary(rows: Sequence[Row], metrics: Sequence[Metric], fid: Measured | None) -> str:
    """A line per metric: our number, then the published ones."""
    sources = dict.fromkeys(one.source for one in PUBLISHED)
    groups = "".join(
        f"<th colspan={sum(one.source == source for one in PUBLISHED)} class=group>{escape(source)}</th>"
        for source in sources
    )
    models = "".join(f"<th>{escape(one.model)}</th>" for one in PUBLISHED)
    lines = []
    for metric in metrics:
        mean, count, lacking = summarise(rows, metric)
        of = f"<span class=quiet>{count} of {len(rows)}</span>" if count < len(rows) else ""
        published = "".join(f"<td>{format_number(one.values.get(metric.name))}</td>" for one in PUBLISHED)
        lines.append(
            f"<tr><th>{escape(metric.title)} <span class=quiet>{_ARROWS[metric.better]}</span></th>"
            f"<td class=ours>{format_number(mean)} {of}</td>{published}</tr>"
        )
        if lacking:
            lines.append(f"<tr class=why><td colspan={2 + len(PUBLISHED)}>{escape(lacking)}</td></tr>")
    if fid is not None:
        blanks = "<td>-</td>" * len(PUBLISHED)
        lines.append(
            f"<tr><th>FID <span class=quiet>↓</span></th><td class=ours>{format_number(fid.value)}</td>{blanks}</tr>"
        )
        lines.append(f"<tr class=why><td colspan={2 + len(PUBLISHED)}>{escape(fid.note)}</td></tr>")
    return (
        f"<div class=scroll><table><thead><tr><td></td><th rowspan=2 class=ours>here</th>{groups}</tr>"
        f"<tr><td></td>{models}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in sentences)}</ul>"


def _definitions(metrics: Sequence[Metric]) -> str:
    return (
        "<dl>"
        + "".join(f"<dt>{escape(one.title)}</dt><dd>{escape(one.about)}</dd>" for one in metrics)
        + "</dl>"
    )


def _each(rows: Sequence[Row], metrics: Sequence[Metric]) -> str:
    """A line per video, with the reason where a number is missing."""
    titles = "".join(f"<th>{escape(metric.title)}</th>" for metric in metrics)
    lines = []
    for row in rows[:MAX_LINES]:
        name = f"<th>{escape(row.sample.video.name)}</th>"
        if row.fault:
            lines.append(f"<tr>{name}<td colspan={len(metrics)} class=fault>{escape(row.fault)}</td></tr>")
            continue
        cells = "".join(_cell(row.measured[metric.name]) for metric in metrics)
        lines.append(f"<tr>{name}{cells}</tr>")
    more = (
        f"<p>The first {MAX_LINES} of {len(rows)}; report.csv has all.</p>" if len(rows) > MAX_LINES else ""
    )
    table = f"<table><thead><tr><td></td>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f"<div class=scroll>{table}</div>{more}"


def _cell(measured: Measured) -> str:
    note = f' title="{escape(measured.note)}"' if measured.note else ""
    return f"<td{note}>{format_number(measured.value)}</td>"


def _card(row: Row) -> str:
    """A video: its prompt, its curves, and the photo beside its worst frames."""
    sample = row.sample
    about = ", ".join(
        [f"{row.frames} frames of {row.width} x {row.height} at {row.fps:g} a second"]
        + [
            f"{name.replace('_', ' ')} {value}"
            for name, value in sample.settings.items()
            if name in ("seed", "steps")
        ]
    )
    notes = dict.fromkeys(one.note for one in row.measured.values() if one.note)
    said = "".join(f"<p class=quiet>{escape(note)}</p>" for note in notes)
    said += f"<p class=fault>{escape(sample.settings['note'])}</p>" if "note" in sample.settings else ""
    prompt = f"<p>{escape(sample.prompt)}</p>" if sample.prompt else ""
    curves = "".join([_similarity_curve(row), _motion_curve(row)])
    return (
        f"<article><h3>{escape(sample.video.name)}</h3>{prompt}<p class=quiet>{escape(about)}</p>{said}"
        f"<div class=pictures>{''.join(_pictures(row))}</div><div class=curves>{curves}</div></article>"
    )


def _pictures(row: Row) -> list[str]:
    """The photo and the worst frames; those that can no longer be read are left out."""
    shown = []
    if row.sample.photo is not None and row.sample.photo.suffix.lower() != ".safetensors":
        with suppress(EchoVideoError):
            shown.append(_figure(load_photo(row.sample.photo), "photo"))
    worst = _worst(row.measured)
    try:
        frames = {index: frame for index, frame in enumerate(iter_frames(row.sample.video)) if index in worst}
    except EchoVideoError:
        frames = {}
    return shown + [
        _figure(frames[index], f"frame {index}" + ("" if value is None else f": {value:.2f}"))
        for index, value in worst.items()
        if index in frames
    ]


def _worst(measured: dict[str, Measured]) -> dict[int, float | None]:
    """The frames least like the person, with their similarity; if that is unknown, the first and the last."""
    for name in ("identity_average", *_ORDER):
        known = measured.get(name)
        pairs = [(value, at) for value, at in zip(known.curve, known.frames, strict=True)] if known else []
        found = sorted((value, at) for value, at in pairs if value is not None)
        if found:
            return {at: value for value, at in found[:WORST_FRAMES]}
    return {0: None}


def _figure(pixels: np.ndarray, label: str) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" width={picture.width} height={picture.height} '
        f'alt="{escape(label)}"><figcaption>{escape(label)}</figcaption></figure>'
    )


def _similarity_curve(row: Row) -> str:
    """antelopev2's over every frame, buffalo_l's as dots on the frames that FaceSim looks at."""
    line, dots = row.measured.get("identity_average"), row.measured.get("facesim_buffalo_l")
    values = [value for one in (line, dots) if one for value in one.curve if value is not None]
    if not values:
        return ""
    scale = _Scale(row.frames, min(0.0, min(values)), 1.0)
    drawn = [scale.polylines(line, "line") if line else "", scale.circles(dots) if dots else ""]
    legend = "similarity: line antelopev2" + (", dots buffalo_l" if dots and dots.curve else "")
    return scale.drawing(drawn, legend, (0, 0.5, 1))


def _motion_curve(row: Row) -> str:
    measured = row.measured.get("dynamic_degree")
    if measured is None or not measured.curve:
        return ""
    limit = choose_threshold(row.height, row.width)
    top = max(limit * 1.2, *(value for value in measured.curve if value is not None))
    scale = _Scale(row.frames, 0.0, top)
    drawn = [
        f"<line class=limit x1={_LEFT} x2={_WIDTH - _RIGHT} y1={scale.y(limit):.1f} y2={scale.y(limit):.1f} />",
        scale.polylines(measured, "line"),
    ]
    return scale.drawing(
        drawn, f"motion in pixels; dashed: {limit:g}, above which a pair counts", (0, round(top))
    )


class _Scale:
    """From frames and values to places in a curve's picture."""

    def __init__(self, frames: int, low: float, high: float) -> None:
        self.last, self.low, self.high = max(1, frames - 1), low, high

    def x(self, frame: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * frame / self.last

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - self.low) / (self.high - self.low)

    def polylines(self, measured: Measured, kind: str) -> str:
        """Broken where a value is missing; an isolated value is a dot."""
        runs: list[list[str]] = [[]]
        for value, frame in zip(measured.curve, measured.frames, strict=True):
            if value is None:
                runs.append([])
            else:
                runs[-1].append(f"{self.x(frame):.1f},{self.y(value):.1f}")
        lines = [f'<polyline class={kind} points="{" ".join(run)}" />' for run in runs if len(run) > 1]
        alone = [run[0].split(",") for run in runs if len(run) == 1]
        return "".join(lines + [f"<circle class=dot cx={x} cy={y} r=2.5 />" for x, y in alone])

    def circles(self, measured: Measured) -> str:
        pairs = zip(measured.curve, measured.frames, strict=True)
        return "".join(
            f"<circle class=other cx={self.x(frame):.1f} cy={self.y(value):.1f} r=3>"
            f"<title>frame {frame}: {value:.3f}</title></circle>"
            for value, frame in pairs
            if value is not None
        )

    def drawing(self, drawn: Sequence[str], legend: str, levels: Sequence[float]) -> str:
        lines = "".join(
            f"<line x1={_LEFT} x2={_WIDTH - _RIGHT} y1={self.y(level):.1f} y2={self.y(level):.1f} />"
            f"<text x={_LEFT - 6} y={self.y(level) + 4:.1f} text-anchor=end>{level:g}</text>"
            for level in levels
        )
        ends = "".join(
            f"<text x={self.x(frame):.1f} y={_HEIGHT - 6} text-anchor={anchor}>{frame}</text>"
            for frame, anchor in ((0, "start"), (self.last, "end"))
        )
        title = escape(legend)
        inside = "".join([lines, ends, *drawn])
        picture = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role=img aria-label="{title}">{inside}</svg>'
        return f"<figure class=curve><figcaption>{title}</figcaption>{picture}</figure>"
