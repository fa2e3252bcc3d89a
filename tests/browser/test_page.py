"""The pack's parts of the page, on the real page: the face picker, the video's shape, the score's curve."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.page import Browser
from testbed.photos import NOBODY, TWO_PEOPLE
from testbed.shipped import page_form

LARGE = 18  # pixels from which WCAG asks for less contrast
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
    """The box of a face by the number that people read on it, from 1."""
    return page.picker(picker).locator(f".echovideo-face[data-number='{number}']")


def test_a_click_on_a_face_makes_it_the_identity(page: Browser, host: Any, released: Path) -> None:
    build(page)
    page.wait_for_faces(2)
    status = page.picker().locator(".echovideo-status")
    assert status.text_content() == "2 faces, face 1 is used; click another"
    assert face(page, 2).get_attribute("title") == "Click to use face 2"
    assert face(page, 2).text_content() == "2"
    assert face(page, 2).evaluate("(box) => getComputedStyle(box).cursor") == "pointer"
    face(page, 2).click()
    assert chosen(page) == {"face_order": "largest", "face_index": 1}  # the value counts from 0
    assert status.text_content() == "2 faces, face 2 is used; click another"
    assert face(page, 2).get_attribute("title") == "Face 2, used"
    assert face(page, 2).get_attribute("aria-checked") == "true"
    assert face(page, 1).get_attribute("aria-checked") == "false"
    page.run_workflow()
    page.picture("clicked_and_run")

    from echovideo_model.face.choice import FaceChoice
    from echovideo_model.identity import FaceEncoders, Identity, identify

    encoders = FaceEncoders.load(released)
    wanted = identify(host.base / "input" / TWO_PEOPLE, encoders, FaceChoice("largest", 1))
    other = identify(host.base / "input" / TWO_PEOPLE, encoders, FaceChoice("largest", 0))
    (file,) = (host.base / "output" / "echovideo_identities").glob("chosen_*.safetensors")
    saved = Identity.load(file)
    np.testing.assert_allclose(saved.id_embedding, wanted.id_embedding, rtol=1e-3, atol=1e-3)
    assert saved.similarity(other.id_embedding) < 0.9
    np.testing.assert_array_equal(saved.face_picture, wanted.face_picture)


def test_the_choice_survives_reload_copy_and_undo(page: Browser) -> None:
    build(page)
    page.wait_for_faces(2)
    page.page.wait_for_timeout(500)  # the page notes states of the graph for undo
    face(page, 2).click()
    saved = page.workflow()

    page.run_js("app.graph.clear()")
    page.load(saved)
    page.wait_for_faces(2)
    assert chosen(page) == {"face_order": "largest", "face_index": 1}
    assert face(page, 2).get_attribute("aria-checked") == "true"

    identity = page.run_js("echo.only('EchoVideoIdentity').id")
    page.run_js(
        "(id) => { app.canvas.selectNode(app.graph.getNodeById(id)); app.canvas.copyToClipboard(); }",
        identity,
    )
    page.run_js("app.canvas.pasteFromClipboard({connectInputs: true})")
    page.page.wait_for_function("document.querySelectorAll('.echovideo-picker').length === 2")
    assert chosen(page, 1) == {"face_order": "largest", "face_index": 1}
    page.run_js("app.graph.remove(echo.all('EchoVideoIdentity')[1])")
    page.page.wait_for_function("document.querySelectorAll('.echovideo-picker').length === 1")


def test_a_click_can_be_undone_and_redone(page: Browser) -> None:
    build(page)
    page.load(page.workflow())  # a fresh history
    page.wait_for_faces(2)
    page.see_all()
    face(page, 2).click()
    assert chosen(page)["face_index"] == 1
    page.run_js("app.extensionManager.command.execute('Comfy.Undo')")
    page.page.wait_for_function("echo.widgets(echo.only('EchoVideoIdentity')).face_index === 0")
    page.wait_for_faces(2)
    assert face(page, 1).get_attribute("aria-checked") == "true"
    page.run_js("app.extensionManager.command.execute('Comfy.Redo')")
    page.page.wait_for_function("echo.widgets(echo.only('EchoVideoIdentity')).face_index === 1")


FOCUSED = "document.activeElement.getAttribute('aria-label')"


def test_arrows_choose_a_face_as_in_any_radio_group(page: Browser) -> None:
    build(page)
    page.wait_for_faces(2)
    page.run_js("app.canvas.selectNode(echo.only('EchoVideoIdentity'))")
    before = page.run_js("[...echo.only('EchoVideoIdentity').pos]")
    face(page, 1).focus()
    for key, index in (
        ("ArrowRight", 1),
        ("ArrowDown", 0),
        ("ArrowLeft", 1),
        ("ArrowUp", 0),
    ):  # round the ends
        page.page.keyboard.press(key)
        assert chosen(page) == {"face_order": "largest", "face_index": index}
        assert page.run_js(FOCUSED) == f"Face {index + 1}, used"
        assert page.run_js("document.activeElement.tabIndex") == 0  # the one place that Tab leads to
    assert page.picker().locator(".echovideo-face[tabindex='0']").count() == 1
    assert page.run_js("[...echo.only('EchoVideoIdentity').pos]") == before
    assert page.run_js("app.graph._nodes.length") == 4


def test_arrows_choose_among_the_faces_that_a_run_found(page: Browser) -> None:
    build(page)
    page.run_js(
        """() => { const inverted = echo.add("ImageInvert", 60, 560); const back = echo.add("ImageInvert", 60, 640);
          echo.only("LoadImage").connect(0, inverted, 0); inverted.connect(0, back, 0);
          back.connect(0, echo.only("EchoVideoIdentity"), 1); }"""
    )
    page.wait_for_state("empty")
    page.run_workflow()
    page.wait_for_faces(2)
    face(page, 1).focus()
    page.page.keyboard.press("ArrowRight")
    assert chosen(page)["face_index"] == 1
    page.page.wait_for_timeout(800)  # the page has looked again
    assert page.run_js(FOCUSED) == "Face 2, used"
    page.page.keyboard.press("ArrowRight")
    assert chosen(page)["face_index"] == 0


def test_no_key_on_a_face_deletes_the_node(page: Browser) -> None:
    build(page)
    page.wait_for_faces(2)
    page.run_js("app.canvas.selectNode(echo.only('EchoVideoIdentity'))")
    for place in (face(page, 1), face(page, 2)):
        for key in ("Delete", "Backspace"):
            place.focus()
            page.page.keyboard.press(key)
            page.page.wait_for_timeout(300)
            assert page.run_js("app.graph._nodes.length") == 4, key
    page.run_js("document.activeElement.blur(); app.canvas.canvas.focus()")
    page.page.keyboard.press("Delete")  # where it is the canvas's own key, it does delete what is selected
    page.page.wait_for_function("app.graph._nodes.length === 3")


def test_a_photo_uploaded_under_the_name_that_was_missing_is_searched_at_once(
    page: Browser, host: Any, tmp_path: Path
) -> None:
    build(page)
    page.wait_for_faces(2)
    page.run_js("echo.set(echo.only('LoadImage'), 'image', 'late.png')")
    page.wait_for_state("error")
    page.complaints.clear()  # the browser's own line about a 404
    late = tmp_path / "late.png"
    shutil.copy(host.base / "input" / "portrait.png", late)
    with page.page.expect_file_chooser() as chooser:
        page.run_js("echo.only('LoadImage').widgets.find((one) => one.type === 'button').callback()")
    chooser.value.set_files(late)
    page.wait_for_faces(1)
    assert page.run_js("echo.widgets(echo.only('LoadImage')).image") == "late.png"
    assert page.picker().locator(".echovideo-status").text_content() == "The only face is used"


def test_numbers_follow_the_order_and_a_number_that_is_not_there_is_said(page: Browser) -> None:
    build(page)
    page.wait_for_faces(2)
    page.run_js("echo.set(echo.only('EchoVideoIdentity'), 'face_order', 'left to right')")
    page.page.wait_for_function("document.querySelector('.echovideo-chosen').offsetLeft < 100")
    page.run_js("echo.set(echo.only('EchoVideoIdentity'), 'face_index', 5)")
    page.page.wait_for_selector(".echovideo-warning")
    assert "no face 6" in page.picker().locator(".echovideo-status").text_content()
    page.run_js("echo.set(echo.only('EchoVideoIdentity'), 'face_order', 'closest')")
    page.page.wait_for_function("!document.querySelector('.echovideo-warning')")
    face(page, 2).click()
    assert chosen(page) == {"face_order": "left to right", "face_index": 1}


def test_every_state_says_what_to_do(page: Browser, host: Any) -> None:
    build(page, NOBODY)
    page.wait_for_state("nobody")
    assert "use a photo in which the face is upright" in page.picker().text_content()
    page.picture("state_nobody")

    insightface = host.base / "models" / "insightface"
    insightface.rename(insightface.with_name("elsewhere"))
    try:
        shutil.copy(host.base / "input" / "portrait.png", host.base / "input" / "unseen.png")
        page.run_js(
            "echo.only('EchoVideoIdentity').widgets.find((one) => one.name === 'padding').value = 0.05"
        )
        page.run_js("echo.set(echo.only('LoadImage'), 'image', 'unseen.png')")
        page.wait_for_state("error")
        assert "glintr100.onnx into models/insightface/models/antelopev2" in page.picker().text_content()
        page.picture("state_models_missing")
    finally:
        insightface.with_name("elsewhere").rename(insightface)
    page.complaints.clear()  # the browser's own line about a 503
    page.picker().get_by_text("Try again").click()
    page.wait_for_faces(1)

    page.run_js("echo.only('EchoVideoIdentity').disconnectInput(1)")
    page.wait_for_state("empty")
    assert "Connect a photo" in page.picker().text_content()
    page.picture("state_no_photo")


# What is read of the page's toast about errors, which cuts each of them: the characters that lie in its box.
READ = """() => {
  const line = document.querySelector("[data-testid='error-overlay-messages'] li span:last-child");
  const box = line.getBoundingClientRect();
  const text = line.firstChild;
  let read = "";
  for (let at = 0; at < text.length; at++) {
    const range = document.createRange();
    range.setStart(text, at);
    range.setEnd(text, at + 1);
    if (range.getBoundingClientRect().bottom <= box.bottom + 1) read += text.data[at];
  }
  return read;
}"""


def test_what_to_do_can_be_read_where_the_page_cuts_an_error(page: Browser) -> None:
    page.open()  # without what earlier workflows lacked, which the page lists among the errors
    build(page, NOBODY)
    page.wait_for_state("nobody")
    with pytest.raises(AssertionError, match="NoFaceFound"):
        page.run_workflow()
    toast = page.page.get_by_test_id("error-overlay-messages")
    page.page.wait_for_timeout(2000)
    if toast.count() == 0:
        pytest.skip("this host shows errors whole, in a dialog")
    read = page.run_js(READ)
    page.picture("toast")
    assert "use a photo in which the face is upright" in read
    assert not read.endswith("and rotated")  # it is cut: what was tried comes last


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("zh-TW", "共 2 張人臉，使用人臉 1；點選另一張即可更換"),
        ("zh", "共 2 张人脸，使用人脸 1；点击可换一张"),
    ],
)
def test_traditional_chinese_is_not_simplified(page: Browser, language: str, sentence: str) -> None:
    page.setting("Comfy.Locale", language)
    try:
        page.open()  # the page reads a language once
        build(page)
        page.wait_for_faces(2)
        assert page.picker().locator(".echovideo-status").text_content() == sentence
    finally:
        page.setting("Comfy.Locale", "en")


def test_a_photo_from_another_node_is_chosen_from_after_a_run(page: Browser) -> None:
    build(page)
    title = "<img src=x onerror=document.title='broken'>"
    page.run_js(
        """(title) => { const scale = echo.add("ImageInvert", 60, 560);
          const back = echo.add("ImageInvert", 60, 640); back.title = title;
          echo.only("LoadImage").connect(0, scale, 0); scale.connect(0, back, 0);
          back.connect(0, echo.only("EchoVideoIdentity"), 1); }""",
        title,
    )
    page.wait_for_state("empty")
    assert title in page.picker().text_content()  # a user's words are words, never markup
    assert page.run_js("document.title") != "broken"
    page.run_workflow()
    page.wait_for_faces(2)
    face(page, 2).click()
    assert chosen(page) == {"face_order": "largest", "face_index": 1}
    page.picture("after_a_run")


BATCH = """([one, other]) => {
  const type = LiteGraph.registered_node_types.BatchImagesNode ? "BatchImagesNode" : "ImageBatch";
  const batch = echo.add(type, 60, 700);
  for (const [slot, name] of [one, other].entries()) {
    const image = echo.add("LoadImage", -300, 240 + 340 * slot, {image: name});
    image.connect(0, batch, slot);
  }
  batch.connect(0, echo.only("EchoVideoIdentity"), 1);
  app.graph.remove(echo.all("LoadImage")[0]);
}"""


def test_several_photos_are_paged_through(page: Browser) -> None:
    build(page)
    page.run_js(BATCH, ["portrait.png", TWO_PEOPLE])
    page.see_all()
    page.wait_for_faces(1)
    assert page.picker().locator(".echovideo-pager").text_content() == "‹1 of 2›"
    page.picker().get_by_label("Next photo").click()
    page.wait_for_faces(2)
    face(page, 2).click()
    assert chosen(page)["face_index"] == 1
    page.picker().get_by_label("Previous photo").click()
    page.wait_for_faces(1)
    status = page.picker().locator(".echovideo-status")
    page.page.wait_for_selector(".echovideo-warning")
    assert status.text_content() == "One choice for all photos: there is no face 2 in photo 1"
    page.picture("several_photos")
    page.picker().get_by_label("Next photo").click()
    page.wait_for_faces(2)
    assert status.text_content().endswith(
        "there is no face 2 in photo 1"
    )  # said where it cannot be seen, too
    face(page, 1).click()
    page.page.wait_for_function("!document.querySelector('.echovideo-warning')")
    assert status.text_content() == "Face 1 is used in all 2 photos"
    page.run_js("echo.set(echo.all('LoadImage')[0], 'image', 'nobody.png')")
    page.page.wait_for_selector(".echovideo-warning")
    page.run_js("echo.set(echo.only('EchoVideoIdentity'), 'on_no_face', 'skip photo')")
    page.page.wait_for_function("!document.querySelector('.echovideo-warning')")


def test_the_panel_beside_the_canvas_lists_what_can_be_set_and_nothing_else(page: Browser) -> None:
    build(page)
    page.wait_for_faces(2)
    wide = page.picker().bounding_box()["width"]
    page.run_js("app.canvas.selectNode(echo.only('EchoVideoIdentity'))")
    page.page.get_by_test_id("info-button").click()
    settings = page.page.get_by_role("tab", name="Parameters")
    if settings.count() == 0:
        pytest.skip("this host has no such panel")
    settings.click()
    page.page.get_by_text("on_no_face").first.wait_for()
    assert page.page.get_by_text("face_picker").count() == 0
    page.run_js("app.canvas.deselectAll(); app.canvas.setDirty(true, true)")
    page.page.wait_for_timeout(800)
    assert page.picker().bounding_box()["width"] == pytest.approx(wide)


def test_a_removed_node_asks_nothing_any_more(page: Browser) -> None:
    build(page)
    page.wait_for_faces(2)
    page.run_js("window.kept = echo.only('EchoVideoIdentity'); app.graph.remove(kept)")
    page.requests.clear()
    page.run_js("echo.set(echo.only('LoadImage'), 'image', 'portrait.png')")
    page.page.wait_for_timeout(1200)
    assert not [url for url in page.requests if "echovideo/face" in url]
    assert page.page.locator(".echovideo-picker").count() == 0


# Every text in the pack's parts: what it says, its size, its colour, and the colours behind it from the front to the
# back; a node's own is drawn by the canvas.
TEXTS = """() => {
  const numbers = (colour) => {
    const found = colour.match(/[\\d.]+/g).map(Number);
    return colour.startsWith("color(srgb") ? found.map((one, at) => (at < 3 ? 255 * one : one)) : found;
  };
  const behind = (at) => {
    const colours = [];
    for (; at && !at.classList.contains("dom-widget"); at = at.parentElement)
      colours.push(numbers(getComputedStyle(at).backgroundColor));
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = LiteGraph.NODE_DEFAULT_BGCOLOR;
    colours.push(numbers(getComputedStyle(probe).color));
    probe.remove();
    return colours;
  };
  const texts = [];
  const add = (text, style, node) => texts.push([text, parseFloat(style.fontSize),
    numbers(node instanceof SVGElement ? style.fill : style.color), behind(node)]);
  for (const node of document.querySelectorAll(".echovideo, .echovideo *")) {
    if (!node.checkVisibility({ visibilityProperty: true }) || node.disabled || node.tagName === "title") continue;
    const own = [...node.childNodes].filter((one) => one.nodeType === Node.TEXT_NODE).map((one) => one.data).join("");
    if (own.trim()) add(own, getComputedStyle(node), node);
    const after = getComputedStyle(node, "::after");
    if (!["none", "normal", '""'].includes(after.content)) add(after.content, after, node);
  }
  return texts;
}"""


def seen(front: list[float], behind: list[list[float]]) -> list[float]:
    """The colour that is seen where `front` lies on `behind`: each red, green, blue of 255 and perhaps an opacity."""
    alpha = front[3] if len(front) > 3 else 1.0
    if alpha == 1 or not behind:
        return front[:3]
    back = seen(behind[0], behind[1:])
    return [alpha * mine + (1 - alpha) * other for mine, other in zip(front, back, strict=False)]


def contrast(text: list[float], behind: list[list[float]]) -> float:
    """WCAG's ratio between a text's colour and what is behind it."""

    def luminance(colour: list[float]) -> float:
        parts = [
            c / 255 / 12.92 if c / 255 <= 0.03928 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    dark, light = sorted((luminance(seen(text, behind)), luminance(seen(behind[0], behind[1:]))))
    return (light + 0.05) / (dark + 0.05)


def test_every_language_says_the_same(page: Browser) -> None:
    words = page.run_js("import('/extensions/ComfyUI-EchoVideo/words.js').then((part) => part.WORDS)")
    assert set(words) == {"en", "zh", "zh-TW", "ko", "ja"}
    for language, sentences in words.items():
        assert sentences.keys() == words["en"].keys(), language
        for key, sentence in sentences.items():
            names = [sorted(re.findall(r"{(\w+)}", one)) for one in (sentence, words["en"][key])]
            assert names[0] == names[1], f"{language}: {key}"


SCORED = {
    "frames": 3,
    "mean": 0.5,
    "minimum": 0.4,
    "standard_deviation": 0.1,
    "every": 1,
    "worst_frame": 2,
    "per_frame": [0.6, None, 0.4],
    "frames_without_face": [1],
}
# Every state side by side: a face that is there, one that is not, nobody, no photo; before and after a run.
STATES = """(scored) => {
  const encoders = echo.only("EchoVideoLoadFaceEncoders");
  const add = (photo, index, ...at) => {
    const image = photo ? echo.add("LoadImage", -300, at[1], {image: photo}) : null;
    const identity = echo.add("EchoVideoIdentity", ...at, {face_index: index});
    encoders.connect(0, identity, 0);
    image?.connect(0, identity, 1);
  };
  add("two_people.png", 5, 60, 640);
  add("nobody.png", 0, 520, 640);
  add("", 0, 980, 640);
  echo.add("EchoVideoVideoSize", 940, 260, {size: "free"});
  echo.add("EchoVideoIdentityScore", 1340, 60);
  echo.add("EchoVideoIdentityScore", 1340, 460).onExecuted({echovideo_scores: [scored]});
}"""
SAID = ("✓ 1", "2 faces", "no face 6", "use a photo", "Connect a photo", "the model sees", "640 × 480")
SAID += ("released model's size", "Run to see", "worst 0.400", "no face in 1", "0.5", "run to see")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_text_can_be_read_in_both_themes(page: Browser, theme: str) -> None:
    page.setting("Comfy.ColorPalette", theme)
    build(page)
    page.run_js(STATES, SCORED)
    page.wait_for_faces(2)
    page.wait_for_faces(2, 1)
    page.wait_for_state("nobody", 2)
    page.page.wait_for_selector(".echovideo-worst")
    page.page.wait_for_selector(".echovideo-thumbnail img:not([hidden])")
    page.run_js("document.querySelectorAll('.echovideo-thumbnail')[2].dataset.hint = 'run to see'")
    page.see_all()
    page.picture(f"theme_{theme}")
    texts = page.run_js(TEXTS)
    assert not [words for words in SAID if not any(words in text for text, *_ in texts)]
    ratios = {
        text: (contrast(colour, behind), 3 if size >= LARGE else 4.5) for text, size, colour, behind in texts
    }
    assert not {text: ratio for text, (ratio, least) in ratios.items() if ratio < least}


def test_the_video_size_is_drawn_as_it_is_set(page: Browser) -> None:
    page.run_js("app.graph.clear(); echo.add('EchoVideoVideoSize', 60, 60)")
    part = page.page.locator(".echovideo-size")
    page.page.wait_for_function("document.querySelector('.echovideo-size b').textContent === '640 × 480'")
    assert "49 frames, 3.06 s at 16 fps" in part.text_content()
    page.run_js("echo.set(echo.only('EchoVideoVideoSize'), 'size', '480 x 848')")
    page.page.wait_for_function("document.querySelector('.echovideo-size b').textContent === '480 × 848'")
    width, height = (float(part.locator("rect").get_attribute(side)) for side in ("width", "height"))
    assert width / height == pytest.approx(480 / 848, rel=0.01)
    page.run_js("echo.set(echo.only('EchoVideoVideoSize'), 'size', 'free')")
    page.run_js("echo.only('EchoVideoVideoSize').widgets[1].value = 650")  # as an API client may
    page.page.wait_for_function("document.querySelector('.echovideo-size b').textContent === '640 × 480'")


GREY = """() => { const node = echo.only("EchoVideoVideoSize");
  return node.widgets.filter((one) => one.computedDisabled).map((one) => one.name); }"""


def test_the_numbers_that_do_not_count_are_grey(page: Browser) -> None:
    page.run_js("app.graph.clear(); echo.add('EchoVideoVideoSize', 60, 60)")
    page.see_all()

    def wait_for(*names: str) -> None:
        page.page.wait_for_function(
            f"JSON.stringify(({GREY})()) === '{json.dumps(names, separators=(',', ':'))}'"
        )

    wait_for("free_width", "free_height", "seconds")
    page.picture("grey_at_first")
    page.run_js("echo.set(echo.only('EchoVideoVideoSize'), 'measure', 'seconds')")
    wait_for("free_width", "free_height", "frames")
    page.run_js("echo.set(echo.only('EchoVideoVideoSize'), 'size', 'free')")
    wait_for("frames")
    saved = page.workflow()
    page.run_js("app.graph.clear()")
    page.load(saved)
    wait_for("frames")
    assert page.run_js("echo.widgets(echo.only('EchoVideoVideoSize')).frames") == 49  # kept, and sent


def test_the_page_rounds_lengths_as_the_node_does(page: Browser) -> None:
    wanted = [quarter / 4 for quarter in range(0, 400)]
    drawn = page.run_js(
        """async (wanted) => { const part = await import("/extensions/ComfyUI-EchoVideo/video_size.js");
          return wanted.map(part.framesOf); }""",
        wanted,
    )
    assert drawn == [4 * max(0, round((one - 1) / 4)) + 1 for one in wanted]


def test_the_score_is_drawn_with_its_worst_frame(page: Browser, host: Any) -> None:
    build(page)
    page.run_js(
        """() => { const batch = echo.add("ImageBatch", 60, 760);
          const names = ["portrait.png", "second_portrait.png"];
          for (const [slot, name] of names.entries())
            echo.add("LoadImage", -340, 240 + 340 * slot, {image: name}).connect(0, batch, slot);
          const score = echo.add("EchoVideoIdentityScore", 940, 300, {every: 1, name: "Anna"});
          batch.connect(0, score, 0);
          echo.only("EchoVideoIdentity").connect(0, score, 1);
          echo.only("EchoVideoLoadFaceEncoders").connect(0, score, 2); }"""
    )
    page.page.wait_for_selector(".echovideo-score p")
    assert "Run to see" in page.page.locator(".echovideo-score").text_content()
    page.run_workflow()
    page.page.wait_for_selector(".echovideo-worst")
    (history,) = [
        run for run in host.get("/history").values() if "echovideo_scores" in json.dumps(run["outputs"])
    ]
    (scores,) = [output for output in history["outputs"].values() if "echovideo_scores" in output]
    report = scores["echovideo_scores"][0]
    assert report["frames"] == 2
    assert report["worst_frame"] == 1  # the second portrait is not the person
    text = page.page.locator(".echovideo-figures").text_content()
    assert f"worst {report['minimum']:.3f}, frame 1" in text
    assert text.startswith("Anna")
    page.see_all()
    page.picture("score")


def test_the_quick_start_opens_whole_and_makes_a_video(page: Browser, host: Any) -> None:
    page.load(page_form("quick_start"))
    page.wait_for_faces(1)
    page.see_all()
    page.picture("quick_start_opened")
    bad = "app.graph._nodes.filter((node) => node.has_errors || !(node.type in LiteGraph.registered_node_types))"
    assert page.run_js(f"{bad}.map((node) => node.type)") == []
    page.run_js(
        """() => { const size = echo.only("EchoVideoVideoSize"); const sampler = echo.only("KSampler");
          for (const [name, value] of Object.entries({size: "free", free_width: 96, free_height: 64, frames: 9}))
            echo.set(size, name, value);
          echo.set(sampler, "steps", 2); }"""
    )
    page.run_workflow(by_button=True)
    page.page.wait_for_timeout(1500)
    page.picture("quick_start_run")
    assert list((host.base / "output" / "video").glob("*.mp4"))


def test_it_works_in_both_designs_of_nodes(page: Browser) -> None:
    if not page.run_js("'vueNodesMode' in LiteGraph"):
        pytest.skip("this host knows one design")
    page.setting("Comfy.VueNodes.Enabled", True)
    try:
        build(page)
        page.page.wait_for_timeout(3000)
        if page.page.get_by_text("Save EchoVideo Identity").count() == 0:
            pytest.skip("this host's new design is unfinished: it draws no node that was added")
        page.wait_for_faces(2)
        face(page, 2).click()
        assert chosen(page)["face_index"] == 1
        page.page.wait_for_selector(".echovideo-thumbnail img:not([hidden])")
        page.picture("vue_nodes")
    finally:
        page.setting("Comfy.VueNodes.Enabled", False)


def test_the_wheel_zooms_over_the_picker_as_anywhere(page: Browser) -> None:
    build(page)
    page.wait_for_faces(2)
    scale = page.run_js("app.canvas.ds.scale")
    page.page.wait_for_timeout(600)
    assert page.run_js("app.canvas.ds.scale") == scale
    face(page, 1).hover()
    page.page.mouse.wheel(0, 240)
    page.page.wait_for_function(f"app.canvas.ds.scale < {scale}")
    once = page.run_js("app.canvas.ds.scale")
    page.run_js("(scale) => { app.canvas.ds.scale = scale; app.canvas.setDirty(true, true); }", scale)
    page.page.mouse.move(700, 20 + page.page.viewport_size["height"] // 2 + 330)
    page.page.mouse.wheel(0, 240)
    page.page.wait_for_function(f"app.canvas.ds.scale < {scale}")
    assert page.run_js("app.canvas.ds.scale") == pytest.approx(once, rel=1e-3)  # passed on once, not twice
