"""CLIPScore next to transformers' and torchmetrics' own, with a small seeded CLIP."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echovideo_model.errors import InvalidRequest, ModelFileMissing, WrongModelFile
from echovideo_model.metrics.text import ClipScorer, clip_pixels

PROMPT = "a woman waves"


def write_clip(folder: Path) -> Path:
    """A small CLIP with seeded weights and a tokenizer that knows letters."""
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    letters = [*map(chr, range(33, 127)), *(f"{chr(code)}</w>" for code in range(33, 127))]
    vocabulary = {
        token: number for number, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])
    }
    text = {"vocab_size": len(vocabulary), "bos_token_id": len(letters), "eos_token_id": len(letters) + 1}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(text_config=tower | text, vision_config=tower | {"patch_size": 32}, projection_dim=16)
    )
    model.logit_scale.data.fill_(np.log(100))
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


def noise(count: int, height: int = 240, width: int = 320) -> list[np.ndarray]:
    coarse = np.random.default_rng(0).integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return list(coarse.repeat(8, 1).repeat(8, 2))


def slow_processor() -> object:
    """transformers' own preprocessing with Pillow, under the name it has in this release."""
    import transformers

    kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    return kind()


@settings(max_examples=15, deadline=None)
@given(st.integers(40, 400), st.integers(40, 400))
def test_pixels_are_those_of_transformers_at_any_size(height: int, width: int) -> None:
    frame = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = slow_processor()(frame, return_tensors="pt")["pixel_values"]
    assert (clip_pixels([frame]) - expected).abs().max() < 1e-5


def test_the_score_is_the_logits_of_16_frames_with_red_and_blue_exchanged(clip: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    frames = noise(49)
    found = ClipScorer.load(clip).score(frames, PROMPT)
    numbers = [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45]  # int(i 49 / 16)
    network, tokenizer = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)

    def logits(turned: list[np.ndarray]) -> torch.Tensor:
        pixels = slow_processor()(turned, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            return network(**tokenizer([PROMPT], return_tensors="pt"), pixel_values=pixels).logits_per_image[
                :, 0
            ]

    assert found == pytest.approx(
        logits([frames[number][..., ::-1] for number in numbers]).tolist(), abs=1e-4
    )
    assert np.mean(found) != pytest.approx(
        float(logits([frames[number] for number in numbers]).mean()), abs=1e-3
    )


def test_its_mean_is_torchmetrics_clipscore_of_the_exchanged_frames(clip: Path) -> None:
    functional = pytest.importorskip("torchmetrics.functional.multimodal", reason="needs torchmetrics")
    from transformers import CLIPModel, CLIPProcessor, CLIPTokenizer

    class Model(CLIPModel):
        """As torchmetrics knows it: transformers 5 returns more than the embedding."""

        def get_image_features(self, *args: object, **options: object) -> torch.Tensor:
            output = super().get_image_features(*args, **options)
            return getattr(output, "pooler_output", output)

        def get_text_features(self, *args: object, **options: object) -> torch.Tensor:
            output = super().get_text_features(*args, **options)
            return getattr(output, "pooler_output", output)

    frames = noise(16)
    processor = CLIPProcessor(slow_processor(), CLIPTokenizer.from_pretrained(clip))
    pictures = [torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1) for frame in frames]
    expected = functional.clip_score(
        pictures, [PROMPT] * 16, lambda: (Model.from_pretrained(clip).eval(), processor)
    )
    found = np.mean(ClipScorer.load(clip).score(frames, PROMPT))
    assert found == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("count", [1, 2, 15, 17])
def test_any_number_of_frames_gives_16_scores(clip: Path, count: int) -> None:
    assert len(ClipScorer.load(clip).score(noise(count), PROMPT)) == 16


def test_a_long_prompt_is_cut_and_an_empty_one_refused(clip: Path) -> None:
    scorer = ClipScorer.load(clip)
    assert scorer.score(noise(1), "a" * 300) == scorer.score(noise(1), "a" * 76)
    for empty in ("", " \n"):
        with pytest.raises(InvalidRequest, match="the prompt is empty"):
            scorer.score(noise(1), empty)


def test_a_folder_that_lacks_something_names_it(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileMissing, match=r"config\.json is not in .*--only evaluation"):
        ClipScorer.load(tmp_path)
    write_clip(tmp_path)
    (tmp_path / "vocab.json").rename(tmp_path / "other.json")
    (tmp_path / "tokenizer.json").unlink(missing_ok=True)
    with pytest.raises(ModelFileMissing, match=r"tokenizer\.json"):
        ClipScorer.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WrongModelFile, match="cannot be read as a CLIPModel"):
        ClipScorer.load(tmp_path)


def test_parameters_that_a_file_lacks_are_not_drawn_at_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = write_clip(tmp_path) / "model.safetensors"
    state = load_file(file)
    del state["visual_projection.weight"]
    save_file(state, file, {"format": "pt"})
    with pytest.raises(WrongModelFile, match=r"visual_projection\.weight"):
        ClipScorer.load(tmp_path)
