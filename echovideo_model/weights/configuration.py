"""config.json of the released transformer, for newly written weights; every size is read off the weights."""

from __future__ import annotations

from typing import Any

from ..transformer import TransformerSizes


def transformer_config(sizes: TransformerSizes) -> dict[str, Any]:
    """What the reference and diffusers read; this package reads the shapes instead."""
    return {
        "_class_name": "EchoVideoLDM",
        "_diffusers_version": "0.31.0",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_head_dim": sizes.head_width,
        "dropout": 0.0,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": sizes.in_channels,
        "max_text_seq_length": sizes.iitf.text_tokens,
        "norm_elementwise_affine": True,
        "norm_eps": 1e-05,
        "num_attention_heads": sizes.heads,
        "num_layers": sizes.blocks,
        "out_channels": sizes.out_channels,
        "patch_size": sizes.patch,
        "sample_frames": 49,
        "sample_height": 60,
        "sample_width": 90,
        "spatial_interpolation_scale": 1.875,
        "temporal_compression_ratio": 4,
        "temporal_interpolation_scale": 1.0,
        "text_embed_dim": sizes.iitf.text_width,
        "time_embed_dim": sizes.time_width,
        "timestep_activation_fn": "silu",
        "use_rotary_positional_embeddings": True,
    }
