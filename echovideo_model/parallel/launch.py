"""Starts one process per rank on this machine; if one ends, all end."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NamedTuple, NoReturn

import torch
from torch import distributed

from ..errors import EchoVideoError, InvalidRequest, RankLost, is_out_of_memory
from .ranks import Ranks, join

Work = Callable[[Ranks, torch.device], None]
HOST = "127.0.0.1"
LOST = 3  # exit status of a rank that ended because another one had
SECONDS_TO_SETTLE = 10.0  # to learn how the lost rank ended
SECONDS_TO_END = 30.0  # for one in the middle of a long computation


class _Started(NamedTuple):
    process: SpawnProcess
    failure: Connection


def start(work: Work, devices: Sequence[torch.device]) -> None:
    """work(ranks, device) in a process for each of `devices`, until all have done it.

    `work` can be pickled. An error of one rank ends all of them and is raised here: an EchoVideoError or MemoryError as
    it was (the lowest rank's, where several raise), anything else as RankLost below its traceback. However this ends,
    by Ctrl-C too, no process remains; processes whose parent is killed end by themselves.
    """
    if not distributed.is_available():
        raise InvalidRequest("this PyTorch was built without torch.distributed: leave out --ranks")
    store = distributed.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)  # 0: a free port
    started: list[_Started] = []
    try:
        with _deaf_to_ctrl_c():  # only this process is to hear it
            for rank in range(len(devices)):
                started.append(_start_rank(work, devices, rank, store.port))
        _wait_for_all(started)
    finally:
        _end(started)


def _start_rank(work: Work, devices: Sequence[torch.device], rank: int, port: int) -> _Started:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, devices[rank], rank, len(devices), port, theirs))
    process.start()
    theirs.close()
    return _Started(process, ours)


def _run(work: Work, device: torch.device, rank: int, size: int, port: int, failure: Connection) -> None:
    """What each process does; `failure` carries the error that `start` will raise."""
    _end_with_parent()
    if device.type == "cpu":  # this process is one of several on the same cores
        torch.set_num_threads(max(1, torch.get_num_threads() // size))
    if loopback := {"linux": "lo", "darwin": "lo0"}.get(sys.platform):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    try:
        store = distributed.TCPStore(HOST, port, is_master=False)
        with join(device, store=store, rank=rank, world_size=size) as ranks:
            work(ranks, device)
    except KeyboardInterrupt:  # SIGTERM from `start`
        sys.exit(1)
    except RankLost as error:
        failure.send(error)
        sys.exit(LOST)
    except (EchoVideoError, MemoryError, RuntimeError) as error:
        if not isinstance(error, EchoVideoError) and not is_out_of_memory(error):
            raise
        failure.send(error if isinstance(error, EchoVideoError) else MemoryError())
        sys.exit(1)


def _end_with_parent() -> None:
    """For the case that the parent is killed, and so cannot end its ranks."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _wait_for_all(started: Sequence[_Started]) -> None:
    """Returns when all have ended well; raises what the one that has not failed with.

    Those that it leaves behind may end before it does: then there is a while to learn of it.
    """
    running = [process for process, _ in started]
    settled = math.inf
    while running:
        left = None if settled == math.inf else max(0.0, settled - time.monotonic())
        if not wait([process.sentinel for process in running], left):
            break
        ended, running = _part(running)
        codes = {process.exitcode for process in ended}
        if codes - {0, LOST}:
            _raise_failure(started)
        if LOST in codes:
            settled = min(settled, time.monotonic() + SECONDS_TO_SETTLE)
    if settled < math.inf:
        _raise_failure(started)


def _part(processes: list[SpawnProcess]) -> tuple[list[SpawnProcess], list[SpawnProcess]]:
    """The ranks that have ended, and those that are running."""
    running = [process for process in processes if process.is_alive()]
    return [process for process in processes if process not in running], running


def _raise_failure(started: Sequence[_Started]) -> NoReturn:
    """Raises the best explanation there is: an error, else how a rank ended, else that one was lost."""
    errors = list(_receive_errors(started))
    for error in errors:
        if not isinstance(error, RankLost):
            raise error
    for rank, (process, _) in enumerate(started):
        code = process.exitcode
        if code and code < 0:
            raise RankLost(
                f"rank {rank} of {len(started)} was ended by {signal.Signals(-code).name}, as systems do when memory "
                "runs out: choose fewer --ranks, a smaller --size or fewer --frames"
            )
        if code and code != LOST:
            raise RankLost(
                f"rank {rank} of {len(started)} ended with exit status {code}: see its message above"
            )
    raise errors[0]


def _receive_errors(started: Sequence[_Started]) -> Iterator[Exception]:
    for _, failure in started:
        with suppress(EOFError):  # ended without a word
            if failure.poll():
                yield failure.recv()


def _end(started: Sequence[_Started]) -> None:
    """Ends those still running: asks first, then, or at a second Ctrl-C, forces them."""
    last = time.monotonic() + SECONDS_TO_END
    try:
        for process, _ in started:
            process.terminate()
        for process, _ in started:
            process.join(max(0.0, last - time.monotonic()))
    finally:
        for process, failure in started:
            process.kill()
            process.join()
            failure.close()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started in here never hear Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # it has no handlers, nor hears it
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
