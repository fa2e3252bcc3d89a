"""A person is made from one photo or several, weighed, kept in one file, and never confused with another."""

from __future__ import annotations

import base64
import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from echovideo_model.errors import (
    FaceIndexOutOfRange,
    InvalidRequest,
    ModelFileMissing,
    NoFaceFound,
    WrongModelFile,
)
from echovideo_model.face.align import LANDMARKS, align_face
from echovideo_model.face.choice import FaceChoice
from echovideo_model.face.detect import Face, cosine_similarity
from echovideo_model.identity import ChosenFace, FaceEncoders, Identity, find_face, identify, make_identity
from tests.faces import PORTRAITS, card, drawing, write_face_models


def an_identity(seed: int = 0) -> Identity:
    generator = torch.Generator().manual_seed(seed)
    embedding, face, null = (
        torch.randn(shape, generator=generator) for shape in [(512,), (196, 768), (196, 768)]
    )
    return Identity(embedding * 20, face, null, card(512, 512))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> FaceEncoders:
    return FaceEncoders.load(write_face_models(tmp_path_factory.mktemp("models")))


@dataclass
class SeesThese:
    """A detector that finds what the test says, photo after photo, and keeps what it was shown."""

    found: list[list[Face]]

    def __post_init__(self) -> None:
        self.photos: list[np.ndarray] = []

    def detect(self, photo: np.ndarray) -> list[Face]:
        self.photos.append(photo)
        faces = self.found[len(self.photos) - 1]
        if not faces:
            raise NoFaceFound("no face found in the photo")
        return faces


class PaintsNothing:
    """A parser to which everything is face, and an image encoder whose tokens are the mean level."""

    def face_picture(self, aligned: np.ndarray) -> np.ndarray:
        return aligned

    def tokens(self, picture: np.ndarray) -> Tensor:
        return torch.full((196, 768), float(picture.mean()))

    def null_tokens(self, picture: np.ndarray) -> Tensor:
        return self.tokens(np.zeros_like(picture))


def face(size: float = 100, confidence: float = 0.5, embedding: Any = 20.0) -> Face:
    landmarks = LANDMARKS * (size / 512)
    vector = np.zeros(512, np.float32)
    vector[: np.size(embedding)] = embedding
    return Face(np.array([0, 0, size, size], np.float32), landmarks.astype(np.float32), confidence, vector)


def encoders_that_see(*found: list[Face]) -> FaceEncoders:
    stub = PaintsNothing()
    return FaceEncoders(SeesThese(list(found)), stub, stub)  # type: ignore[arg-type]


def level(value: int) -> np.ndarray:
    """A photo of one grey."""
    return np.full((200, 200, 3), value, np.uint8)


def test_a_portrait_becomes_an_identity_of_everything_the_model_reads(encoders: FaceEncoders) -> None:
    identity = identify(PORTRAITS / "portrait.png", encoders)
    (chosen,) = encoders.detector.detect(drawing())
    for tensor in (identity.id_embedding, identity.face_tokens, identity.null_tokens):
        assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(identity.id_embedding, chosen.embedding)
    aligned = align_face(drawing(), chosen.landmarks)
    picture = encoders.parser.face_picture(aligned)
    np.testing.assert_array_equal(identity.face_picture, picture)
    background = aligned[..., 2] > aligned[..., 0].astype(int) + 40  # is painted in teal
    black = ~picture.any(2)
    assert black[background].mean() > 0.5  # the tiny parser sees coarsely
    assert black[~background].mean() < 0.05
    torch.testing.assert_close(identity.face_tokens, encoders.siglip.tokens(picture))
    torch.testing.assert_close(
        identity.null_tokens, encoders.siglip.tokens(np.zeros((512, 512, 3), np.uint8))
    )


def test_two_people_differ_more_than_two_photos_of_one(encoders: FaceEncoders) -> None:
    one = identify(drawing(), encoders)
    again = find_face(Image.fromarray(drawing()).resize((400, 500)), encoders.detector).face
    other = find_face(drawing("second_portrait"), encoders.detector).face
    assert one.similarity(again.embedding) > one.similarity(other.embedding)
    assert one.similarity(one.id_embedding) == pytest.approx(1)


def test_a_large_photo_is_looked_at_with_its_long_edge_at_1024() -> None:
    encoders = encoders_that_see([face()])
    identify(np.zeros((1500, 3000, 3), np.uint8), encoders)
    assert encoders.detector.photos[0].shape == (512, 1024, 3)  # type: ignore[attr-defined]


def test_no_face_is_told_with_the_size_of_the_photo_that_was_given() -> None:
    with pytest.raises(NoFaceFound, match="this one has 3072 x 1280 pixels"):
        identify(np.zeros((1280, 3072, 3), np.uint8), encoders_that_see([]))


def test_a_face_that_will_hardly_do_is_warned_of_with_its_photo(caplog: pytest.LogCaptureFixture) -> None:
    small = face(12)
    identify([level(9), level(9)], encoders_that_see([face(80, 0.9)], [small]))
    assert caplog.messages == [f"photo 2 of 2: {small.warning}"]
    assert "12 x 12 pixels" in small.warning


@pytest.mark.parametrize("padding", [0.0, 0.25, 1.0])
def test_padding_puts_black_around_the_photo(padding: float) -> None:
    detector = SeesThese([[face()]])
    photo, *_ = find_face(level(9), detector, FaceChoice(padding=padding))
    assert photo.shape == (round(200 * (1 + 2 * padding)),) * 2 + (3,)
    assert photo is detector.photos[0]
    assert (photo == 9).all(2).sum() == 200 * 200


def test_padding_changes_neither_where_the_face_comes_to_stand_nor_who_it_is(encoders: FaceEncoders) -> None:
    plain, padded = (
        find_face(drawing(), encoders.detector, FaceChoice(padding=share)) for share in (0.0, 0.25)
    )
    first, second = (align_face(photo, face.landmarks).astype(int) for photo, face, _ in (plain, padded))
    assert (
        np.abs(first - second).mean() < 12
    )  # the detector sees other pixels: it places the face a little apart
    assert cosine_similarity(plain.face.embedding, padded.face.embedding) > 0.8


def test_embedding_crop_and_tokens_belong_to_the_same_chosen_face() -> None:
    faces = [face(100, embedding=[20.0, 0.0]), face(50, embedding=[0.0, 20.0])]
    photo = level(0)
    photo[:50, :50] = 200  # where the smaller one is
    identity = identify(photo, encoders_that_see(faces), FaceChoice("largest", 1))
    assert identity.id_embedding[:2].tolist() == [0, 20]
    np.testing.assert_array_equal(identity.face_picture, align_face(photo, faces[1].landmarks))
    assert identity.face_tokens[0, 0] == pytest.approx(identity.face_picture.mean(), rel=1e-3)


def test_closest_finds_the_same_person_again() -> None:
    faces = [face(100, embedding=[20.0, 0.0]), face(50, embedding=[5.0, 20.0])]
    like = np.eye(512, dtype=np.float32)[1]
    choice = FaceChoice("closest", like=like)
    assert identify(level(5), encoders_that_see(faces), choice).id_embedding[1] == 20


def test_several_photos_average_direction_and_length_of_the_embeddings() -> None:
    found = [[face(embedding=[30.0, 0.0])], [face(embedding=[0.0, 10.0])]]
    embedding = identify([level(1), level(2)], encoders_that_see(*found)).id_embedding
    assert embedding.norm() == pytest.approx(20)  # the mean vector's own length would be 15.8
    assert embedding[0] / embedding[1] == pytest.approx(3)


def test_picture_and_tokens_come_from_the_photo_with_the_clearest_largest_face() -> None:
    found = [[face(100, 0.5)], [face(90, 0.9)], [face(20, 1.0)]]
    identity = identify([level(10), level(20), level(30)], encoders_that_see(*found))
    assert identity.face_picture.max() == 20


@pytest.mark.parametrize("times", [2, 3, 7])
def test_one_photo_several_times_is_that_photo(times: int) -> None:
    one = face(embedding=np.linspace(-3, 3, 512))
    once = make_identity([ChosenFace(level(7), one)], encoders_that_see())
    often = make_identity([ChosenFace(level(7), one)] * times, encoders_that_see())
    torch.testing.assert_close(once.id_embedding, often.id_embedding)
    torch.testing.assert_close(once.face_tokens, often.face_tokens)


def test_a_stranger_among_the_photos_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    found = [[face(100, embedding=[20.0, 0.0])], [face(50, embedding=[0.0, 20.0])]]
    with caplog.at_level(logging.WARNING):
        identify([level(1), level(2)], encoders_that_see(*found))
    assert "photo 2 looks like another person's (similarity 0.00)" in caplog.text


def test_progress_counts_the_photos_and_the_encoding() -> None:
    steps: list[tuple[int, int]] = []
    identify(
        [level(1), level(2)], encoders_that_see([face()], [face()]), on_photo=lambda *at: steps.append(at)
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_an_error_about_one_of_several_photos_says_which() -> None:
    with pytest.raises(NoFaceFound, match="photo 2 of 3: no face"):
        identify([level(1)] * 3, encoders_that_see([face()], [], [face()]))
    with pytest.raises(FaceIndexOutOfRange, match="photo 1 of 2: choose index 0, not 1"):
        identify([level(1)] * 2, encoders_that_see([face()], [face()]), FaceChoice(index=1))
    with pytest.raises(NoFaceFound, match=r"^no face"):
        identify(level(1), encoders_that_see([]))


def test_without_photos_there_is_no_identity() -> None:
    with pytest.raises(InvalidRequest, match="at least one photo"):
        identify([], encoders_that_see())


def test_a_photo_without_a_face_is_left_out_where_the_choice_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    choice, photos = FaceChoice(on_no_face="skip photo"), [level(1), level(2)]
    steps: list[tuple[int, int]] = []
    encoders = encoders_that_see([], [face()])
    identity = identify(photos, encoders, choice, on_photo=lambda *at: steps.append(at))
    assert identity.face_picture.max() == 2
    assert "photo 1 of 2: no face found" in caplog.text
    assert steps == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(NoFaceFound, match="no face in any of the 2 photos"):
        identify(photos, encoders_that_see([], []), choice)
    with pytest.raises(FaceIndexOutOfRange, match="photo 2 of 2"):
        identify(photos, encoders_that_see([], [face()]), FaceChoice(index=1, on_no_face="skip photo"))


def test_photos_without_any_face_make_nobody_where_the_choice_says_so() -> None:
    choice = FaceChoice(on_no_face="no identity")
    nobody = identify([level(1), level(2)], encoders_that_see([], []), choice)
    assert not nobody.id_embedding.any()
    assert not nobody.face_picture.any()
    assert torch.equal(nobody.face_tokens, nobody.null_tokens)
    somebody = identify([level(1), level(2)], encoders_that_see([], [face()]), choice)
    assert somebody.id_embedding.any()


def test_strength_0_is_nobody_and_1_is_the_person() -> None:
    person = an_identity()
    nobody, same = person.with_strength(0), person.with_strength(1)
    assert not nobody.id_embedding.any()
    assert torch.equal(nobody.face_tokens, person.null_tokens)
    assert torch.equal(same.id_embedding, person.id_embedding)
    assert torch.equal(same.face_tokens, person.face_tokens)


@pytest.mark.parametrize(("strength", "tokens"), [(0.5, 0.5), (0.3, 1.2), (1.5, 0.0)])
def test_strength_moves_in_a_straight_line_and_beyond(strength: float, tokens: float) -> None:
    person = an_identity()
    weighed = person.with_strength(strength, tokens)
    torch.testing.assert_close(weighed.id_embedding, person.id_embedding * strength)
    moved = weighed.face_tokens - person.null_tokens
    torch.testing.assert_close(
        moved, (person.face_tokens - person.null_tokens) * tokens, atol=1e-5, rtol=1e-5
    )
    assert torch.equal(weighed.null_tokens, person.null_tokens)
    np.testing.assert_array_equal(weighed.face_picture, person.face_picture)


@pytest.mark.parametrize("strength", [-0.01, 1.51, float("nan"), float("inf")])
def test_a_strength_outside_the_range_is_refused(strength: float) -> None:
    with pytest.raises(InvalidRequest, match=r"from 0 to 1\.5"):
        an_identity().with_strength(strength)
    with pytest.raises(InvalidRequest, match=r"from 0 to 1\.5"):
        an_identity().with_strength(1, tokens=strength)


def test_a_saved_identity_comes_back_exactly(tmp_path: Path) -> None:
    person = an_identity()
    person.save(tmp_path / "new" / "anna.safetensors")
    back = Identity.load(tmp_path / "new" / "anna.safetensors")
    for name in ("id_embedding", "face_tokens", "null_tokens"):
        assert torch.equal(getattr(back, name), getattr(person, name))
    assert isinstance(back.face_picture, np.ndarray)
    np.testing.assert_array_equal(back.face_picture, person.face_picture)
    assert os.listdir(tmp_path / "new") == ["anna.safetensors"]


def test_file_browsers_find_a_title_and_a_thumbnail_of_the_face(tmp_path: Path) -> None:
    an_identity().save(tmp_path / "anna.safetensors")
    with safe_open(tmp_path / "anna.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["modelspec.title"] == "anna"
    assert metadata["modelspec.architecture"] == "echovideo/identity"
    assert metadata["echovideo.identity.version"] == "1"
    start, picture = metadata["modelspec.thumbnail"].split(",")
    assert start == "data:image/jpeg;base64"
    thumbnail = Image.open(io.BytesIO(base64.b64decode(picture)))
    assert thumbnail.format == "JPEG"
    assert max(thumbnail.size) <= 256
    small = Image.fromarray(card(512, 512)).resize(thumbnail.size)
    assert np.abs(np.asarray(thumbnail, int) - np.asarray(small, int)).mean() < 10


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_others_may_read_the_file_as_far_as_the_umask_allows(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    an_identity().save(tmp_path / "anna.safetensors")
    assert (tmp_path / "anna.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_saving_over_an_identity_replaces_it_and_the_loaded_one_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "anna.safetensors"
    an_identity(0).save(path, title="Anna")
    first = Identity.load(path)
    an_identity(1).save(path)
    assert torch.equal(first.id_embedding, an_identity(0).id_embedding)
    assert torch.equal(Identity.load(path).id_embedding, an_identity(1).id_embedding)


def test_a_place_that_cannot_be_written_is_refused_and_left_clean(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="cannot write"):
        an_identity().save(tmp_path / "file" / "anna.safetensors")
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_identity_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"anna\.safetensors.*echovideo identity"):
        Identity.load(tmp_path / "anna.safetensors")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(share: float, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    if not whole.exists():
        an_identity().save(whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WrongModelFile, match="truncated"):
        Identity.load(cut)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id_embedding": torch.full((512,), torch.nan)}, "id_embedding holds NaN"),
        ({"face_tokens": torch.full((196, 768), torch.inf)}, "face_tokens holds NaN or infinity"),
        ({"null_tokens": torch.zeros(729, 1152)}, r"null_tokens is .*\[729, 1152\], not .*\[196, 768\]"),
        ({"id_embedding": torch.zeros(512, dtype=torch.float16)}, "float16"),
        ({"face_picture": torch.zeros(512, 512, 3)}, r"face_picture is torch\.float32"),
        ({"face_tokens": None}, "face_tokens is missing"),
    ],
)
def test_a_file_that_is_no_sound_identity_is_refused(
    changes: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    an_identity().save(tmp_path / "good.safetensors")
    tensors = {**load_file(tmp_path / "good.safetensors"), **changes}
    bad = {name: entry for name, entry in tensors.items() if entry is not None}
    save_file(bad, tmp_path / "bad.safetensors")
    with pytest.raises(WrongModelFile, match=message):
        Identity.load(tmp_path / "bad.safetensors")


def test_another_model_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    save_file({"transformer_blocks.0.norm1.linear.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(WrongModelFile, match=r"not an identity.*transformer_blocks\.0"):
        Identity.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", [b"", b"{}", b"\x89PNG\r\n"])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "anna.safetensors").write_bytes(content)
    with pytest.raises(WrongModelFile):
        Identity.load(tmp_path / "anna.safetensors")


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("face_encoder/models/antelopev2/glintr100.onnx", r"glintr100\.onnx"),
        ("face_encoder/parsing_bisenet.pth", r"parsing_bisenet\.pth"),
        ("clip_visual_encoder/model.safetensors", "clip_visual_encoder"),
    ],
)
def test_an_incomplete_folder_names_what_is_missing_and_where(
    absent: str, message: str, tmp_path: Path
) -> None:
    folder = write_face_models(tmp_path)
    (folder / absent).unlink()
    with pytest.raises(ModelFileMissing, match=message):
        FaceEncoders.load(folder)


@pytest.mark.parametrize("place", ["models/antelopev2/antelopev2", "antelopev2"])
def test_the_released_folder_loads_however_its_archives_were_unpacked(place: str, tmp_path: Path) -> None:
    folder = write_face_models(tmp_path)
    models = folder / "face_encoder" / "models" / "antelopev2"
    target = folder / "face_encoder" / place
    target.mkdir(parents=True)
    for file in list(models.glob("*.onnx")):
        file.rename(target / file.name)
    assert len(FaceEncoders.load(folder).detector.detect(drawing())) == 1


def test_a_safetensors_parser_serves_as_well_as_the_pickled_one(
    tmp_path: Path, encoders: FaceEncoders
) -> None:
    pickled = write_face_models(tmp_path) / "face_encoder" / "parsing_bisenet.pth"
    state = {name: entry.contiguous() for name, entry in torch.load(pickled, weights_only=True).items()}
    save_file(state, pickled.with_suffix(".safetensors"))
    pickled.unlink()
    small = np.ascontiguousarray(drawing()[::4, ::4])
    labels = FaceEncoders.load(tmp_path).parser.labels(small)
    np.testing.assert_array_equal(labels, encoders.parser.labels(small))
