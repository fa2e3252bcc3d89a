"""How well a video shows what its prompt says: CLIPScore as ConsisID measures it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InvalidRequest, ModelFileMissing, WrongModelFile
from .frames import SAMPLED, Frames, as_tensor, normalise
from .judges import DOWNLOAD, from_transformers

CLIP = "clip-vit-base-patch32"  # OpenAI's, in transformers' layout
SIDE = 224
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's


class ClipScorer:
    """CLIP ViT-B/32 with its tokenizer."""

    def __init__(self, network: Any, tokenizer: Any, device: torch.device | str = "cpu") -> None:
        self.network, self.tokenizer, self.device = network.to(device), tokenizer, device

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> ClipScorer:
        """From a folder in transformers' layout. Raises ModelFileMissing or WrongModelFile."""
        from transformers import CLIPTokenizer

        network = from_transformers("CLIPModel", folder)
        if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
            raise ModelFileMissing(f"tokenizer.json is not in {folder}: {DOWNLOAD}")
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise WrongModelFile(f"{folder} does not hold a CLIP tokenizer ({reason}); {DOWNLOAD}") from error
        return cls(network, tokenizer, device)

    @torch.inference_mode()
    def score(self, frames: Frames, prompt: str) -> tuple[float, ...]:
        """CLIPScore (ConsisID, get_clipscore.py) of 16 frames; their mean is the video's, about 20 to 35.

        100 (CLIP's own scale) x cosine, not clamped, of the prompt and frame int(i n / 16) of n. Red and blue are
        swapped, as OpenCV reads frames, which shifts the number: the published ones were measured that way. Raises
        InvalidRequest for an empty prompt.
        """
        if not prompt.strip():
            raise InvalidRequest("the prompt is empty, so there is nothing to compare the frames with")
        numbers = [int(index * len(frames) / SAMPLED) for index in range(SAMPLED)]
        pixels = clip_pixels([frames[number][..., ::-1] for number in numbers])
        tokens = self.tokenizer([prompt], padding=True, truncation=True, max_length=77, return_tensors="pt")
        output = self.network(**tokens.to(self.device), pixel_values=pixels.to(self.device))
        return tuple(output.logits_per_image[:, 0].tolist())  # [16, 1]


def clip_pixels(frames: Frames) -> Tensor:
    """float32 [F, 3, 224, 224] as CLIP's own preprocessing makes it: bicubic on the shorter side, the middle of it."""
    return normalise(
        as_tensor([_square(Image.fromarray(np.ascontiguousarray(frame))) for frame in frames]),
        MEAN,
        DEVIATION,
    )


def _square(picture: Image.Image) -> np.ndarray:
    """The middle 224 x 224 of the picture with its shorter side at 224: uint8 [224, 224, 3]."""
    short = min(picture.size)
    width, height = (int(SIDE * length / short) for length in picture.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))
