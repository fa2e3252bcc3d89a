"""What to make: the prompt and the settings of one video, checked before any work begins."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from .errors import InvalidRequest
from .samplers import SAMPLERS, Sampler
from .schedule import GUIDANCES, TRAIN_STEPS, Guidance

TRAINED_SIZES = ((480, 640), (480, 848), (480, 480), (848, 480), (640, 480))
"""Height x width that the model was shown."""
TRAINED_FRAMES = 49
SMALLEST, LARGEST, MULTIPLE = 16, 2048, 16
MOST_FRAMES = 1001
MOST_SCALE = 100.0
STRONGEST = 1.5


@dataclass(frozen=True)
class Request:
    """One video. Defaults are the reference's; sizes in pixels, `strength` of the identity in 0..1.5."""

    prompt: str
    negative_prompt: str = ""
    height: int = 480
    width: int = 848
    frames: int = TRAINED_FRAMES
    steps: int = 50
    seed: int = 42
    guidance_scale: float = 6.0
    guidance: Guidance = "reference"
    sampler: Sampler = "dpm"
    strength: float = 1.0
    face_latent: bool = True

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            _check_side(name, getattr(self, name))
        if not 1 <= self.frames <= MOST_FRAMES or self.frames % 4 != 1:
            raise InvalidRequest(
                f"{self.frames} frames cannot be made: choose {_nearest_frames(self.frames)}"
            )
        if not 1 <= self.steps <= TRAIN_STEPS:
            raise InvalidRequest(
                f"{self.steps} steps cannot be taken: choose 1 to {TRAIN_STEPS} (50 is usual)"
            )
        if not 0 <= self.seed < 2**63:
            raise InvalidRequest(
                f"the seed {self.seed} is not a whole number from 0 to 2^63 - 1: choose another"
            )
        if not (math.isfinite(self.guidance_scale) and 0 <= self.guidance_scale <= MOST_SCALE):
            raise InvalidRequest(
                f"a guidance scale of {self.guidance_scale} is not between 0 and {MOST_SCALE:g} (6 is usual)"
            )
        if not 0 <= self.strength <= STRONGEST:  # False for NaN, too
            raise InvalidRequest(f"an identity strength of {self.strength} is not between 0 and {STRONGEST}")
        for name, allowed in (("guidance", GUIDANCES), ("sampler", SAMPLERS)):
            if getattr(self, name) not in allowed:
                raise InvalidRequest(
                    f"the {name} {getattr(self, name)!r} is not known: choose {', '.join(allowed)}"
                )

    @property
    def latent_shape(self) -> tuple[int, int, int, int, int]:
        """[1, 16, t, h, w] of its latents: a quarter of the frames, an eighth of the size."""
        return 1, 16, (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8

    def warnings(self) -> list[str]:
        """What is possible but was not trained."""
        found = []
        if (self.height, self.width) not in TRAINED_SIZES:
            sizes = ", ".join(f"{width}x{height}" for height, width in TRAINED_SIZES)
            found.append(
                f"{self.width}x{self.height} is not one of the sizes the model was trained on ({sizes})"
            )
        if self.frames != TRAINED_FRAMES:
            found.append(f"the model was trained on {TRAINED_FRAMES} frames, not {self.frames}")
        return found

    def metadata(self) -> dict[str, str]:
        """Every setting as text, for the video file."""
        return {name: str(value) for name, value in asdict(self).items()}


def _check_side(name: str, pixels: int) -> None:
    if SMALLEST <= pixels <= LARGEST and pixels % MULTIPLE == 0:
        return
    nearest = min(max(round(pixels / MULTIPLE) * MULTIPLE, SMALLEST), LARGEST)
    raise InvalidRequest(
        f"a {name} of {pixels} pixels cannot be made: it must be a multiple of {MULTIPLE} "
        f"from {SMALLEST} to {LARGEST}, such as {nearest}"
    )


def _nearest_frames(frames: int) -> str:
    low = min(max((frames - 1) // 4 * 4 + 1, 1), MOST_FRAMES)
    high = min(low + 4, MOST_FRAMES)
    return f"one more than a multiple of 4, such as {low}" + (f" or {high}" if high != low else "")
