"""The route behind the face picker: what it finds, and what nobody can get out of it."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import struct
import time
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

from testbed import graphs
from testbed.checkpoints import PARSER, PHOTOS
from testbed.harness import Host

SECRET = "a picture outside the input folder"


def ask(host: Host, route: str = "faces", **query: Any) -> tuple[int, bytes]:
    url = f"http://{host.address}/echovideo/{route}?{urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def found(host: Host, **query: Any) -> dict[str, Any]:
    status, body = ask(host, **query)
    assert status == 200, body
    return json.loads(body)


def refused(host: Host, status: int, route: str = "faces", **query: Any) -> str:
    """The sentence with which the host refuses."""
    answered, body = ask(host, route, **query)
    assert answered == status, body
    error = json.loads(body)["error"]
    assert error["type"]
    assert str(host.base) not in error["message"]
    assert not re.search(r"(?<![\w.:/-])/\w", error["message"])
    assert "\n" not in error["message"]
    return error["message"]


@pytest.fixture(scope="session")
def inside(host: Host) -> Path:
    """The input folder, with two people in a photo, one of them in a folder of its own, and nobody in another."""
    folder = host.base / "input"
    first, second = (Image.open(folder / name).convert("RGB") for name in PHOTOS)
    both = Image.new("RGB", (1000, 640), "#7a9ad0")
    both.paste(second.resize((448, 560)), (20, 80))
    both.paste(first, (488, 0))
    both.save(folder / "route_two.png")
    (folder / "people").mkdir(exist_ok=True)
    second.save(folder / "people" / "finn.webp", lossless=True)
    Image.new("RGB", (640, 480), "#8a8f98").save(folder / "route_nobody.png")
    return folder


@pytest.fixture(scope="session")
def outside(host: Host, inside: Path) -> Path:
    """A portrait beside the input folder, that nobody may see."""
    path = host.base / "secret.png"
    Image.open(inside / PHOTOS[0]).save(path)
    return path


def test_it_finds_every_face_and_numbers_them_in_every_order(host: Host, inside: Path) -> None:
    answer = found(host, filename="route_two.png")
    assert (answer["width"], answer["height"]) == (1000, 640)
    assert len(answer["faces"]) == 2
    centres = [(face["box"][0] + face["box"][2]) / 2 for face in answer["faces"]]
    areas = [np.prod(np.subtract(face["box"][2:], face["box"][:2])) for face in answer["faces"]]
    assert areas == sorted(areas, reverse=True)
    assert answer["orders"]["largest"] == [0, 1]
    assert answer["orders"]["left to right"] == list(np.argsort(centres))
    assert "closest" not in answer["orders"]  # known to a run alone
    assert all(len(face["landmarks"]) == 5 for face in answer["faces"])


def test_it_finds_what_the_library_finds(host: Host, inside: Path, released: Path) -> None:
    from echovideo_model.identity import FaceEncoders

    detector = FaceEncoders.load(released).detector
    faces = detector.detect(np.asarray(Image.open(inside / "route_two.png")))
    boxes = [face["box"] for face in found(host, filename="route_two.png")["faces"]]
    np.testing.assert_allclose(boxes, [face.box for face in faces], atol=0.6)


def test_a_run_sees_and_reports_the_same_faces(host: Host, inside: Path) -> None:
    choice = {"face_order": "left to right", "face_index": 0, "padding": 0.1}
    run = host.run(graphs.identity("route_two.png", **choice))
    (reported,) = run.outputs["identity"]["echovideo_faces"]
    answer = found(host, filename="route_two.png", padding=0.1)
    for face, same in zip(reported["faces"], answer["faces"], strict=True):
        np.testing.assert_allclose(face["box"], same["box"], atol=1)
    assert reported["orders"] == answer["orders"]
    assert reported["chosen"] == answer["orders"]["left to right"][0]
    names = [reported["photo"], reported["aligned"], *run.outputs["identity"]["echovideo_face_picture"]]
    sizes = [
        Image.open(host.base / file["type"] / file["subfolder"] / file["filename"]).size for file in names
    ]
    assert sizes == [(1200, 768), (512, 512), (512, 512)]


def test_padding_moves_the_faces_in_a_larger_photo(host: Host, inside: Path) -> None:
    plain, padded = found(host, filename=PHOTOS[0]), found(host, filename=PHOTOS[0], padding=0.25)
    assert (padded["width"], padded["height"]) == (768, 960)
    moved = np.subtract(padded["faces"][0]["box"], plain["faces"][0]["box"])
    np.testing.assert_allclose(moved, [128, 160, 128, 160], atol=12)


def test_no_face_is_an_answer_that_says_why(host: Host, inside: Path) -> None:
    answer = found(host, filename="route_nobody.png")
    assert answer["faces"] == []
    assert answer["message"].startswith("no face found: use a photo in which")
    assert "640 x 480 pixels" in answer["message"]


def test_subfolders_and_annotated_names_are_read(host: Host, inside: Path) -> None:
    assert len(found(host, filename="finn.webp", subfolder="people")["faces"]) == 1
    assert len(found(host, filename="people/finn.webp [input]")["faces"]) == 1


def test_a_face_is_shown_aligned_and_parsed(host: Host, inside: Path) -> None:
    pictures = []
    for parser in ({}, {"parser": PARSER}):
        status, body = ask(host, "face", filename="route_two.png", number=1, **parser)
        assert status == 200
        pictures.append(np.asarray(Image.open(io.BytesIO(body))))
    assert pictures[0].shape == pictures[1].shape == (256, 256, 3)
    black = [(picture.max(-1) < 12).mean() for picture in pictures]
    assert black[0] < 0.01 < black[1]


def test_a_face_that_is_not_there_is_refused(host: Host, inside: Path) -> None:
    said = refused(host, 404, "face", filename="route_two.png", number=7)
    assert said.startswith("choose an index from 0 to 1, not 7")
    assert "no face found" in refused(host, 404, "face", filename="route_nobody.png", number=0)
    refused(host, 404, "face", filename="route_two.png", number=-1)


@pytest.mark.parametrize("name", ["../secret.png", "people/../../secret.png", "../../../../../../etc/passwd"])
def test_no_name_leads_out_of_the_input_folder(host: Host, outside: Path, name: str) -> None:
    assert "not inside the input folder" in refused(host, 403, filename=name)
    folder, _, file = name.rpartition("/")
    refused(host, 403, filename=file, subfolder=folder)
    refused(host, 403, "face", filename=name, number=0)


def test_absolute_paths_are_refused_even_into_the_input_folder(
    host: Host, inside: Path, outside: Path
) -> None:
    for path in (outside, inside / PHOTOS[0], Path("/etc/passwd"), Path("/no/such/file")):
        refused(host, 403, filename=str(path))
        refused(host, 403, filename=path.name, subfolder=str(path.parent))


def test_links_out_of_the_input_folder_are_refused(host: Host, inside: Path, outside: Path) -> None:
    links = {
        "link.png": outside,
        "folder_link": outside.parent,
        "broken_link.png": outside.with_name("nothing"),
    }
    for name, target in links.items():
        (inside / name).symlink_to(target)
    try:
        refused(host, 403, filename="link.png")
        refused(host, 403, filename="secret.png", subfolder="folder_link")
        refused(host, 403, filename="broken_link.png")  # the same answer, whether or not it leads anywhere
    finally:
        for name in links:
            (inside / name).unlink()


def test_links_within_the_input_folder_and_in_circles(host: Host, inside: Path) -> None:
    (inside / "good_link.png").symlink_to(inside / PHOTOS[0])
    (inside / "circle.png").symlink_to(inside / "circle.png")
    try:
        assert len(found(host, filename="good_link.png")["faces"]) == 1
        assert refused(host, 404, filename="circle.png")
    finally:
        (inside / "good_link.png").unlink()
        (inside / "circle.png").unlink()


@pytest.mark.parametrize("kind", ["output", "temp", "models", "", "../models"])
def test_other_folders_are_refused(host: Host, inside: Path, kind: str) -> None:
    assert "only photos in the input folder" in refused(host, 403, filename=PHOTOS[0], type=kind)


@pytest.mark.parametrize("name", ["portrait.png [output]", "portrait.png [temp]"])
def test_annotated_names_of_other_folders_are_refused(host: Host, inside: Path, name: str) -> None:
    assert "only photos in the input folder" in refused(host, 403, filename=name)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("", 400),
        ("portrait\0.png", 400),
        ("\0", 400),
        (".", 404),
        ("people", 404),
        ("no such photo.png", 404),
        ("x" * 5000, 404),
        ("portrait.png/", 200),
        ("portrait.png/more.png", 404),
        ("\ud7ff\U0001f600.png", 404),
    ],
)
def test_strange_names(host: Host, inside: Path, name: str, status: int) -> None:
    assert ask(host, filename=name)[0] == status


def test_devices_and_pipes_are_not_read(host: Host, inside: Path) -> None:
    pipe = inside / "pipe.png"
    os.mkfifo(pipe)
    try:
        refused(host, 404, filename="pipe.png")  # reading it would never end
    finally:
        pipe.unlink()


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 415, "is not a photo"),
        (b"#!/bin/sh\necho no picture", 415, "is not a photo"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "is not a photo"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n", 415, "is not a photo"),
        (png(64, 64, b"not deflated"), 400, "damaged"),
        (png(20_000, 20_000, b""), 413, "at most 64,000,000"),  # Pillow refuses it
        (png(10_000, 8_000, b""), 413, "10000 x 8000 pixels"),  # Pillow would not
        (png(1, 1, zlib.compress(b"\0\0\0\0")), 400, "1 x 1 pixels"),
    ],
)
def test_what_is_no_photo_is_refused_before_it_is_decoded(
    host: Host, inside: Path, content: bytes, status: int, said: str
) -> None:
    path = inside / "strange.png"
    path.write_bytes(content)
    assert said in refused(host, status, filename="strange.png")


def test_a_truncated_photo_is_refused(host: Host, inside: Path) -> None:
    whole = (inside / PHOTOS[0]).read_bytes()
    (inside / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert "damaged or truncated" in refused(host, 400, filename="cut.png")


def test_a_file_too_large_is_refused(host: Host, inside: Path) -> None:
    path = inside / "large.png"
    with path.open("wb") as file:
        file.truncate(65 * 2**20)  # sparse: takes no room
    try:
        assert "larger than 64 MiB" in refused(host, 413, filename="large.png")
    finally:
        path.unlink()


@pytest.mark.parametrize("padding", ["-0.1", "1.5", "nan", "inf", "much", "1e400"])
def test_impossible_paddings_are_refused(host: Host, inside: Path, padding: str) -> None:
    assert "padding" in refused(host, 400, filename=PHOTOS[0], padding=padding)


def test_only_the_listed_parsers_are_loaded(host: Host, inside: Path) -> None:
    for name in ("../vae/cogvideox_vae.safetensors", "/etc/passwd", "none.pth", "", "x\0"):
        assert "is missing: get the published file" in refused(
            host, 503, "face", filename=PHOTOS[0], number=0, parser=name
        )


def test_missing_models_are_named_with_the_folder(host: Host, inside: Path) -> None:
    folder = host.base / "models" / "insightface"
    Image.open(inside / PHOTOS[0]).rotate(3).save(inside / "unseen.png")
    folder.rename(folder.with_name("away"))
    try:
        message = refused(host, 503, filename="unseen.png")
    finally:
        folder.with_name("away").rename(folder)
    assert "models/insightface/models/antelopev2" in message
    assert "echovideo models install --comfyui COMFYUI" in message
    assert str(host.base) in host.log()  # where the administrator finds it
    assert len(found(host, filename="unseen.png")["faces"]) == 1  # no restart needed


def test_a_changed_photo_is_searched_again(host: Host, inside: Path) -> None:
    path = inside / "changing.png"
    Image.open(inside / PHOTOS[0]).save(path)
    assert len(found(host, filename="changing.png")["faces"]) == 1
    Image.open(inside / "route_two.png").save(path)
    assert len(found(host, filename="changing.png")["faces"]) == 2


def test_the_host_answers_while_a_photo_is_searched(host: Host, inside: Path) -> None:
    for number in range(4):  # no face: the longest search
        Image.new("RGB", (1024, 1000 + number), "#556").save(inside / f"long_{number}.png")
    with ThreadPoolExecutor(4) as pool:
        searches = [pool.submit(found, host, filename=f"long_{number}.png") for number in range(4)]
        answered = 0
        while not all(search.done() for search in searches):
            host.get("/queue")
            answered += 1
            time.sleep(0.02)
        assert all(search.result()["faces"] == [] for search in searches)
    assert answered >= 3  # it would be one, had each search held the event loop


def test_searches_that_nobody_waits_for_are_dropped(host: Host, inside: Path) -> None:
    for number in range(41):  # no face: the longest search
        Image.new("RGB", (1000, 900 + number), "#565").save(inside / f"gone_{number}.png")
    start = time.monotonic()
    found(host, filename="gone_40.png")
    alone = time.monotonic() - start
    for number in range(40):
        with socket.create_connection(host.address.split(":")) as client:
            client.sendall(
                f"GET /echovideo/faces?filename=gone_{number}.png HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
    start = time.monotonic()
    assert found(host, filename=PHOTOS[0], padding=0.07)["faces"]
    assert time.monotonic() - start < 15 * alone  # it waited for all 40


def test_the_warning_of_a_tiny_face_comes_with_it(host: Host, inside: Path) -> None:
    small = Image.new("RGB", (1024, 1024), "#7a9ad0")
    small.paste(Image.open(inside / PHOTOS[0]).convert("RGB").resize((200, 250)), (300, 300))
    small.save(inside / "route_small.png")
    faces = found(host, filename="route_small.png")["faces"] + found(host, filename=PHOTOS[0])["faces"]
    for face in faces:
        sides = np.subtract(face["box"][2:], face["box"][:2])
        assert ("pixels" in face["warning"]) == (min(sides) < 40)


@pytest.mark.parametrize("name", ["cut_end.jpg", "negative.jpg", "text.png"])
def test_the_picker_is_no_stricter_than_load_image(host: Host, inside: Path, name: str) -> None:
    portrait = Image.open(inside / PHOTOS[0]).convert("RGB")
    stream = io.BytesIO()
    if name == "text.png":
        portrait.save(stream, "PNG", dpi=(72, 72))
        content = bytearray(stream.getvalue())
        content[content.index(b"pHYs") + 5] ^= 0x55
    else:
        negative = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 1, 0)
        negative += struct.pack("<HHIi", 0x9204, 4, 1, -3) + bytes(4)
        portrait.save(stream, "JPEG", exif=negative)
        content = bytearray(stream.getvalue()[: -2 if name == "cut_end.jpg" else None])
    (inside / name).write_bytes(content)
    assert len(found(host, filename=name)["faces"]) == 1
