"""What the command prints for programs, for people who pipe it, and as help."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from echovideo_model import cli
from tests.command_line.command import PHOTO, SMALL, Run, in_a_process


def test_stdout_holds_the_json_and_nothing_that_a_library_has_to_say(workplace: Path, models: Path) -> None:
    process = in_a_process("generate", PHOTO, "--prompt", "a", *SMALL, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert [video["video"] for video in json.loads(out)] == ["output/video.mp4"]
    # and stderr our warnings alone: no bars where there is no terminal, no library's deprecations
    assert [line for line in err.splitlines() if not line.startswith("echovideo: warning: ")] == []


def test_whoever_stops_reading_is_not_told_of_it(models: Path) -> None:
    process = in_a_process("models", "list")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0
    process.stderr.close()


def test_what_the_terminal_cannot_show_is_escaped_rather_than_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from echovideo_model.commands import say

    with open("ascii.txt", "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        say("é \udcff.mp4")
    assert Path("ascii.txt").read_text(encoding="utf-8") == "\\xe9 \\udcff.mp4\n"


def test_a_command_leaves_no_handler_of_its_log_behind(echovideo: Run) -> None:
    logger = logging.getLogger("echovideo_model")
    before = list(logger.handlers)
    echovideo("inspect", "nothing")
    assert logger.handlers == before


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


@pytest.mark.parametrize("parser", list(parsers(cli._parser())), ids=lambda parser: parser.prog)
def test_every_command_and_every_argument_explains_itself(
    echovideo: Run, parser: argparse.ArgumentParser
) -> None:
    shown = echovideo(*parser.prog.split()[1:], "--help")
    assert shown.status == 0
    assert shown.out.startswith(f"usage: {parser.prog}")
    assert shown.err == ""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help, f"{parser.prog} {action.dest}"


def test_the_command_begins_without_loading_pytorch() -> None:
    process = in_a_process(code="import sys, echovideo_model.cli; print('torch' in sys.modules)")
    assert process.communicate(timeout=60)[0] == "False\n"


def test_version_is_told(echovideo: Run) -> None:
    assert re.fullmatch(r"echovideo \d+\.\d+\.\d+\n", echovideo("--version").out)
