"""The pipeline over several ranks: the first one works as usual, and all of them share each prediction in sampling."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from torch import Tensor

from .identity import Identity
from .parallel.ranks import Ranks
from .parallel.spread import Spread, check_ranks
from .pipeline import Pipeline
from .request import Request
from .samplers import Noise, OnStep, SeededNoise
from .schedule import guidance_scale, plan_steps
from .transformer import EchoVideoTransformer
from .weights.loading import read_transformer_sizes


class PipelineOverRanks(Pipeline):
    """On the first rank, a Pipeline like any other, which must be `close`d; the other ranks only call `assist`.

    Only the first rank sees photos, reads prompts, decodes and writes. The others get what IITF needs from it, draw
    the same noise from the same seed and take the same steps. Decoding is not shared: it is a hundredth of the work,
    with a norm over the whole picture before each of its convolutions (docs/scale.md).
    """

    def __init__(self, ranks: Ranks, guided: bool, *args: Any, **kwargs: Any) -> None:
        """guided: whether any request has two branches (see is_guided). More arguments are Pipeline's."""
        super().__init__(*args, **kwargs)
        self.ranks, self.guided = ranks, guided

    @cached_property
    def spread(self) -> Spread:
        """Made when all ranks come to it together: in the first step."""
        return Spread.make(self.ranks, self.guided)

    def check(self, faces: bool = True) -> None:
        """As Pipeline's; raises InvalidRequest, too, where the ranks cannot share the heads."""
        super().check(faces)
        check_ranks(self.ranks.size, read_transformer_sizes(self._path("transformer")).heads, self.guided)

    def denoise(
        self,
        identity: Identity,
        request: Request,
        text: tuple[Tensor, Tensor],
        x: Tensor,
        face_latent: Tensor | None,
        noise: Noise,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """As Pipeline's, for x and noise that SeededNoise draws by the request's seed."""
        _ = self.transformer  # only the first rank reports what is wrong with the file
        self.ranks.share((identity, request, text, face_latent))
        return super().denoise(identity, request, text, x, face_latent, noise, on_step)

    def assist(self) -> None:
        """Denoise along with the first rank, video by video, until it closes."""
        while (shared := self.ranks.receive()) is not None:
            identity, request, text, face_latent = shared
            noise = SeededNoise(request.seed, request.latent_shape)
            x = noise.initial()
            if face_latent is not None:
                noise.face()
            super().denoise(identity, request, text, x, face_latent, noise.step)

    def close(self) -> None:
        """Lets the other ranks go."""
        self.ranks.share(None)

    def _predict(
        self,
        network: EchoVideoTransformer,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        face: Tensor | None,
        riflex: bool,
    ) -> Tensor:
        return self.spread.predict(network, x, timesteps, context, face, riflex=riflex)


def is_guided(requests: Iterable[Request]) -> bool:
    """Whether any step of any request needs both branches."""
    return any(
        guidance_scale(request.guidance, request.guidance_scale, step, request.steps) != 1
        for request in requests
        for step in plan_steps(request.steps)
    )
