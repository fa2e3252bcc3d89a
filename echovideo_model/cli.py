"""The command `echovideo`: one subcommand a module in commands/, one sentence on stderr when something is wrong.

Exit status: 0 done, 2 a request that cannot be met, 3 missing models or packages, 130 cancelled.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from . import __version__
from .commands import convert, demo, generate, identity, inspect, models, score
from .errors import Cancelled, EchoVideoError

COMMANDS = (generate, demo, identity, convert, inspect, score, models)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `echovideo ARGUMENTS` and return its exit status; argparse exits with 2 by itself."""
    arguments = _parser().parse_args(argv)
    _log_to_stderr()
    try:
        return arguments.run(arguments)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("cancelled; nothing half-written was left behind", Cancelled.exit_code)
    except EchoVideoError as error:
        return _fail(str(error), error.exit_code)
    except MemoryError as error:
        return _fail(
            f"out of memory ({error}): choose a smaller size or fewer frames", EchoVideoError.exit_code
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="echovideo", description="One photo and a sentence become a video.")
    parser.add_argument("--version", action="version", version=f"echovideo {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(subparsers)
    return parser


def _log_to_stderr() -> None:
    """The package's own warnings; other packages' logging is left as it is."""
    logger = logging.getLogger(__package__)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False


def _fail(sentence: str, status: int) -> int:
    sys.stderr.write(f"echovideo: {' '.join(sentence.split())}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
