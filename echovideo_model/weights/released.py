"""Every weight file that EchoVideo needs: where it comes from, what it must be, and under which licence.

One table, in the layout of the release (`ckpts/` of github.com/bytedance/EchoVideo). Sizes and hashes are those that
the source repositories publish for the revision named here; what they do not publish is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import InvalidRequest

DOWNLOAD = "get them with: echovideo models download"
"""The end of a sentence about weights that are not there."""


@dataclass(frozen=True)
class Licence:
    """The licence of a weight file, as its publisher states it."""

    name: str
    url: str
    forbids_commercial_use: bool = False


@dataclass(frozen=True)
class ModelFile:
    """One file: `path` inside the models folder, `source` inside the repository, size in bytes, sha256 in hex.

    `repository` is OWNER/NAME on the Hub, or the address of a folder on the web, which has no revisions.
    """

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
    "evaluation": "networks for `echovideo evaluate`",
    "preview": "small decoder for previews and drafts in ComfyUI",
    "reference": "used only by ByteDance's own code",
}
OPTIONAL = ("evaluation", "preview", "reference")  # downloaded only when asked for by name

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
APACHE = Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0")
_MIT = Licence("MIT", "https://opensource.org/license/mit")
_BSD = Licence("BSD-3-Clause", "https://opensource.org/license/bsd-3-clause")
_CC_BY_NC_SA = Licence("CC BY-NC-SA 4.0", "https://creativecommons.org/licenses/by-nc-sa/4.0/", True)


def list_files(
    group: str, licence: Licence, origin: str, rows: str, *, folder: str | None = None, flat: bool = False
) -> tuple[ModelFile, ...]:
    """One row a file: name inside `folder` (by default the group's), size, sha256; "-" stands for unknown.

    `origin` is "repository@revision", or "address@"; `flat` says that the repository holds the file at its root.
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


def judge(licence: Licence, origin: str, rows: str, folder: str = "", at: str = "") -> tuple[ModelFile, ...]:
    """Files of the group "evaluation", in a `folder` of its own or in none; `at` is the repository's folder."""
    inside = f"evaluation/{folder}".rstrip("/")
    files = list_files("evaluation", licence, origin, rows, folder=inside, flat=True)
    return tuple(replace(file, source=f"{at}/{file.source}".lstrip("/")) for file in files)


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
# Judges of videos. What PyTorch and NVIDIA serve has no published hash but the eight digits in some names.
_BUFFALO_L = """
    w600k_r50.onnx  174383860  4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43
"""
_CLIP_B32 = """
    config.json        -  -
    vocab.json         -  -
    merges.txt         -  -
    pytorch_model.bin  -  a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f
"""
_CLIP_L14 = """
    config.json                 -  -
    model.safetensors  1710540580  a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb
"""
_DINO = """
    config.json        -  -
    pytorch_model.bin  -  a064e36c67289caaa5c949c0b3f7f31a0fcbcba5721f5fa12419933ec1f4fe6e
"""
_AESTHETIC = "sa_0_4_vit_l_14_linear.pth  -  -"
_MUSIQ = "musiq_spaq_ckpt-358bb6af.pth  -  -"
_TORCHVISION = """
    raft_large_C_T_V1-22a6c225.pth     -  -
    inception_v3_google-0cc3c7bd.pth   -  -
"""
_FID_INCEPTION = "inception-2015-12-05.pt  -  -"
_PYTORCH = "https://download.pytorch.org/models@"
_NVIDIA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics@"
_TAEHV = "https://raw.githubusercontent.com/madebyollin/taehv/main@"
_LAION = "https://raw.githubusercontent.com/LAION-AI/aesthetic-predictor/main@"

TABLE: tuple[ModelFile, ...] = (
    *list_files("transformer", _CC_BY_NC, _ECHOVIDEO, _TRANSFORMER),
    *list_files("text_encoder", APACHE, _COGVIDEOX_5B, _TEXT_ENCODER),
    *list_files("tokenizer", APACHE, _COGVIDEOX_5B, _TOKENIZER),
    *list_files("vae", _COGVIDEOX, _COGVIDEOX_5B, _VAE),
    *list_files("clip_visual_encoder", APACHE, _SIGLIP, _CLIP_VISUAL_ENCODER, flat=True),
    *list_files(
        "face_encoder",
        _INSIGHTFACE,
        _ANTELOPE,
        _ANTELOPEV2,
        folder="face_encoder/models/antelopev2",
        flat=True,
    ),
    *list_files("face_encoder", _MIT, _CONSISID, _BISENET),
    *judge(_INSIGHTFACE, "public-data/insightface@main", _BUFFALO_L, "buffalo_l", at="models/buffalo_l"),
    *judge(_MIT, "openai/clip-vit-base-patch32@main", _CLIP_B32, "clip-vit-base-patch32"),
    *judge(_MIT, "openai/clip-vit-large-patch14@main", _CLIP_L14, "clip-vit-large-patch14"),
    *judge(APACHE, "facebook/dino-vitb16@main", _DINO, "dino-vitb16"),
    *judge(_MIT, _LAION, _AESTHETIC),
    *judge(_CC_BY_NC_SA, "chaofengc/IQA-PyTorch-Weights@main", _MUSIQ),
    *judge(_BSD, _PYTORCH, _TORCHVISION),
    *judge(APACHE, _NVIDIA, _FID_INCEPTION),
    *list_files("preview", _MIT, _TAEHV, "taecvx.pth  -  -", flat=True),
    *list_files("reference", _CC_BY_NC, _ECHOVIDEO, _REFERENCE_PIPELINE, folder=""),
    *list_files("reference", _MIT, _CONSISID, _REFERENCE_FACES, folder="face_encoder"),
)

NEEDED: tuple[ModelFile, ...] = tuple(file for file in TABLE if file.group not in OPTIONAL)


def select(groups: Sequence[str] | None = None) -> tuple[ModelFile, ...]:
    """The files of `groups`; of all that this package needs when None. Raises InvalidRequest for an unknown group."""
    return NEEDED if groups is None else select_from(TABLE, groups)


def select_from(table: Sequence[ModelFile], groups: Sequence[str]) -> tuple[ModelFile, ...]:
    """The files of `groups` in `table`. Raises InvalidRequest for an unknown group."""
    known = dict.fromkeys(file.group for file in table)
    for group in groups:
        if group not in known:
            raise InvalidRequest(f'unknown group "{group}" of model files: choose from {", ".join(known)}')
    return tuple(file for file in table if file.group in groups)
