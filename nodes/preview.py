"""Draws the faces found in a photo, and converts pixels between the host's form and the library's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..echovideo_model.face.detect import Face

ROW = 512  # pixels: the height of everything on a sheet
CHOSEN, OTHER, INK = (64, 220, 120), (235, 180, 60), (20, 20, 24)


def to_photos(image: Tensor) -> list[np.ndarray]:
    """The host's IMAGE [B, H, W, 3 or 4] in 0..1 -> uint8 RGB [H, W, 3] each; transparency is laid over black."""
    if image.shape[-1] == 4:
        image = image[..., :3] * image[..., 3:]
    return list((image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def to_masks(masks: Tensor) -> list[np.ndarray]:
    """The host's MASK [B, H, W] or [H, W] in 0..1 -> uint8 [H, W] each."""
    masks = masks.reshape(-1, *masks.shape[-2:])  # [B, H, W]
    return list((masks.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def to_image(picture: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> the host's IMAGE [1, H, W, 3]."""
    return torch.from_numpy(np.array(picture, np.float32) / 255)[None]


def draw_faces(photo: np.ndarray, faces: Sequence[Face], chosen: Face | None) -> np.ndarray:
    """The photo with every face's box, number and landmarks; the chosen one in green."""
    picture = Image.fromarray(photo)
    draw = ImageDraw.Draw(picture)
    line = max(2, max(picture.size) // 250)
    for number, face in enumerate(faces, 1):  # as people count
        colour = CHOSEN if face is chosen else OTHER
        left, top, right, bottom = (float(side) for side in face.box)
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        for x, y in face.landmarks:
            draw.ellipse((x - line, y - line, x + line, y + line), fill=colour)
        label, size = str(number), 10 * line
        draw.rectangle((left, top, left + 0.6 * size * len(label) + line, top + size), fill=colour)
        draw.text((left + line, top), label, fill=INK, font_size=0.8 * size)
    return np.asarray(picture)


def make_sheet(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """All pictures side by side at one height."""
    scaled = []
    for picture in pictures:
        height, width = picture.shape[:2]
        size = (max(1, round(width * ROW / height)), ROW)
        scaled.append(np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)))
    return np.concatenate(scaled, axis=1)
