"""Writes files completely or not at all: to a hidden temporary name beside the target, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from .errors import InvalidRequest

Choice = TypeVar("Choice")

# errno -> (what happened, what to do next)
_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space or choose a folder on another disk"),
    errno.EDQUOT: ("the disk quota is exhausted", "free some space or choose a folder on another disk"),
    errno.EFBIG: ("the file exceeds the size limit", "choose a folder on another disk"),
    errno.EIO: ("the disk reported an error", "choose a folder on another disk"),
    errno.EROFS: ("the disk is read-only", "choose a folder on another disk"),
    errno.EACCES: ("permission is denied", "choose a folder that you may write to, or close the open file"),
    errno.EPERM: ("permission is denied", "choose a folder that you may write to"),
    errno.EEXIST: ("part of the path is a file, not a folder", "choose another folder"),
    errno.ENOTDIR: ("part of the path is a file, not a folder", "choose another folder"),
    errno.ENOENT: ("its folder does not exist", "choose another folder"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter name"),
}


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; renames it onto `path` when the block succeeds.

    The temporary path has the suffix of `path` and a hidden name; missing folders are made. Whatever leaves
    the block early (KeyboardInterrupt included) removes the temporary file and the folders that were made for
    it; a file that was at `path` before stays as it was.
    Raises InvalidRequest when nothing can be written there (no space, no permission, a folder's name, ...).
    """
    with _beside(path) as (target, temporary):
        yield temporary
        os.replace(temporary, target)


@contextmanager
def write_folder_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The same for a folder: yields a new one beside `path`, which takes the place of an older one when the block
    succeeds. Between two renames, for an instant, there is neither. Raises InvalidRequest like `write_atomically`."""
    target = Path(os.path.realpath(path))
    made, older = (target.with_name(f".{secrets.token_hex(6)}") for _ in range(2))
    try:
        made.mkdir(parents=True)
        yield made
        with suppress(FileNotFoundError):
            os.rename(target, older)
        os.rename(made, target)
    except OSError as error:
        raise _explain(path, error.errno or 0) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(older, ignore_errors=True)


@contextmanager
def reserve_first(choices: Iterable[Choice], paths: Callable[[Choice], Iterable[Path]]) -> Iterator[Choice]:
    """Yields the first of `choices` whose `paths` do not exist yet.

    Empty files keep them meanwhile, so that no other process chooses them, too; those that are empty in the end are
    removed, and so are the folders that were made for them. Raises InvalidRequest as `write_atomically` does.
    """
    with ExitStack() as held:
        yield next(choice for choice in choices if _reserve(paths(choice), held))


def _reserve(paths: Iterable[Path], held: ExitStack) -> bool:
    """Makes an empty file at each path, for `held` to remove; False, and none, if something is at one of them."""
    with ExitStack() as made:
        for path in paths:
            made.callback(_remove_folders, _missing_folders(path))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    path.open("xb").close()
                except FileExistsError:
                    return False
            except OSError as error:
                raise _explain(path, error.errno or 0) from error
            made.callback(_remove_empty, path)
        held.push(made.pop_all())
    return True


def _remove_empty(path: Path) -> None:
    with suppress(OSError):
        if path.stat().st_size == 0:
            path.unlink()


def _missing_folders(path: Path) -> list[Path]:
    """Those that have to be made for a file at `path`, innermost first."""
    return [folder for folder in path.parents if not os.path.lexists(folder)]


def _remove_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty: something is there now
            folder.rmdir()


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises InvalidRequest if a file cannot be written at `path`; to be called before minutes of work.

    Proven by writing a small file beside it; nothing is left behind, and a file at `path` is not touched.
    """
    with _beside(path) as (_, temporary):
        temporary.write_bytes(bytes(4096))


@contextmanager
def _beside(path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """The file that `path` means (links followed) and an unused name beside it, cleaned up at the end."""
    if "\0" in os.fspath(path):
        raise _refusal(path, "the name contains a null byte", "choose another name")
    target = Path(os.path.realpath(path))
    # Not made from the target's name: a name of the greatest length that is allowed must not become longer.
    temporary = target.parent / f".{secrets.token_hex(6)}{target.suffix}"
    missing = _missing_folders(target)
    try:
        _check_place(path, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield target, temporary
    except OSError as error:
        code = _errno_of_writing(error, target, temporary)
        if code is None:
            raise
        raise _explain(path, code) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        _remove_folders(missing)


def _check_place(path: str | os.PathLike[str], target: Path) -> None:
    """Raises InvalidRequest if something other than a file is at `target`, OSError if it cannot be a name."""
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise _refusal(path, "it is a folder", "give the name of a file in it")
    if not stat.S_ISREG(mode):  # a rename would put a plain file in the place of /dev/null, say
        raise _refusal(path, "it is a device, a pipe or a loop of links", "choose another path")


def _explain(path: str | os.PathLike[str], code: int) -> InvalidRequest:
    return _refusal(path, *_REASONS.get(code, (os.strerror(code).lower(), "choose another path")))


def _refusal(path: str | os.PathLike[str], happened: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(f'cannot write "{os.fspath(path)}": {happened}; {remedy}')


def _errno_of_writing(error: OSError, target: Path, temporary: Path) -> int | None:
    """The errno of `error` if it is about writing the target; None if it is about something else.

    A write to an open file fails without a name; everything else names the path that it is about.
    """
    if error.filename is None:
        return error.errno if error.errno in _REASONS else None
    named = Path(os.fsdecode(error.filename))
    return error.errno if named in (target, temporary, *target.parents) else None


def expand_user(path: str) -> Path:
    """`path`, with "~" at its beginning as the user's folder: what shells do not do in --output=~/x.mp4 or in quotes.
    The folder of a user who does not exist is a name like any other."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits, read a part at a time. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
