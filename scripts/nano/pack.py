"""Packs the trained nano model as it ships: narrow weights under telling names, with what they are in their metadata.

    python scripts/nano/pack.py MODELS [--output FOLDER]

MODELS has the released layout, as training leaves it or packed before. Big matrices of the transformer
and of SigLIP become fp8 e4m3, everything else 16 bits. What is lost is printed. FOLDER, by default where the package
looks, is replaced as a whole.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from echovideo_model.errors import InvalidRequest
from echovideo_model.face.detect import DETECTOR, RECOGNISER
from echovideo_model.facts import ENCODERS_KEY, ModelFacts
from echovideo_model.files import write_folder_atomically
from echovideo_model.nano.models import FILES, FOLDER
from echovideo_model.text import for_comfyui
from echovideo_model.transformer import EchoVideoTransformer
from echovideo_model.weights.configuration import transformer_config
from echovideo_model.weights.family import PARSER, SIGLIP, T5, TRANSFORMER, VAE, open_family
from echovideo_model.weights.folders import require
from echovideo_model.weights.loading import (
    BULK,
    load_transformer,
    read_config,
    read_state,
    read_transformer_sizes,
)
from echovideo_model.weights.writing import write_file

MAX_BYTES = 25_000_000
NARROW = torch.float8_e4m3fn
TRANSFORMER_NARROW = (*BULK, ".norm1.linear.", ".norm2.linear.")
SIGLIP_NARROW = (".self_attn.", ".mlp.")
# What recipes/nano_*.toml train on, and the guidance that their samples are drawn with. Shown at half speed.
FACTS = {
    "sizes": ((128, 128),),
    "size": (128, 128),
    "frames": 17,
    "fps": 8.0,
    "guidance": "constant",
    "guidance_scale": 2.5,
    "whole_person": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path)
    parser.add_argument("--output", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with write_folder_atomically(arguments.output) as temporary:
        pack(arguments.models, temporary)
        total = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
        if total > MAX_BYTES:
            raise InvalidRequest(f"the files come to {total:,} bytes, more than {MAX_BYTES:,}")
    print(f"{total:,} bytes in {arguments.output}")
    for path in sorted(arguments.output.rglob("*")):
        if path.is_file():
            print(f"  {path.stat().st_size:>10,}  {path.relative_to(arguments.output)}")


def pack(models: Path, folder: Path) -> None:
    """Everything that is needed, from one models folder into a new one."""
    encoders = name_encoders(models)
    pack_transformer(models, folder, ModelFacts(**FACTS, face_encoders=encoders))
    pack_vae(models, folder)
    pack_text_encoder(models, folder)
    pack_face_encoders(models, folder, encoders)


def name_encoders(models: Path) -> str:
    """nano- and a hash of recogniser and SigLIP as trained: narrower copies keep the name."""
    opened = open_family(require(models, "clip_visual_encoder"), SIGLIP)
    if name := opened.metadata.get(ENCODERS_KEY):
        return str(name)
    digest = hashlib.sha256(find_onnx(models, RECOGNISER).read_bytes())
    for _, tensor in sorted(opened.tensors()):
        digest.update(tensor.half().numpy().tobytes())
    return f"nano-{digest.hexdigest()[:8]}"


def pack_transformer(models: Path, folder: Path, facts: ModelFacts) -> None:
    source = require(models, "transformer")
    state = read_state(open_family(source, TRANSFORMER))
    config = transformer_config(read_transformer_sizes(source))
    target = folder / "transformer" / FILES["transformer"]
    metadata = {
        "format": "pt",
        "config": json.dumps(config),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": "EchoVideo nano: drawn people",
        "modelspec.architecture": "echovideo",
        **facts.metadata(),
    }
    write(target, {name: narrow(name, value, TRANSFORMER_NARROW) for name, value in state.items()}, metadata)
    exact, packed = load_transformer(source, torch.float32), load_transformer(target, torch.float32)
    print(f"transformer: predictions differ by {lost(exact, packed):.1%} of their size")


def pack_vae(models: Path, folder: Path) -> None:
    opened = open_family(require(models, "vae"), VAE)
    config = json.dumps(read_config(opened.path, opened.metadata))
    state = {name: value.to(torch.bfloat16) for name, value in read_state(opened).items()}
    write(folder / "vae" / FILES["vae"], state, {"format": "pt", "config": config})


def pack_text_encoder(models: Path, folder: Path) -> None:
    """T5 and, of the tokenizer's files, the one that is read."""
    tokenizer = require(models, "tokenizer")
    tokens = read_transformer_sizes(require(models, "transformer")).iitf.text_tokens
    opened = open_family(require(models, "text_encoder"), T5).without(("spiece_model",))
    state = {name: value.to(torch.bfloat16) for name, value in read_state(opened).items()}
    pieces, said = for_comfyui(tokenizer, tokens)
    write(folder / "text_encoder" / FILES["text_encoder"], state | pieces, {"format": "pt", **said})
    (folder / "tokenizer").mkdir()
    for name in ("spiece.model", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / "tokenizer" / name)


def pack_face_encoders(models: Path, folder: Path, encoders: str) -> None:
    siglip = read_state(open_family(require(models, "clip_visual_encoder"), SIGLIP), torch.float16)
    write(
        folder / "clip_visual_encoder" / FILES["clip_visual_encoder"],
        {name: narrow(name, value, SIGLIP_NARROW) for name, value in siglip.items()},
        {"format": "pt", ENCODERS_KEY: encoders},
    )
    faces = require(models, "face_encoder")
    pickled = faces / "parsing_bisenet.pth"
    source = pickled if pickled.is_file() else next(iter(faces.glob("*.safetensors")))
    parser = read_state(open_family(source, PARSER))
    halves = {name: v.half() if v.is_floating_point() else v for name, v in parser.items()}
    write(folder / "face_encoder" / FILES["face_encoder"], halves, {"format": "pt"})
    place = folder / "face_encoder" / "models" / "antelopev2"
    place.mkdir(parents=True)
    for name in (DETECTOR, RECOGNISER):
        pack_onnx(find_onnx(models, name), place / name, encoders)


def find_onnx(models: Path, name: str) -> Path:
    return next(iter(require(models, "face_encoder").rglob(name)))


def pack_onnx(source: Path, target: Path, encoders: str) -> None:
    """The network as it is, with the name of its set."""
    import onnx

    network = onnx.load(source)
    onnx.helper.set_model_props(network, {ENCODERS_KEY: encoders})
    onnx.save(network, target)


def narrow(name: str, value: Tensor, parts: tuple[str, ...]) -> Tensor:
    """fp8 for the matrices among `parts`, else 16 bits."""
    if value.ndim == 2 and any(part in name for part in parts):
        return value.to(NARROW)
    return value.to(torch.bfloat16) if value.dtype != torch.float16 else value


def write(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    def read(names: Iterable[str]) -> Iterator[Tensor]:
        return (state[name] for name in names)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, {name: (tuple(v.shape), v.dtype) for name, v in state.items()}, read, metadata)


@torch.no_grad()
def lost(exact: EchoVideoTransformer, packed: EchoVideoTransformer) -> float:
    """How far predictions on noise at four noise levels are apart, as a share of their length."""
    sizes, random = exact.sizes.iitf, torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    text, faces = noise(4, sizes.text_tokens, sizes.text_width), noise(4, sizes.face_tokens, sizes.face_width)
    ids, latents = noise(4, sizes.id_width), noise(4, 16, 5, 16, 16)
    times = torch.tensor([100, 400, 700, 999])
    one, other = (network(latents, times, network.fuse(text, faces, ids)) for network in (exact, packed))
    return float((one - other).norm() / one.norm())


if __name__ == "__main__":
    main()
