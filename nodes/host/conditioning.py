"""Puts an identity into the host's CONDITIONING: plain tensors under our keys, for the steps that the user chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...echovideo_model.errors import InvalidRequest
from ...echovideo_model.face.align import face_latent_pixels
from ...echovideo_model.identity import Identity
from ...echovideo_model.request import latent_shape
from .draft import HostDraftDecoder
from .model import FACE_LATENT, FACE_SPREAD, FACE_TOKENS, ID_EMBEDDING, KEYS, MADE_BY
from .vae import HostAutoencoder

HOST_AUTOENCODER = "AutoencoderKLCogVideoX"  # the class of newer hosts
Conditioning = list[list[Any]]  # [[text [1, 226, 4096], {option: value}], ...]


@dataclass(frozen=True)
class Strengths:
    """How strong each way is in which the face enters: 0 is none, 1 as trained."""

    id_embedding: float = 1.0
    face_tokens: float = 1.0
    face_latent: float = 1.0


class FaceLatent(NamedTuple):
    """What the VAE makes of the face picture: mean and deviation of its latents, raw, [1, 16, 1, h, w] each."""

    mean: Tensor
    spread: Tensor


def condition(
    positive: Conditioning,
    negative: Conditioning,
    identity: Identity | None,
    face_latent: FaceLatent | None = None,
    strengths: Strengths = Strengths(),
    start: float = 0.0,
    end: float = 1.0,
) -> tuple[Conditioning, Conditioning]:
    """Both branches, with the identity between `start` and `end` (0..1 of the sampling) and with nobody outside.

    The positive branch takes the identity, the negative one nobody's: a zero embedding and the black picture's
    tokens. The face latent is the same in both, as in training.
    """
    if not start <= end:  # NaN included
        raise InvalidRequest(
            f"the identity cannot start at {start} and end at {end}: choose an end after the start"
        )
    if identity is None:
        return positive, negative
    someone = identity.with_strength(strengths.id_embedding, strengths.face_tokens)
    nobody = {
        FACE_TOKENS: identity.null_tokens[None],
        ID_EMBEDDING: torch.zeros_like(identity.id_embedding)[None],
    }
    somebody = {
        FACE_TOKENS: someone.face_tokens[None],
        ID_EMBEDDING: someone.id_embedding[None],
        MADE_BY: identity.encoders,
    }
    latent = {}
    if face_latent is not None:
        mean, spread = (part * strengths.face_latent for part in face_latent)
        latent = {FACE_LATENT: mean, FACE_SPREAD: spread}
    return (
        limit_to(positive, start, end, somebody | latent, nobody),
        limit_to(negative, start, end, nobody | latent, nobody),
    )


def limit_to(
    conditioning: Conditioning,
    start: float,
    end: float,
    inside: Mapping[str, Any],
    outside: Mapping[str, Any],
) -> Conditioning:
    """Each entry with `inside` between start and end and `outside` elsewhere, within the entry's own range."""
    result: Conditioning = []
    for text, options in conditioning:
        options = {
            key: value for key, value in options.items() if key not in KEYS
        }  # left by an earlier identity
        first, last = options.get("start_percent", 0.0), options.get("end_percent", 1.0)
        pieces = [(first, min(start, last), outside), (max(first, start), min(last, end), inside)]
        pieces.append((max(first, end), last, outside))
        for begin, stop, values in pieces:
            if begin >= stop:
                continue
            whole = begin == first and stop == last  # the host's own keys stay as they were
            limits = {} if whole else {"start_percent": begin, "end_percent": stop}
            result.append([text, {**options, **values, **limits}])
    return result


def encode_face_latent(vae: Any, identity: Identity, height: int, width: int) -> FaceLatent:
    """The face picture, padded to the video's aspect, through the VAE. Raises InvalidRequest for another VAE."""
    pixels = face_latent_pixels(identity.face_picture, height, width)  # [3, H, W] in -1..1
    image = (pixels.permute(1, 2, 0)[None] + 1) / 2  # the host's VAEs take [F, H, W, 3] in 0..1
    network = vae.first_stage_model
    if isinstance(network, HostAutoencoder):
        with network.give_spread():
            mean, spread = vae.encode(image).chunk(2, dim=1)
    elif type(network).__name__ == HOST_AUTOENCODER:  # from the host's own loader
        mean = vae.encode(image)
        spread = torch.zeros_like(mean)
    elif isinstance(network, HostDraftDecoder):
        network.encode()  # says that it cannot
    else:
        raise InvalidRequest(
            f"connect Load EchoVideo VAE: this VAE is a {type(network).__name__}, not CogVideoX's (EchoVideo was not "
            "trained on the latents of small preview decoders)"
        )
    wanted = latent_shape(1, height, width)
    if tuple(mean.shape) != wanted:
        raise InvalidRequest(
            f"this VAE makes latents of shape {list(mean.shape)}, but EchoVideo reads {list(wanted)}: "
            "connect Load EchoVideo VAE"
        )
    return FaceLatent(mean, spread)
