"""Prompts are read as transformers reads them for T5: 226 tokens, padding attended, what is cut said once."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from echovideo_model.errors import EchoVideoError, InvalidRequest, ModelFileMissing, WrongModelFile
from echovideo_model.limits import TEXT_TOKENS
from echovideo_model.text import TextEncoder, check_known, read_t5_sizes
from echovideo_model.tiny import networks
from echovideo_model.tiny.tokenizer import NORMAL, SPACE, WORDS, make_tokenizer_files
from echovideo_model.weights.family import list_shapes

State = dict[str, Tensor]
PROMPTS = {
    "empty": "",
    "a newline": "\n",
    "spaces": "  a   man \t reads\r\n a book  ",
    "words": "a young woman in a red dress walks along the beach at sunset",
    "accents": "Une fille élégante, à côté d'un café — çå ÿ ž",
    "other scripts": "a woman, 一个女人在读书 женщина читает امرأة تقرأ",
    "emoji": "a man ☂ smiling 👩‍👩‍👧‍👧 \u200b\ufeff",
    "markup": "</s> <pad> a <extra_id_3> man <unk> ▁",
    "control characters": "a\x00man\x1b[1m\x7f",
    "exactly 225 tokens": "a " * 225,
    "226 tokens": "a " * 226,
    "5,000 words": " ".join(WORDS[number % len(WORDS)] for number in range(5000)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny text encoder and tokenizer in the released layout."""
    base = tmp_path_factory.mktemp("models")
    for folder, files in {
        "text_encoder": networks.make_text_encoder_files,
        "tokenizer": make_tokenizer_files,
    }.items():
        (base / folder).mkdir()
        for name, content in files():
            (base / folder / name).write_bytes(content)
    return base


@pytest.fixture(scope="module")
def encoder(models: Path) -> TextEncoder:
    return TextEncoder.load(models / "text_encoder", models / "tokenizer")


@pytest.fixture(scope="module")
def state(models: Path) -> State:
    shards = sorted((models / "text_encoder").glob("*.safetensors"))
    return {name: tensor for shard in shards for name, tensor in load_file(shard).items()}


def refusal(error: type[EchoVideoError], *args: Any) -> str:
    with pytest.raises(error) as caught:
        TextEncoder.load(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- against transformers --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(models: Path) -> tuple[Any, Any]:
    network = T5EncoderModel.from_pretrained(models / "text_encoder").eval()
    return T5Tokenizer.from_pretrained(models / "tokenizer"), network


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
def test_tokens_are_those_of_transformers(theirs: tuple[Any, Any], encoder: TextEncoder, prompt: str) -> None:
    """Its own classes on the same files, called as the published pipeline calls them."""
    tokenizer, network = theirs
    ids = tokenizer(
        prompt,
        padding="max_length",
        max_length=226,
        truncation=True,
        add_special_tokens=True,
        return_tensors="pt",
    ).input_ids
    with torch.inference_mode():
        expected = network(ids)[0]
    given = encoder.encode([prompt])
    assert given.shape == (1, 226, networks.TEXT_WIDTH)
    assert torch.equal(given, expected)


@pytest.mark.parametrize("tokens", [2, 24])
def test_a_transformer_that_reads_fewer_tokens_gets_fewer(
    theirs: tuple[Any, Any], models: Path, tokens: int, said: list[str]
) -> None:
    tokenizer, network = theirs
    few = TextEncoder.load(models / "text_encoder", models / "tokenizer", tokens=tokens)
    for prompt in ("a man", "a man " * 30):
        ids = tokenizer(
            prompt, padding="max_length", max_length=tokens, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.inference_mode():
            assert torch.equal(few.encode([prompt]), network(ids)[0])
    assert f"longer than {tokens} tokens" in said[-1]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(max_size=30).map("a man {}".format), min_size=2, max_size=2))
def test_any_prompts_together_are_as_each_one_alone(prompts: list[str]) -> None:
    encoder = loaded()
    together = encoder.encode(prompts)
    assert together.isfinite().all()
    for prompt, tokens in zip(prompts, together, strict=True):
        torch.testing.assert_close(encoder.encode([prompt])[0], tokens)


@pytest.mark.parametrize("prompt", ["一个女人在读书", "женщина читает", "امرأة تقرأ", "👩‍👩‍👧‍👧", "人 ☂"])
def test_a_prompt_of_which_nothing_is_known_is_refused(encoder: TextEncoder, prompt: str) -> None:
    """Each of them would give the same video."""
    with pytest.raises(InvalidRequest, match="write it in English"):
        encoder.encode([prompt])


def test_characters_that_are_not_known_are_named(
    encoder: TextEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    encoder.encode(["a man 👋 smiles 一 a café"])
    assert "does not know 👋 一:" in caplog.text
    caplog.clear()
    encoder.encode(["a man waves, e\u0301lan\u200b!"])
    assert not caplog.text


def test_a_vocabulary_without_letters_is_asked_for_whole_words(caplog: pytest.LogCaptureFixture) -> None:
    pieces = [(text, -5.0, NORMAL) for text in (SPACE, ",", SPACE + "a", SPACE + "man", SPACE + "waves")]
    tokenizer = sentencepiece.SentencePieceProcessor(
        model_proto=dict(make_tokenizer_files(pieces))["spiece.model"], add_eos=True
    )

    def check(prompt: str) -> None:
        check_known(prompt, tokenizer.encode, tokenizer.unk_id())

    check("a man waves, a man")
    check("")
    assert not caplog.text
    check("a tall man, who waves")
    assert "does not know tall, who: the prompt is read without these words" in caplog.text
    with pytest.raises(InvalidRequest, match="knows none of the words"):
        check("everybody laughs")


class Recorder:
    """A network that keeps what it is asked."""

    device = torch.device("cpu")

    def __call__(self, **asked: Any) -> Any:
        self.asked = asked
        return type("Answer", (), {"last_hidden_state": asked["input_ids"]})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=300).map(" ".join))
def test_the_network_sees_226_ids_of_sentencepiece_and_no_mask(prompt: str) -> None:
    """225 pieces and the end sign at most, then padding, which is attended to: no mask says where it begins."""
    encoder = loaded()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=dict(make_tokenizer_files())["spiece.model"])
    expected = [*pieces.encode(prompt)[: TEXT_TOKENS - 1], pieces.eos_id()]
    recorder = Recorder()
    TextEncoder(recorder, encoder.tokenizer).encode([prompt])
    assert recorder.asked.keys() == {"input_ids"}
    assert recorder.asked["input_ids"].tolist() == [expected + [0] * (TEXT_TOKENS - len(expected))]


_LOADED: list[TextEncoder] = []


def loaded() -> TextEncoder:
    """The tiny encoder for tests whose examples come from hypothesis."""
    return _LOADED[0]


@pytest.fixture(scope="module", autouse=True)
def _keep_loaded(encoder: TextEncoder) -> None:
    _LOADED[:] = [encoder]


# ---- what is cut -----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(200, 250))
def test_a_prompt_is_cut_where_its_226th_token_would_begin(words: int) -> None:
    seen, cut = loaded().split("man " * words)
    assert (len(seen.split()), len(cut.split())) == (min(words, 225), max(0, words - 225))


def test_the_part_that_is_kept_is_all_that_counts(encoder: TextEncoder) -> None:
    seen, cut = encoder.split(PROMPTS["5,000 words"])
    assert cut
    assert torch.equal(encoder.encode([seen]), encoder.encode([PROMPTS["5,000 words"]]))


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the text encoder warns of, whatever else listens."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("echovideo_model.text")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def test_what_was_cut_is_said_once_for_each_prompt(encoder: TextEncoder, said: list[str]) -> None:
    encoder.encode(["man " * 225 + "under the golden light", "short", "a woman " * 3000])
    first, second = said
    assert "longer than 226 tokens" in first
    assert first.endswith(": under the golden light")
    assert second.endswith("... (5775 words)")
    assert len(second) < 400


def test_nothing_is_said_when_nothing_is_cut(
    encoder: TextEncoder, said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    encoder.encode([PROMPTS["exactly 225 tokens"], ""])
    encoder.split(PROMPTS["5,000 words"])
    assert said == []
    assert capfd.readouterr() == ("", "")


# ---- files -----------------------------------------------------------------------------------------------------


def test_sizes_are_read_off_the_shapes(models: Path, encoder: TextEncoder) -> None:
    theirs = T5Config.from_pretrained(models / "text_encoder")
    for name in (
        "d_model",
        "d_kv",
        "d_ff",
        "num_layers",
        "num_heads",
        "vocab_size",
        "is_gated_act",
        "dense_act_fn",
    ):
        assert getattr(encoder.network.config, name) == getattr(theirs, name), name


RELEASED_SIZES: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}


def test_sizes_of_the_released_encoder_are_read_off_its_shapes() -> None:
    released = T5Config(**RELEASED_SIZES)
    with torch.device("meta"):
        shapes = list_shapes(T5EncoderModel(released))
        network = T5EncoderModel(T5Config(**read_t5_sizes(Path("released"), shapes)))
    assert network.config.to_dict() == released.to_dict()
    assert list_shapes(network) == shapes


def test_an_encoder_that_lacks_its_last_layers_is_incomplete(
    models: Path, state: State, tmp_path: Path
) -> None:
    with torch.device("meta"):
        shapes = list_shapes(T5EncoderModel(T5Config(**RELEASED_SIZES | {"num_layers": 23})))
    with pytest.raises(WrongModelFile, match="has 23 layers, but T5-XXL has 24"):
        read_t5_sizes(Path("released"), shapes)
    config = json.loads((models / "text_encoder" / "config.json").read_text())
    last = f"encoder.block.{config['num_layers'] - 1}."
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({name: t for name, t in state.items() if not name.startswith(last)}, tmp_path / "a.safetensors")
    assert "1 layers, but its configuration says 2" in refusal(
        WrongModelFile, tmp_path / "a.safetensors", models / "tokenizer"
    )


LAYOUTS: dict[str, Callable[[State], State]] = {
    "shared alone": lambda state: state,
    "both embeddings": lambda state: {**state, "encoder.embed_tokens.weight": state["shared.weight"].clone()},
    "embed_tokens alone": lambda state: {
        {"shared.weight": "encoder.embed_tokens.weight"}.get(name, name): tensor
        for name, tensor in state.items()
    },
    "with a decoder and more": lambda state: {
        **state,
        "decoder.block.0.layer.0.SelfAttention.q.weight": torch.ones(2, 2),
        "lm_head.weight": torch.ones(2, 2),
        "spiece_model": torch.zeros(9, dtype=torch.uint8),
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_single_files_of_either_layout_are_the_same_encoder(
    models: Path, encoder: TextEncoder, state: State, tmp_path: Path, layout: str
) -> None:
    save_file(LAYOUTS[layout](state), tmp_path / "t5.safetensors")
    single = TextEncoder.load(tmp_path / "t5.safetensors", models / "tokenizer")
    assert torch.equal(single.encode(["a man reads"]), encoder.encode(["a man reads"]))
    assert single.network.shared.weight is single.network.encoder.embed_tokens.weight


def test_an_encoder_without_gates_is_recognised(models: Path, tmp_path: Path) -> None:
    """T5 of the first version."""
    torch.manual_seed(0)
    words = TextEncoder.load(models / "text_encoder", models / "tokenizer").network.config.vocab_size
    config = T5Config(vocab_size=words, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=3)
    network = T5EncoderModel(config).eval()
    network.save_pretrained(tmp_path)
    ours = TextEncoder.load(tmp_path, models / "tokenizer")
    ids = ours.tokenizer("a man", padding="max_length", max_length=TEXT_TOKENS, return_tensors="pt").input_ids
    with torch.inference_mode():
        assert torch.equal(ours.encode(["a man"]), network(ids)[0])


@pytest.mark.parametrize(
    ("stored", "computed"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.bfloat16),  # as the reference computes; float16 overflows
        (torch.float8_e4m3fn, torch.bfloat16),
    ],
    ids=str,
)
def test_weights_compute_as_themselves_or_widened(
    models: Path, state: State, tmp_path: Path, stored: torch.dtype, computed: torch.dtype
) -> None:
    narrow = {name: tensor.to(stored) for name, tensor in state.items()}
    save_file(narrow, tmp_path / "narrow.safetensors")
    save_file({name: tensor.to(computed) for name, tensor in narrow.items()}, tmp_path / "wide.safetensors")
    given, expected = (
        TextEncoder.load(tmp_path / f"{name}.safetensors", models / "tokenizer").encode(["a man reads"])
        for name in ("narrow", "wide")
    )
    assert given.dtype == computed
    assert torch.equal(given, expected)
    wide = TextEncoder.load(tmp_path / "narrow.safetensors", models / "tokenizer", torch.float32)
    assert wide.encode(["a man"]).dtype == torch.float32


# ---- what is refused -------------------------------------------------------------------------------------------


def test_a_missing_or_unexpected_parameter_is_named(models: Path, state: State, tmp_path: Path) -> None:
    gone = "encoder.block.1.layer.0.SelfAttention.v.weight"
    scaled = {**state, "encoder.block.0.layer.0.SelfAttention.q.scale_weight": torch.ones(1)}
    save_file({name: tensor for name, tensor in state.items() if name != gone}, tmp_path / "a.safetensors")
    save_file(scaled, tmp_path / "b.safetensors")
    assert f"1 missing (first: {gone})" in refusal(
        WrongModelFile, tmp_path / "a.safetensors", models / "tokenizer"
    )
    assert "holds a scale for encoder.block.0.layer.0.SelfAttention.q.weight" in refusal(
        WrongModelFile, tmp_path / "b.safetensors", models / "tokenizer"
    )


@pytest.mark.parametrize(
    "name", ["shared.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
)
def test_a_parameter_that_sizes_need_is_named(models: Path, state: State, tmp_path: Path, name: str) -> None:
    save_file({key: tensor for key, tensor in state.items() if key != name}, tmp_path / "a.safetensors")
    assert name in refusal(WrongModelFile, tmp_path / "a.safetensors", models / "tokenizer")


def test_a_renamed_shard_is_called_one(models: Path, tmp_path: Path) -> None:
    for number, file in enumerate(sorted((models / "text_encoder").glob("*.safetensors"))):
        (tmp_path / f"part {number}.safetensors").write_bytes(file.read_bytes())
        said = refusal(WrongModelFile, tmp_path / f"part {number}.safetensors", models / "tokenizer")
        assert "one shard" in said


def test_another_model_is_called_by_its_name(models: Path, tmp_path: Path) -> None:
    for name, content in networks.make_vae_files():
        (tmp_path / name).write_bytes(content)
    assert "is not the T5 text encoder but a CogVideoX VAE" in refusal(
        WrongModelFile, tmp_path, models / "tokenizer"
    )


def test_nan_in_the_weights_is_found(models: Path, state: State, tmp_path: Path) -> None:
    damaged = state["encoder.final_layer_norm.weight"].clone()
    damaged[5] = float("nan")
    save_file({**state, "encoder.final_layer_norm.weight": damaged}, tmp_path / "a.safetensors")
    assert "encoder.final_layer_norm.weight" in refusal(
        WrongModelFile, tmp_path / "a.safetensors", models / "tokenizer"
    )


def test_a_missing_tokenizer_is_said_to_be_missing(models: Path, tmp_path: Path) -> None:
    assert "spiece.model" in refusal(ModelFileMissing, models / "text_encoder", tmp_path)
    assert "no/where" in refusal(ModelFileMissing, models / "text_encoder", tmp_path / "no" / "where")


def test_a_pointer_in_the_tokenizer_s_place_is_called_one(models: Path, tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 791656\n", encoding="utf-8"
    )
    assert "spiece.model is not a tokenizer but a Git LFS pointer" in refusal(
        WrongModelFile, models / "text_encoder", tmp_path
    )


@pytest.mark.parametrize("damage", [b"", b"not a vocabulary", None], ids=["empty", "noise", "cut"])
def test_a_damaged_tokenizer_is_refused(models: Path, tmp_path: Path, damage: bytes | None) -> None:
    """An empty vocabulary would load, and then spell every word as unknown."""
    folder = tmp_path / "tokenizer"
    shutil.copytree(models / "tokenizer", folder)
    whole = (folder / "spiece.model").read_bytes()
    (folder / "spiece.model").write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert str(folder) in refusal(WrongModelFile, models / "text_encoder", folder)
