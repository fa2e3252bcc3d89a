"""That AI made it: read back by Pillow, by the standard library's XML, and by exiftool where it is installed."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from PIL import Image

from echovideo_model import __version__
from echovideo_model.picture import save_picture
from echovideo_model.provenance import DRAWN, TRAINED
from echovideo_model.video import read_mp4, write_mp4

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def read_origin(packet: bytes) -> dict[str, str]:
    """What an XMP packet says, as attributes of its one description."""
    (description,) = ElementTree.fromstring(packet.decode().replace("\ufeff", "")).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    return dict(description.attrib)


def boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """The top boxes of an mp4 (ISO/IEC 14496-12, 4.2), to the last byte."""
    found, at = [], 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        assert 8 <= size <= len(content) - at
        found.append((kind, content[at + 8 : at + size]))
        at += size
    return found


def test_a_video_says_so_and_loses_nothing(tmp_path: Path) -> None:
    frames = torch.rand(3, 32, 48, 3)
    for name, tag in (("tagged.mp4", True), ("plain.mp4", False)):
        write_mp4(tmp_path / name, frames, metadata={"prompt": "a"}, ai_tag=tag)
    tagged, plain = (boxes((tmp_path / name).read_bytes()) for name in ("tagged.mp4", "plain.mp4"))
    (packet,) = [content[16:] for kind, content in tagged if kind == b"uuid" and content[:16] == XMP_BOX]
    assert read_origin(packet)[f"{IPTC}DigitalSourceType"] == TRAINED
    assert read_origin(packet)[f"{IPTC}AISystemUsed"] == "EchoVideo"
    assert any(TRAINED.encode() in content for kind, content in tagged if kind == b"moov")
    assert [kind for kind, _ in plain] == [kind for kind, _ in tagged[:-1]]
    assert TRAINED.encode() not in (tmp_path / "plain.mp4").read_bytes()
    for name in ("tagged.mp4", "plain.mp4"):
        seen, _, metadata = read_mp4(tmp_path / name)
        assert len(seen) == 3
        assert metadata == {"prompt": "a"}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("source_type", [TRAINED, DRAWN])
def test_a_picture_says_so(tmp_path: Path, suffix: str, source_type: str) -> None:
    path = tmp_path / f"picture{suffix}"
    save_picture(Image.new("RGB", (32, 32)), path, source_type)
    with Image.open(path) as picture:
        packet = picture.info.get("XML:com.adobe.xmp") or picture.info["xmp"]
        packet = packet.encode() if isinstance(packet, str) else packet
        plain = picture.info.get("Description") or picture.info.get("comment") or b""
    assert read_origin(packet)[f"{IPTC}DigitalSourceType"] == source_type
    assert (f"{IPTC}AISystemUsed" in read_origin(packet)) == (source_type == TRAINED)
    plain = plain.decode() if isinstance(plain, bytes) else plain
    assert suffix == ".webp" or (source_type in plain and __version__ in plain)


def test_a_picture_that_no_model_made_says_nothing(tmp_path: Path) -> None:
    save_picture(Image.new("RGB", (32, 32)), tmp_path / "chart.png")
    assert b"digitalsourcetype" not in (tmp_path / "chart.png").read_bytes()


def test_exiftool_reads_it_and_finds_no_fault(tmp_path: Path) -> None:
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed")
    write_mp4(tmp_path / "a.mp4", torch.rand(3, 32, 48, 3))
    for suffix in (".png", ".jpg", ".webp"):
        save_picture(Image.new("RGB", (32, 32)), tmp_path / f"a{suffix}", TRAINED)
    said = subprocess.run(
        [program, "-json", "-a", "-validate", "-XMP:all", str(tmp_path)],
        capture_output=True,
        check=True,
        encoding="utf-8",
    ).stdout
    assert [file["DigitalSourceType"] for file in json.loads(said)] == [TRAINED] * 4
    assert [file["Validate"] for file in json.loads(said)] == ["OK"] * 4
    assert f"ComfyUI-EchoVideo {__version__}" in said
