"""LoRA files of every trainer's spelling, judged by peft and by what each spelling's own writer produces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from echovideo_model.errors import WrongModelFile
from echovideo_model.weights.adapters import MAGNITUDE
from echovideo_model.weights.lora import LoraSettings, translate_lora

PATH, OTHER = "transformer_blocks.0.attn1.to_q", "transformer_blocks.1.attn1.to_out.0"
SHAPES = {
    f"{PATH}.weight": (8, 6),
    f"{PATH}.bias": (8,),
    f"{OTHER}.weight": (8, 8),
    f"{OTHER}.bias": (8,),
    "patch_embed.proj.weight": (8, 32, 2, 2),
    "patch_embed.proj.bias": (8,),
}
DOWN, UP = torch.randn(2, 6), torch.randn(8, 2)
FLAT = PATH.replace(".", "_")


def test_every_spelling_of_a_pair_reads_the_same() -> None:
    spellings = [
        (f"{prefix}{PATH}{down}", f"{prefix}{PATH}{up}")
        for prefix in (
            "",
            "transformer.",
            "diffusion_model.",
            "model.diffusion_model.",
            "base_model.model.",
            "module.",
            "base_model.model.transformer.",
            "base_model.model._orig_mod.",
            "_fsdp_wrapped_module.",
            "pipe.dit.",
            "net.",
        )
        for down, up in (
            (".lora_A.weight", ".lora_B.weight"),
            (".lora_A", ".lora_B"),
            (".lora_A.default.weight", ".lora_B.default.weight"),
            (".lora_A.my_person.weight", ".lora_B.my_person.weight"),
            (".lora_down.weight", ".lora_up.weight"),
            (".lora.down.weight", ".lora.up.weight"),
            ("_lora.down.weight", "_lora.up.weight"),
            (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
            (".lora_layer.down.weight", ".lora_layer.up.weight"),
            (".lora_a.weight", ".lora_b.weight"),
        )
    ]
    spellings += [
        (f"{prefix}{FLAT}.lora_down.weight", f"{prefix}{FLAT}.lora_up.weight")
        for prefix in (
            "",
            "lora_",
            "lora_unet_",
            "lora_unet__",
            "lora_unet_transformer_",
            "lora_dit_",
            "lycoris_",
            "lora_transformer_",
        )
    ]
    spellings.append(
        (
            "transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
            "transformer_blocks.0.attn1.processor.to_q_lora.up.weight",
        )
    )
    for down, up in spellings:
        found = translate_lora({down: DOWN, up: UP}, SHAPES)
        assert list(found) == [PATH], down
        assert found[PATH].keys() == {"lora_down.weight", "lora_up.weight"}
        assert torch.equal(found[PATH]["lora_down.weight"], DOWN)
        assert torch.equal(found[PATH]["lora_up.weight"], UP)


@pytest.mark.parametrize(
    "layer", ["transformer_blocks.1.attn1.to_out.0", "transformer_blocks.1.attn1.processor.to_out"]
)
def test_the_output_layer_has_two_names(layer: str) -> None:
    state = {f"{layer}_lora.down.weight": torch.zeros(2, 8), f"{layer}_lora.up.weight": torch.zeros(8, 2)}
    assert list(translate_lora(state, SHAPES)) == [OTHER]


def pair(prefix: str = "transformer.", rank: int = 2, **extra: Tensor) -> dict[str, Tensor]:
    state = {
        f"{prefix}{PATH}.lora_A.weight": torch.randn(rank, 6),
        f"{prefix}{PATH}.lora_B.weight": torch.randn(8, rank),
    }
    return state | {f"{prefix}{PATH}.{part.replace('__', '.')}": tensor for part, tensor in extra.items()}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "not a LoRA"),
        ({"model.diffusion_model.transformer_blocks.0.attn1.to_q.weight": torch.zeros(8, 6)}, "a whole model"),
        ({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(2, 2)}, "text encoder only"),
        ({"blocks.0.q.lora_A.weight": DOWN, "blocks.0.q.lora_B.weight": UP}, "none of the 1 layers"),
        (pair() | {"transformer.blocks.0.q.lora_A.weight": DOWN}, "act only in part"),
        (pair() | {f"transformer.{PATH}.lora_C.weight": DOWN}, "lora_C"),
        (pair() | {f"transformer.{PATH}.weight": torch.zeros(8, 6)}, f"transformer.{PATH}.weight"),
        ({f"{PATH}.lora_A.weight": DOWN}, "lacks lora_up.weight"),
        ({f"{PATH}.lora_A.weight": torch.zeros(2, 9), f"{PATH}.lora_B.weight": UP}, "8 x 9, but EchoVideo"),
        ({f"{PATH}.lora_A.weight": DOWN, f"{PATH}.lora_B.weight": torch.zeros(8, 3)}, "another size"),
        (pair() | {f"transformer.{PATH}.lora_A.two.weight": DOWN}, "two adapters"),
        (pair(alpha=torch.tensor(float("nan"))), "NaN"),
        ({f"{PATH}.lora_A.weight": DOWN / 0, f"{PATH}.lora_B.weight": UP}, "infinity"),
        (pair(diff_b=torch.zeros(6)), "diff_b of shape"),
        ({f"{PATH}.lokr_w1": torch.zeros(2, 2), f"{PATH}.lokr_w2": torch.zeros(4, 4)}, "8 x 8"),
        ({f"{PATH}.hada_w1_a": torch.zeros(8, 2)}, "lacks hada_w1_b"),
        ({f"{PATH}.oft_blocks": torch.zeros(3, 4, 4)}, "12 x 6"),
        ({f"{PATH}.hada_w2_b": torch.zeros(2, 6)}, "lacks hada_w1_a"),
        ({f"{PATH}.lokr_w2": torch.zeros(4, 3)}, "lacks lokr_w1"),
        ({f"{PATH}.lokr_t2": torch.zeros(4, 3)}, "lacks lokr_w2_a"),
        ({f"{PATH}.b1.weight": torch.zeros(4, 3)}, "lacks a1.weight"),
        ({f"{PATH}.alpha": torch.ones(())}, "nothing that changes it"),
        ({f"{PATH}.dora_scale": torch.ones(8, 1)}, "nothing that changes it"),
        (pair(diff=torch.ones(8, 6)), "both lora_down.weight and diff"),
        (pair(dora_scale=torch.ones(6, 1)), "dora_scale of shape"),
        (pair(dora_scale=torch.ones(8)), "dora_scale of shape"),
        (pair(lora_magnitude_vector=torch.ones(6)), "6 numbers for the 8 rows"),
        (pair(rank=0), "another size"),
        (pair(alpha=torch.ones(2)), "do not form an adapter"),
        ({f"{PATH}.lora_A.weight": torch.zeros(6), f"{PATH}.lora_B.weight": torch.zeros(8)}, "do not form an adapter"),
        ({f"{PATH}.oft_blocks": torch.zeros(3)}, "do not form an adapter"),
        ({"blocks.3.transformer_blocks.0.attn1.to_q.lora_A.weight": DOWN}, "none of the 1 layers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(state: dict[str, Tensor], words: str) -> None:
    with pytest.raises(WrongModelFile, match=words.replace(".", r"\.")):
        translate_lora(state, SHAPES, name="mine.safetensors")


def test_adapters_of_lycoris_and_changed_weights_are_passed_on() -> None:
    parts = {
        "lokr_w1": torch.ones(2, 3), "lokr_w2": torch.ones(4, 2), "alpha": torch.tensor(4.0), "diff_b": torch.ones(8),
    }  # fmt: skip
    found = translate_lora({f"lycoris_{FLAT}.{part}": tensor for part, tensor in parts.items()}, SHAPES)
    assert found[PATH].keys() == parts.keys()


def test_a_16_channel_patch_embedding_acts_on_the_video_alone() -> None:
    down, up = torch.randn(2, 16, 2, 2), torch.randn(8, 2, 1, 1)
    found = translate_lora(
        {"patch_embed.proj.lora_A.weight": down, "patch_embed.proj.lora_B.weight": up}, SHAPES
    )
    filled = found["patch_embed.proj"]["lora_down.weight"]
    assert filled.shape == (2, 32, 2, 2)
    assert torch.equal(filled[:, :16], down)
    assert not filled[:, 16:].any()


@pytest.mark.parametrize(
    ("settings", "options", "scale"),
    [
        ({"lora_alpha": 8, "r": 4}, {}, 2.0),
        ({"transformer.lora_alpha": 2, "transformer.r": 4}, {}, 0.5),
        ({"lora_alpha": 8, "r": 4, "use_rslora": True}, {"use_rslora": True}, 4.0),
        ({"lora_alpha": 8, "r": 4, "alpha_pattern": {"to_q": 1}}, {"alpha_pattern": {"to_q": 1}}, 0.25),
        (
            {"lora_alpha": 8, "r": 4, "alpha_pattern": {"transformer.transformer_blocks.0.attn1.to_q": 1}},
            {"alpha_pattern": {"to_q": 1}},
            0.25,
        ),
    ],
)
def test_the_files_own_alpha_is_the_one_that_peft_uses(
    settings: dict[str, object], options: dict[str, object], scale: float, tmp_path: Path
) -> None:
    text = json.dumps(settings)
    (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8")
    for read in (
        LoraSettings.read({"lora_adapter_metadata": text}),
        LoraSettings.read(None, tmp_path / "adapter_model.safetensors"),
    ):
        alpha = translate_lora(pair(rank=4), SHAPES, read)[PATH]["alpha"]
        assert alpha / 4 == scale
    peft = pytest.importorskip("peft")
    layer = torch.nn.ModuleDict({"to_q": torch.nn.Linear(6, 8)})
    config = peft.LoraConfig(r=4, lora_alpha=int(find_alpha(settings)), target_modules=["to_q"], **options)
    assert peft.get_peft_model(layer, config).base_model.model["to_q"].scaling["default"] == scale


def find_alpha(settings: dict[str, object]) -> float:
    return next(float(str(value)) for key, value in settings.items() if key.endswith("lora_alpha"))


def test_an_alpha_in_the_file_goes_before_its_settings() -> None:
    state = {
        key.replace(".lora_A", ".lora_down").replace(".lora_B", ".lora_up"): t for key, t in pair().items()
    }
    found = translate_lora(
        state | {f"transformer.{PATH}.alpha": torch.tensor(3.0)}, SHAPES, LoraSettings(alpha=9)
    )
    assert found[PATH]["alpha"] == 3


def test_settings_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(WrongModelFile, match="adapter_config"):
        LoraSettings.read({"lora_adapter_metadata": "[1]"})


def test_biases_and_magnitudes_of_peft_are_kept() -> None:
    """lora_B.bias adds its scaled self to the layer's output; a magnitude makes it DoRA."""
    state = pair(lora_B__bias=torch.ones(8), lora_magnitude_vector__weight=torch.full((8,), 2.0))
    parts = translate_lora(state, SHAPES, LoraSettings(alpha=1))[PATH]
    assert torch.equal(parts["diff_b"], torch.full((8,), 0.5))
    assert torch.equal(parts[MAGNITUDE], torch.full((8,), 2.0))
    assert parts.keys() == {"lora_down.weight", "lora_up.weight", "alpha", "diff_b", MAGNITUDE}
