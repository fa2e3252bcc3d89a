"""Where model files are: the models folder, and the files of a group in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import InvalidRequest, ModelFileMissing, WrongModelFile
from .shards import GGUF, find_shards, group_shards, read_index

_INDEX, _WHOLE = "*.safetensors.index.json", "*.safetensors"
_GGUF = f"*{GGUF}"
# What the code reads of a group, one thing a line: the released file first, then what may stand in for it. The
# config.json files are not among it: every size is read off the weights.
_READ = {
    "transformer": (("diffusion_pytorch_model.safetensors.index.json", _INDEX, _WHOLE, _GGUF),),
    "text_encoder": (("model.safetensors.index.json", _INDEX, _WHOLE, _GGUF),),
    "tokenizer": (("spiece.model", "tokenizer.json"),),
    "vae": (("diffusion_pytorch_model.safetensors", _INDEX, _WHOLE),),
    "clip_visual_encoder": (("model.safetensors", _INDEX, _WHOLE),),
    "face_encoder": (
        ("models/antelopev2/scrfd_10g_bnkps.onnx", "**/scrfd_10g_bnkps.onnx"),
        ("models/antelopev2/glintr100.onnx", "**/glintr100.onnx"),
        ("parsing_bisenet.pth", _WHOLE),
    ),
}


def find_cache_folder() -> Path:
    """The folder for what this package can lose and make again: the user's, where the system keeps caches."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "echovideo"


def find_default_folder() -> Path:
    """The models folder when none is named: $ECHOVIDEO_MODELS, else `models` in the user's cache."""
    chosen = os.environ.get("ECHOVIDEO_MODELS")
    return Path(chosen).expanduser() if chosen else find_cache_folder() / "models"


def require(models: str | Path, group: str) -> Path:
    """Where the files of `group` are: the group's folder in the folder `models`, if it holds all of them.

    Weights may lie in shards (with an index of any name, or each named NAME-00001-of-00002.safetensors) or in one
    .safetensors of any name, as may the face parser; the transformer and T5 also in one .gguf. The transformer may
    also be one such file given in place of a models folder, or `transformer.safetensors` in one (which goes before the
    folder `transformer`): the result is then that file, as it is for one file in `transformer`.
    Raises ModelFileMissing with the missing files, the folder and the command that gets them; InvalidRequest if
    `transformer` holds several whole ones.
    """
    models = Path(models)
    if group == "transformer" and (single := _single_file(models)):
        return single
    if missing := _missing(models / group, group):
        names = ", ".join(f"{group}/{name}" for name in missing)
        raise ModelFileMissing(
            f"missing model files: {names}; searched {models}{explain_download(models, [group])}"
        )
    return models / group


def explain_download(folder: Path, groups: Sequence[str]) -> str:
    """The end of an error about missing files: the command that gets `groups`, all if empty, into a models folder.

    ComfyUI's own models folder is recognised, because it cannot be used.
    """
    command = "echovideo models download" + (f" --only {' '.join(groups)}" if groups else "")
    if all(os.path.isdir(folder / name) for name in ("diffusion_models", "text_encoders", "vae")):
        return (
            f"; {folder} looks like ComfyUI's models folder, which the command line cannot use because "
            "the files there have other names: choose another folder or none, and get the files with: "
            f"{command}"
        )
    return f'. Get them with: {command} --models "{folder}"'


def _single_file(folder: Path) -> Path | None:
    """The transformer as one .safetensors or .gguf, if that is what `folder` offers."""
    if folder.suffix in (".safetensors", GGUF) and os.path.isfile(folder):
        return folder
    beside = folder / "transformer.safetensors"
    if os.path.isfile(beside):
        return beside
    place = folder / "transformer"
    if any(_missing_shards(index) == [] for index in place.glob(_INDEX)):
        return None
    files = (*_models(place, _WHOLE), *_models(place, _GGUF))
    whole = [file for file in files if find_shards(file) == [file]]
    if len(whole) > 1:
        raise InvalidRequest(f"several transformers were found; choose one of {', '.join(map(str, whole))}")
    return whole[0] if whole else None


def _missing(folder: Path, group: str) -> list[str]:
    """Names of the released files, relative to the group's `folder`, that are missing and that no other file
    replaces."""
    missing = []
    for names in _READ[group]:
        if not any(_models(folder, name) for name in names):
            begun = [shard for index in sorted(folder.glob(_INDEX)) for shard in _missing_shards(index) or ()]
            missing += begun if _INDEX in names and begun else [names[0]]
    return missing


def _models(folder: Path, pattern: str) -> list[Path]:
    """What is whole in a folder and fits a name or pattern: a file, the first of a set of shards, an index with all."""
    found = [path for path in sorted(folder.glob(pattern)) if os.path.isfile(path)]
    if pattern.endswith(".index.json"):
        return [index for index in found if _missing_shards(index) == []]
    return [file for file in group_shards(found) if all(map(os.path.isfile, find_shards(file)))]


def _missing_shards(index: Path) -> list[str] | None:
    """The shards that an index names and that are not beside it; None if the index cannot be read."""
    try:
        named = set(read_index(index).values())
    except WrongModelFile:
        return None
    return sorted(name for name in named if not os.path.isfile(index.parent / name)) if named else None
