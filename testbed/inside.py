"""Runs Python in a process with a host's modules but without its server, to call them directly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .harness import PACK

LACKS = 77  # a script's exit status, under this name there, if the host lacks what it asks for
BEGIN = f"""
import sys
LACKS = {LACKS}
arguments, sys.argv = sys.argv[1:], ["main.py", "--cpu"]
sys.path[:] = [".", *sys.path, {str(PACK)!r}]
from testbed.launch import stand_in_for_torchvision
stand_in_for_torchvision()
import comfy.options
comfy.options.enable_args_parsing()
"""


def run_inside(folder: Path, script: str, *arguments: str | Path, what: str) -> None:
    """Runs `script`, which finds `arguments` as a list of that name, in the host's folder.

    Skips the test, saying that the host has no `what`, if the script exits with LACKS; fails if it fails.
    """
    run = subprocess.run(
        [sys.executable, "-c", BEGIN + script, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        encoding="utf-8",
    )
    if run.returncode == LACKS:
        pytest.skip(f"this host has no {what}")
    assert run.returncode == 0, run.stderr[-2000:]
