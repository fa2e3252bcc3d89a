"""Reads weight files: one .safetensors, a folder of shards with its index, a GGUF, or a pickle with weights_only.

Opening reads only headers. Tensors come out one at a time and memory-mapped, and pages that were read are given back,
so reading a model takes the memory of the result and of one more tensor.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ModelFileMissing, WrongModelFile
from .gguf_files import PLAIN, read_gguf
from .headers import read_header
from .pickles import read_pickle
from .released import DOWNLOAD
from .shards import (
    GGUF,
    PICKLES,
    check_name,
    find_shards,
    group_shards,
    list_shards,
    read_index,
    require_files,
)

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
_BYTES = {"F8_E8M0": torch.uint8}  # the scales of mxfp8, exponents alone; older PyTorch has no dtype for them
FOLDER_PATTERNS = (
    "*.safetensors.index.json",
    "*.safetensors",
    f"*{GGUF}",
    "*.bin.index.json",
    "*.bin",
    "*.pth",
)
OnBytes = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One tensor as it is stored: its shape and dtype, its file, its name there and, in a .safetensors, where.

    Of a quantised weight (see quantised.py) also what makes numbers of it: its scale, and the size of the groups along
    its rows that are rotated. A packed one has its shape in numbers, and in `held` the shape that it has in the file;
    `packed` is what it is: a type of GGUF, nvfp4 or mxfp8, of which the latter two have `blocks` of scales.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path
    stored: str
    offset: int = 0
    scale: Tensor | None = field(default=None, compare=False, repr=False)
    rotated: int = 0
    packed: str = ""
    held: tuple[int, ...] = ()
    blocks: Entry | None = None

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.held_bytes + (self.blocks.bytes if self.blocks else 0)

    @property
    def held_bytes(self) -> int:
        """Bytes, without the scales of its blocks."""
        return math.prod(self.held_shape) * self.dtype.itemsize

    @property
    def held_shape(self) -> tuple[int, ...]:
        return self.held if self.packed else self.shape

    @property
    def kind(self) -> str:
        """What its numbers are stored as, for a person."""
        return self.packed or str(self.dtype).removeprefix("torch.")


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

    def without(self, others: tuple[str, ...]) -> TensorFile:
        """The same, without the tensors whose names begin with one of `others`: known parts that are not needed."""
        kept = {name: entry for name, entry in self.entries.items() if not name.startswith(others)}
        return replace(self, entries=kept)

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
            yield name, source.tensor(entry)
            source.forget(entry)


def read_entry(entry: Entry) -> Tensor:
    """A copy of one tensor."""
    source = (_Pickled if entry.file.suffix in PICKLES else _Mapped)(entry.file)
    return source.tensor(entry).clone()


def open_tensors(path: str | Path) -> TensorFile:
    """What is at `path`: a .safetensors, a .gguf, a pickle (.pth .pt .bin .ckpt), an index .json or a folder with one
    of them; one of several shards (NAME-00001-of-00002.safetensors) stands for all of them, which lie beside it.

    Names are those in the file. Raises ModelFileMissing (nothing there, or a shard is missing) and WrongModelFile
    (truncated, not weights).
    """
    path = Path(path)
    if os.path.isdir(path):
        path = _main_file(path)
    elif not os.path.isfile(path):  # not Path.is_file: that one raises on names that cannot be
        raise ModelFileMissing(f"no weights at {path}: check the path, or {DOWNLOAD}")
    shards = find_shards(path)
    if path.suffix == ".json":
        weight_map = read_index(path)
        return _open_together(path, list_shards(path, weight_map), weight_map)
    check_name(path)
    return _open_one(path) if shards == [path] else _open_together(path, shards, {})


def _main_file(folder: Path) -> Path:
    """The index of a folder's shards, its only file of weights, or the first of its only set of shards."""
    for pattern in FOLDER_PATTERNS:
        found = [file for file in sorted(folder.glob(pattern)) if file.is_file() and file.name[0] != "."]
        for file in found:
            check_name(file)
        models = group_shards(found)
        if len(models) == 1:
            return models[0]
        if len(models) > 1:
            names = ", ".join(file.name for file in models)
            raise WrongModelFile(f"{folder} holds several weight files ({names}): choose one")
    raise ModelFileMissing(
        f"no weights in the folder {folder} (looked for an index .json, .safetensors, .gguf, .bin and .pth): {DOWNLOAD}"
    )


def _open_one(file: Path) -> TensorFile:
    if file.suffix in PICKLES:
        state = read_pickle(file)
        return TensorFile(
            file,
            {
                name: Entry(tuple(t.shape), _check_dtype(file, name, t.dtype), file, name)
                for name, t in state.items()
            },
        )
    if file.suffix == GGUF:
        return _open_gguf(file)
    stored, metadata = read_header(file)
    known = DTYPES | _BYTES
    entries = {
        name: Entry(
            one.shape, _check_dtype(file, name, known.get(one.dtype, one.dtype)), file, name, one.start
        )
        for name, one in stored.items()
    }
    return TensorFile(file, entries, metadata)


def _open_gguf(file: Path) -> TensorFile:
    stored, texts = read_gguf(file)
    entries = {}
    for name, one in stored.items():
        plain = PLAIN.get(one.kind)
        entries[name] = (
            Entry(one.shape, torch.uint8, file, name, one.start, packed=one.kind, held=one.held)
            if plain is None
            else Entry(one.shape, plain, file, name, one.start)
        )
    return TensorFile(file, entries, texts)


def _check_dtype(file: Path, name: str, dtype: torch.dtype | str) -> torch.dtype:
    """`dtype`, if it is one that is read. Raises WrongModelFile."""
    if not isinstance(dtype, torch.dtype) or dtype not in NAMES_OF_DTYPES:
        raise WrongModelFile(
            f"{file} holds {name} as {dtype}, which is not supported: choose a file in bf16 or fp8"
        )
    return dtype


def _open_together(path: Path, files: Sequence[Path], weight_map: Mapping[str, str]) -> TensorFile:
    """Several files as one model; `path` is what was asked for, `weight_map` what an index says of them."""
    require_files(path.parent, files)
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    for file in files:
        opened, shard = _open_one(file), file.name
        # If several shards hold a name, the index says which one counts.
        entries |= {n: entry for n, entry in opened.entries.items() if weight_map.get(n, shard) == shard}
        metadata |= opened.metadata
    absent = sorted(name for name in weight_map if name not in entries)
    if absent:
        raise WrongModelFile(
            f"{path} says that {absent[0]} is in {weight_map[absent[0]]}, which does not hold it: the "
            "shards belong to another index; download them again"
        )
    return TensorFile(path, entries, metadata)


class _Mapped:
    """A .safetensors or a GGUF seen as memory, privately: what is written to it stays in this process."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with open(file, "rb") as opened:
            self.memory = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)

    def tensor(self, entry: Entry) -> Tensor:
        shape = entry.held_shape
        if not entry.numel:
            return torch.empty(shape, dtype=entry.dtype)
        flat = torch.frombuffer(self.memory, dtype=entry.dtype, count=math.prod(shape), offset=entry.offset)
        return flat.view(shape)

    def forget(self, entry: Entry) -> None:
        start = entry.offset - entry.offset % mmap.PAGESIZE
        if hasattr(self.memory, "madvise") and entry.numel:  # not on Windows
            self.memory.madvise(mmap.MADV_DONTNEED, start, entry.offset + entry.held_bytes - start)


class _Pickled:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.state = read_pickle(file)

    def tensor(self, entry: Entry) -> Tensor:
        return self.state[entry.stored]

    def forget(self, entry: Entry) -> None:
        """Does nothing: a pickle stays in memory while it is read."""
