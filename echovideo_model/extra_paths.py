"""Folders of models that a ComfyUI's extra_model_paths.yaml names: what is there is not fetched again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import yaml

from .errors import InvalidRequest
from .weights import ModelFile

NAME = "extra_model_paths.yaml"
_OLDER_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}


def extra_folders(comfyui: Path) -> dict[str, list[Path]]:
    """{kind: folders} out of the file in ComfyUI's folder, which is read as ComfyUI reads it; empty without one.

    Raises InvalidRequest for a file that cannot be read.
    """
    found: dict[str, list[Path]] = {}
    if not (comfyui / NAME).is_file():
        return found
    try:
        sections = yaml.safe_load((comfyui / NAME).read_text("utf-8")) or {}
        for section in filter(None, sections.values()):
            base = os.path.expandvars(os.path.expanduser(section.get("base_path", "")))
            for kind in section.keys() - {"base_path", "is_default"}:
                folders = [
                    os.path.normpath(comfyui / base / line) for line in section[kind].split("\n") if line
                ]
                found.setdefault(_OLDER_NAMES.get(kind, kind), []).extend(map(Path, folders))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InvalidRequest(
            f"{comfyui / NAME} cannot be read ({reason}): mend it or move it away"
        ) from error
    return found


def find_elsewhere(files: Iterable[ModelFile], extra: Mapping[str, Sequence[Path]]) -> dict[ModelFile, Path]:
    """Which of `files` (with their paths inside ComfyUI's models folder) lie in the extra folders of their kind, at
    any depth. Files that are read together count only where all of them are."""
    found: dict[ModelFile, Path] = {}
    together: dict[PurePosixPath, list[ModelFile]] = {}
    for file in files:
        together.setdefault(PurePosixPath(file.path).parent, []).append(file)
    for parent, rows in together.items():
        for folder in extra.get(_OLDER_NAMES.get(parent.parts[0], parent.parts[0]), ()):
            paths = {file: next(folder.rglob(PurePosixPath(file.path).name), None) for file in rows}
            if all(paths.values()):
                found |= {file: path for file, path in paths.items() if path is not None}
                break
    return found
