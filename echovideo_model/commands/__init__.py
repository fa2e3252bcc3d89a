"""The subcommands of `echovideo`, one module each: `register(subparsers)` adds its parser, `run(args)` does the work.

What a user asked to read goes to stdout through `say` and `say_json`; progress bars and the log go to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from ..errors import InvalidRequest


def say(text: str) -> None:
    """Prints a line (or several) to stdout at once; characters that its encoding lacks are escaped.

    If the reader goes away (`| head`), the work goes on and later lines are dropped. Raises InvalidRequest if stdout
    cannot be written to.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in its buffer, too
        if not isinstance(error, BrokenPipeError):
            raise InvalidRequest(
                f"cannot write to standard output ({error.strerror}): redirect it elsewhere; the files "
                "made so far are kept"
            ) from error


def say_json(obj: Any) -> None:
    """One JSON value to stdout, for a program to read."""
    say(json.dumps(obj, indent=2))
