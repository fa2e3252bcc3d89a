"""What share of a video's time is its decoding, and what could be gained by spreading it over ranks?

    python -m benchmarks.decode             (4 GB of memory; three minutes of processor time)

`echovideo generate --ranks N` shares the steps, while the first rank decodes alone.

Measured on one thread of a CPU, in processor seconds, float32, with released widths and seeded weights, in turns: one
block of the transformer on 2048 tokens, without its attention; the attention of one head over 20,896 tokens; the
decoding of 9 frames at 160 x 208. Computed from these: 50 steps, each of two branches, 42 blocks and 48 heads, by
tokens and by squares of tokens; the decoding of 49 frames, by pixels. Everything else is left out: with it, the share
would be smaller. Beside the share of time stands that of multiplications, counted at the real size; there it is the
layers' own, as on a GPU, while on a CPU the autoencoder needs fewer.

With the decoding on one rank a video takes steps / N + decoding, if the steps are shared without a loss. The last
columns are how much longer that is than (steps + decoding) / N, which sharing the decoding could reach if it had to
exchange nothing.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from statistics import median

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cpu import draw_noise, seed_network
from benchmarks.gpu import BATCH, work
from echovideo_model import operations
from echovideo_model.iitf import IITFSizes
from echovideo_model.limits import TRAINED_FRAMES, TRAINED_SIZES
from echovideo_model.operations import scaled_dot_product_attention
from echovideo_model.request import Request, latent_shape
from echovideo_model.rotary import rotary_table
from echovideo_model.transformer import Block, TransformerSizes
from echovideo_model.vae.autoencoder import CogVideoXVAE, VAESizes

SIZES, STEPS = TransformerSizes(), Request.steps
ROWS = 2048  # tokens of the block that is measured
CLIP = 9, 160, 208  # frames, height and width of what is decoded: large enough for all of the CPU's shortcuts
RANKS = 2, 4, 8


def count_tokens(height: int, width: int) -> int:
    _, _, *grid = latent_shape(TRAINED_FRAMES, height, width)
    return IITFSizes.text_tokens + math.prod(grid) // SIZES.patch**2


def make_block() -> Callable[[], Tensor]:
    block = seed_network(Block(SIZES, operations))
    tokens, time_ = draw_noise(1, ROWS, SIZES.width), draw_noise(1, SIZES.time_width)
    n_text = IITFSizes.text_tokens
    rotary = rotary_table(1, 1, ROWS - n_text, SIZES.head_width)

    def attend_to_itself(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return rearrange(v, "b h n d -> b n (h d)")

    return lambda: block(tokens.clone(), n_text, time_, rotary, attend_to_itself)


def make_head(tokens: int) -> Callable[[], Tensor]:
    q, k, v = (draw_noise(1, 1, tokens, SIZES.head_width) for _ in range(3))
    return lambda: scaled_dot_product_attention(q, k, v)


def make_decoding() -> Callable[[], Tensor]:
    vae, latents = seed_network(CogVideoXVAE(VAESizes())), draw_noise(*latent_shape(*CLIP))
    return lambda: vae.decode(latents)


def measure(runs: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Medians of the processor seconds of each, taken in turns, after one round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            taken[name].append(time.process_time() - start)
    return {name: median(times[1:]) for name, times in taken.items()}


def count_decoding() -> float:
    """Operations of the decoder's own layers for each pixel of 49 frames: the same at every height and width."""
    frames, side = TRAINED_FRAMES, 64
    with torch.device("meta"):
        vae, latents = CogVideoXVAE(VAESizes()), torch.empty(latent_shape(frames, side, side))
    with FlopCounterMode(display=False) as counter:
        vae.requires_grad_(False).decode(latents)
    return counter.get_total_flops() / (frames * side * side)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians count (default: 3)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    largest = max(count_tokens(*size) for size in TRAINED_SIZES)
    with torch.inference_mode():
        runs = {"block": make_block(), "head": make_head(largest), "decoding": make_decoding()}
        taken = measure(runs, rounds)
    print(f"processor seconds: a block on {ROWS} tokens {taken['block']:.2f}, a head over {largest} tokens "
          f"{taken['head']:.2f}, decoding {'x'.join(map(str, CLIP))} {taken['decoding']:.2f}\n")  # fmt: skip
    columns = "".join(f" {ranks} ranks |" for ranks in RANKS)
    print(f"| size | steps, s | decoding, s | share of the time | of multiplications |{columns}")
    print("|---|---|---|---|---|" + "---|" * len(RANKS))
    flop_a_pixel = count_decoding()
    for height, width in TRAINED_SIZES:
        print_row(height, width, taken, largest, flop_a_pixel)


def print_row(height: int, width: int, taken: dict[str, float], largest: int, flop_a_pixel: float) -> None:
    pixels = TRAINED_FRAMES * height * width
    tokens = count_tokens(height, width)
    block = taken["block"] * tokens / ROWS + SIZES.heads * taken["head"] * (tokens / largest) ** 2
    steps = STEPS * BATCH * SIZES.blocks * block
    decoding = taken["decoding"] * pixels / math.prod(CLIP)
    share = decoding / (steps + decoding)
    flop = flop_a_pixel * pixels
    counted = flop / (STEPS * work(SIZES, tokens) + flop)
    longer = "".join(f" {(ranks - 1) * share:.1%} |" for ranks in RANKS)
    print(f"| {width}x{height} | {steps:,.0f} | {decoding:,.0f} | {share:.2%} | {counted:.2%} |{longer}")


if __name__ == "__main__":
    main()
