"""The small model that ships: trained on the drawn world, in the released layout, each file under a telling name.

ComfyUI lists a file under its own name, so none of these is called model.safetensors; the library reads one file of
any name in a group's folder. The text encoder's file also holds what `for_comfyui` adds.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelFileMissing

FOLDER = Path(__file__).parent / "files"
"""A models folder: transformer, text_encoder, tokenizer, vae, clip_visual_encoder, face_encoder (and antelopev2's two
.onnx files in face_encoder/models/antelopev2, under their released names)."""

FILES = {
    "transformer": "echovideo_nano.safetensors",
    "text_encoder": "echovideo_nano_t5.safetensors",
    "vae": "echovideo_nano_vae.safetensors",
    "clip_visual_encoder": "echovideo_nano_siglip.safetensors",
    "face_encoder": "echovideo_nano_parser.safetensors",
}
"""Group -> the one file of weights in its folder."""


def require_files() -> Path:
    """FOLDER. Raises ModelFileMissing if a part of the model is not in it."""
    missing = [f"{group}/{name}" for group, name in FILES.items() if not (FOLDER / group / name).is_file()]
    if missing:
        raise ModelFileMissing(
            f"the nano model is incomplete: {missing[0]} is missing from {FOLDER}; install the package "
            "again, or download the whole repository"
        )
    return FOLDER
