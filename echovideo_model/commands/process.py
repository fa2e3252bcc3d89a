"""Sets up a command's process: the log on stderr, and signals that cancel."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from tqdm import tqdm

PACKAGE = str(__package__).rpartition(".")[0]


class _Handler(logging.Handler):
    """Writes lines above the progress bars, not through them."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        with suppress(OSError):  # nobody reads it any more
            tqdm.write(f"echovideo: {level}: {record.getMessage()}", file=sys.stderr)


@contextmanager
def log_on_stderr() -> Iterator[None]:
    """Shows the package's own warnings on stderr while a command runs. Other packages' are left alone, except Pillow's
    about metadata, which does not keep a picture from being read."""
    logger, handler = logging.getLogger(PACKAGE), _Handler()
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def stop_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM (a service, timeout, kill) and SIGHUP (a closed terminal) cancel, too, for as long as a command runs.

    What is ignored or handled already stays so: nohup's SIGHUP, and whatever a program has that calls `main`.
    """
    named = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    in_main_thread = threading.current_thread() is threading.main_thread()  # no other may set handlers
    ours = [number for number in named if in_main_thread and signal.getsignal(number) is signal.SIG_DFL]

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in ours:
            signal.signal(number, signal.SIG_IGN)  # a second one would break into the cleaning up
        raise KeyboardInterrupt

    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
