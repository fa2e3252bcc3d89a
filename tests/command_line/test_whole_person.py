"""`--picture person`: the whole person, cut out by --mask or by the photo's own transparency."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from echovideo_model.identity import Identity
from tests.command_line.command import PHOTO, SMALL, Run

WALL = (200, 30, 30)


@pytest.fixture
def mask(workplace: Path) -> Path:
    """The middle of PHOTO, with soft edges: mask.png; PHOTO with it as its alpha, over a red wall: cutout.png."""
    with Image.open(PHOTO) as opened:
        photo = opened.convert("RGB")
    width, height = photo.size
    soft = np.zeros((height, width), np.uint8)
    soft[height // 8 :, width // 8 : -width // 8] = 170
    soft[height // 6 :, width // 6 : -width // 6] = 255
    Image.fromarray(soft).save(workplace / "mask.png")
    painted = np.where(soft[..., None] > 0, np.asarray(photo), np.array(WALL, np.uint8))
    Image.fromarray(np.dstack([painted, soft]), "RGBA").save(workplace / "cutout.png")
    return workplace / "mask.png"


def identify(echovideo: Run, *arguments: object) -> tuple[Identity, dict[str, object]]:
    done = echovideo("identity", *arguments, "--output", "person.safetensors", "--json")
    assert done.status == 0, done.err
    return Identity.load("person.safetensors"), json.loads(done.out)


def test_a_mask_or_the_photos_own_transparency_cuts_the_person_out(
    echovideo: Run, models: Path, mask: Path
) -> None:
    face, said = identify(echovideo, PHOTO)
    assert (said["face_encoders"], said["whole_person"]) == ("released", False)
    masked, said = identify(echovideo, PHOTO, "--picture", "person", "--mask", mask)
    assert said["whole_person"] is True
    assert masked.whole_person
    assert torch.equal(masked.id_embedding, face.id_embedding)
    assert not np.array_equal(masked.face_picture, face.face_picture)
    own, said = identify(echovideo, "cutout.png", "--picture", "person")
    assert said["whole_person"] is True
    assert np.array_equal(own.face_picture, masked.face_picture)  # the wall shows nowhere


def test_a_cutout_may_be_the_mask(echovideo: Run, models: Path, mask: Path) -> None:
    white, _ = identify(echovideo, PHOTO, "--picture", "person", "--mask", mask)
    cutout, _ = identify(echovideo, PHOTO, "--picture", "person", "--mask", "cutout.png")
    assert np.array_equal(cutout.face_picture, white.face_picture)


def test_each_of_several_photos_has_its_mask(echovideo: Run, models: Path, mask: Path) -> None:
    with Image.open(mask) as picture:
        picture.resize((64, 64)).save("small.png")
    wrong = ("--mask", mask, "--mask", "small.png")
    done = echovideo("identity", PHOTO, PHOTO, "--picture", "person", *wrong, "--output", "two.safetensors")
    assert done.status == 2
    assert "photo 2 of 2: the mask has 64 x 64 pixels" in done.err
    assert not Path("two.safetensors").exists()
    right = ("--mask", mask, "--mask", mask)
    two, said = identify(echovideo, PHOTO, PHOTO, "--picture", "person", *right)
    assert said["photos"] == 2
    assert two.whole_person


def test_a_video_of_the_whole_person_is_an_experiment_on_a_model_of_faces(
    echovideo: Run, models: Path, mask: Path
) -> None:
    done = echovideo("generate", "cutout.png", "--picture", "person", "--prompt", "a", *SMALL)
    assert done.status == 0
    assert "an identity of the whole person is experimental" in done.err
    assert Path("output/video.mp4").is_file()
