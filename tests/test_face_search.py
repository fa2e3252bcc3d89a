"""On photos of people, the person who is meant is found: in close-ups, beside smaller faces, upside down.

They need a detector of people. SCRFD 2.5g with landmarks (scrfd_2.5g.onnx) is enough; its licence is for
non-commercial use and it does not come with this project. $ECHOVIDEO_TRIAL_DETECTOR says where it is.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from echovideo_model.face.detect import DETECTOR, MIN_FACE, Face, FaceDetector
from echovideo_model.face.photo import load_photo
from echovideo_model.face.views import measure_overlap
from tests.faces import PHOTOS, write_detection_models

TRIAL = Path(os.environ.get("ECHOVIDEO_TRIAL_DETECTOR", "~/.cache/echovideo/scrfd_2.5g.onnx")).expanduser()
TURNED = {90: 1, 180: 2, 270: 3}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> FaceDetector:
    """A detector of people's faces; its recogniser is the tiny one."""
    if not TRIAL.is_file():
        pytest.skip("no detector of people: set ECHOVIDEO_TRIAL_DETECTOR to scrfd_2.5g.onnx")
    folder = write_detection_models(tmp_path_factory.mktemp("real"))
    shutil.copy(TRIAL, folder / DETECTOR)
    return FaceDetector(folder)


def group() -> np.ndarray:
    """Six people, their faces about 100 x 140 pixels."""
    return load_photo(PHOTOS / "t1.jpg")


def count_looks(detector: FaceDetector, photo: np.ndarray) -> tuple[int, list[Face]]:
    looks = []
    find = detector._finder.detect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector._finder, "detect", lambda *a, **size: looks.append(size) or find(*a, **size))
        faces = detector.detect(photo)
    return len(looks), faces


def close_up(
    photo: np.ndarray, face: Face, margin: float, height: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """The photo cut to a face and `margin` of it around, enlarged; and where the face is there, as a box."""
    sides = np.tile(face.box[2:] - face.box[:2], 2) * [-margin, -margin, margin, margin]
    left, top, right, bottom = np.clip((face.box + sides).round(), 0, np.tile(photo.shape[1::-1], 2)).astype(
        int
    )
    cut = photo[top:bottom, left:right]
    scale = height / cut.shape[0]
    enlarged = cv2.resize(cut, (round(cut.shape[1] * scale), height), interpolation=cv2.INTER_CUBIC)
    return enlarged, (face.box - [left, top, left, top]) * scale


def beside(photo: np.ndarray, other: np.ndarray, top: int) -> np.ndarray:
    """`photo` with another, smaller one to its right, on grey."""
    sheet = np.full((photo.shape[0], photo.shape[1] + other.shape[1], 3), 90, np.uint8)
    sheet[:, : photo.shape[1]] = photo
    sheet[top : top + other.shape[0], photo.shape[1] :] = other
    return sheet


@pytest.mark.parametrize("who", range(6))
@pytest.mark.parametrize("margin", [-0.1, 0, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_a_close_up_with_a_small_second_face_shows_the_close_one(
    margin: float, who: int, real: FaceDetector
) -> None:
    photo = group()
    faces = real.detect(photo)
    near, box = close_up(photo, faces[who], margin)
    small, _ = close_up(photo, faces[(who + 1) % 6], 0.4, 180)
    found = real.detect(beside(near, small, (200 * who) % 800))
    assert len(found) == 2
    assert measure_overlap(found[0].box, box) > 0.5


def test_a_group_photo_takes_two_looks_and_every_face_is_the_references(real: FaceDetector) -> None:
    looks, faces = count_looks(real, group())
    assert looks == 2
    boxes, landmarks = real._finder.detect(np.ascontiguousarray(group()[..., ::-1]), input_size=(640, 640))
    assert len(faces) == len(boxes) == 6
    for box, points in zip(boxes, landmarks, strict=True):
        (same,) = [face for face in faces if np.array_equal(face.box, box[:4])]
        np.testing.assert_array_equal(same.landmarks, points)
        assert not same.warning


@pytest.mark.parametrize("who", range(6))
def test_one_clear_face_takes_one_look_more_than_the_references(who: int, real: FaceDetector) -> None:
    looks, (face, *_) = count_looks(real, close_up(group(), real.detect(group())[who], 0.8)[0])
    assert looks == 2
    assert not face.warning


@pytest.mark.parametrize("degrees", TURNED)
@pytest.mark.parametrize("who", range(6))
def test_a_face_that_is_not_upright_is_read_upright_or_not_without_a_word(
    who: int, degrees: int, real: FaceDetector
) -> None:
    upright, _ = close_up(group(), real.detect(group())[who], 1.0)
    (face, *_) = real.detect(upright)
    turned = np.ascontiguousarray(np.rot90(upright, -TURNED[degrees]))  # as it lies; `degrees` turns it back
    back = np.array([[0, -1], [1, 0]])  # x, y of a picture turned once more, around its middle
    middle = np.array(upright.shape[1::-1]) / 2
    there = (face.landmarks - middle) @ np.linalg.matrix_power(back.T, TURNED[degrees])
    expected = there + np.array(turned.shape[1::-1]) / 2
    eyes = np.linalg.norm(face.landmarks[0] - face.landmarks[1])
    closest = min(real.detect(turned), key=lambda one: np.abs(one.landmarks - expected).max())
    aside = np.linalg.norm(closest.landmarks - expected, axis=1).mean() / eyes
    assert closest.turned in (0, degrees)
    assert aside < 0.2 or closest.warning


@pytest.mark.parametrize("width", [MIN_FACE * 0.7, MIN_FACE * 1.4])
def test_a_face_of_few_pixels_is_told(width: float, real: FaceDetector) -> None:
    photo = group()
    scale = width / 100
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    sheet = np.full((1024, 1024, 3), 110, np.uint8)
    sheet[200 : 200 + small.shape[0], 100 : 100 + small.shape[1]] = small
    faces = real.detect(sheet)
    assert faces
    assert all(("pixels" in face.warning) == (width < MIN_FACE) for face in faces)
