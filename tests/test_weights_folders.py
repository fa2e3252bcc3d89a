"""The table names every file that the reference reads, with its publisher's facts; `require` finds what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from echovideo_model.errors import InvalidRequest, ModelFileMissing
from echovideo_model.weights.folders import find_cache_folder, find_default_folder, require
from echovideo_model.weights.released import GROUPS, NEEDED, OPTIONAL, TABLE, select

# --- the table -----------------------------------------------------------------------------------------------------


def test_the_table_covers_the_released_layout() -> None:
    assert {file.path for file in TABLE} >= {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
        "transformer/diffusion_pytorch_model.safetensors.index.json",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors",
        "tokenizer/spiece.model",
        "vae/diffusion_pytorch_model.safetensors",
        "clip_visual_encoder/model.safetensors",
        "clip_visual_encoder/preprocessor_config.json",
        "face_encoder/models/antelopev2/scrfd_10g_bnkps.onnx",
        "face_encoder/models/antelopev2/glintr100.onnx",
        "face_encoder/parsing_bisenet.pth",
    }


def test_every_row_is_sound() -> None:
    assert len({file.path for file in TABLE}) == len(TABLE)
    for file in TABLE:
        assert file.group in GROUPS
        assert not Path(file.path).is_absolute()
        assert ".." not in Path(file.path).parts
        assert file.size is None or file.size > 0
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        if file.repository.startswith("https://"):
            assert not file.revision
        else:
            assert re.fullmatch(r"[\w-]+/[\w.-]+", file.repository)
            assert re.fullmatch("main|[0-9a-f]{40}", file.revision)
        assert Path(file.source).name == Path(file.path).name
        assert file.licence.url.startswith("https://")


def test_a_file_whose_revision_may_move_is_known_by_its_hash_or_not_at_all() -> None:
    for file in TABLE:
        assert re.fullmatch("[0-9a-f]{40}", file.revision) or file.size is None or file.sha256 is not None


def test_commercial_use_is_forbidden_by_echovideo_and_the_face_models_alone() -> None:
    restricted = {file.repository for file in NEEDED if file.licence.forbids_commercial_use}
    assert restricted == {"bytedance-research/EchoVideo", "DIAMONIK7777/antelopev2"}


def size_of(*names: str) -> int:
    sizes = {file.path: file.size for file in TABLE}
    return sum(sizes[name] or 0 for name in names)


HEADER = 100_000  # a .safetensors begins with the names and shapes of its tensors


def test_the_text_encoder_has_the_size_of_t5_xxl_in_16_bits() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        d_model=4096,
        d_ff=10240,
        num_heads=64,
        num_layers=24,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
    )
    with torch.device("meta"):
        model = transformers.T5EncoderModel(config)
    weights = 2 * sum(parameter.numel() for parameter in model.parameters())
    shards = [f"text_encoder/model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert weights < size_of(*shards) < weights + HEADER


def test_the_vae_has_the_size_of_the_cogvideox_vae_in_32_bits() -> None:
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    blocks = {
        "down_block_types": ("CogVideoXDownBlock3D",) * 4,
        "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    }
    with torch.device("meta"):
        model = diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(128, 256, 256, 512), latent_channels=16, layers_per_block=3, **blocks
        )
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert weights < size_of("vae/diffusion_pytorch_model.safetensors") < weights + HEADER


def test_siglip_has_the_size_of_its_base_model_in_32_bits() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.SiglipModel(transformers.SiglipConfig())
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert weights < size_of("clip_visual_encoder/model.safetensors") < weights + HEADER


# --- choosing ------------------------------------------------------------------------------------------------------


def test_all_groups_but_the_reference_s_own_are_chosen_by_default() -> None:
    assert {file.group for file in select()} == set(GROUPS) - set(OPTIONAL)
    assert {file.group for file in select(["reference", "vae"])} == {"reference", "vae"}


def test_an_unknown_group_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match=r'"unet".*transformer, text_encoder'):
        select(["vae", "unet"])


def test_the_models_folder_is_the_one_of_the_environment_else_in_the_user_s_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ECHOVIDEO_MODELS", str(tmp_path))
    assert find_default_folder() == tmp_path
    monkeypatch.setenv("ECHOVIDEO_MODELS", "~/models")
    assert find_default_folder() == Path.home() / "models"
    for unset in (
        lambda: monkeypatch.delenv("ECHOVIDEO_MODELS"),
        lambda: monkeypatch.setenv("ECHOVIDEO_MODELS", ""),
    ):
        unset()
        assert find_default_folder() == find_cache_folder() / "models"


@pytest.mark.parametrize(
    ("platform", "variable"), [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA"), ("darwin", None)]
)
def test_the_cache_is_where_the_system_keeps_such_things(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variable: str | None
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert Path.home() in find_cache_folder().parents
    if variable is not None:
        monkeypatch.setenv(variable, str(tmp_path))
        assert find_cache_folder() == tmp_path / "echovideo"


# --- require -------------------------------------------------------------------------------------------------------


def lay_out(folder: Path, *names: str) -> Path:
    """Empty files; an index names the two shards of the release."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if name.endswith(".index.json"):
            stem = name.rpartition("/")[2].removesuffix(".safetensors.index.json")
            shards = [f"{stem}-0000{n}-of-00002.safetensors" for n in (1, 2)]
            path.write_text(
                json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}), encoding="utf-8"
            )
    return folder


def released(group: str) -> list[str]:
    return [file.path for file in TABLE if file.group == group]


FOUND = [group for group in GROUPS if group not in OPTIONAL]


@pytest.mark.parametrize("group", FOUND)
def test_the_released_files_of_a_group_are_found_in_its_folder(tmp_path: Path, group: str) -> None:
    assert require(lay_out(tmp_path, *released(group)), group) == tmp_path / group


@pytest.mark.parametrize("group", FOUND)
def test_a_missing_group_is_an_error_with_names_folders_and_the_command(tmp_path: Path, group: str) -> None:
    with pytest.raises(ModelFileMissing) as caught:
        require(tmp_path / "one", group)
    sentence = str(caught.value)
    assert f"{group}/" in sentence
    assert f"searched {tmp_path / 'one'}" in sentence
    assert f'echovideo models download --only {group} --models "{tmp_path / "one"}"' in sentence
    assert caught.value.exit_code == 3


def test_comfyui_s_models_folder_is_named_as_what_it_is_and_nothing_is_to_be_put_there(
    tmp_path: Path,
) -> None:
    clause = "looks like ComfyUI's models folder, which the command line cannot use"
    for name in ("vae", "diffusion_models", "text_encoders"):
        with pytest.raises(ModelFileMissing) as caught:
            require(tmp_path, "transformer")
        assert clause not in str(caught.value)
        (tmp_path / name).mkdir()
    with pytest.raises(ModelFileMissing) as caught:
        require(tmp_path, "transformer")
    assert f"{tmp_path} {clause}" in str(caught.value)
    assert str(caught.value).endswith("echovideo models download --only transformer")


def test_the_file_that_is_still_missing_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, *released("text_encoder")[:-1])
    with pytest.raises(ModelFileMissing) as caught:
        require(tmp_path, "text_encoder")
    said = "missing model files: text_encoder/model-00002-of-00002.safetensors; searched "
    assert said in str(caught.value)


@pytest.mark.parametrize("group", ["transformer", "text_encoder", "vae", "clip_visual_encoder"])
@pytest.mark.parametrize("index", [True, False], ids=["with an index", "without"])
def test_shards_may_have_any_name(tmp_path: Path, group: str, index: bool) -> None:
    """Such as model-0000N of a trainer, or those that ComfyUI's folder has."""
    shards = [f"{group}/theirs-0000{number}-of-00002.safetensors" for number in (1, 2)]
    lay_out(tmp_path, *shards, *([f"{group}/theirs.safetensors.index.json"] if index else []))
    assert require(tmp_path, group) == tmp_path / group
    (tmp_path / shards[1]).unlink()
    with pytest.raises(ModelFileMissing, match=r"theirs-00002-of-00002" if index else group):
        require(tmp_path, group)


def test_shards_are_those_that_the_index_names_however_many(tmp_path: Path) -> None:
    index = tmp_path / "transformer/diffusion_pytorch_model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text(json.dumps({"weight_map": {"a": "only-00001-of-00001.safetensors"}}), encoding="utf-8")
    with pytest.raises(ModelFileMissing, match=r"transformer/only-00001-of-00001\.safetensors"):
        require(tmp_path, "transformer")
    (index.parent / "only-00001-of-00001.safetensors").touch()
    assert require(str(tmp_path), "transformer") == index.parent


@pytest.mark.parametrize("name", ["transformer.safetensors", "transformer/fp8.safetensors"])
def test_one_file_stands_in_for_the_transformer_s_shards(tmp_path: Path, name: str) -> None:
    lay_out(tmp_path, name)
    assert require(tmp_path, "transformer") == tmp_path / name
    assert require(tmp_path / name, "transformer") == tmp_path / name


def test_one_of_several_transformers_must_be_named(tmp_path: Path) -> None:
    lay_out(tmp_path, "transformer/bf16.safetensors", "transformer/fp8.safetensors")
    with pytest.raises(InvalidRequest, match=r"bf16\.safetensors, .*fp8\.safetensors"):
        require(tmp_path, "transformer")
    assert require(tmp_path / "transformer/fp8.safetensors", "transformer").name == "fp8.safetensors"


def test_one_shard_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    lay_out(tmp_path, "transformer/diffusion_pytorch_model-00001-of-00002.safetensors")
    with pytest.raises(ModelFileMissing, match=r"diffusion_pytorch_model\.safetensors\.index\.json"):
        require(tmp_path, "transformer")


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("text_encoder", ["t5xxl_fp16.safetensors"]),
        ("tokenizer", ["tokenizer.json"]),
        ("vae", ["cogvideox_vae.safetensors"]),
        ("clip_visual_encoder", ["siglip.safetensors"]),
        ("face_encoder", ["a/a/scrfd_10g_bnkps.onnx", "a/a/glintr100.onnx", "parsing_bisenet.safetensors"]),
        ("face_encoder", ["a/a/scrfd_10g_bnkps.onnx", "a/a/glintr100.onnx", "parser.safetensors"]),
    ],
)
def test_other_files_stand_in_for_the_released_ones(tmp_path: Path, group: str, names: list[str]) -> None:
    lay_out(tmp_path, *(f"{group}/{name}" for name in names))
    assert require(tmp_path, group) == tmp_path / group


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "\xff"],
)
def test_an_index_that_cannot_be_read_counts_as_missing(tmp_path: Path, content: str) -> None:
    index = tmp_path / "transformer/diffusion_pytorch_model.safetensors.index.json"
    index.parent.mkdir()
    index.write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelFileMissing, match=r"index\.json"):
        require(tmp_path, "transformer")
