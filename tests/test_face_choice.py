"""Which face of a photo is meant: by a rule that the user names, and a number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echovideo_model.errors import FaceIndexOutOfRange, InvalidRequest
from echovideo_model.face.choice import FaceChoice, choose_face
from echovideo_model.face.detect import Face
from echovideo_model.limits import FACE_ORDERS


def a_face(left: float, top: float, size: float, confidence: float = 0.5, towards: int = 0) -> Face:
    box = np.array([left, top, left + size, top + size], np.float32)
    return Face(box, np.zeros((5, 2), np.float32), confidence, np.eye(512, dtype=np.float32)[towards] * 20)


GROUP = [a_face(50, 0, 30, 0.7, 0), a_face(0, 60, 20, 0.9, 1), a_face(90, 30, 10, 0.8, 2)]


@pytest.mark.parametrize(
    ("order", "lefts"),
    [
        ("largest", [50, 0, 90]),
        ("left to right", [0, 50, 90]),
        ("top to bottom", [50, 90, 0]),
        ("confidence", [0, 90, 50]),
        ("closest", [90, 0, 50]),
    ],
)
def test_each_order_numbers_the_faces_its_way(order: str, lefts: list[int]) -> None:
    like = np.zeros(512, np.float32)
    like[[1, 2]] = 0.5, 0.8  # most like the third, then the second
    assert [choose_face(GROUP, FaceChoice(order, index, like)).box[0] for index in range(3)] == lefts
    assert order in FACE_ORDERS


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(1, 500)] * 3), min_size=1, max_size=6), st.sampled_from(FACE_ORDERS[:4])
)
def test_every_face_has_exactly_one_number_in_every_order(
    places: list[tuple[int, int, int]], order: str
) -> None:
    faces = [a_face(*place) for place in places]
    numbered = [choose_face(faces, FaceChoice(order, index)) for index in range(len(faces))]
    assert {id(face) for face in numbered} == {id(face) for face in faces}


@pytest.mark.parametrize("index", [3, -1, 99])
def test_an_index_out_of_range_lists_the_faces_in_that_order(index: int) -> None:
    with pytest.raises(FaceIndexOutOfRange) as refusal:
        choose_face(GROUP, FaceChoice("left to right", index))
    assert str(refusal.value) == (
        f"choose an index from 0 to 2, not {index}; faces in the photo (left to right): face 1 (index 0) at "
        "0, 60, 20, 80; face 2 (index 1) at 50, 0, 80, 30; face 3 (index 2) at 90, 30, 100, 40"
    )


def test_an_unknown_order_names_the_known_ones() -> None:
    with pytest.raises(
        InvalidRequest, match=r'"prettiest".*largest, left to right, top to bottom, confidence, closest'
    ):
        FaceChoice("prettiest")


def test_closest_needs_someone_to_be_close_to() -> None:
    with pytest.raises(InvalidRequest, match="closest"):
        FaceChoice("closest")


@pytest.mark.parametrize("padding", [-0.1, 1.5, float("nan")])
def test_an_impossible_padding_is_refused(padding: float) -> None:
    with pytest.raises(InvalidRequest, match=f"padding must be from 0 to 1 .*, not {padding}"):
        FaceChoice(padding=padding)


def test_an_unknown_wish_for_photos_without_a_face_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match='"shrug": choose one of error, skip photo, no identity'):
        FaceChoice(on_no_face="shrug")
