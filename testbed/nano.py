"""Graphs on the nano model, which needs no download and shows a drawn person."""

from __future__ import annotations

from echovideo_model.nano.models import FILES
from testbed.graphs import Graph

CHOICES = {
    ("EchoVideoLoadModel", "model_name"): FILES["transformer"],
    ("EchoVideoLoadTextEncoder", "text_encoder_name"): FILES["text_encoder"],
    ("EchoVideoLoadVAE", "vae_name"): FILES["vae"],
    ("EchoVideoLoadFaceEncoders", "parser_name"): FILES["face_encoder"],
    ("EchoVideoLoadFaceEncoders", "siglip_name"): FILES["clip_visual_encoder"],
    ("UNETLoader", "unet_name"): FILES["transformer"],
    ("CLIPLoader", "clip_name"): FILES["text_encoder"],
    ("VAELoader", "vae_name"): FILES["vae"],
}
"""Node and input -> the file that it chooses."""


def with_nano(graph: Graph) -> Graph:
    """The graph with nano chosen in every loader."""
    for one in graph.values():
        chosen = {name: file for (kind, name), file in CHOICES.items() if kind == one["class_type"]}
        one["inputs"].update(chosen)
    return graph
