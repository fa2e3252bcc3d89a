"""Masks on EchoVideo Identity, and identities of other face encoders where faces are compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from echovideo_model.face.detect import FaceDetector
from echovideo_model.identity import Identity, find_face
from testbed import checkpoints
from testbed.graphs import Graph, identity, node, out
from testbed.harness import Host, expect_failure

OTHER = "other.safetensors"
KEPT = {"kept": node("EchoVideoSaveIdentity", identity=out("identity"), filename_prefix="whole")}


def put_mask(host: Host, size: tuple[int, int], box: tuple[int, int, int, int]) -> Graph:
    """mask.png in the input folder, white inside the box, and the node that reads it."""
    picture = Image.new("L", size)
    picture.paste(255, box)
    picture.save(host.base / "input" / "mask.png")
    return {"mask": node("LoadImageMask", image="mask.png", channel="red")}


def made(host: Host, graph: Graph) -> Identity:
    run = host.run(graph | KEPT)
    assert run.status == "success", run.message
    (name,) = run.outputs["kept"]["text"]
    return Identity.load(host.base / "output" / "echovideo_identities" / name)


def test_a_mask_makes_the_whole_person_the_picture_and_a_changed_one_changes_it(host: Host) -> None:
    with Image.open(host.base / "input" / checkpoints.PHOTOS[0]) as photo:
        width, height = photo.size
        pixels = np.asarray(photo.convert("RGB"))
    face = made(host, identity())
    graph = identity(masks=out("mask"))
    whole = made(host, graph | put_mask(host, (width, height), (0, 0, width, height)))
    assert (face.whole_person, whole.whole_person) == (False, True)
    assert torch.equal(whole.id_embedding, face.id_embedding)
    square = Image.new("RGB", (height, height))
    square.paste(Image.fromarray(pixels), ((height - width) // 2, 0))
    wanted = np.asarray(square.resize((512, 512), Image.Resampling.LANCZOS), np.float32)
    assert np.abs(whole.face_picture - wanted).max() <= 3  # newer hosts read a photo a little differently
    part = made(host, graph | put_mask(host, (width, height), (width // 4, 0, width - width // 4, height)))
    assert not part.face_picture[:, :150].any()  # a quarter of the photo's width more than before
    assert whole.face_picture[:, 60:150].any()


def test_a_mask_that_does_not_fit_is_refused_in_one_sentence(host: Host) -> None:
    graph = identity(masks=out("mask"))
    assert "the mask has 64 x 32 pixels" in expect_failure(
        host, graph | put_mask(host, (64, 32), (0, 0, 64, 32))
    )


@pytest.mark.parametrize("compared", ["score", "evaluate", "closest_to"])
def test_an_identity_of_other_encoders_is_compared_with_nothing(host: Host, compared: str) -> None:
    detector = FaceDetector(host.base / "models" / "insightface")
    embedding = find_face(host.base / "input" / checkpoints.PHOTOS[0], detector).face.embedding
    tokens, picture = torch.zeros(196, 768), np.zeros((512, 512, 3), np.uint8)
    other = replace(Identity(torch.from_numpy(embedding), tokens, tokens + 1, picture), encoders="other")
    other.save(host.base / "models" / "echovideo_identities" / OTHER)
    read = {"read": node("EchoVideoLoadIdentity", identity_name=OTHER)}
    inputs: dict[str, Any] = {
        "frames": out("photo"),
        "identity": out("read"),
        "face_encoders": out("faces"),
    }
    graph = {
        "score": identity() | {"score": node("EchoVideoIdentityScore", every=1, **inputs)},
        "evaluate": identity() | {"evaluate": node("EchoVideoEvaluate", **inputs)},
        "closest_to": identity(face_order="closest", closest_to=out("read")),
    }[compared]
    said = expect_failure(host, graph | read)
    assert (
        "this identity was made by the face encoders other and cannot be compared with the released face encoders"
        in said
    )
