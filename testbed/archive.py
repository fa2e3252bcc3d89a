#!/usr/bin/env python3
"""Judges the archive for ComfyUI's registry: python testbed/archive.py node.zip names what should not be there or is
missing."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

KEPT = (
    "echovideo_model/",
    "nodes/",
    "web/",
    "locales/",
    "workflows/",
    "recipes/",
    "docs/",
    "__init__.py",
    "pyproject.toml",
    "requirements.txt",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "SECURITY.md",
)


def judge(archive: Path) -> list[str]:
    """What is wrong with it, one line per fault."""
    root = Path(__file__).parents[1]
    listed = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, encoding="utf-8", check=True
    ).stdout.split("\n")
    wanted = {name for name in listed if name.startswith(KEPT)}
    wanted -= {
        name for name in wanted if name.startswith("docs/") and not name.endswith((".md", ".py", ".yaml"))
    }
    with zipfile.ZipFile(archive) as packed:
        held = set(packed.namelist())
    return [
        *(f"left out: {name}" for name in sorted(wanted - held)),
        *(f"not for users: {name}" for name in sorted(held - wanted)),
    ]


if __name__ == "__main__":
    packed = Path(sys.argv[1])
    faults = judge(packed)
    sys.stdout.write("\n".join([*faults, f"{packed.name}: {packed.stat().st_size / 1e6:.2f} MB\n"]))
    sys.exit(bool(faults))
