"""Trains the drawn world's text encoder: a T5 of two layers that knows what a sentence says.

    python scripts/nano/train_text_encoder.py --state STATE --models MODELS

The mean of its tokens has to tell each thing that a sentence may say (nouns, clothes, colours, actions, sides, places,
cameras), or that it does not say it; each token has to tell its own word, also where the word is left out. It is
finished before the transformer is trained, as in the released model. Trained along with the transformer, it forgot all
but the place: another clothing colour moved its output by 1.8 % of its length.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from loop import arguments, train
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel

from echovideo_model.files import write_atomically
from echovideo_model.nano import Clip
from echovideo_model.nano.clip import LABELS
from echovideo_model.nano.words import MAX_TOKENS, NOUN_WORDS
from echovideo_model.text import for_comfyui, load_tokenizer

BATCH, STEPS, RATE = 48, (1200,), 1.5e-3
LEFT_OUT, EMPTY = 0.15, 0.05  # shares of the words and of the sentences
SIZES = {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4}
QUESTIONS: dict[str, tuple[str | int, ...]] = {"noun": tuple(NOUN_WORDS), **LABELS}


class Encoder(nn.Module):
    """The T5 encoder, and what it is trained with: a question for each thing that is said, and one for the words."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        more: Any = {"tie_word_embeddings": False, "architectures": ["T5EncoderModel"], "dropout_rate": 0.0}
        words = -(-pieces // 128) * 128  # padded as the released one's are
        config = T5Config(vocab_size=words, feed_forward_proj="gated-gelu", **SIZES, **more)
        self.t5 = T5EncoderModel(config)
        self.answers = nn.ModuleDict(
            {name: nn.Linear(config.d_model, len(known) + 1) for name, known in QUESTIONS.items()}
        )
        self.words = nn.Linear(config.d_model, words)

    def forward(self, ids: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """ids [B, 24] -> logits of every answer, the last being "it does not say", and of every word [B, 24, words]."""
        tokens = self.t5(input_ids=ids).last_hidden_state
        return {name: answer(tokens.mean(1)) for name, answer in self.answers.items()}, self.words(tokens)


def main() -> None:
    args = arguments(__doc__, STEPS)
    torch.manual_seed(5)
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(args.models / "tokenizer")
    network = Encoder(len(tokenizer))

    def loss_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([0x7E5, step])
        sentences, answers = zip(*[_say(int(rng.integers(2**40))) for _ in range(BATCH)], strict=True)
        ids = _ids(tokenizer, sentences)
        left_out = torch.from_numpy(rng.random(ids.shape) < LEFT_OUT) & (ids > tokenizer.unk_token_id)
        logits, words = network(ids.masked_fill(left_out, tokenizer.unk_token_id))
        losses = {
            name: F.cross_entropy(logits[name], torch.tensor([answer[name] for answer in answers]))
            for name in QUESTIONS
        }
        return {**losses, "words": F.cross_entropy(words.flatten(0, 1), ids.flatten())}

    train("text_encoder", network, loss_of, args, RATE)
    right = _measure(network, tokenizer)
    print("right of 500 sentences of held-out words:", json.dumps(right))
    write_text_encoder(network.t5, args.models)


def write_text_encoder(network: T5EncoderModel, models: Path) -> None:
    """MODELS/text_encoder as it is released; its file also holds the tokenizer, for ComfyUI."""
    folder = models / "text_encoder"
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().bfloat16().contiguous() for name, value in network.state_dict().items()}
    del state["encoder.embed_tokens.weight"]  # `shared.weight` again
    tensors, said = for_comfyui(models / "tokenizer", MAX_TOKENS)
    with write_atomically(folder / "model.safetensors") as temporary:
        save_file(state | tensors, temporary, {"format": "pt", **said})
    with write_atomically(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(network.config.to_dict(), indent=2) + "\n", "utf-8")


def _say(seed: int, held_out: bool = False) -> tuple[str, dict[str, int]]:
    """A sentence, and the number of the answer to every question."""
    if not held_out and seed % round(1 / EMPTY) == 0:
        return "", {name: len(known) for name, known in QUESTIONS.items()}
    clip = Clip.from_seed(seed, held_out_words=held_out)
    return clip.sentence, {
        name: known.index(clip.labels[name]) if name in clip.said else len(known)
        for name, known in QUESTIONS.items()
    }


def _ids(tokenizer: Any, sentences: Any) -> Tensor:
    return tokenizer(
        list(sentences), padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


@torch.no_grad()
def _measure(network: Encoder, tokenizer: Any) -> dict[str, float]:
    """The share of right answers about sentences that training never saw."""
    sentences, answers = zip(*[_say(seed, held_out=True) for seed in range(500)], strict=True)
    logits, _ = network(_ids(tokenizer, sentences))
    return {
        name: (found.argmax(1) == torch.tensor([answer[name] for answer in answers])).float().mean().item()
        for name, found in logits.items()
    }


if __name__ == "__main__":
    main()
