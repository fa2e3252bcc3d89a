"""The prompt as T5 sees it: as many tokens as the transformer reads (226 for the released one), padding included and
attended to, as in the reference."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import InvalidRequest, ModelFileMissing, WrongModelFile
from .limits import TEXT_TOKENS
from .weights.family import IF_A_SHARD, T5, Shapes, list_shapes, open_family, require_same
from .weights.headers import recognise
from .weights.loading import check_layers, read_config, read_state
from .weights.reading import Entry, OnBytes, TensorFile
from .weights.released import DOWNLOAD

XXL_WIDTH, XXL_LAYERS = 4096, 24
EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight")  # one matrix, under either name or under both
SPIECE_MODEL = "spiece_model"  # the tokenizer that some files contain
OTHER_PARTS = ("decoder.", "lm_head.", SPIECE_MODEL)  # of a whole T5
TOKENS_KEY = "echovideo.text_tokens"
"""In the metadata of a text encoder's file: how many tokens the transformers that it was trained with read."""
logger = logging.getLogger(__name__)


class TextEncoder:
    """A T5 encoder and its tokenizer. `encode` runs where the network stands."""

    def __init__(self, network: Any, tokenizer: Any, tokens: int = TEXT_TOKENS) -> None:
        """tokens: how many the transformer reads of a prompt (its `sizes.iitf.text_tokens`)."""
        self.network = network
        self.tokenizer = tokenizer
        self.tokens = tokens

    @classmethod
    def load(
        cls,
        weights: str | Path,
        tokenizer: str | Path,
        dtype: torch.dtype | None = None,
        on_bytes: OnBytes | None = None,
        tokens: int = TEXT_TOKENS,
    ) -> TextEncoder:
        """weights: the released text_encoder folder, or one file; tokenizer: the folder with spiece.model.

        dtype is the computation's: by default float32 for a file of float32, else bfloat16, as in the reference
        (in float16 T5-XXL overflows). Raises ModelFileMissing, WrongModelFile.
        """
        from transformers import T5Config, T5EncoderModel

        opened = open_family(weights, T5).without(OTHER_PARTS)
        opened = replace(opened, entries=_merge_embeddings(opened.entries))
        sizes = read_t5_sizes(opened.path, opened.shapes)
        try:
            check_layers(sizes["num_layers"], read_config(opened.path, opened.metadata), "d_kv")
        except WrongModelFile as error:
            raise WrongModelFile(f"{opened.path}: {error}") from error
        with torch.device("meta"):
            network = T5EncoderModel(T5Config(**sizes))
        expected = list_shapes(network)
        expected.pop(EMBEDDING[1])
        require_same(opened, expected)
        state = read_state(opened, dtype or _default_dtype(opened), on_bytes)
        network.load_state_dict(state | {EMBEDDING[1]: state[EMBEDDING[0]]}, assign=True)
        network.encoder.set_input_embeddings(
            network.shared
        )  # one shared matrix again, instead of two equal ones
        network.eval().requires_grad_(False)
        return cls(network, load_tokenizer(Path(tokenizer), network.config.vocab_size), tokens)

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """prompts -> text tokens [len(prompts), 226, 4096] on the network's device and in its dtype.

        A longer prompt is cut so that the end sign is its last token; what was cut is logged as a warning, and so are
        characters that T5 does not know. Raises InvalidRequest for a prompt of which it knows nothing.
        """
        for prompt in prompts:
            check_known(prompt, self._encode_text, self.tokenizer.unk_token_id)
            _, cut = self.split(prompt)
            if cut:
                logger.warning(
                    "the prompt is longer than %d tokens; this was cut off its end: %s",
                    self.tokens,
                    shorten(cut),
                )
        ids = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt"
        ).input_ids
        # No attention mask: the model was trained with the padding in sight.
        return self.network(input_ids=ids.to(self.network.device)).last_hidden_state

    def _encode_text(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids

    def split(self, prompt: str) -> tuple[str, str]:
        """The part of the prompt that the model sees and the part that is cut off ("" when all of it fits)."""
        ids = self._encode_text(prompt)
        if len(ids) < self.tokens:
            return prompt, ""
        return self.tokenizer.decode(ids[: self.tokens - 1]), self.tokenizer.decode(ids[self.tokens - 1 :])


def for_comfyui(tokenizer: Path, tokens: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata to write beside a text encoder's weights, so that ComfyUI, which has no tokenizer folder,
    reads prompts as the library does: spiece.model as bytes (uint8 [n], where hosts look for it), and how many
    `tokens` the transformer reads."""
    model = torch.frombuffer(bytearray((tokenizer / "spiece.model").read_bytes()), dtype=torch.uint8)
    return {SPIECE_MODEL: model}, {TOKENS_KEY: str(tokens)}


def check_known(prompt: str, ids_of: Callable[[str], list[int]], unknown: int) -> None:
    """Logs what of a prompt the tokenizer reads as `unknown`, the same for all of it: characters (Chinese, say, or
    emoji), or whole words where the vocabulary has no letters to spell them with, as nano's.

    `ids_of` gives the token ids of a text. Raises InvalidRequest where no letter, digit or word is left: such prompts
    would all give the same video.
    """
    text = unicodedata.normalize("NFKC", prompt)  # as T5's tokenizer does
    spells = unknown not in ids_of("e")
    if spells:  # not marks and controls
        seen = [one for one in dict.fromkeys(text) if unicodedata.category(one)[0] in "LNPS"]
    else:
        seen = list(dict.fromkeys(re.findall(r"\w+|[^\w\s]", text)))
    lost = [one for one in seen if unknown in ids_of(one)]
    if not lost:
        return
    if not any(one.isalnum() and one not in lost for one in seen):
        if spells:
            raise InvalidRequest(
                f'T5 knows none of the characters in the prompt "{shorten(prompt, 60)}": write it in English '
                "(T5 also knows German, French and Romanian)"
            )
        raise InvalidRequest(
            f'this text encoder knows none of the words in the prompt "{shorten(prompt, 60)}": use '
            "words from the captions that it was trained on"
        )
    logger.warning(
        "%s does not know %s: the prompt is read without these %s",
        *(
            ("T5", " ".join(lost), "characters")
            if spells
            else ("this text encoder", ", ".join(lost), "words")
        ),
    )


def _default_dtype(opened: TensorFile) -> torch.dtype:
    wide = all(entry.dtype == torch.float32 for entry in opened.entries.values())
    return torch.float32 if wide else torch.bfloat16


def _merge_embeddings(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The word embedding under its first name alone."""
    first, second = EMBEDDING
    renamed = {first if name == second else name: entry for name, entry in entries.items()}
    return renamed | ({first: entries[first]} if first in entries else {})


def read_t5_sizes(path: Path, shapes: Shapes) -> dict[str, Any]:
    """T5Config's arguments, read off the shapes of an encoder. Raises WrongModelFile if they are not a whole one's."""
    first = "encoder.block.0.layer."
    try:
        buckets, heads = shapes[f"{first}0.SelfAttention.relative_attention_bias.weight"]
        inner, width = shapes[f"{first}0.SelfAttention.q.weight"]
        gated = f"{first}1.DenseReluDense.wi_0.weight" in shapes
        wide, _ = shapes[f"{first}1.DenseReluDense.{'wi_0' if gated else 'wi'}.weight"]
        words, _ = shapes[EMBEDDING[0]]
        head_width = inner // heads
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise WrongModelFile(
            f"{path} is not a complete T5 text encoder (it lacks {error}): {IF_A_SHARD}"
        ) from error
    layers = len({name.split(".")[2] for name in shapes if name.startswith("encoder.block.")})
    if width == XXL_WIDTH and layers != XXL_LAYERS:
        raise WrongModelFile(
            f"{path} has {layers} layers, but T5-XXL has {XXL_LAYERS}: it is incomplete; download it again"
        )
    return {
        "vocab_size": words,
        "d_model": width,
        "d_kv": head_width,
        "d_ff": wide,
        "num_layers": layers,
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "tie_word_embeddings": False,
    }


def load_tokenizer(folder: Path, words: int | None = None) -> Any:
    """T5's tokenizer in a folder with spiece.model or tokenizer.json.

    words: rows of the word embedding that it is for, which T5 rounds up to the next 128. Raises ModelFileMissing,
    and WrongModelFile if it cannot be read or is for another embedding.
    """
    from transformers import T5Tokenizer

    if not (folder / "spiece.model").is_file() and not (folder / "tokenizer.json").is_file():
        raise ModelFileMissing(
            f"no tokenizer in {folder} (looked for spiece.model and tokenizer.json): {DOWNLOAD}"
        )
    for name in ("spiece.model", "tokenizer.json"):
        if (folder / name).is_file() and (what := recognise(folder / name)):
            raise WrongModelFile(f"{folder / name} is not a tokenizer but {what}; download it again")
    try:
        tokenizer = T5Tokenizer.from_pretrained(folder, local_files_only=True)
        known = len(tokenizer)  # transformers before 5 gives False for a damaged file
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise WrongModelFile(f"the tokenizer in {folder} cannot be read: download it again") from error
    if words is not None and not words - 128 < known <= words:
        raise WrongModelFile(
            f"the tokenizer in {folder} has {known} pieces, but the text encoder has {words}: download "
            "it again"
        )
    return tokenizer


def shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text.split())} words)"
