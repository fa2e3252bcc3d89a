"""Tells what a file is from its first bytes and its header: a table of tensors, or something put in its place.

Without PyTorch, which takes seconds to import: checking a download does not wait for it.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from ..errors import WrongModelFile

NAMED_GGUF = "a GGUF file, which is read under a name that ends in .gguf"
_MISTAKEN = (  # how files begin that were put in the place of weights; white space and case do not count
    (
        b"version https://git-lfs",
        "a Git LFS pointer (run `git lfs pull` in its repository)",
    ),
    (b"<!doctype html", "an HTML page that a server sent instead of the file"),
    (b"<html", "an HTML page that a server sent instead of the file"),
    (b"<?xml", "an XML page that a server sent instead of the file"),
    (b"gguf", NAMED_GGUF),
)
_BLOCK = 1 << 20
# What adaLN-zero and a zero-initialised output start from, and short training may leave as it is.
_MAY_BE_ZERO = (".norm1.linear.", ".norm2.linear.", "norm_out.linear.", "proj_out.")


class Stored(NamedTuple):
    """One tensor in a .safetensors: its dtype by safetensors' name, its shape, where its bytes begin and end."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def recognise(file: Path) -> str | None:
    """What a file is instead of weights, for "not a weight file but ..."; None if unknown."""
    start = b""
    with suppress(OSError), open(file, "rb") as opened:
        start = opened.read(4096)
    if len(start) > 8 and not any(start):
        return "nothing but zeros, left by an unfinished download"
    plain = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((what for sign, what in _MISTAKEN if plain.startswith(sign)), None)


def read_header(file: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """{name: Stored} and the metadata of a .safetensors, checked by the library itself against the file's length.

    Raises WrongModelFile for a file that is cut short or is something else.
    """
    try:
        # "np": what the library maps for "pt" has to fit into memory, even if nothing is read
        with safe_open(str(file), framework="np"), open(file, "rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header: dict[str, Any] = json.loads(opened.read(length))
    except (SafetensorError, OSError) as error:
        raise WrongModelFile(_explain(file, error)) from error
    metadata = header.pop("__metadata__", None) or {}
    begin = 8 + length
    stored = {
        name: Stored(about["dtype"], tuple(about["shape"]), *(begin + at for at in about["data_offsets"]))
        for name, about in header.items()
    }
    return stored, metadata


def _explain(file: Path, reason: Exception) -> str:
    """The sentence about a file that safetensors cannot read: one that is cut short, or not a safetensors file at
    all."""
    what = recognise(file)
    if what is not None:
        return f"{file} is not a weight file but {what}; download it again"
    start = b""
    with suppress(OSError), open(file, "rb") as opened:
        start = opened.read(9)
    if start[8:] not in (b"", b"{"):  # after 8 bytes of its length, a header is JSON
        return (
            f"{file} is not a weight file ({reason}): give a .safetensors, .pth, .pt, .bin or .ckpt "
            "file, an index .json, or a folder of them; if it should be a weight file, download it "
            "again"
        )
    return (
        f"{file} ({file.stat().st_size} bytes) is not a complete .safetensors file ({reason}): it may "
        "be truncated; download it again"
    )


def may_be_zero(name: str, dimensions: int) -> bool:
    """Whether a sound model may hold the parameter `name` as zeros alone: biases and gates may; matrices and the
    scales of norms hold zeros where a download left a hole."""
    return not name.endswith("weight") or dimensions == 0 or any(part in name for part in _MAY_BE_ZERO)


def check_tensors(file: Path, stored: Mapping[str, Stored]) -> None:
    """Raises WrongModelFile for a .safetensors in which a tensor is all zeros; reads no more than it needs to."""
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        for name, about in stored.items():
            if may_be_zero(name, len(about.shape)) or about.start == about.end:
                continue
            blocks = (
                memory[at : min(at + _BLOCK, about.end)] for at in range(about.start, about.end, _BLOCK)
            )
            if not any(block.strip(b"\0") for block in blocks):
                raise WrongModelFile(
                    f"{file} holds only zeros in {name}: part of it is missing; download it again"
                )
