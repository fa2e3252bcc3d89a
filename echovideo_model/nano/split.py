"""What training never sees: people, and combinations of words."""

from __future__ import annotations

from collections.abc import Iterator

FIRST_HELD_OUT = 1_000_000_000
"""People with this seed or a higher one are held out; training takes lower ones."""


def is_held_out(action: str, place: str, colour: str) -> bool:
    """Whether no training clip shows this action in this place in clothes of this colour: one in eight."""
    from .actions import ACTIONS
    from .palette import CLOTHES
    from .scenes import PLACES

    a, p, c = (
        list(names).index(name) for names, name in ((ACTIONS, action), (PLACES, place), (CLOTHES, colour))
    )
    return (3 * a + 5 * p + c) % 8 == 0


def held_out_people(count: int) -> Iterator[int]:
    """Seeds of people whom training never sees."""
    return iter(range(FIRST_HELD_OUT, FIRST_HELD_OUT + count))
