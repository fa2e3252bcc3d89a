"""What a model was trained on is told by its file; an identity of other face encoders is refused everywhere."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from safetensors.torch import load_file, save_file

from echovideo_model.errors import InvalidRequest, WrongModelFile
from echovideo_model.face.detect import RECOGNISER, FaceDetector
from echovideo_model.face.encoders import FaceEncoders, require_same_set
from echovideo_model.face.siglip import SiglipEncoder
from echovideo_model.facts import ENCODERS_KEY, KEY, RELEASED, ModelFacts, read_facts
from echovideo_model.identity import Identity, check_identity_fits, make_identity
from echovideo_model.pipeline import Pipeline
from echovideo_model.request import Request
from echovideo_model.weights.loading import convert
from tests.faces import write_face_models
from tests.test_identity import an_identity

SMALL = ModelFacts(sizes=((128, 96),), size=(128, 96), frames=17, fps=8.0, face_encoders="other")


def test_a_file_that_says_nothing_is_the_released_one(tiny_set: Path) -> None:
    assert read_facts(tiny_set / "transformer") == RELEASED
    assert ModelFacts.parse(None) == RELEASED
    request = Request("A man waves.")
    assert (request.height, request.width) == RELEASED.size
    assert request.warnings() == []


def test_facts_survive_their_file_and_its_conversion(tiny_set: Path, tmp_path: Path) -> None:
    plain, told, again = (tmp_path / f"{name}.safetensors" for name in "abc")
    convert(tiny_set / "transformer", plain, "file")
    save_file(load_file(plain), told, {"format": "pt", **SMALL.metadata()})
    assert read_facts(told) == SMALL
    convert(told, again, "file")
    assert read_facts(again) == SMALL


@pytest.mark.parametrize("said", ["{", "[]", '{"sizes": 3}', '{"sizes": [[1, 2, 3]]}', '{"colour": "red"}'])
def test_facts_that_cannot_be_read_are_refused(said: str) -> None:
    with pytest.raises(WrongModelFile, match="cannot be read"):
        ModelFacts.parse({KEY: said})


def test_warnings_are_about_the_model_that_is_asked() -> None:
    fits = Request("A man waves.", height=128, width=96, frames=17)
    assert fits.warnings(SMALL) == []
    assert len(fits.warnings()) == 2
    assert "96x128" in Request("A man waves.").warnings(SMALL)[0]
    assert "17 frames, not 49" in Request("A man waves.").warnings(SMALL)[1]


@pytest.mark.parametrize(("made_by", "facts"), [("other", RELEASED), ("", SMALL), ("another", SMALL)])
def test_an_identity_of_other_encoders_is_refused(made_by: str, facts: ModelFacts) -> None:
    identity = replace(an_identity(), encoders=made_by)
    with pytest.raises(InvalidRequest, match=f"{made_by or 'released'}.*make the identity again"):
        check_identity_fits(identity, facts)
    check_identity_fits(replace(identity, encoders=facts.face_encoders), facts)


def test_a_pipeline_refuses_it_before_any_work(tiny_set: Path) -> None:
    pipeline = Pipeline(tiny_set, device="cpu")
    identity = replace(an_identity(), encoders="other")
    with pytest.raises(InvalidRequest, match="the face encoders other"):
        pipeline.generate(identity, Request("A man waves.", height=64, width=64, frames=5, steps=1))
    assert "text_encoder" not in vars(pipeline)


def test_a_whole_person_is_an_experiment_where_the_model_has_seen_none(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    request = Request("A man waves.", height=64, width=64, frames=1, steps=1)
    with caplog.at_level(logging.WARNING):
        pipeline.generate(replace(an_identity(), whole_person=True), request)
    assert "whole person is experimental" in caplog.text


def test_an_identity_keeps_who_made_it(tmp_path: Path) -> None:
    path = tmp_path / "person.safetensors"
    replace(an_identity(), encoders="other", whole_person=True).save(path)
    kept = Identity.load(path)
    assert (kept.encoders, kept.whole_person) == ("other", True)
    older = tmp_path / "older.safetensors"
    save_file(load_file(path), older)
    assert (Identity.load(older).encoders, Identity.load(older).whole_person) == ("", False)


def named(models: Path, siglip: str, recogniser: str) -> Path:
    """The same encoders with these names in their files."""
    file = models / "clip_visual_encoder" / "model.safetensors"
    save_file(load_file(file), file, {"format": "pt", ENCODERS_KEY: siglip})
    path = next(models.rglob(RECOGNISER))
    network = onnx.load(path)
    entry = network.metadata_props.add()
    entry.key, entry.value = ENCODERS_KEY, recogniser
    onnx.save(network, path)
    return models


def test_encoders_know_their_set_by_their_files(tmp_path: Path) -> None:
    plain = write_face_models(tmp_path / "plain")
    assert FaceEncoders.load(plain).name == ""
    own = named(shutil.copytree(plain, tmp_path / "own"), "own", "own")
    encoders = FaceEncoders.load(own)
    assert encoders.name == "own"
    assert make_identity([], encoders).encoders == "own"
    with pytest.raises(InvalidRequest, match="choose both from the same set"):
        FaceEncoders(
            FaceDetector(plain / "face_encoder"),
            encoders.parser,
            SiglipEncoder.load(own / "clip_visual_encoder"),
        )


def test_embeddings_of_two_sets_are_not_compared() -> None:
    require_same_set("own", "own")
    with pytest.raises(
        InvalidRequest, match="the released face encoders and cannot be compared with the face encoders own"
    ):
        require_same_set("own", "")


def test_metadata_is_plain_json() -> None:
    assert json.loads(SMALL.metadata()[KEY])["size"] == [128, 96]
