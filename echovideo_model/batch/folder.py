"""The output folder: on this machine, or behind a URL that fsspec supports (s3://, gs://, memory://, ...).

Whatever stops a write here would stop every job alike, so it is a MachineFault.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ..errors import DependencyMissing, InvalidRequest
from ..files import check_writable, expand_user, write_atomically
from ..video import describe, is_whole

FAILURES = "failures.jsonl"
IDENTITIES = ".identities"  # each person's identity, kept for the next run
READERS = 8  # threads that look at videos: behind a URL each look is a round trip or two


class MachineFault(InvalidRequest):
    """What would stop every job alike: a full disk, a folder that cannot be written."""


class Folder(Protocol):
    """Where videos go. Names are relative, with slashes; every write raises MachineFault."""

    @property
    def identities(self) -> Path:
        """Where persons are kept, always on this machine: faces are not uploaded."""

    def check(self) -> None:
        """Raises InvalidRequest if nothing can be written here."""

    def list_jobs(self, names: Iterable[str]) -> dict[str, str]:
        """{name: id of the job that made it} for the complete videos."""

    def write(self, name: str, data: bytes) -> None:
        """Writes the file completely or not at all."""

    def read(self, name: str) -> bytes:
        """The file's content; nothing if it does not exist."""

    def append(self, name: str, line: str) -> None: ...


def open_folder(place: str | Path) -> Folder:
    """The folder at a path or a URL. Raises InvalidRequest for a kind of URL that fsspec does not know, and
    DependencyMissing where a package for it is missing."""
    if isinstance(place, Path):
        return LocalFolder(place)
    if "://" not in place:
        return LocalFolder(expand_user(place))
    if place.startswith("file://"):
        return LocalFolder(Path(place.removeprefix("file://")))
    return RemoteFolder(place)


class LocalFolder:
    """A folder of this machine, or one that is mounted here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identities = path / IDENTITIES

    def __str__(self) -> str:
        return str(self.path)

    def check(self) -> None:
        check_writable(self.path / FAILURES)

    def list_jobs(self, names: Iterable[str]) -> dict[str, str]:
        def look(name: str) -> str | None:
            try:
                with (self.path / name).open("rb") as file:
                    return _read_job_id(file, os.fstat(file.fileno()).st_size)
            except OSError:
                return None

        return _look_at_all(look, names)

    def write(self, name: str, data: bytes) -> None:
        write_file(self.path / name, data)

    def read(self, name: str) -> bytes:
        path = self.path / name
        return path.read_bytes() if path.is_file() else b""

    def append(self, name: str, line: str) -> None:
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MachineFault(f"cannot write {path}: {error.strerror}") from error


class RemoteFolder:
    """A folder behind a URL, such as a bucket of an object store, which keeps an object whole or not at all."""

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise DependencyMissing(f"writing to {url} needs fsspec: pip install fsspec") from error
        try:
            self.system, self.root = url_to_fs(url)
        except ImportError as error:
            raise DependencyMissing(f"writing to {url} needs another package: {error}") from error
        except ValueError as error:
            raise InvalidRequest(f"{url} cannot hold videos: {error}") from error
        self.url = url.rstrip("/")
        self.made: set[str] = set()  # folders

    def __str__(self) -> str:
        return self.url

    @cached_property
    def identities(self) -> Path:
        return Path(self._scratch.name)

    @cached_property
    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory()

    def check(self) -> None:
        name = f".{secrets.token_hex(6)}"
        self.write(name, b"")
        self.system.rm_file(self._path(name))

    def list_jobs(self, names: Iterable[str]) -> dict[str, str]:
        with self._telling("read"):
            self.system.invalidate_cache()
            there: dict[str, Any] = self.system.find(self.root, detail=True)

        def look(name: str) -> str | None:
            size = there[self._path(name)]["size"]
            with self._telling("read"), self.system.open(self._path(name), "rb", block_size=1 << 16) as file:
                return _read_job_id(file, size)

        return _look_at_all(look, (name for name in names if self._path(name) in there))

    def write(self, name: str, data: bytes) -> None:
        with self._telling("write"):
            self._make_folders(name)
            self.system.pipe_file(self._path(name), data)

    def read(self, name: str) -> bytes:
        with self._telling("read"):
            try:
                data: bytes = self.system.cat_file(self._path(name))
            except FileNotFoundError:
                return b""
            return data

    def append(self, name: str, line: str) -> None:
        self.write(name, self.read(name) + line.encode())  # object stores can replace, but not append

    def _make_folders(self, name: str) -> None:
        """For stores that have folders; in object stores this only asks for the bucket.

        The first part of a path is never made: in an object store it is the bucket, and a mistyped name should be an
        error. `makedirs` would create it.
        """
        for folder in list(accumulate(self._path(name).split("/")[:-1], "{}/{}".format))[1:]:
            if folder not in self.made:
                with suppress(FileExistsError):
                    self.system.mkdir(folder, create_parents=False)
                self.made.add(folder)

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    @contextmanager
    def _telling(self, verb: str) -> Iterator[None]:
        """Every package behind fsspec has errors of its own, most of them OSErrors and some not."""
        try:
            yield
        except Exception as error:
            raise MachineFault(
                f"cannot {verb} {self.url} ({type(error).__name__}: {error}): check its name, the "
                "network and your permissions"
            ) from error


def write_file(path: Path, data: bytes) -> None:
    """`write_atomically` to a disk that every job needs. Raises MachineFault."""
    try:
        with write_atomically(path) as temporary:
            temporary.write_bytes(data)
    except InvalidRequest as error:
        raise MachineFault(str(error)) from error


def _look_at_all(look: Any, names: Iterable[str]) -> dict[str, str]:
    names = list(names)
    with ThreadPoolExecutor(READERS) as readers:
        return {name: id for name, id in zip(names, readers.map(look, names), strict=True) if id is not None}


def _read_job_id(file: BinaryIO, size: int) -> str | None:
    """The job id in a video's metadata; None if it is not a video, or is truncated."""
    if not is_whole(file, size):
        return None
    file.seek(0)
    try:
        return describe(file).metadata.get("job")
    except InvalidRequest:
        return None
