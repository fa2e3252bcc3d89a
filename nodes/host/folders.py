"""The host's model folders: which ones are read, what is offered in lists, and whole files or shards as one state."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import comfy.utils
import folder_paths
from safetensors import SafetensorError

from ...echovideo_model.errors import InvalidRequest, ModelFileMissing, WrongModelFile
from ...echovideo_model.files import write_atomically
from ...echovideo_model.nano import PORTRAITS
from ...echovideo_model.nano import models as nano
from ...echovideo_model.weights.family import open_released
from ...echovideo_model.weights.loading import read_state
from ...echovideo_model.weights.shards import GGUF, SHARD, find_shards

DIFFUSION_MODELS, TEXT_ENCODERS, VAE, CLIP_VISION = "diffusion_models", "text_encoders", "vae", "clip_vision"
PREVIEW_DECODERS, DRAFT = "vae_approx", "taecvx"
FACE_PARSERS, INSIGHTFACE, IDENTITIES = "facemodels", "insightface", "echovideo_identities"
OWN_FOLDERS = {FACE_PARSERS: {".pth", ".safetensors"}, INSIGHTFACE: {".onnx"}, IDENTITIES: {".safetensors"}}
NANO = {
    DIFFUSION_MODELS: "transformer",
    TEXT_ENCODERS: "text_encoder",
    VAE: "vae",
    CLIP_VISION: "clip_visual_encoder",
    FACE_PARSERS: "face_encoder",
}
"""The host's folder -> nano's group, whose folder is the last one searched."""
UNREADABLE = (SafetensorError, ValueError, OSError, EOFError, RuntimeError, UnpicklingError)
GGUF_LISTS = {DIFFUSION_MODELS: "unet_gguf", TEXT_ENCODERS: "clip_gguf"}
"""The host's folder -> the name under which ComfyUI-GGUF lists its .gguf files, or we do without that pack."""
log = logging.getLogger(__name__)


def register() -> None:
    """Adds our folders and nano's to the host's, keeping places that the user's extra_model_paths.yaml gave them."""
    for name, extensions in OWN_FOLDERS.items():
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
        places, known = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (places, set(known) | extensions)
    folder_paths.add_model_folder_path(
        IDENTITIES, os.path.join(folder_paths.get_output_directory(), IDENTITIES)
    )
    for folder, listed in GGUF_LISTS.items():
        folder_paths.folder_names_and_paths.setdefault(
            listed, (folder_paths.folder_names_and_paths[folder][0], {GGUF})
        )
    for name, group in NANO.items():
        folder_paths.add_model_folder_path(name, str(nano.FOLDER / group))
    if nano.FOLDER.is_dir():
        offer_portraits()


def offer_portraits() -> None:
    """Copies the two bundled portraits into the host's input folder, since Load Image offers nothing else."""
    folder = Path(folder_paths.get_input_directory())
    for portrait in PORTRAITS:
        place = folder / f"echovideo_{portrait.name}"
        if place.exists():
            continue
        try:
            with write_atomically(place) as temporary:
                shutil.copyfile(portrait, temporary)
        except InvalidRequest as error:  # the folder may be read-only
            log.info("EchoVideo: %s", error)


def put_nano_last(original: Any) -> Any:
    def get_filename_list(folder_name: str) -> list[str]:
        """The host's list of a folder with nano's file moved to the end, so that the default is one of the user's own
        files if there is one."""
        return sorted(original(folder_name), key=is_nano_name)

    return get_filename_list


def is_nano_name(name: str) -> bool:
    return name in nano.FILES.values()


def is_nano(path: Path) -> bool:
    return path.is_relative_to(nano.FOLDER)


def list_files(folder: str) -> list[str]:
    """What a node offers from `folder`: every file, but only the first part of a file in several parts; nano last."""
    names = folder_paths.get_filename_list(folder)
    if folder in GGUF_LISTS:
        names = [*names, *folder_paths.get_filename_list(GGUF_LISTS[folder])]
    if folder == VAE:
        names = [
            *names,
            *(name for name in folder_paths.get_filename_list(PREVIEW_DECODERS) if DRAFT in name),
        ]
    offered = [name for name in names if not (part := SHARD.search(name)) or int(part[1]) == 1]
    return sorted(offered, key=is_nano_name)


def resolve(folder: str, name: str) -> Path:
    """The file that a node's choice means. Raises ModelFileMissing with every place searched."""
    path = find(folder, name)
    if path is None:
        raise explain_missing([(folder, name)])
    return Path(path)


def find(folder: str, name: str) -> str | None:
    """The host's get_full_path; a VAE may also be a decoder for previews."""
    path = folder_paths.get_full_path(folder, name)
    if path is None and folder == VAE:
        return folder_paths.get_full_path(PREVIEW_DECODERS, name)
    return path


def explain_missing(files: Sequence[tuple[str, str]]) -> ModelFileMissing:
    """The one error about files (folder, name) that are not there: for each, every place searched, and the command that
    downloads the published ones."""
    names = " and ".join(name for _, name in files)
    they_are, them, s = ("is", "it", "") if len(files) == 1 else ("are", "them", "s")
    own = all(folder == IDENTITIES for folder, _ in files)
    published = "" if own else f"get the published file{s} with {install()}, or "
    searched = "; ".join(f"{name} in {', '.join(list_user_folders(folder))}" for folder, name in files)
    return ModelFileMissing(
        f"{names} {they_are} missing: {published}put {them} into a folder searched and press R; searched for {searched}"
    )


def list_user_folders(folder: str) -> list[str]:
    return [place for place in folder_paths.get_folder_paths(folder) if not is_nano(Path(place))]


def check(chosen: dict[str, str | None]) -> bool | str:
    """For a node's validate_inputs: True, or why choices {folder: name} cannot be met (None is not known yet).

    Without it, newer hosts say only that the name is not in a list, and older ones say nothing before the run.
    """
    missing = [
        (folder, name) for folder, name in chosen.items() if name is not None and find(folder, name) is None
    ]
    return str(explain_missing(missing)) if missing else True


def install() -> str:
    """For messages: the command that downloads everything missing."""
    return f"`echovideo models install --comfyui {Path(folder_paths.models_dir).parent}`"


def load_state(path: Path) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Tensors by name and the metadata of a file; for a file in several parts, all of them together.

    Those of a GGUF come under the released names, its packed ones as bfloat16. Raises WrongModelFile for a file that
    cannot be read, ModelFileMissing for a part that is not there, DependencyMissing for a GGUF without its package.
    """
    state: dict[str, Any] = {}
    metadata: dict[str, str] | None = None
    for part in require_shards(path):
        if part.suffix == GGUF:
            opened = open_released(path)  # all parts
            return read_state(opened), opened.metadata
        try:
            if is_gguf(part):
                raise WrongModelFile(f"{part.name} is a GGUF file: rename it to end in {GGUF}")
            tensors, about = comfy.utils.load_torch_file(str(part), safe_load=True, return_metadata=True)
        except UNREADABLE as error:
            reason = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
            raise WrongModelFile(
                f"{part.name} cannot be read because it is truncated or damaged: download it again ({reason})"
            ) from error
        state.update(tensors)
        metadata = metadata or about
    return state, metadata


def is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def require_shards(path: Path) -> list[Path]:
    """Every part of the file of which `path` is one; raises ModelFileMissing for the first that is not there."""
    parts = find_shards(path)
    for one in parts:
        if not one.is_file():
            raise ModelFileMissing(
                f"{one.name} is missing: get the published parts with {install()}, or put it into {path.parent}; the "
                f"model has {len(parts)} parts"
            )
    return parts
