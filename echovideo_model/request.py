"""What to make: the prompt and the settings of one video, checked before any work begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any

from .errors import InvalidRequest
from .facts import RELEASED, ModelFacts
from .limits import (
    FRAME_STEP,
    GUIDANCES,
    MAX_FRAMES,
    MAX_GUIDANCE_SCALE,
    MAX_SEED,
    MAX_SIDE,
    MAX_STRENGTH,
    MIN_SIDE,
    SAMPLERS,
    SIDE_STEP,
    TRAIN_STEPS,
    Guidance,
    Sampler,
)


@dataclass(frozen=True)
class Request:
    """One video. Defaults are the reference's; sizes in pixels, `strength` of the identity in 0..1.5, `riflex` for
    more than 49 frames (see rotary.py).

    Whole numbers may be numpy's; they are kept as Python's. Raises InvalidRequest, with the value, for anything else.
    """

    prompt: str
    negative_prompt: str = ""
    height: int = RELEASED.size[0]
    width: int = RELEASED.size[1]
    frames: int = RELEASED.frames
    steps: int = 50
    seed: int = 42
    guidance_scale: float = RELEASED.guidance_scale
    guidance: Guidance = RELEASED.guidance
    sampler: Sampler = "dpm"
    strength: float = 1.0
    face_latent: bool = True
    riflex: bool = False

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt"):
            _check_text(name, getattr(self, name))
        for name in ("height", "width", "frames", "steps", "seed"):
            self._keep(name, _whole(name, getattr(self, name)))
        for name in ("height", "width"):
            _check_side(name, getattr(self, name))
        if not 1 <= self.frames <= MAX_FRAMES or self.frames % FRAME_STEP != 1:
            raise InvalidRequest(
                f"frames must be {FRAME_STEP}n + 1 from 1 to {MAX_FRAMES} (such as "
                f"{_nearby_frames(self.frames)}), not {self.frames}"
            )
        if not 1 <= self.steps <= TRAIN_STEPS:
            raise InvalidRequest(f"steps must be from 1 to {TRAIN_STEPS} (50 is usual), not {self.steps}")
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidRequest(f"seed must be from 0 to 2^64 - 1, not {self.seed}")
        self._keep("guidance_scale", _number("guidance_scale", self.guidance_scale, MAX_GUIDANCE_SCALE))
        self._keep("strength", _number("strength", self.strength, MAX_STRENGTH))
        _check_choice("guidance", self.guidance, GUIDANCES)
        _check_choice("sampler", self.sampler, SAMPLERS)
        for name in ("face_latent", "riflex"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequest(f"{name} must be True or False, not {getattr(self, name)!r}")

    def _keep(self, name: str, value: float) -> None:
        object.__setattr__(self, name, value)  # the way past `frozen`, as dataclasses themselves go

    @property
    def latent_shape(self) -> tuple[int, int, int, int, int]:
        """[1, 16, t, h, w] of its latents."""
        return latent_shape(self.frames, self.height, self.width)

    def warnings(self, facts: ModelFacts = RELEASED) -> list[str]:
        """What is possible but was not trained."""
        found = []
        if (self.height, self.width) not in facts.sizes:
            sizes = ", ".join(f"{width}x{height}" for height, width in facts.sizes)
            found.append(
                f"{self.width}x{self.height} is not one of the sizes that the model was trained on ({sizes})"
            )
        if self.frames != facts.frames:
            found.append(f"the model was trained on {facts.frames} frames, not {self.frames}")
        return found

    def metadata(self) -> dict[str, str]:
        """Every setting as text, for the video file."""
        return {name: str(value) for name, value in asdict(self).items()}


def latent_shape(frames: int, height: int, width: int, batch: int = 1) -> tuple[int, int, int, int, int]:
    """[batch, 16, t, h, w] of the latents of a video: a quarter of the frames, an eighth of the size."""
    return batch, 16, (frames - 1) // FRAME_STEP + 1, height // 8, width // 8


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text, not {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # a command line in another encoding, say
        raise InvalidRequest(
            f"{name} holds {value[error.start]!r} at position {error.start}, which is not a valid "
            "character: write it in UTF-8"
        ) from error


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidRequest(f"{name} must be a whole number, not {value!r}")
    return int(value)


def _number(name: str, value: Any, most: float) -> float:
    fits = isinstance(value, Real) and not isinstance(value, bool) and value <= most and not value < 0
    if not fits:  # NaN does not fit either
        raise InvalidRequest(f"{name} must be a number from 0 to {most:g}, not {value!r}")
    return float(value)


def _check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidRequest(f"unknown {name} {value!r}: choose {' or '.join(allowed)}")


def _check_side(name: str, pixels: int) -> None:
    if MIN_SIDE <= pixels <= MAX_SIDE and pixels % SIDE_STEP == 0:
        return
    nearest = min(max((pixels + SIDE_STEP // 2) // SIDE_STEP * SIDE_STEP, MIN_SIDE), MAX_SIDE)
    raise InvalidRequest(
        f"{name} must be a multiple of {SIDE_STEP} from {MIN_SIDE} to {MAX_SIDE} (such as {nearest}), "
        f"not {pixels}"
    )


def _nearby_frames(frames: int) -> str:
    low = min(max((frames - 1) // FRAME_STEP * FRAME_STEP + 1, 1), MAX_FRAMES)
    high = min(low + FRAME_STEP, MAX_FRAMES)
    return f"{low} or {high}" if high != low else str(low)
