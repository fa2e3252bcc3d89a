#!/usr/bin/env python3
"""What README.md tells people to type: python testbed/readme.py "In ComfyUI" prints that section's first commands."""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """The text below a heading of the second level, up to the next one."""
    return re.split(r"^## ", README.split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str, language: str = "bash") -> list[str]:
    """The fenced blocks of a language in a text."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


if __name__ == "__main__":
    sys.stdout.write(blocks(section(sys.argv[1]))[0])
