"""SigLIP sees what it sees in transformers and in the recorded run, whichever way its weights are stored."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import SiglipConfig, SiglipModel

from echovideo_model.errors import ModelFileMissing, WrongModelFile
from echovideo_model.face.photo import load_photo
from echovideo_model.face.siglip import SiglipEncoder, siglip_pixels
from tests.faces import PHOTOS, card, golden, siglip_state

try:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
except ImportError:  # before transformers 5 there is one, and it is this one
    from transformers import SiglipImageProcessor as SiglipImageProcessorPil


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip_visual_encoder")
    save_file(state(), folder / "model.safetensors")
    return folder


@lru_cache
def state() -> dict[str, Tensor]:
    return siglip_state(seed=int(golden("pipeline")[1]["seed"]))


def changed(**entries: Tensor) -> dict[str, Tensor]:
    return {
        **state(),
        **{"vision_model." + name.replace("__", "."): entry for name, entry in entries.items()},
    }


def test_the_recorded_pixels_are_reproduced() -> None:
    recorded, _ = golden("preprocess")
    pixels = siglip_pixels(recorded["aligned_512"].numpy())
    torch.testing.assert_close(pixels, recorded["siglip_pixels"], atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", ["t1.jpg", "Tom_Hanks_54745.png"])
def test_real_photos_are_prepared_as_transformers_prepares_them(name: str) -> None:
    photo = load_photo(PHOTOS / name)  # of any shape: the whole picture is squeezed, nothing is cropped
    processor = SiglipImageProcessorPil(size={"height": 224, "width": 224})
    expected = processor(Image.fromarray(photo), return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(siglip_pixels(photo), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("key", "black"), [("siglip_tokens", False), ("siglip_tokens_negative", True)])
def test_the_recorded_tokens_are_reproduced(key: str, black: bool, folder: Path) -> None:
    recorded, _ = golden("pipeline")
    encoder, picture = SiglipEncoder.load(folder), recorded["image"].numpy()
    tokens = encoder.null_tokens(picture) if black else encoder.tokens(picture)
    assert tokens.dtype == torch.float32
    assert (tokens - recorded[key][0]).abs().max() <= 1e-4 * recorded[key].abs().max()


def test_null_tokens_do_not_depend_on_the_picture(folder: Path) -> None:
    encoder = SiglipEncoder.load(folder)
    torch.testing.assert_close(encoder.null_tokens(card(512, 512)), encoder.null_tokens(card(100, 300)))


def test_the_whole_model_saved_by_transformers_loads_and_sees_the_same(tmp_path: Path) -> None:
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {"hidden_size": 768, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 12}
    with torch.random.fork_rng():
        model = SiglipModel(SiglipConfig(text_config={**text, "vocab_size": 50}, vision_config=vision)).eval()
    model.save_pretrained(tmp_path)
    picture = card(512, 512)
    with torch.no_grad():
        expected = model.vision_model(siglip_pixels(picture)[None]).last_hidden_state[0]
    torch.testing.assert_close(SiglipEncoder.load(tmp_path).tokens(picture), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_image_half_alone_loads_unprefixed_and_in_half_precision(
    dtype: torch.dtype, folder: Path, tmp_path: Path
) -> None:
    half = {name.removeprefix("vision_model."): entry.to(dtype) for name, entry in state().items()}
    save_file(half, tmp_path / "siglip_half.safetensors")
    whole, alone = SiglipEncoder.load(folder), SiglipEncoder.load(tmp_path / "siglip_half.safetensors")
    tokens = alone.tokens(card(64, 64))
    assert tokens.dtype == torch.float32
    assert (tokens - whole.tokens(card(64, 64))).abs().mean() < 0.02
    torch.testing.assert_close(
        SiglipEncoder.load(tmp_path).tokens(card(64, 64)), tokens
    )  # any name in a folder


def test_loading_draws_no_random_numbers_and_changes_no_defaults(folder: Path) -> None:
    before = torch.get_rng_state(), torch.get_default_dtype()
    encoder = SiglipEncoder.load(folder)
    encoder.tokens(np.zeros((32, 32, 3), np.uint8))
    np.testing.assert_array_equal(before[0], torch.get_rng_state())
    assert before[1] == torch.get_default_dtype()


def test_a_missing_file_names_the_folder_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelFileMissing, match=rf"{tmp_path.name}.*echovideo models download"):
        SiglipEncoder.load(tmp_path)


def test_a_truncated_file_is_refused(folder: Path, tmp_path: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    for size in (0, 7, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "model.safetensors").write_bytes(content[:size])
        with pytest.raises(WrongModelFile, match="truncated"):
            SiglipEncoder.load(tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"text_model.embeddings.token_embedding.weight": torch.zeros(4, 4)},
            "not the SigLIP vision encoder but of an unknown family",
        ),
        (
            {k: v for k, v in siglip_state().items() if "q_proj" not in k},
            r"missing \(first: .*self_attn\.q_proj",
        ),
        (
            changed(embeddings__position_embedding__weight=torch.zeros(729, 1152)),
            r"\(729, 1152\), not \(196, 768\)",
        ),
        (changed(encoder__layers__0__mlp__fc2__bias=torch.zeros(5)), r"fc2\.bias \[5\] instead of \[768\]"),
        (
            changed(post_layernorm__weight=torch.full((768,), torch.inf)),
            r"NaN or infinity in .*post_layernorm\.weight",
        ),
    ],
    ids=["another model", "a hole", "a larger sibling", "a shape", "infinity"],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(
    entries: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    save_file(entries, tmp_path / "model.safetensors")
    with pytest.raises(WrongModelFile, match=message):
        SiglipEncoder.load(tmp_path)
