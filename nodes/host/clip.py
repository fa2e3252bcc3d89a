"""T5-XXL as the host's CLIP, the way EchoVideo was trained: 226 tokens, padding attended like words.

The transformer decides how many tokens it reads, and the host's CLIP Text Encode knows no MODEL: a prompt is encoded
before it meets one, and cutting it afterwards would be wrong, because T5 attends to the padding. But a text encoder
serves the transformers that it was trained with, so its file says in its metadata, under TOKENS_KEY, how many tokens
they read, and contains its tokenizer where the host's other T5s have theirs. The released T5-XXL says nothing: it gives
226, from the host's own tokenizer.
"""

from __future__ import annotations

import logging
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.supported_models_base
import comfy.utils
import folder_paths
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer, SDTokenizer
from comfy.text_encoders.sd3_clip import T5XXLModel, T5XXLTokenizer, t5_xxl_detect
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...echovideo_model.errors import WrongModelFile
from ...echovideo_model.limits import TEXT_TOKENS
from ...echovideo_model.text import (
    OTHER_PARTS,
    SPIECE_MODEL,
    TOKENS_KEY,
    check_known,
    read_t5_sizes,
    shorten,
)
from .folders import load_state
from .quantised import check_marks, list_shapes, refuse_unread

VOCABULARY = 32_128  # the tokenizer's 32,100 pieces, rounded up to a multiple of 128
log = logging.getLogger(__name__)
END = (1, 1.0)  # T5's end of sentence, at weight 1


class OwnPieces(SPieceTokenizer):
    """An encoder's own sentencepiece model, with the extras of the host's T5 tokenizer."""

    @classmethod
    def from_pretrained(cls, pieces: Tensor, **settings: Any) -> OwnPieces:
        return cls(pieces, **settings)

    @property
    def unk_token_id(self) -> int:
        return self.tokenizer.unk_id()

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": self.tokenizer.encode(text, add_eos=add_special_tokens)}

    def decode(self, token_ids: list[int], skip_special_tokens: bool = False) -> str:
        return self.tokenizer.decode(token_ids)  # sentencepiece writes no special tokens


class FixedLengthTokenizer(T5XXLTokenizer):
    """Always `tokens` of them: shorter prompts are padded, longer ones cut before their end mark, as in training."""

    def __init__(
        self,
        embedding_directory: str | None = None,
        tokenizer_data: dict[str, Any] | None = None,
        *,
        tokens: int,
    ) -> None:
        data = tokenizer_data or {}
        pieces = data.get(SPIECE_MODEL)
        if pieces is None:
            super().__init__(embedding_directory, data, min_length=tokens)
        else:  # as T5XXLTokenizer sets it, but with these pieces
            SDTokenizer.__init__(
                self,
                pieces,
                max_length=99_999_999,
                min_length=tokens,
                pad_with_end=False,
                pad_to_max_length=False,
                has_start_token=False,
                embedding_directory=embedding_directory,
                embedding_key="t5xxl",
                tokenizer_class=OwnPieces,
                tokenizer_data=data,
            )
        self.tokens = tokens

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> Any:
        check_known(text, self._encode_text, self.tokenizer.unk_token_id)
        kwargs["tokenizer_options"] = {}  # T5TokenizerOptions would not pad to the trained length
        (tokens,) = super().tokenize_with_weights(text, return_word_ids, **kwargs)
        if len(tokens) > self.tokens:
            kept, rest = tokens[: self.tokens - 1], tokens[self.tokens - 1 : -1]
            cut = self.tokenizer.decode([token for token, *_ in rest if isinstance(token, int)])
            log.warning(
                "the prompt is longer than %d tokens; this was cut off its end: %s",
                self.tokens,
                shorten(cut),
            )
            tokens = [*kept, (*END, 0) if return_word_ids else END]
        return [tokens]

    def _encode_text(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


class EchoVideoTokenizer(SD1Tokenizer):
    """`raw`: the prompt goes to T5 unchanged; otherwise (word:1.2) weights words, as elsewhere in the host."""

    def __init__(
        self, raw: bool, tokens: int, embedding_directory: str | None = None, tokenizer_data: Any = None
    ) -> None:
        tokenizer = partial(FixedLengthTokenizer, tokens=tokens)
        super().__init__(embedding_directory, tokenizer_data or {}, clip_name="t5xxl", tokenizer=tokenizer)
        self.raw = raw

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> Any:
        # the host's own class calls its part through its attribute, "clip_t5xxl"
        kwargs["disable_weights"] = kwargs.get("disable_weights", False) or self.raw
        return {"t5xxl": self.clip_t5xxl.tokenize_with_weights(text, return_word_ids, **kwargs)}


class EchoVideoTextEncoder(SD1ClipModel):
    def __init__(
        self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None
    ) -> None:
        super().__init__(device, dtype, model_options or {}, name="t5xxl", clip_model=T5XXLModel)

    def load_sd(self, sd: dict[str, Any]) -> Any:
        missing, unexpected = super().load_sd(sd)
        if missing:
            raise WrongModelFile(
                f"download this T5-XXL encoder again, it is incomplete: {len(missing)} weights are missing (the "
                f"first is {min(missing)})"
            )
        refuse_unread(unexpected, "this T5 file")
        return missing, unexpected


def load_clip(
    path: Path,
    raw_prompt: bool = False,
    disable_dynamic: bool = False,
    model_options: dict[str, Any] | None = None,
) -> Any:
    """The CLIP in `path`: T5-XXL in fp16, bf16, fp8 or scaled fp8, in one file or in parts, or another T5 that says how
    many tokens it is for. `model_options` are the host's, such as its load_device. Raises WrongModelFile."""
    state, metadata = load_state(path)
    tokens = read_tokens(metadata, path)
    pieces = state.pop(SPIECE_MODEL, None) if TOKENS_KEY in (metadata or {}) else None
    if hasattr(comfy.utils, "convert_old_quants"):
        state, metadata = comfy.utils.convert_old_quants(state, model_prefix="", metadata=metadata)
    state = keep_encoder(state)
    check_marks(state, metadata)
    options: dict[str, Any] = {
        **(model_options or {}),
        "t5xxl_model_config": read_sizes(state, path, pieces),
    }
    for name, value in t5_xxl_detect(state).items():  # each host has its own names for what it found
        options[
            {"dtype_t5": "dtype", "t5_quantization_metadata": "t5xxl_quantization_metadata"}.get(name, name)
        ] = value
    target = comfy.supported_models_base.ClipTarget(
        partial(EchoVideoTokenizer, raw_prompt, tokens), EchoVideoTextEncoder
    )
    known = signature(comfy.sd.CLIP.__init__).parameters
    late = {
        "state_dict": [state],
        "disable_dynamic": disable_dynamic,
    }  # weights must be in before a dynamic load
    clip = comfy.sd.CLIP(
        target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        tokenizer_data={} if pieces is None else {SPIECE_MODEL: pieces},
        parameters=comfy.utils.calculate_parameters(state),
        model_options=options,
        **{name: value for name, value in late.items() if name in known},
    )
    if "state_dict" not in known:
        clip.load_sd(state)
    clip.patcher.cached_patcher_init = (load_clip_patcher, (path, raw_prompt, model_options))
    return clip


def load_clip_patcher(
    path: Path, raw_prompt: bool, model_options: dict[str, Any] | None, disable_dynamic: bool = False
) -> Any:
    return load_clip(path, raw_prompt, disable_dynamic, model_options).patcher


def says_tokens(path: Path) -> bool:
    """Whether a file's metadata holds TOKENS_KEY; the host complains about files that cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return TOKENS_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_tokens(metadata: dict[str, str] | None, path: Path) -> int:
    """How many tokens the transformers of this text encoder read. Raises WrongModelFile if it is not a number."""
    said = (metadata or {}).get(TOKENS_KEY, str(TEXT_TOKENS))
    if not said.isdecimal() or int(said) < 2:  # one word and the end mark
        raise WrongModelFile(
            f'{path.name} says "{said}" for {TOKENS_KEY}, which is not a number of tokens: download it again'
        )
    return int(said)


def keep_encoder(state: dict[str, Any]) -> dict[str, Any]:
    """The encoder's tensors of a T5 that may be whole, with its embedding under the one name that the host reads."""
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(OTHER_PARTS)}
    if "encoder.embed_tokens.weight" in kept:  # the same matrix under its other name
        kept.setdefault("shared.weight", kept.pop("encoder.embed_tokens.weight"))
    return kept


def read_sizes(state: dict[str, Any], path: Path, pieces: Tensor | None = None) -> dict[str, Any]:
    """T5's configuration read off its weights, so that the released encoder and smaller ones load alike.

    pieces: of its own tokenizer, uint8 [n]; without them the vocabulary is T5-XXL's.
    """
    other = f"{path.name} is not a T5-XXL encoder: choose t5xxl_fp16.safetensors or a similar file"
    try:
        sizes = read_t5_sizes(path, list_shapes(state))
    except WrongModelFile as error:
        raise WrongModelFile(other) from error
    if sizes["feed_forward_proj"] != "gated-gelu":  # T5 of the first version
        raise WrongModelFile(other)
    if pieces is not None:
        check_pieces(pieces, sizes["vocab_size"], path)
    elif sizes["vocab_size"] != VOCABULARY:
        raise WrongModelFile(
            f"choose t5xxl_fp16.safetensors or a similar file, not {path.name}: its T5 has a vocabulary of "
            f"{sizes['vocab_size']:,} pieces, but T5-XXL has {VOCABULARY:,} (umt5 has 256,384)"
        )
    return sizes


def check_pieces(pieces: Tensor, vocabulary: int, path: Path) -> None:
    """Raises WrongModelFile if a sentencepiece model cannot be read, or has more pieces than the embedding has rows."""
    try:
        known = OwnPieces(pieces).tokenizer.get_piece_size()
    except (RuntimeError, TypeError, ValueError) as error:
        raise WrongModelFile(f"the tokenizer in {path.name} cannot be read: download it again") from error
    if known > vocabulary:
        raise WrongModelFile(
            f"the tokenizer in {path.name} has {known:,} pieces, but its word embedding has "
            f"{vocabulary:,}: download it again"
        )
