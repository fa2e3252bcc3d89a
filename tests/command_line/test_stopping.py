"""Who stops the command finds nothing half-written."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import struct
import sys
from pathlib import Path

import pytest

from tests.command_line.command import SMALL, in_a_process

INTERRUPTED = """
import os, signal, sys
from echovideo_model import cli
from echovideo_model.commands.arguments import Bars

report = Bars.__call__

def interrupting(bars, stage, done, total, unit):
    report(bars, stage, done, total, unit)
    if stage == at and done == 1:
        for _ in range(times):  # a terminal that closes hangs up twice, once by itself and once by its shell
            os.kill(os.getpid(), number)

number, times = SIGNAL
if number != signal.SIGINT:
    signal.signal(number, signal.SIG_DFL)  # under nohup, as these tests may be, SIGHUP is ignored, and stays so
Bars.__call__ = interrupting
for at in ("text", "sampling", "decoding", "writing"):
    print(at, cli.main(sys.argv[1:]), flush=True)
    assert number == signal.SIGINT or signal.getsignal(number) is signal.SIG_DFL
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    "stopping",
    ["signal.SIGINT, 1", "signal.SIGTERM, 1", "signal.SIGTERM, 2", "signal.SIGHUP, 2"],
)
def test_a_signal_at_any_stage_ends_with_130_and_leaves_nothing(
    face: Path, workplace: Path, models: Path, stopping: str
) -> None:
    code = INTERRUPTED.replace("SIGNAL", stopping)
    process = in_a_process("generate", face, "--prompt", "a", *SMALL, code=code)
    out, err = process.communicate(timeout=120)
    assert out.split() == ["text", "130", "sampling", "130", "decoding", "130", "writing", "130"]
    said = [line for line in err.splitlines() if ": warning:" not in line]
    assert said == ["echovideo: cancelled; nothing half-written was left behind"] * 4
    assert list(workplace.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals as POSIX has them")
def test_ctrl_c_at_a_terminal_stops_the_command_while_its_bar_is_shown(
    face: Path, workplace: Path, models: Path
) -> None:
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    many = (*SMALL[:-1], "1000")  # steps, which take a minute
    process = in_a_process("generate", face, "--prompt", "a", *many, stderr=theirs)
    os.close(theirs)
    seen = b""
    while not re.search(rb"[1-9]\d*/1000 steps \[", seen):
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while more := os.read(ours, 4096):
            seen += more
    os.close(ours)
    lines = seen.decode().split("\r\n")
    assert lines[-2:] == ["echovideo: cancelled; nothing half-written was left behind", ""]
    assert any("loading transformer: 100%" in line for line in lines)
    assert list(workplace.iterdir()) == []


ALSO_CALLED = """
import signal, sys, threading
from echovideo_model import cli

signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
seen, run = [], cli.models.run
cli.models.run = lambda args: seen.append(signal.getsignal(signal.SIGHUP)) or run(args)
assert cli.main(sys.argv[1:]) == 0
thread = threading.Thread(target=lambda: seen.append(cli.main(sys.argv[1:])))
thread.start()
thread.join()
assert seen == [signal.SIG_IGN, signal.SIG_IGN, 0], seen
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_what_is_ignored_stays_ignored_and_a_thread_may_run_a_command_too(workplace: Path) -> None:
    process = in_a_process("models", "list", code=ALSO_CALLED)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
