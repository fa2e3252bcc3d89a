"""Where model files lie: the models folder, and the files of a group in it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InvalidRequest, ModelFileMissing

# What the code reads of a group, one thing a line: the released file first, then what may stand in for it. The
# config.json files are not among it: every size is read off the weights.
_READ = {
    "transformer": (("diffusion_pytorch_model.safetensors.index.json", "*.safetensors"),),
    "text_encoder": (("model.safetensors.index.json", "*.safetensors"),),
    "tokenizer": (("spiece.model", "tokenizer.json"),),
    "vae": (("diffusion_pytorch_model.safetensors", "*.safetensors"),),
    "clip_visual_encoder": (("model.safetensors", "*.safetensors"),),
    "face_encoder": (
        ("models/antelopev2/scrfd_10g_bnkps.onnx", "**/scrfd_10g_bnkps.onnx"),
        ("models/antelopev2/glintr100.onnx", "**/glintr100.onnx"),
        ("parsing_bisenet.pth", "parsing_bisenet.safetensors"),
    ),
}
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")


def cache_folder() -> Path:
    """The folder for what this package may lose and make again: per user, where the system keeps such things."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "echovideo"


def default_folder() -> Path:
    """The models folder when none is named: $ECHOVIDEO_MODELS, else `models` in the user's cache."""
    chosen = os.environ.get("ECHOVIDEO_MODELS")
    return Path(chosen).expanduser() if chosen else cache_folder() / "models"


def require(folders: str | Path | Sequence[str | Path], group: str) -> Path:
    """Where the files of `group` are: the group's folder in the first models folder that holds all of them.

    Weights may be sharded (an index and every shard that it names) or one .safetensors of any name. The transformer
    may also be one .safetensors given in place of a models folder, or `transformer.safetensors` in one (which goes
    before the folder `transformer`): the result is then that file, as it is for one file in `transformer`.
    Raises ModelFileMissing with the missing files, every folder searched and the command that gets them;
    InvalidRequest if `transformer` holds several whole ones.
    """
    searched = [Path(folder) for folder in ([folders] if isinstance(folders, (str, Path)) else folders)]
    lacking: dict[Path, list[str]] = {}
    for folder in searched:
        if group == "transformer" and (single := _single_file(folder)):
            return single
        lacking[folder] = _missing(folder / group, group)
        if not lacking[folder]:
            return folder / group
    nearest = min(lacking, key=lambda folder: (not os.path.isdir(folder / group), len(lacking[folder])))
    names = ", ".join(f"{group}/{name}" for name in lacking[nearest])
    raise ModelFileMissing(
        f"missing model files: {names}; searched in {', '.join(map(str, searched))}{how_to_get(nearest, [group])}"
    )


def how_to_get(folder: Path, groups: Sequence[str]) -> str:
    """The end of an error about missing files: the command that gets `groups`, all if empty, into a models folder.

    ComfyUI's own models folder is no place for them, and is named as what it is.
    """
    command = "echovideo models download" + (f" --only {' '.join(groups)}" if groups else "")
    if all(os.path.isdir(folder / name) for name in ("diffusion_models", "text_encoders", "vae")):
        return (
            f"; {folder} looks like ComfyUI's models folder, whose files have other names and which the command line "
            f"does not read: name another or none, and get them with: {command}"
        )
    return f'. Get them with: {command} --models "{folder}"'


def _single_file(folder: Path) -> Path | None:
    """The transformer as one .safetensors, if that is what `folder` offers."""
    if folder.suffix == ".safetensors" and os.path.isfile(folder):
        return folder
    beside = folder / "transformer.safetensors"
    if os.path.isfile(beside):
        return beside
    if _missing_shards(folder / "transformer" / _READ["transformer"][0][0]) == []:
        return None
    whole = list(_matching(folder / "transformer", "*.safetensors"))
    if len(whole) > 1:
        raise InvalidRequest(
            f"there are several transformers, name one of them: {', '.join(map(str, whole))}"
        )
    return whole[0] if whole else None


def _missing(folder: Path, group: str) -> list[str]:
    """Names of the released files, relative to the group's `folder`, that nothing there stands in for."""
    missing = []
    for names in _READ[group]:
        if not any(_found(folder, name) for name in names):
            missing += _missing_shards(folder / names[0]) or [names[0]]
    return missing


def _found(folder: Path, name: str) -> bool:
    """Whether a file is there; an index counts only with its shards, a shard never."""
    if name.endswith(".index.json"):
        return _missing_shards(folder / name) == []
    return any(_matching(folder, name))


def _matching(folder: Path, pattern: str) -> Iterator[Path]:
    """The files of a folder that a name or pattern fits and that are not one part of several, in order."""
    return (
        path for path in sorted(folder.glob(pattern)) if os.path.isfile(path) and not _SHARD.search(path.name)
    )


def _missing_shards(index: Path) -> list[str] | None:
    """The shards that an index names and that are not beside it; None if the index cannot be read."""
    try:
        named = set(json.loads(index.read_bytes())["weight_map"].values())
        missing = sorted(name for name in named if not os.path.isfile(index.parent / name))
        return missing if named else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
