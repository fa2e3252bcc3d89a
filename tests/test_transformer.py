"""The transformer against diffusers' CogVideoX, and what IITF promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from echovideo_model.iitf import IITFSizes
from echovideo_model.operations import scaled_dot_product_attention
from echovideo_model.rotary import rotary_table
from echovideo_model.tiny.weights import draw_state
from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes

IITF = IITFSizes(
    text_width=24,
    text_tokens=7,
    face_width=20,
    face_tokens=5,
    id_width=12,
    id_tokens=3,
    width=16,
    heads=1,
    layers=2,
)
SIZES = TransformerSizes(
    blocks=2, heads=2, head_width=64, time_width=16, in_channels=32, out_channels=16, patch=2, iitf=IITF
)


def make_network(sizes: TransformerSizes = SIZES) -> EchoVideoTransformer:
    network = EchoVideoTransformer(sizes)
    network.load_state_dict(draw_state(network))
    return network.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def diffusers_twin(network: EchoVideoTransformer) -> CogVideoXTransformer3DModel:
    sizes = network.sizes
    twin = CogVideoXTransformer3DModel(
        num_attention_heads=sizes.heads,
        in_channels=sizes.in_channels,
        time_embed_dim=sizes.time_width,
        text_embed_dim=sizes.iitf.text_width,
        num_layers=sizes.blocks,
        max_text_seq_length=sizes.iitf.text_tokens,
        use_rotary_positional_embeddings=True,
    )
    twin.load_state_dict({name: network.state_dict()[name] for name in twin.state_dict()})
    return twin.eval()


NETWORK = make_network()
TWIN = diffusers_twin(NETWORK)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 3),
    frames=st.integers(1, 4),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    n_text=st.integers(1, 12),
    with_face=st.booleans(),
)
@torch.inference_mode()
def test_v_equals_diffusers_for_every_shape(
    batch: int, frames: int, rows: int, columns: int, n_text: int, with_face: bool
) -> None:
    x, context = noise(batch, 16, frames, 2 * rows, 2 * columns), noise(batch, n_text, 24, seed=1)
    face = noise(batch, 16, 1, 2 * rows, 2 * columns, seed=2) if with_face else None
    timesteps = torch.arange(batch) * 333 + 1
    both = torch.cat([x, torch.zeros_like(x)], dim=1)
    if face is not None:
        both[:, 16:, :1] = face
    table = rotary_table(frames, rows, columns)
    rotary = tuple(part.repeat_interleave(2, dim=-1) for part in (table.real, table.imag))
    theirs = TWIN(both.transpose(1, 2), context, timesteps, image_rotary_emb=rotary).sample.transpose(1, 2)
    ours = NETWORK(x, timesteps, context, face)
    torch.testing.assert_close(ours, theirs, atol=2e-5 * float(theirs.abs().max()), rtol=0)


@torch.inference_mode()
def test_inputs_are_left_as_they_were() -> None:
    x, context, face = noise(1, 16, 2, 4, 4), noise(1, 7, 24), noise(1, 16, 1, 4, 4)
    kept = [part.clone() for part in (x, context, face)]
    NETWORK(x, torch.tensor([500]), context, face)
    for part, before in zip((x, context, face), kept, strict=True):
        assert torch.equal(part, before)


@torch.inference_mode()
def test_a_batch_equals_its_members_one_by_one() -> None:
    x, context, timesteps = noise(3, 16, 2, 4, 6), noise(3, 7, 24), torch.tensor([999, 400, 3])
    together = NETWORK(x, timesteps, context)
    for i in range(3):
        alone = NETWORK(x[i : i + 1], timesteps[i : i + 1], context[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_the_attention_function_is_the_caller_s() -> None:
    seen = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append((tuple(q.shape), tuple(k.shape), tuple(v.shape)))
        return scaled_dot_product_attention(q, k, v)

    x, context = noise(1, 16, 2, 4, 6), noise(1, 7, 24)
    replaced = NETWORK(x, torch.tensor([10]), context, attend=attend)
    assert torch.equal(replaced, NETWORK(x, torch.tensor([10]), context))
    assert seen == [((1, 2, 7 + 12, 64),) * 3] * SIZES.blocks


def test_every_parametric_layer_comes_from_operations() -> None:
    made = []

    def remembering(layer: type[nn.Module]) -> staticmethod:
        def make(*args: object, **kwargs: object) -> nn.Module:
            made.append(layer(*args, **kwargs))
            return made[-1]

        return staticmethod(make)

    class Operations:
        Linear, Conv2d, LayerNorm = map(remembering, (nn.Linear, nn.Conv2d, nn.LayerNorm))

    network = EchoVideoTransformer(SIZES, Operations)
    leaves = [module for module in network.modules() if list(module.parameters(recurse=False))]
    bare = [leaf for leaf in leaves if leaf not in made]
    assert bare == [network.face_prj_wofc]  # owns the resampler's latents, which are no layer


def test_compiling_gives_one_graph_and_the_same_v() -> None:
    network = make_network(replace(SIZES, blocks=1))
    inputs = noise(1, 16, 2, 4, 6), torch.tensor([10]), noise(1, 7, 24), noise(1, 16, 1, 4, 6, seed=1)
    compiled = torch.compile(
        network, fullgraph=True, backend="eager"
    )  # fullgraph: a second graph is an error
    with torch.inference_mode():
        assert torch.equal(compiled(*inputs), network(*inputs))


def test_sizes_are_read_off_the_shapes() -> None:
    for sizes in (
        SIZES,
        TransformerSizes(),
        replace(SIZES, blocks=5, heads=3, time_width=8, iitf=replace(IITF, layers=1, text_tokens=9)),
    ):
        with torch.device("meta"):
            state = EchoVideoTransformer(sizes).state_dict()
        assert TransformerSizes.read({name: tuple(value.shape) for name, value in state.items()}) == sizes


@torch.inference_mode()
def test_the_id_embedding_counts_as_144_copies() -> None:
    """The resampler sees 144 equal inputs, which weigh more against its own latents than a single one would."""
    embedding = noise(1, 12)
    tokens = NETWORK.face_prj_wofc(embedding)
    attention = NETWORK.face_prj_wofc.layers[0][0]  # type: ignore[index]
    inputs = NETWORK.face_prj_wofc.proj_in(embedding)[:, None]  # [1, 1, width]
    latents = NETWORK.face_prj_wofc.latents
    many, one = attention(inputs.expand(-1, 144, -1), latents), attention(inputs, latents)
    assert tokens.shape == (1, 3, 20)
    assert not torch.allclose(many, one, atol=1e-3)


@torch.inference_mode()
def test_context_depends_on_each_of_its_three_sources() -> None:
    sources = [noise(1, 7, 24), noise(1, 5, 20, seed=1), noise(1, 12, seed=2)]
    context = NETWORK.fuse(*sources)
    assert context.shape == (1, 7, 24)
    for i in range(3):
        others = [source + 1 if j == i else source for j, source in enumerate(sources)]
        assert not torch.allclose(NETWORK.fuse(*others), context, atol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_computation_stays_near_float32(dtype: torch.dtype) -> None:
    x, context, timesteps = noise(1, 16, 2, 4, 6), noise(1, 7, 24), torch.tensor([700])
    exact = NETWORK(x, timesteps, context)
    half = NETWORK(x.to(dtype), timesteps, context.to(dtype))
    assert half.dtype == dtype
    error = (half.float() - exact).norm() / exact.norm()
    assert 0 < error < 0.03
