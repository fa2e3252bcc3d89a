"""The subcommands of `echovideo`, one module each: `register(subparsers)` adds its parser, `run(args)` does the work.

What a user asked to read goes to stdout through `say` and `say_json`; progress bars and the log go to stderr.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def say(text: str) -> None:
    """One line (or several) to stdout, at once; what its encoding lacks is escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def say_json(obj: Any) -> None:
    """One JSON value to stdout, for a program to read."""
    say(json.dumps(obj, indent=2))
