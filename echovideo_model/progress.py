"""Progress reports from long work, for a progress bar to show."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int, str], None]
"""Called with the stage, how much of it is done, its total, and what both count: bytes, steps, frames, ...

Raising Cancelled (or anything else) in it stops the work there."""


def ignore_progress(stage: str, done: int, total: int, unit: str) -> None:
    """For callers that show no progress."""
