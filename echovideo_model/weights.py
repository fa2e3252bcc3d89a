"""Every weight file that EchoVideo needs: where it comes from, what it must be, and under which licence.

One table, in the layout of the release (`ckpts/` of github.com/bytedance/EchoVideo). Sizes and hashes are those that
the source repositories publish for the revision named here; what they do not publish is None, never a guess.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from .errors import InvalidRequest, ModelFileMissing


@dataclass(frozen=True)
class Licence:
    """The licence of a weight file, as its publisher states it."""

    name: str
    url: str
    forbids_commercial_use: bool = False


@dataclass(frozen=True)
class ModelFile:
    """One file: `path` inside the models folder, `source` inside the Hub repository, size in bytes, sha256 in hex."""

    group: str
    path: str
    size: int | None
    sha256: str | None
    repository: str
    revision: str
    source: str
    licence: Licence


GROUPS = {
    "transformer": "EchoVideo's transformer, IITF included",
    "text_encoder": "T5-XXL encoder",
    "tokenizer": "T5 tokenizer",
    "vae": "CogVideoX VAE",
    "clip_visual_encoder": "SigLIP base, 224 x 224",
    "face_encoder": "face detector, ArcFace and BiSeNet parser",
    "reference": "read by ByteDance's own code alone",
}

_CC_BY_NC = Licence("CC BY-NC 4.0", "https://creativecommons.org/licenses/by-nc/4.0/", True)
_INSIGHTFACE = Licence(
    "InsightFace, non-commercial research only",
    "https://github.com/deepinsight/insightface/tree/master/python-package#license",
    True,
)
_COGVIDEOX = Licence(
    "CogVideoX License, commercial use after registration",
    "https://huggingface.co/zai-org/CogVideoX-5b/blob/main/LICENSE",
)
_APACHE = Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0")
_MIT = Licence("MIT", "https://opensource.org/license/mit")


def _files(
    group: str, licence: Licence, origin: str, rows: str, *, folder: str | None = None, flat: bool = False
) -> tuple[ModelFile, ...]:
    """One row a file: name inside `folder` (by default the group's), size, sha256; "-" stands for unknown.

    `origin` is "repository@revision"; `flat` says that the repository holds the file at its root.
    """
    repository, revision = origin.split("@")
    folder = group if folder is None else folder
    files = []
    for name, size, sha256 in (row.split() for row in rows.strip().splitlines()):
        path = f"{folder}/{name}".lstrip("/")
        source = path.rpartition("/")[2] if flat else path
        known = (None if size == "-" else int(size), None if sha256 == "-" else sha256)
        files.append(ModelFile(group, path, *known, repository, revision, source, licence))
    return tuple(files)


_ECHOVIDEO = "bytedance-research/EchoVideo@main"
_COGVIDEOX_5B = "zai-org/CogVideoX-5b@8fc5b281006c82b82d34fd2543d2f0ebb4e7e321"
_SIGLIP = "google/siglip-base-patch16-224@7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed"
_ANTELOPE = "DIAMONIK7777/antelopev2@ba0c3e10f4548361eb9a63265d87ce1140ab5a05"
_CONSISID = "BestWishYsh/ConsisID-preview@main"  # the place that the reference's own instructions name

_TRANSFORMER = """
    config.json                                         -  -
    diffusion_pytorch_model.safetensors.index.json      -  -
    diffusion_pytorch_model-00001-of-00002.safetensors  -  -
    diffusion_pytorch_model-00002-of-00002.safetensors  -  -
"""
_TEXT_ENCODER = """
    config.json                              809  -
    model.safetensors.index.json               -  -
    model-00001-of-00002.safetensors  4994582224  9162b8ae9152e7a8e3bbebc535c8692783f50aec8cd3bb8ef6a751c432dd6392
    model-00002-of-00002.safetensors  4530066360  d3edef29693d52402b1cc7c362f031e052f2e9482ed0c765c6351950434349b0
"""
_TOKENIZER = """
    added_tokens.json             -  -
    special_tokens_map.json       -  -
    tokenizer_config.json         -  -
    spiece.model             791656  d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86
"""
_VAE = """
    config.json                                872  -
    diffusion_pytorch_model.safetensors  862388596  a410e48d988c8224cef392b68db0654485cfd41f345f4a3a81d3e6b765bb995e
"""
_CLIP_VISUAL_ENCODER = """
    config.json                     432  cd85b3d28829722820bcb89a2cfbb4160e55fd359249a3044da724166a8d9688
    preprocessor_config.json        368  d11ccb80f15d358a11bdb070e92e2d889005874b7db15823d5f10d9b2533b14a
    model.safetensors         812672320  2c63cb7d1f2e95ba501893cbb8faeb4ea9a3af295498d35097126228659c2af8
"""
_ANTELOPEV2 = """
    scrfd_10g_bnkps.onnx   16923827  5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91
    glintr100.onnx        260665334  4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf
"""
_BISENET = """
    parsing_bisenet.pth  53289463  468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567
"""
_REFERENCE_PIPELINE = """
    model_index.json                 -  -
    scheduler/scheduler_config.json  -  -
"""
_REFERENCE_FACES = """
    detection_Resnet50_Final.pth  109497761  6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d
    parsing_parsenet.pth           85331193  3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2
"""

TABLE: tuple[ModelFile, ...] = (
    *_files("transformer", _CC_BY_NC, _ECHOVIDEO, _TRANSFORMER),
    *_files("text_encoder", _APACHE, _COGVIDEOX_5B, _TEXT_ENCODER),
    *_files("tokenizer", _APACHE, _COGVIDEOX_5B, _TOKENIZER),
    *_files("vae", _COGVIDEOX, _COGVIDEOX_5B, _VAE),
    *_files("clip_visual_encoder", _APACHE, _SIGLIP, _CLIP_VISUAL_ENCODER, flat=True),
    *_files(
        "face_encoder",
        _INSIGHTFACE,
        _ANTELOPE,
        _ANTELOPEV2,
        folder="face_encoder/models/antelopev2",
        flat=True,
    ),
    *_files("face_encoder", _MIT, _CONSISID, _BISENET),
    *_files("reference", _CC_BY_NC, _ECHOVIDEO, _REFERENCE_PIPELINE, folder=""),
    *_files("reference", _MIT, _CONSISID, _REFERENCE_FACES, folder="face_encoder"),
)

NEEDED: tuple[ModelFile, ...] = tuple(file for file in TABLE if file.group != "reference")

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
    *_files(
        "text_encoder",
        _APACHE,
        "comfyanonymous/flux_text_encoders@main",
        _HOST_TEXT_ENCODER,
        folder="text_encoders",
        flat=True,
    ),
)


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


def select(groups: Sequence[str] | None = None) -> tuple[ModelFile, ...]:
    """The files of `groups`; of all that this package needs when None. Raises InvalidRequest for an unknown group."""
    return NEEDED if groups is None else _of_groups(TABLE, groups)


def select_for_host(models: Path, groups: Sequence[str] | None = None) -> tuple[ModelFile, ...]:
    """What the nodes need of `groups` (of all when None), each with its path inside ComfyUI's folder `models`.

    Files that are read together stay together, and what was begun in another folder that ComfyUI searches (the older
    names of its folders; any folder below `insightface`) is completed there.
    Raises InvalidRequest for a group of which the nodes read no file.
    """
    chosen = HOST if groups is None else _of_groups(HOST, groups)
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


def _of_groups(table: Sequence[ModelFile], groups: Sequence[str]) -> tuple[ModelFile, ...]:
    known = dict.fromkeys(file.group for file in table)
    for group in groups:
        if group not in known:
            raise InvalidRequest(
                f'there is no group "{group}" of model files; choose from {", ".join(known)}'
            )
    return tuple(file for file in table if file.group in groups)


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
