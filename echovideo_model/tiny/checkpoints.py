"""The whole set on disk: written once, completely or not at all, and again when this code changes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import InvalidRequest
from ..face.detect import DETECTOR, RECOGNISER
from ..files import write_atomically
from .detector import make_detector_file
from .networks import (
    make_image_encoder_files,
    make_text_encoder_files,
    make_transformer_files,
    make_vae_files,
)
from .parser import make_parser_file
from .recogniser import make_recogniser_file
from .tokenizer import make_tokenizer_files

STAMP = "tiny.json"  # written last: the version of this code and the size of every file


def make_files() -> Iterator[tuple[str, bytes]]:
    """Path inside the models folder and content of every file of the set; the same on every machine.

    Raises DependencyMissing without onnx, which comes with the face pipeline.
    """
    for folder, folder_files in (
        ("transformer", make_transformer_files()),
        ("vae", make_vae_files()),
        ("text_encoder", make_text_encoder_files()),
        ("tokenizer", make_tokenizer_files()),
        ("clip_visual_encoder", make_image_encoder_files()),
    ):
        for name, content in folder_files:
            yield f"{folder}/{name}", content
    yield f"face_encoder/models/antelopev2/{DETECTOR}", make_detector_file()
    yield f"face_encoder/models/antelopev2/{RECOGNISER}", make_recogniser_file()
    yield "face_encoder/parsing_bisenet.pth", make_parser_file()


def build(folder: str | Path) -> Path:
    """Writes the set to `folder`, unless this version of it is there already and whole; returns the folder.

    It is written beside and renamed, so an interrupted build leaves nothing behind, and two at a time do no harm.
    Raises DependencyMissing without onnx, InvalidRequest if nothing can be written there or if `folder` holds
    something else, which is never touched.
    """
    folder = Path(folder).resolve()
    if _is_whole(folder):
        return folder
    _check_free(folder)
    beside = folder.with_name(f".{secrets.token_hex(6)}")
    made_on_the_way = [parent for parent in folder.parents if not parent.exists()]  # innermost first
    try:
        sizes = {}
        for name, content in make_files():
            _write(beside / name, content)
            sizes[name] = len(content)
        _write(beside / STAMP, json.dumps({"version": _version(), "files": sizes}, indent=2).encode())
        _put_in_place(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        for parent in made_on_the_way:
            with suppress(OSError):  # not empty: the set is there now
                parent.rmdir()
    return folder


def _check_free(folder: Path) -> None:
    """Raises InvalidRequest if there is something at `folder` that this code has not written."""
    if (folder / STAMP).is_file():
        return
    try:
        if next(folder.iterdir(), None) is not None:
            raise InvalidRequest(
                f'"{folder}" holds other files: choose an empty or new folder for the tiny models'
            )
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidRequest(
            f'cannot use "{folder}" for the tiny models: {error.strerror}; choose another folder'
        ) from error


def _write(path: Path, content: bytes) -> None:
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def _put_in_place(made: Path, folder: Path) -> None:
    """Moves an older set out of the way and renames `made` to `folder`."""
    older = made.with_name(f"{made.name}.older")
    try:
        with suppress(FileNotFoundError):
            os.rename(folder, older)
        os.rename(made, folder)
    except OSError as error:
        with suppress(OSError):
            os.rename(older, folder)
        if not _is_whole(folder):  # otherwise another process was faster
            raise InvalidRequest(
                f'cannot write "{folder}": {error.strerror}; close what uses it or choose another folder'
            ) from error
    finally:
        shutil.rmtree(older, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        stamp = json.loads((folder / STAMP).read_bytes())
        return stamp["version"] == _version() and all(
            (folder / name).stat().st_size == size for name, size in stamp["files"].items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _version() -> str:
    """The version of the code that writes the set."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
