"""The pack's parts of the page, on the real page: the face picker, the video's shape, the score's curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from page import Browser
from photos import TWO_PEOPLE

PACK = Path(__file__).parents[2]
IDENTITY = """([photo, at]) => {
  const faces = echo.add("EchoVideoLoadFaceEncoders", at, 60);
  const image = echo.add("LoadImage", at, 240, {image: photo});
  const identity = echo.add("EchoVideoIdentity", at + 400, 60);
  const saved = echo.add("EchoVideoSaveIdentity", at + 880, 60, {filename_prefix: "chosen"});
  faces.connect(0, identity, 0);
  image.connect(0, identity, 1);
  identity.connect(0, saved, 0);
}"""


def build(page: Browser, photo: str = TWO_PEOPLE) -> None:
    """Face encoders and a photo into EchoVideo Identity, into Save EchoVideo Identity."""
    page.run_js("app.graph.clear()")
    page.run_js(IDENTITY, [photo, 60])
    page.see_all()


def chosen(page: Browser, number: int = 0) -> dict[str, Any]:
    """Face order and index, as the node's widgets hold them."""
    widgets = page.run_js("(number) => echo.widgets(echo.all('EchoVideoIdentity')[number])", number)
    return {name: widgets[name] for name in ("face_order", "face_index")}


def face(page: Browser, number: int, picker: int = 0) -> Any:
    return page.picker(picker).locator(f".echovideo-face[data-number='{number}']")


def test_a_click_on_a_face_makes_it_the_identity(page: Browser, host: Any, released: Path) -> None:
    build(page)
    page.wait_for_faces(2)
    face(page, 1).click()
    assert chosen(page) == {"face_order": "largest", "face_index": 1}
    assert face(page, 1).get_attribute("aria-checked") == "true"
    assert face(page, 0).get_attribute("aria-checked") == "false"
    page.run_workflow()
    page.picture("clicked_and_run")

    from echovideo_model.identity import FaceEncoders, Identity, identify

    encoders = FaceEncoders.load(released)
    wanted = identify(host.base / "input" / TWO_PEOPLE, encoders, "largest", 1)
    other = identify(host.base / "input" / TWO_PEOPLE, encoders, "largest", 0)
    (file,) = (host.base / "output" / "echovideo_identities").glob("chosen_*.safetensors")
    saved = Identity.load(file)
    np.testing.assert_allclose(saved.id_embedding, wanted.id_embedding, rtol=1e-3, atol=1e-3)
    assert saved.similarity(other.id_embedding) < 0.9
    np.testing.assert_array_equal(saved.face_picture, wanted.face_picture)
