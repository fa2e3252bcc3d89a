"""An identity of the whole person: what a mask shows becomes the face picture, the face still says who it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echovideo_model.errors import FaceIndexOutOfRange, InvalidRequest
from echovideo_model.face.choice import FaceChoice
from echovideo_model.face.person import cut_out_person
from echovideo_model.identity import find_face, identify
from echovideo_model.nano import Person, draw_portrait
from tests.test_identity import encoders_that_see, face, level


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 99), st.integers(0, 99))
def test_what_the_mask_shows_fills_the_square_and_keeps_its_shape(
    height: int, width: int, top: int, left: int
) -> None:
    photo, mask = np.full((300, 300, 3), 200, np.uint8), np.zeros((300, 300), np.uint8)
    mask[top : top + height, left : left + width] = 255
    picture = cut_out_person(photo, mask)
    assert picture.shape == (512, 512, 3)
    shown = picture[..., 0] > 100
    rows, columns = shown.any(1).sum(), shown.any(0).sum()
    assert max(rows, columns) == 512
    longest = max(height, width)
    assert abs(rows - 512 * height / longest) <= 1 + 512 / longest  # padded by whole pixels of the photo
    assert abs(columns - 512 * width / longest) <= 1 + 512 / longest


def test_soft_edges_fade_to_black() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 16:48], mask[:, 24:40] = 255, 153
    picture = cut_out_person(np.full((64, 64, 3), 100, np.uint8), mask)
    assert picture[256, 160].tolist() == [100] * 3
    assert picture[256, 256].tolist() == [60] * 3  # 100 x 153 / 255
    assert not picture[256, 20].any()


def test_the_embedding_is_the_faces_and_the_rest_the_persons() -> None:
    photo, truth = draw_portrait(Person.from_seed(5))
    mask = truth.person.astype(np.uint8) * 255
    alone, whole = (
        identify(photo, encoders_that_see([face(embedding=[3.0, 4.0])]), masks=masks)
        for masks in (None, [np.full_like(mask, 255)])
    )
    assert torch.equal(whole.id_embedding, alone.id_embedding)
    assert not np.array_equal(whole.face_picture, alone.face_picture)
    y, x = (round(float(place)) for place in truth.box.reshape(2, 2).mean(0)[::-1])
    middle = face()
    middle.box[:] = x - 50, y - 50, x + 50, y + 50
    cut = identify(photo, encoders_that_see([middle]), masks=[mask])
    assert float(cut.face_tokens[0, 0]) == pytest.approx(cut.face_picture.mean())
    assert not cut.face_picture[:60, :60].any()  # the wall behind the head
    assert cut.face_picture[-60:, 200:300].any()  # clothes


def test_of_two_people_the_mask_says_which() -> None:
    big, small = face(100), face(40)
    mask = np.zeros((200, 200), np.uint8)
    mask[120:, 120:] = 255
    for padding in (0.0, 0.5):
        small.box[:] = np.array([140, 140, 180, 180]) + 200 * padding
        choice = FaceChoice(padding=padding)
        chosen = find_face(level(9), encoders_that_see([big, small]).detector, choice, mask)
        assert chosen.face is small
        assert chosen.mask is not None
        assert chosen.mask.shape == chosen.photo.shape[:2]
    with pytest.raises(FaceIndexOutOfRange, match="not 1"):
        find_face(level(9), encoders_that_see([big, small]).detector, FaceChoice(index=1, padding=0.5), mask)
    with pytest.raises(InvalidRequest, match="none of the 1 faces"):
        find_face(level(9), encoders_that_see([big]).detector, mask=mask)


def test_a_large_photo_and_its_mask_are_reduced_together() -> None:
    photo, mask = np.full((1500, 2048, 3), 9, np.uint8), np.full((1500, 2048), 255, np.uint8)
    chosen = find_face(photo, encoders_that_see([face()]).detector, mask=mask)
    assert chosen.mask is not None
    assert chosen.mask.shape == chosen.photo.shape[:2] == (750, 1024)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.zeros((200, 199), np.uint8), "the mask has 199 x 200 pixels and the photo 200 x 200"),
        (np.zeros((200, 200), np.float32), "a mask must be uint8"),
        (np.zeros((200, 200, 1), np.uint8), "a mask must be uint8"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask: np.ndarray, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        identify(level(9), encoders_that_see([face()]), masks=[mask])


def test_each_photo_needs_its_mask() -> None:
    with pytest.raises(InvalidRequest, match="one mask for each photo: 2, not 1"):
        identify(
            [level(1), level(2)],
            encoders_that_see([face()], [face()]),
            masks=[np.zeros((200, 200), np.uint8)],
        )
    with pytest.raises(InvalidRequest, match="the mask is empty"):
        cut_out_person(level(1), np.zeros((200, 200), np.uint8))
