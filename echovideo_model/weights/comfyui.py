"""ComfyUI's layout of model files: which it reads, where in its models folder, and what lies in the further folders
that its extra_model_paths.yaml names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import yaml

from ..errors import InvalidRequest
from .released import APACHE, TABLE, ModelFile, list_files, select_from

NAME = "extra_model_paths.yaml"
_OLDER_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}

# ComfyUI's layout: the path inside its own models folder, under the name that the shipped workflows choose. ComfyUI
# brings the tokenizer, and takes T5 as one file.
_AT_HOST = {
    "transformer/diffusion_pytorch_model-00001-of-00002.safetensors": (
        "diffusion_models/echovideo-00001-of-00002.safetensors"
    ),
    "transformer/diffusion_pytorch_model-00002-of-00002.safetensors": (
        "diffusion_models/echovideo-00002-of-00002.safetensors"
    ),
    "vae/diffusion_pytorch_model.safetensors": "vae/cogvideox_vae.safetensors",
    "clip_visual_encoder/model.safetensors": "clip_vision/siglip-base-patch16-224.safetensors",
    "face_encoder/models/antelopev2/scrfd_10g_bnkps.onnx": (
        "insightface/models/antelopev2/scrfd_10g_bnkps.onnx"
    ),
    "face_encoder/models/antelopev2/glintr100.onnx": "insightface/models/antelopev2/glintr100.onnx",
    "face_encoder/parsing_bisenet.pth": "facemodels/parsing_bisenet.pth",
}
_HOST_TEXT_ENCODER = """
    t5xxl_fp16.safetensors  9787841024  6e480b09fae049a72d2a8c5fbccb8d3e92febeb233bbe9dfe7256958a9167635
"""
_HOST_SHARES = {"diffusion_models": "unet", "text_encoders": "clip"}  # both are searched, as if they were one

HOST: tuple[ModelFile, ...] = (
    *(replace(file, path=_AT_HOST[file.path]) for file in TABLE if file.path in _AT_HOST),
    *list_files(
        "text_encoder",
        APACHE,
        "comfyanonymous/flux_text_encoders@main",
        _HOST_TEXT_ENCODER,
        folder="text_encoders",
        flat=True,
    ),
)


def select_for_host(models: Path, groups: Sequence[str] | None = None) -> tuple[ModelFile, ...]:
    """What the nodes need of `groups` (of all when None), each with its path inside ComfyUI's folder `models`.

    Files that are read together stay together, and what was begun in another folder that ComfyUI searches (the older
    names of its folders; any folder below `insightface`) is completed there.
    Raises InvalidRequest for a group of which the nodes read no file.
    """
    chosen = HOST if groups is None else select_from(HOST, groups)
    settled = []
    for folder in dict.fromkeys(str(PurePosixPath(file.path).parent) for file in chosen):
        rows = {
            path.name: file for file in chosen if str((path := PurePosixPath(file.path)).parent) == folder
        }
        places = {
            place: sum(os.path.isfile(models / place / name) for name in rows)
            for place in _host_places(models, folder, rows)
        }
        place = max(places, key=lambda place: places[place])
        settled += [replace(file, path=f"{place}/{name}") for name, file in rows.items()]
    return tuple(settled)


def _host_places(models: Path, folder: str, names: Iterable[str]) -> Iterator[str]:
    """Where ComfyUI, or our detector, finds files meant for `folder`; relative to `models`, that folder first."""
    yield folder
    if folder in _HOST_SHARES:
        yield _HOST_SHARES[folder]
    elif folder.startswith("insightface/"):
        for name in names:
            for found in sorted((models / "insightface").rglob(name)):
                yield found.parent.relative_to(models).as_posix()


def read_extra_folders(comfyui: Path) -> dict[str, list[Path]]:
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
        raise InvalidRequest(f"{comfyui / NAME} cannot be read ({reason}): fix it or move it away") from error
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
