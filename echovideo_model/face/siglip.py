"""SigLIP's image encoder (arXiv 2303.15343): what the face picture shows, as one token per patch."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import WrongModelFile
from ..facts import ENCODERS_KEY
from ..weights.family import SIGLIP, Shapes, open_family
from ..weights.loading import load
from ..weights.reading import TensorFile

if TYPE_CHECKING:
    from transformers import SiglipVisionConfig

HEAD_WIDTH = 64
TOKENS = (196, 768)  # what IITF takes: other members of the SigLIP family differ here
_RELEASED = "google/siglip-base-patch16-224"
_PREFIX = "vision_model."  # of the image half in the released file; that half alone is also saved without it
_OTHER_PARTS = ("text_model.", "logit_scale", "logit_bias")
_UNUSED = ("head.", "embeddings.position_ids")  # attention pooling; the numbers 0..195 in older files


def siglip_pixels(face_picture: np.ndarray, size: int = 224) -> Tensor:
    """float32 [3, size, size] in -1..1 from uint8 RGB [H, W, 3]: the whole picture, bicubic, nothing cropped."""
    resized = Image.fromarray(face_picture).resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(resized, np.float32) / 127.5 - 1).permute(2, 0, 1).contiguous()


class SiglipEncoder:
    """transformers' SigLIP image encoder, in float32."""

    def __init__(self, network: nn.Module, size: int = 224, made_by: str = "") -> None:
        """`network` maps pixel_values [B, 3, size, size] to an output with last_hidden_state [B, 196, 768].

        made_by: the name that its file gives the set of face encoders (facts.ENCODERS_KEY).
        """
        self.network = network.eval()
        self.size = size
        self.made_by = made_by

    @classmethod
    def load(cls, path: str | Path) -> SiglipEncoder:
        """From the released folder, or a .safetensors file: the whole SigLIP model or its image half.

        Depth and inner width are read off the weights. Raises ModelFileMissing or WrongModelFile.
        """
        from transformers import SiglipVisionModel

        opened = _image_half(Path(path))
        # Not from_pretrained, which draws a progress bar of its own.
        with torch.device("meta"):
            network: nn.Module = SiglipVisionModel(_config(opened))
        names = {
            name.removeprefix(_PREFIX): name for name in network.state_dict()
        }  # by release of transformers
        entries = {names.get(name, name): entry for name, entry in opened.entries.items()}
        load(network, replace(opened, entries=entries))
        prefix = _PREFIX if next(iter(names.values())).startswith(_PREFIX) else ""
        positions = torch.arange(TOKENS[0])[None]  # [1, 196], which no file holds
        network.get_submodule(f"{prefix}embeddings").position_ids = positions
        size = isqrt(TOKENS[0]) * opened.shapes["embeddings.patch_embedding.weight"][-1]
        return cls(network.to(torch.float32), size, opened.metadata.get(ENCODERS_KEY, ""))

    @torch.no_grad()
    def tokens(self, face_picture: np.ndarray) -> Tensor:
        """float32 [196, 768] on the CPU: last hidden states after the final norm."""
        device = next(self.network.parameters()).device  # wherever a host has moved it
        pixels = siglip_pixels(face_picture, self.size)[None].to(device)  # [1, 3, 224, 224]
        return self.network(pixel_values=pixels).last_hidden_state[0].cpu()

    def null_tokens(self, face_picture: np.ndarray) -> Tensor:
        """The tokens for the negative branch: those of an all-black picture of the same size."""
        return self.tokens(np.zeros_like(face_picture))


def _image_half(path: Path) -> TensorFile:
    """The image encoder in a file or folder, named as without the text half around it."""
    named = path / "model.safetensors"  # in the released folder
    opened = open_family(named if named.is_file() else path, SIGLIP).without(_OTHER_PARTS)
    half = {name.removeprefix(_PREFIX): entry for name, entry in opened.entries.items()}
    return replace(opened, entries=half).without(_UNUSED)


def _config(opened: TensorFile) -> SiglipVisionConfig:
    """Every size read off the weights; the attention-pooling head is left out, its output is not used."""
    from transformers import SiglipVisionConfig

    shapes: Shapes = opened.shapes
    try:
        patch = shapes["embeddings.patch_embedding.weight"][-1]
        tokens = shapes["embeddings.position_embedding.weight"]
        inner = shapes["encoder.layers.0.mlp.fc1.weight"][0]
    except (KeyError, IndexError) as error:
        raise WrongModelFile(
            f"{opened.path} is not a complete SigLIP (it lacks {error}): download it again"
        ) from error
    if tokens != TOKENS:
        raise WrongModelFile(
            f"{opened.path} is a different SigLIP: its tokens have shape {tokens}, not {TOKENS}; choose {_RELEASED}"
        )
    count, width = tokens
    return SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=len({name.split(".")[2] for name in shapes if name.startswith("encoder.layers.")}),
        num_attention_heads=width // HEAD_WIDTH,
        image_size=isqrt(count) * patch,
        patch_size=patch,
        vision_use_head=False,
    )
