"""What the tests of the face pipeline share: recorded numbers, photos, a person drawn, and tiny face models."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import insightface.data
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from echovideo_model.face.detect import DETECTOR, RECOGNISER
from echovideo_model.face.photo import load_photo
from echovideo_model.tiny.detector import make_detector_file
from echovideo_model.tiny.parser import make_parser_file
from echovideo_model.tiny.recogniser import make_recogniser_file
from echovideo_model.tiny.weights import draw_parameter

GOLDEN = Path(__file__).parent / "golden"
PORTRAITS = Path(__file__).parents[1] / "echovideo_model" / "assets"
PHOTOS = Path(insightface.data.__file__).parent / "images"  # of real people


@lru_cache
def golden(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a recorded file."""
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def card(height: int, width: int) -> np.ndarray:
    """The photo that the recorded files were made from, at any size: uint8 [H, W, 3]."""
    y, x, channel = np.mgrid[:height, :width, :3].astype(np.float64)
    waves = np.sin(2 * np.pi * (x / (37 + 11 * channel) + y / (53 - 7 * channel)))
    return (128 + 100 * waves).astype(np.uint8)


def drawing(name: str = "portrait") -> np.ndarray:
    return load_photo(PORTRAITS / f"{name}.png")


def off_by_at_most_one(picture: np.ndarray, recorded: Tensor) -> float:
    """The share of values that are at most one level apart; shapes must be equal."""
    assert picture.shape == tuple(recorded.shape)
    assert picture.dtype == np.uint8
    return float((np.abs(picture.astype(int) - recorded.numpy().astype(int)) <= 1).mean())


def siglip_state(layers: int = 2, inner: int = 96, seed: int = 0) -> dict[str, Tensor]:
    """Seeded weights of a SigLIP image encoder, named as in the released file, without its pooling head."""
    config = SiglipVisionConfig(
        hidden_size=768,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=12,
        vision_use_head=False,
    )
    with torch.device("meta"):
        shapes = {name: entry.shape for name, entry in SiglipVisionModel(config).state_dict().items()}
    names = {name: f"vision_model.{name.removeprefix('vision_model.')}" for name in shapes}
    return {names[name]: draw_parameter(names[name], shape, seed) for name, shape in shapes.items()}


def write_detection_models(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DETECTOR).write_bytes(make_detector_file())
    (folder / RECOGNISER).write_bytes(make_recogniser_file())
    return folder


def write_face_models(folder: Path) -> Path:
    """Tiny face encoders in the released layout."""
    write_detection_models(folder / "face_encoder" / "models" / "antelopev2")
    (folder / "clip_visual_encoder").mkdir()
    save_file(siglip_state(), folder / "clip_visual_encoder" / "model.safetensors")
    (folder / "face_encoder" / "parsing_bisenet.pth").write_bytes(make_parser_file())
    return folder
