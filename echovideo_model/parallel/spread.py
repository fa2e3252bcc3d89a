"""How ranks share one prediction: in two teams, one per guidance branch, if their number is even; otherwise in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from ..errors import InvalidRequest
from ..transformer import EchoVideoTransformer
from .attention import share_tokens
from .ranks import Ranks


def count_teams(ranks: int, guided: bool) -> int:
    """2 if each branch has its own team, else 1. `guided`: whether there are two branches at all."""
    return 2 if guided and ranks % 2 == 0 else 1


def check_ranks(ranks: int, heads: int, guided: bool) -> None:
    """Raises InvalidRequest where a team's ranks cannot share the attention heads evenly, naming who can."""

    def fits(count: int) -> bool:
        return heads % (count // count_teams(count, guided)) == 0

    if not fits(ranks):
        fitting = [str(count) for count in range(1, 2 * heads + 1) if fits(count)]
        raise InvalidRequest(
            f"{ranks} ranks cannot share the model's {heads} attention heads evenly: choose {', '.join(fitting)}"
        )


@dataclass(frozen=True)
class Spread:
    """This process's place: `team` shares the tokens of `branch`, or of all branches where there is one team."""

    ranks: Ranks
    team: Ranks
    branch: int | None

    @classmethod
    def make(cls, ranks: Ranks, guided: bool) -> Spread:
        """To be called by all ranks together."""
        teams = count_teams(ranks.size, guided)
        if teams == 1:
            return cls(ranks, ranks, None)
        size = ranks.size // teams
        branch, rank = divmod(ranks.rank, size)
        groups = [
            distributed.new_group(list(range(team * size, (team + 1) * size))) if size > 1 else None
            for team in range(teams)
        ]
        return cls(ranks, Ranks(rank, size, groups[branch]), branch)

    def predict(
        self,
        network: EchoVideoTransformer,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        face_latent: Tensor | None = None,
        **more: Any,
    ) -> Tensor:
        """v [B, 16, T, H, W] on every rank: what network(x, timesteps, context, face_latent, **more) gives on one.

        B is 2 (negative and positive branch), or 1, which both teams then do.
        """
        with share_tokens(network, self.team):
            if self.branch is None or len(x) == 1:
                return network(x, timesteps, context, face_latent, **more)
            own = slice(self.branch, self.branch + 1)
            v = network(x[own], timesteps[own], context[own], face_latent, **more)
        return torch.cat(self.ranks.gather(v)[:: self.team.size])  # of each team's first rank
