"""Reading files of weights: one .safetensors, a folder of shards with its index, or a pickle with weights_only.

Opening reads headers alone. Tensors come out one at a time and memory-mapped, and pages that were read are given
back, so reading a model takes the memory of what is made of it, and one tensor more.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import pickle
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelFileMissing, WrongModelFile

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES_OF_DTYPES = {dtype: name for name, dtype in DTYPES.items()}
SHARD = re.compile(r"-(\d{5})-of-(\d{5})(\.\w+)$")
PICKLES = (".pth", ".pt", ".bin", ".ckpt")
FOLDER_PATTERNS = ("*.safetensors.index.json", "*.safetensors", "*.bin.index.json", "*.bin", "*.pth")
DOWNLOAD = "fetch them with: echovideo models download"
OnBytes = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its shape and dtype, the file that holds it and, in a .safetensors, where."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path
    offset: int = 0

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class TensorFile:
    """What a file or folder of weights holds, without the weights: {name: Entry} and the header's metadata."""

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.entries.items()}

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries.values())

    def tensors(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of `names` in their order, or of all file by file; memory-mapped, not copied.

        By the time the next one is asked for, the pages of a .safetensors that were read are out of this
        process's memory again; what is still used comes back from the file when it is touched. A change made
        to a tensor before that is lost; afterwards changes stay, and never reach the file.
        """
        source: _Mapped | _Pickled | None = None
        for name in self.entries if names is None else names:
            entry = self.entries[name]
            if source is None or source.file != entry.file:
                source = (_Pickled if entry.file.suffix in PICKLES else _Mapped)(entry.file)
            yield name, source.tensor(name, entry)
            source.forget(entry)


def open_tensors(path: str | Path) -> TensorFile:
    """What is at `path`: a .safetensors, a pickle (.pth .pt .bin .ckpt), an index .json or a folder with one of
    them; one of several shards (NAME-00001-of-00002.safetensors) stands for all of them, which lie beside it.

    Raises ModelFileMissing (nothing there, or a shard is missing) and WrongModelFile (truncated, not weights).
    """
    path = Path(path)
    if os.path.isdir(path):
        path = _main_file(path)
    if not os.path.isfile(path):  # not Path.is_file: that one raises on names that cannot be
        raise ModelFileMissing(f"no weights at {path}: check the path, or {DOWNLOAD}")
    if path.suffix == ".json":
        return _open_shards(path)
    shards = shards_of(path)
    return _open_one(path) if shards == [path] else _open_together(path, shards, {})


def check_headers(path: Path) -> None:
    """Reads the header of a .safetensors, or an index and the names of the shards beside it; nothing of other files.

    Raises WrongModelFile (truncated, not weights) and ModelFileMissing (a shard that the index names is not there).
    """
    if path.name.endswith(".index.json"):
        _named_shards(path, _weight_map(path))
    elif path.suffix == ".safetensors":
        _read_header(path)


def shards_of(path: Path) -> list[Path]:
    """Every shard of the model of which the file `path` is one, in order, there or not; else the file alone."""
    found = SHARD.search(path.name)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        return [path]
    stem, count, suffix = path.name[: found.start()], found[2], found[3]
    return [path.with_name(f"{stem}-{number:05}-of-{count}{suffix}") for number in range(1, int(count) + 1)]


def _main_file(folder: Path) -> Path:
    """The index of a folder's shards, or its only file of weights."""
    for pattern in FOLDER_PATTERNS:
        found = [file for file in sorted(folder.glob(pattern)) if file.is_file() and file.name[0] != "."]
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise WrongModelFile(f"{folder} holds several files of weights ({names}): name the one to use")
    raise ModelFileMissing(
        f"no weights in the folder {folder} (looked for an index .json, .safetensors, .bin and .pth): {DOWNLOAD}"
    )


def _open_one(file: Path) -> TensorFile:
    if file.suffix not in PICKLES:
        return TensorFile(file, *_read_header(file))
    state = _read_pickle(file)
    return TensorFile(file, {name: Entry(tuple(t.shape), t.dtype, file) for name, t in state.items()})


def _open_shards(index: Path) -> TensorFile:
    weight_map = _weight_map(index)
    return _open_together(index, _named_shards(index, weight_map), weight_map)


def _named_shards(index: Path, weight_map: Mapping[str, str]) -> list[Path]:
    """The shards that an index names, in order. Raises ModelFileMissing for those that are not there."""
    files = [index.parent / name for name in sorted(set(weight_map.values()))]
    _require_files(index.parent, files)
    return files


def _require_files(folder: Path, files: Sequence[Path]) -> None:
    missing = [file.name for file in files if not os.path.isfile(file)]
    if missing:
        raise ModelFileMissing(f"{folder} lacks {', '.join(missing)} of {len(files)} shards: {DOWNLOAD}")


def _open_together(path: Path, files: Sequence[Path], weight_map: Mapping[str, str]) -> TensorFile:
    """Several files as one model; `path` is what was asked for, `weight_map` what an index says of them."""
    _require_files(path.parent, files)
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    for file in files:
        opened, shard = _open_one(file), file.name
        # Of a name that several shards hold the index says which one counts.
        entries |= {n: entry for n, entry in opened.entries.items() if weight_map.get(n, shard) == shard}
        metadata |= opened.metadata
    absent = sorted(name for name in weight_map if name not in entries)
    if absent:
        raise WrongModelFile(
            f"{path} says that {absent[0]} is in {weight_map[absent[0]]}, which does not hold it: "
            "the shards belong to another index; fetch them again"
        )
    return TensorFile(path, entries, metadata)


def _weight_map(index: Path) -> dict[str, str]:
    """{parameter: shard's file name} of an index; a shard lies beside the index, nowhere else."""
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
        strange = [name for name in weight_map.values() if not _names_a_shard(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise WrongModelFile(f"{index} is not an index of shards ({reason}): fetch it again") from error
    if strange:
        raise WrongModelFile(
            f"{index} names {strange[0]!r}, which is no file of weights beside it: fetch it again"
        )
    return weight_map


def _names_a_shard(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith((".safetensors", *PICKLES))


def _read_header(file: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The header of a .safetensors: 8 bytes of its length and JSON, checked by the library itself, against the
    file's length, too."""
    try:
        # "np": what the library maps for "pt" has to fit into memory, even if nothing is read
        with safe_open(str(file), framework="np"), open(file, "rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header: dict[str, Any] = json.loads(opened.read(length))
    except (SafetensorError, OSError) as error:
        raise WrongModelFile(_not_whole(file, error)) from error
    metadata = header.pop("__metadata__", None) or {}
    entries = {}
    for name, stored in header.items():
        if stored["dtype"] not in DTYPES:
            raise WrongModelFile(
                f"{file} holds {name} as {stored['dtype']}, which cannot be read: convert it"
            )
        offset = 8 + length + stored["data_offsets"][0]
        entries[name] = Entry(tuple(stored["shape"]), DTYPES[stored["dtype"]], file, offset)
    return entries, metadata


def _not_whole(file: Path, reason: Exception) -> str:
    """The sentence about a file that the library cannot read: one that is cut short, or something else altogether."""
    start = b""
    with suppress(OSError), open(file, "rb") as opened:
        start = opened.read(9)
    if start[8:] not in (b"", b"{"):  # after 8 bytes of its length, a header is JSON
        return (
            f"{file} is no file of weights ({reason}): name a .safetensors, a .pth, .pt, .bin or .ckpt, an index .json "
            "or a folder of them; if it should be weights, fetch it again"
        )
    return (
        f"{file} ({file.stat().st_size} bytes) is not a whole .safetensors file ({reason}): "
        "it may be cut short; fetch it again"
    )


class _Mapped:
    """A .safetensors seen as memory, privately: what is written to it stays in this process."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with open(file, "rb") as opened:
            self.memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)

    def tensor(self, name: str, entry: Entry) -> Tensor:
        if not entry.numel:
            return torch.empty(entry.shape, dtype=entry.dtype)
        flat = torch.frombuffer(self.memory, dtype=entry.dtype, count=entry.numel, offset=entry.offset)
        return flat.view(entry.shape)

    def forget(self, entry: Entry) -> None:
        start = entry.offset - entry.offset % mmap.PAGESIZE
        if hasattr(self.memory, "madvise") and entry.bytes:  # not on Windows
            self.memory.madvise(mmap.MADV_DONTNEED, start, entry.offset + entry.bytes - start)


class _Pickled:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.state = _read_pickle(file)

    def tensor(self, name: str, entry: Entry) -> Tensor:
        return self.state[name]

    def forget(self, entry: Entry) -> None:
        """Nothing: a pickle stays in memory as long as it is read."""


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


def _read_pickle(file: Path) -> dict[str, Tensor]:
    """Plain tensors only. Tar files, which torch.load still knows, are not opened: before torch 2.6 they got
    around weights_only (CVE-2025-32434)."""
    try:
        if tarfile.is_tarfile(file):
            raise ValueError("a tar archive")
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
        state = state.get("state_dict", state)
        if unfit := [name for name, value in state.items() if not _is_plain(name, value)]:
            raise ValueError(f"{unfit[0]!r} is a {type(state[unfit[0]]).__name__}")
    except _NOT_WEIGHTS as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # its text says how to run the file all the same
            reason = "damaged, or more than tensors"
        raise WrongModelFile(f"{file} does not hold plain weights ({reason}): it is not loaded") from error
    return state


def _is_plain(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.dtype in NAMES_OF_DTYPES
