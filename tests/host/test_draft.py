"""taecvx: a VAE for drafts and the preview of each step, against TAEHV as newer hosts bring it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from echovideo_model.tiny.weights import draw_state
from echovideo_model.vae.draft import DraftDecoder
from testbed.graphs import node, out, plain, with_person
from testbed.harness import Host
from testbed.inside import run_inside

NAME = "taecvx.safetensors"

# The host's own TAEHV without any scale, run in the host's folder: [1, 16, t, h, w] -> frames in 0..1.
SCRIPT = """
weights, latents, frames = arguments
import torch
from safetensors.torch import load_file, save_file
try:
    from comfy.taesd.taehv import TAEHV
except ImportError:
    sys.exit(LACKS)
network = TAEHV(latent_channels=16, latent_format=None)
missing, unexpected = network.load_state_dict(load_file(weights), strict=False)
assert not unexpected and all(name.startswith("encoder.") for name in missing)
with torch.no_grad():
    decoded = {name: network.decode(x).clamp(0, 1).contiguous() for name, x in load_file(latents).items()}
save_file(decoded, frames)
"""


@pytest.fixture(scope="module")
def decoder() -> DraftDecoder:
    with torch.device("meta"):
        network = DraftDecoder()
    state = draw_state(network)
    state["decoder.22.bias"] += 0.5  # the middle of what a picture shows
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def taesd(folder: Path, base: Path, decoder: DraftDecoder) -> Iterator[Host]:
    """A host whose user asked for TAESD previews and has taecvx."""
    place = base / "models" / "vae_approx" / NAME
    place.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        decoder.state_dict() | {"encoder.0.bias": torch.zeros(64)}, place
    )  # as the published file, with both
    sister = base / "models" / "vae" / "taehv.safetensors"
    save_file(decoder.state_dict(), sister)
    with Host.start(folder, base, "--preview-method", "taesd") as running:
        yield running
    place.unlink()
    sister.unlink()


def draft(name: str = NAME) -> dict[str, object]:
    return {
        "draft": node("EchoVideoLoadVAE", vae_name=name),
        "frames": node("VAEDecode", samples=out("latents"), vae=out("draft")),
        "images": node("SaveImage", images=out("frames"), filename_prefix="draft"),
    }


def test_frames_are_the_host_s_own_taehv_s(folder: Path, tmp_path: Path, decoder: DraftDecoder) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = {f"{n}": torch.randn(1, 16, n, 4, 6, generator=generator) * 1.4 for n in (1, 2, 3, 4)}
    files = [tmp_path / f"{name}.safetensors" for name in ("weights", "latents", "frames")]
    save_file(decoder.state_dict(), files[0])
    save_file(latents, files[1])
    run_inside(folder, SCRIPT, *files, what="TAEHV")
    for name, frames in load_file(files[2]).items():
        ours = (decoder.decode(latents[name]) + 1) / 2
        assert frames.std() > 0.05  # something is in the picture
        torch.testing.assert_close(ours, frames, rtol=0, atol=1e-4)


def pixels(file: Path) -> Tensor:
    with Image.open(file) as image:
        return torch.tensor(list(image.convert("RGB").tobytes())).view(image.height, image.width, 3) / 255


def test_it_decodes_drafts_of_every_length_and_shows_every_step(taesd: Host, decoder: DraftDecoder) -> None:
    run = taesd.run(plain(steps=3) | draft())
    assert run.status == "success", run.message
    latents = run.latents()
    expected = (decoder.decode(latents) + 1) / 2
    files = run.files("images")
    assert len(files) == expected.shape[2] == 4 * (latents.shape[2] - 1) + 1
    for number, file in enumerate(files):
        found = pixels(file)
        assert (
            found - expected[0, :, number].movedim(0, -1)
        ).abs().mean() < 0.02  # the host decodes in 16 bits
    assert run.previews >= 3
    with Image.open(files[0]) as first, Image.open(io.BytesIO(run.preview)) as shown:
        wanted = first.convert("RGB").resize(shown.size)
        differences = [
            abs(a - b) for a, b in zip(wanted.tobytes(), shown.convert("RGB").tobytes(), strict=True)
        ]
        assert sum(differences) / len(differences) < 12  # of 255: JPEG's, of a picture of noise


def test_tiled_decoding_has_the_same_frames(taesd: Host) -> None:
    tiled = {
        "frames": taesd.node(
            "VAEDecodeTiled", samples=out("latents"), vae=out("draft"), tile_size=512, overlap=64
        )
    }
    run = taesd.run(plain(steps=1) | draft() | tiled)
    assert run.status == "success", run.message
    assert len(run.files("images")) == 9


def test_it_is_refused_where_something_is_to_be_encoded(taesd: Host) -> None:
    words = "connect the CogVideoX VAE here and keep taecvx for VAE Decode: taecvx cannot encode"
    run = taesd.run(with_person(steps=1) | {"vae": draft()["draft"]})
    assert words in run.message
    encoded = {
        "photo": node("LoadImage", image="portrait.png"),
        "draft": draft()["draft"],
        "encoded": node("VAEEncode", pixels=out("photo"), vae=out("draft")),
        "kept": node("SaveLatent", samples=out("encoded"), filename_prefix="encoded"),
    }
    assert words in taesd.run(encoded).message


def test_a_sister_for_another_model_is_refused_by_name(taesd: Host) -> None:
    run = taesd.run(plain(steps=1) | draft("taehv.safetensors"))
    assert "taehv.safetensors is a TAEHV decoder, and only taecvx reads" in run.message
