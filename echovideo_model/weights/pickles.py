"""The one safe reader of pickles (.pth, .pt, .bin, .ckpt): returns plain tensors and never runs code."""

from __future__ import annotations

import pickle
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import WrongModelFile
from .headers import recognise

# What torch.load raises for files that are cut, damaged or hold something else.
_NOT_WEIGHTS = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    OSError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_pickle(file: Path) -> dict[str, Tensor]:
    """{name: tensor} of a pickled state dict, by itself or in a checkpoint ({"state_dict": ...}, {"module": ...}).

    Tensors of a zip are memory-mapped. Tar files, which torch.load still knows, are not opened: before torch 2.6 they
    got around weights_only (CVE-2025-32434). Raises WrongModelFile for whatever is not plain weights.
    """
    try:
        if (what := recognise(file)) is not None:
            raise ValueError(f"it is {what}")
        if tarfile.is_tarfile(file):
            raise ValueError("a tar archive")
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
        state = _state_dict(held)
        if unfit := [name for name, value in state.items() if not _is_plain(name, value)]:
            raise ValueError(f"{unfit[0]!r} is a {type(state[unfit[0]]).__name__}")
    except _NOT_WEIGHTS as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # its text tells how to run the file anyway
            reason = "damaged, or holding more than tensors"
        raise WrongModelFile(f"{file} does not hold plain weights ({reason}) and was not loaded") from error
    return dict(state)


def _state_dict(held: Any) -> Mapping[Any, Any]:
    """What was loaded or, if that is a trainer's checkpoint with counters, the one state dict in it.

    Raises ValueError where there are several, such as a model and its moving average.
    """
    if not isinstance(held, Mapping):
        raise ValueError(f"a {type(held).__name__}")
    inner = {name: value for name, value in held.items() if _is_state_dict(value)}
    if len(inner) > 1:
        raise ValueError(f"several models, {' and '.join(map(repr, inner))}")
    return next(iter(inner.values()), held)


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(one, Tensor) for name, one in value.items())
    )


def _is_plain(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided
