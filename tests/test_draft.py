"""The decoder for drafts: the published names, and frames that stand where the large VAE's stand.

Its numbers are compared with the host's own TAEHV in tests/host/test_draft.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from echovideo_model.errors import WrongModelFile
from echovideo_model.tiny.weights import draw_state
from echovideo_model.vae.draft import DraftDecoder, is_draft
from echovideo_model.weights.loading import inspect, load_vae


@pytest.fixture(scope="module")
def decoder() -> DraftDecoder:
    with torch.device("meta"):
        network = DraftDecoder()
    network.load_state_dict(draw_state(network), assign=True)
    return network.requires_grad_(False)


def test_names_and_number_of_parameters_are_the_published_file_s(decoder: DraftDecoder) -> None:
    state = decoder.state_dict()
    assert len(state) == 64
    assert sum(tensor.numel() for tensor in state.values()) == 9_844_611
    shapes = {
        "decoder.1.weight": (256, 16, 3, 3),
        "decoder.3.conv.0.weight": (256, 512, 3, 3),
        "decoder.5.conv.4.bias": (256,),
        "decoder.7.conv.weight": (256, 256, 1, 1),
        "decoder.8.weight": (128, 256, 3, 3),
        "decoder.13.conv.weight": (256, 128, 1, 1),
        "decoder.19.conv.weight": (128, 64, 1, 1),
        "decoder.22.weight": (3, 64, 3, 3),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert is_draft(state)


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_frames_are_4n_minus_3_in_the_range_of_pixels(decoder: DraftDecoder, frames: int) -> None:
    latents = torch.randn(2, 16, frames, 3, 5, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[int, int]] = []
    pixels = decoder.decode(latents, lambda done, total: seen.append((done, total)))
    assert pixels.shape == (2, 3, 4 * (frames - 1) + 1, 24, 40)
    assert pixels.abs().amax() <= 1
    assert seen == [(n, frames) for n in range(1, frames + 1)]
    alone = torch.cat([decoder.decode(one[None]) for one in latents])
    torch.testing.assert_close(pixels, alone, rtol=0, atol=1e-5)


def test_a_frame_depends_on_what_came_before_and_on_nothing_after(decoder: DraftDecoder) -> None:
    latents = torch.randn(1, 16, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    whole = decoder.decode(latents)
    torch.testing.assert_close(whole[:, :, :5], decoder.decode(latents[:, :, :2]), rtol=0, atol=1e-5)
    other = latents.clone()
    other[:, :, 0] = 0
    assert not torch.equal(decoder.decode(other)[:, :, 1:5], whole[:, :, 1:5])


def test_such_a_file_is_known_by_name_and_is_no_vae(decoder: DraftDecoder, tmp_path: Path) -> None:
    save_file(decoder.state_dict(), tmp_path / "taecvx.safetensors")
    assert inspect(tmp_path / "taecvx.safetensors").family == "TAEHV decoder for previews"
    with pytest.raises(WrongModelFile, match="is not the CogVideoX VAE but a TAEHV decoder for previews"):
        load_vae(tmp_path / "taecvx.safetensors")
