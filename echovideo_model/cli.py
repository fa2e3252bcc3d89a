"""The command `echovideo`: one module in commands/ per subcommand, one sentence on stderr when something goes wrong.

Exit status: 0 success, 2 a request that cannot be met, 3 missing models or packages, 130 cancelled (by Ctrl-C, SIGTERM
or SIGHUP). With --json a failure is one JSON object on stdout, too: its class, its sentence and its exit status.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from . import __version__
from .commands import (
    batch,
    convert,
    demo,
    doctor,
    draw,
    evaluate,
    generate,
    identity,
    inspect,
    models,
    prepare,
    say_json,
    score,
    sign,
    train,
)
from .commands.process import log_on_stderr, stop_as_by_ctrl_c
from .errors import Cancelled, DependencyMissing, EchoVideoError, InvalidRequest, is_out_of_memory

COMMANDS = (
    generate,
    batch,
    demo,
    draw,
    identity,
    convert,
    inspect,
    score,
    evaluate,
    sign,
    prepare,
    train,
    models,
    doctor,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `echovideo ARGUMENTS` and return its exit status; argparse itself exits with 2."""
    _open_closed_streams()
    parser = _parser()
    _complete(parser)
    arguments = parser.parse_args(argv)
    as_json = getattr(arguments, "json", False)
    try:
        with stop_as_by_ctrl_c(), log_on_stderr():
            status: int = arguments.run(arguments)
            return status
    except KeyboardInterrupt:
        return _fail("cancelled; nothing half-written was left behind", Cancelled, as_json)
    except EchoVideoError as error:
        return _fail(str(error), type(error), as_json)
    except ModuleNotFoundError as error:
        if "torchvision" in str(error.__cause__):  # transformers imports it wherever it is installed
            remedy = "install the one made for it (https://pytorch.org/get-started) or uninstall it"
            sentence = f"torchvision does not fit this PyTorch ({error.__cause__}): {remedy}"
            return _fail(sentence, DependencyMissing, as_json)
        if error.name != "torch":
            raise
        remedy = "pip install torch, in the build for your GPU (https://pytorch.org/get-started)"
        return _fail(f"PyTorch is not installed: {remedy}", DependencyMissing, as_json)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        remedy = "choose a smaller --size, fewer --frames or, on a GPU, --weight-dtype fp8_e4m3fn"
        return _fail(f"out of memory: {remedy}", EchoVideoError, as_json)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answers a shell that asks for completions, if argcomplete is installed, and then ends the process."""
    if "_ARGCOMPLETE" in os.environ:
        try:
            import argcomplete
        except ImportError:
            return
        argcomplete.autocomplete(parser)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="echovideo",
        description="Turn one photo and a sentence into a video of that person.",
        epilog="Try `echovideo demo` first: it runs every step and downloads nothing. `echovideo models "
        "download` gets the real models. See `echovideo COMMAND --help` for more.",
    )
    parser.add_argument("--version", action="version", version=f"echovideo {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.register(subparsers)
    return parser


def _open_closed_streams() -> None:
    """Opens the streams that the shell closed (>&-) to nowhere, so that no file opened later gets their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


class _Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one sentence, like every other error; --help shows the usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual, except that a TEXT may begin with a dash (--prompt -smile) unless it is the name of another
        option."""
        names = [name for action in self._actions for name in action.option_strings]
        texts = [
            name for action in self._actions if action.metavar == "TEXT" for name in action.option_strings
        ]
        joined: list[str] = []
        words = sys.argv[1:] if args is None else args
        self.as_json = "--json" in words
        for one in words:
            is_name = any(name.startswith(one.partition("=")[0]) for name in names)
            if joined and joined[-1] in texts and one.startswith("-") and not is_name:
                joined[-1] += f"={one}"
            else:
                joined.append(one)
        return super().parse_known_args(joined, namespace)

    def error(self, message: str) -> NoReturn:
        sentence = f"{self.prog}: {message} (see {self.prog} --help)"
        if getattr(self, "as_json", False):
            _say_failure(sentence, InvalidRequest)
        self.exit(EchoVideoError.exit_code, f"{sentence}\n")


def _fail(sentence: str, kind: type[EchoVideoError], as_json: bool) -> int:
    """Writes the sentence to stderr for people and, if `as_json`, to stdout for programs. Returns the exit status."""
    sentence = " ".join(sentence.split())
    with suppress(OSError):
        sys.stderr.write(f"echovideo: {sentence}\n")
    if as_json:
        _say_failure(sentence, kind)
    return kind.exit_code


def _say_failure(sentence: str, kind: type[EchoVideoError]) -> None:
    with suppress(
        InvalidRequest
    ):  # stdout cannot be written to: stderr has the sentence, or that is what it says
        say_json({"error": kind.__name__, "sentence": sentence, "status": kind.exit_code})


if __name__ == "__main__":
    sys.exit(main())
