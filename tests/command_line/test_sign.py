"""`echovideo sign`: what carries EchoVideo's label is signed, wherever it was saved; anything else is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from echovideo_model.errors import InvalidRequest
from echovideo_model.picture import save_picture
from echovideo_model.provenance import DRAWN, MODEL, SOFTWARE, TRAINED
from echovideo_model.video import write_mp4
from tests.command_line.command import Run

pytest.importorskip("c2pa", reason='needs c2pa-python: pip install ".[credentials]"')
from tests.test_credentials import action, read_credential, write_signer

FRAMES = np.zeros((2, 32, 32, 3), np.uint8)
HOSTS_TAGS = {"digital_source_type": TRAINED, "made_with": f"{MODEL}, {SOFTWARE}"}  # nodes/host/provenance.py


@pytest.fixture
def signer(workplace: Path) -> Path:
    return write_signer(workplace / "signer.pem")


def save_as_the_host_does(path: Path) -> Path:
    """As ComfyUI's Save Video and Save Image keep the tags."""
    if path.suffix == ".png":
        chunks = PngInfo()
        for name, value in HOSTS_TAGS.items():
            chunks.add_text(name, json.dumps(value))
        Image.fromarray(FRAMES[0]).save(path, pnginfo=chunks)
        return path
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        for name, value in HOSTS_TAGS.items():
            container.metadata[name] = json.dumps(value)
        stream = container.add_stream("h264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for pixels in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return path


def test_every_labelled_file_is_signed_with_what_its_label_says(
    echovideo: Run, workplace: Path, signer: Path
) -> None:
    write_mp4("ours.mp4", FRAMES)
    save_picture(Image.fromarray(FRAMES[0]), Path("drawn.png"), DRAWN)
    for name in ("theirs.mp4", "theirs.png"):
        save_as_the_host_does(Path(name))
    names = ["ours.mp4", "drawn.png", "theirs.mp4", "theirs.png"]
    done = echovideo("sign", *names, "--credential", signer)
    assert (done.status, done.out.split()) == (0, names)
    for name in names:
        verdict, manifest = read_credential(workplace / name)
        assert verdict == "Valid"
        assert action(manifest)["digitalSourceType"] == (DRAWN if name == "drawn.png" else TRAINED)


def test_what_cannot_be_signed_is_refused_and_nothing_is(
    echovideo: Run, workplace: Path, signer: Path
) -> None:
    for name in ("good.mp4", "signed.mp4"):
        write_mp4(name, FRAMES)
    write_mp4("plain.mp4", FRAMES, ai_tag=False)
    shutil.copy("good.mp4", "video.webm")
    assert echovideo("sign", "signed.mp4", "--credential", signer).status == 0
    before = Path("good.mp4").read_bytes()
    for name, words in {
        "signed.mp4": "is already signed",
        "plain.mp4": "does not say that EchoVideo made it",
        "video.webm": "cannot be signed: give a file ending in .mp4",
        "gone.mp4": "gone.mp4 was not found",
    }.items():
        done = echovideo("sign", "good.mp4", name, "--credential", signer)
        assert (done.status, done.error) == (2, InvalidRequest)
        assert words in done.err
    assert Path("good.mp4").read_bytes() == before
