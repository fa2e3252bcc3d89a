"""The command line in this process or in one of its own, as the tests of this folder run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from echovideo_model import cli
from echovideo_model.tiny import PORTRAITS

PHOTO = PORTRAITS[0]
SMALL = ("--size", "64x64", "--frames", "5", "--steps", "2")


class Outcome(NamedTuple):
    status: int
    out: str
    err: str
    error: type[BaseException] | None = None


Run = Callable[..., Outcome]


def in_a_process(
    *arguments: object,
    code: str = "",
    shell: str = "",
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """The command, or other `code`, in a process of its own; `shell` is what a shell does before."""
    start = ["-c", code] if code else ["-m", "echovideo_model"]
    before = ["sh", "-c", f'{shell} "$@"', "sh"] if shell else []
    return subprocess.Popen(
        [*before, sys.executable, *start, *map(str, arguments)],
        stdout=stdout,
        stderr=stderr,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        encoding="utf-8",
    )
