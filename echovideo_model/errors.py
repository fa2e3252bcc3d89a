"""The errors that users can see: one sentence each, with what happened, the value, and what to do next.

What to do stands in the first 90 characters of a sentence that is longer: ComfyUI's page shows about so many.
"""

from __future__ import annotations

# ComfyUI imports this pack under its folder's path and shows a class's module before the sentence: there, as in the
# library, it is this. (Classes take their __module__ from here.)
__name__ = "echovideo_model.errors"


class EchoVideoError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command line returns for it."""

    exit_code = 2


class InvalidRequest(EchoVideoError):
    """A value that cannot be used; the message names the value and what is allowed."""


class NoFaceFound(EchoVideoError):
    """No face in the photo; the message names the photo's size and the detector sizes and paddings tried."""


class FaceIndexOutOfRange(EchoVideoError):
    """The chosen face index does not exist; the message lists the faces that do."""


class WrongModelFile(EchoVideoError):
    """A file that is not the model asked for: truncated, of another family, or with NaN in its weights."""


class ModelFileMissing(EchoVideoError):
    """A model file that is not there; the message names every folder searched and how to get the file."""

    exit_code = 3


class DependencyMissing(EchoVideoError):
    """An optional package that is not installed; the message holds the one pip command that installs it."""

    exit_code = 3


class RankLost(EchoVideoError):
    """Another of the processes that share the work has ended or is silent; it says why, where it still could."""


class Cancelled(EchoVideoError):
    """The caller asked to stop; raised between two steps, with nothing half-written left behind."""

    exit_code = 130


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: PyTorch raises its own class on GPUs, but only a message on CPUs."""
    words = ("can't allocate memory", "not enough memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(text in str(error) for text in words)
    )
