"""Earlier results, beside the report: one JSON line per metric and video, added as soon as it is known."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ..errors import InvalidRequest
from .definitions import VERSION, Metric
from .measure import Judges, Measured

NAME = "measured.jsonl"


class Memory:
    """Keyed by the video's content, what it is compared with, the metric, the version of its rule and its judges."""

    def __init__(self, folder: Path) -> None:
        """Skips a line that an interruption cut off. Raises InvalidRequest if the file cannot be read."""
        self.path = folder / NAME
        self._known: dict[str, Measured] = {}
        try:
            written = self.path.read_text("utf-8") if self.path.exists() else ""
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{self.path} cannot be read ({error}): move it away") from error
        self._cut_off = not written.endswith("\n") and bool(written)
        for line in written.splitlines():
            try:
                key, value, note, curve, frames = json.loads(line)
            except ValueError:
                continue
            self._known[key] = Measured(value, note, tuple(curve), tuple(frames))

    def recall(self, key: str) -> Measured | None:
        return self._known.get(key)

    def keep(self, key: str, measured: Measured) -> None:
        """Raises InvalidRequest if the file cannot be written."""
        self._known[key] = measured
        line = json.dumps([key, measured.value, measured.note, measured.curve, measured.frames])
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n" if self._cut_off else f"{line}\n")
                self._cut_off = False
        except OSError as error:
            raise InvalidRequest(f"{self.path} cannot be written: {error.strerror or error}") from error


def make_key(metric: Metric, video: str, person: str, prompt: str, judges: Judges) -> str:
    """`video` and `person` are sha256 of the files; the judges' files are told apart by size and time of change."""
    files = [
        (path.name, os.path.getsize(path), os.stat(path).st_mtime_ns)
        for name in metric.judges
        for path in judges.files(name)
    ]
    told = json.dumps([VERSION, metric.name, video, person, prompt, files])
    return hashlib.sha256(told.encode()).hexdigest()[:32]
