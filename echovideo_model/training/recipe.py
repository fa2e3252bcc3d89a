"""A training run as data: a TOML file read into frozen dataclasses, which refuses any unknown setting."""

from __future__ import annotations

import difflib
import math
import sys
import typing
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..errors import InvalidRequest
from ..files import expand_user
from ..transformer import TransformerSizes

Table = TypeVar("Table")
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Model:
    """What is trained: the transformer in a file or folder, or a new one of `sizes`."""

    transformer: Path | None = None
    sizes: TransformerSizes | None = None
    weights: str | None = None
    """For a LoRA: what the frozen weights are kept as (weights.loading.STORAGE); as the file has them by default."""

    def __post_init__(self) -> None:
        if (self.transformer is None) == (self.sizes is None):
            raise InvalidRequest(
                "[model] needs either a transformer to start from or the sizes of a new one ([model.sizes])"
            )


@dataclass(frozen=True)
class LoRA:
    """Low-rank updates of some layers of every block, instead of all weights."""

    rank: int = 16
    alpha: float = 16.0
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out")

    def __post_init__(self) -> None:
        _check_positive("[lora]", self, "rank", "alpha")


@dataclass(frozen=True)
class Batch:
    """How a step is computed. `size` is the whole of it, whatever number of devices shares it."""

    size: int = 1
    micro: int = 1  # samples that go through the network at a time; their gradients are accumulated
    checkpointing: bool = False  # each block's activations are computed again in the backward pass
    precision: Precision = "fp32"  # of the computation; trained weights are always kept in float32

    def __post_init__(self) -> None:
        _check_positive("[batch]", self, "size", "micro")


@dataclass(frozen=True)
class Optimizer:
    """AdamW. The rate rises for `warmup` steps, stays until the share `flat` of the run, then falls as a cosine.

    With `muon`, the blocks' matrices are trained by Muon at the same rate: for all weights, not for a LoRA.
    """

    rate: float
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 0.01  # of matrices and kernels; never of norms and biases
    clip: float = 1.0  # greatest norm of the gradient
    warmup: int = 0
    flat: float = 0.0
    last: float = 0.0  # the share of the rate that is left at the end
    muon: bool = False

    def __post_init__(self) -> None:
        _check_positive("[optimizer]", self, "rate", "clip")
        _check_range("[optimizer]", self, 0, 1, "flat", "last")
        if self.warmup < 0 or self.decay < 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise InvalidRequest(
                f"[optimizer] warmup {self.warmup} and decay {self.decay} must be at least 0, and betas "
                f"{list(self.betas)} in 0..1"
            )


@dataclass(frozen=True)
class Dropout:
    """How often a sample is shown without its text, without its identity, and without both."""

    text: float = 0.05
    identity: float = 0.05
    both: float = 0.10

    def __post_init__(self) -> None:
        _check_range("[dropout]", self, 0, 1, "text", "identity", "both")
        if self.text + self.identity + self.both > 1:
            raise InvalidRequest(
                f"[dropout] text {self.text}, identity {self.identity} and both {self.both} are "
                "mutually exclusive: their sum must be at most 1"
            )


@dataclass(frozen=True)
class Every:
    """After how many steps something happens; 0 is never."""

    stats: int = 10
    save: int = 200
    samples: int = 0

    def __post_init__(self) -> None:
        _check_positive("[every]", self, "stats", "save")
        _check_range("[every]", self, 0, math.inf, "samples")


@dataclass(frozen=True)
class Samples:
    """What the run shows of itself: videos of the first `count` of these examples, on which it is not trained."""

    examples: Path
    vae: Path
    count: int = 4
    steps: int = 20
    guidance_scale: float = 4.0
    face_latent: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check_positive("[samples]", self, "count", "steps")


@dataclass(frozen=True)
class Likeness:
    """Adds to the loss how little the predicted clip looks like its person (likeness.py); the paper does not."""

    recogniser: Path  # of latents, in a .safetensors file
    weight: float = 0.3

    def __post_init__(self) -> None:
        _check_positive("[likeness]", self, "weight")


@dataclass(frozen=True)
class Recipe:
    """One training run. Paths are relative to the recipe's folder.

    `face_latent` is the share of samples that are shown the face's pixels: 0 in the paper's first stage, in which
    IITF's features alone carry the person; above 0 in its second, which thereby learns not to depend on them.
    `timestep_shift` above 1 spends more samples on noisy clips, where it is decided what is to be seen and how it
    moves (objective.shift_level): with 2, half of the samples lie in the noisiest third of the schedule.
    `motion_weight` is that of the error of v's change from frame to frame (objective.velocity_loss).
    """

    examples: Path  # what `echovideo prepare` made
    output: Path  # the run's folder: state, stats.jsonl, samples, and the model
    steps: int
    model: Model
    optimizer: Optimizer
    face_latent: float = 0.0
    timestep_shift: float = 1.0
    motion_weight: float = 0.0
    seed: int = 0
    average: float = 0.0  # of the weights, over the steps: each one's share that is kept; 0 is no average
    lora: LoRA | None = None
    batch: Batch = field(default_factory=Batch)
    dropout: Dropout = field(default_factory=Dropout)
    likeness: Likeness | None = None
    every: Every = field(default_factory=Every)
    samples: Samples | None = None

    def __post_init__(self) -> None:
        _check_positive("the recipe:", self, "steps", "timestep_shift")
        _check_range("the recipe:", self, 0, 1, "face_latent", "average")
        _check_range("the recipe:", self, 0, math.inf, "motion_weight")
        if self.average == 1:
            raise InvalidRequest(
                "the recipe: with an average of 1 the averaged weights never change; choose 0.995, for example"
            )
        if self.lora and self.model.sizes:
            raise InvalidRequest("[lora] needs existing weights: set transformer in [model]")
        if self.lora and self.optimizer.muon:
            raise InvalidRequest("[optimizer] muon trains whole matrices, not a LoRA: remove muon or [lora]")
        if self.model.weights and not self.lora:
            raise InvalidRequest("[model] weights applies only to a LoRA: training all weights uses float32")
        if self.every.samples and not self.samples:
            raise InvalidRequest("[every] samples needs people to show: add [samples]")

    def to_json(self) -> dict[str, Any]:
        """Every value as JSON has it; what a state remembers of its recipe."""
        return _plain(asdict(self))

    @staticmethod
    def from_json(content: dict[str, Any]) -> Recipe:
        """to_json's opposite. What is not there has its default; raises InvalidRequest for what is unknown."""
        return _build(Recipe, _drop_none(content), "", Path())


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a TOML file. Raises InvalidRequest for what is missing, wrong or unknown, by its name."""
    path = Path(path)
    try:
        content = _toml().loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidRequest(f"the recipe {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ones
        raise InvalidRequest(f"the recipe {path} is not TOML: {error}") from error
    try:
        return _build(Recipe, content, "", path.resolve().parent)
    except InvalidRequest as error:
        raise InvalidRequest(f"{path.name}: {error}") from error


def _toml() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib
    import tomli

    return tomli


def _build(kind: type[Table], content: Any, where: str, folder: Path) -> Table:
    """`content` as a dataclass; `where` is the table's name in messages, "" for the file itself."""
    if not isinstance(content, dict):
        raise InvalidRequest(f"{where} must be a table ([{where}]), not {content!r}")
    known: dict[str, Field[Any]] = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for name in content:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            raise InvalidRequest(f"unknown setting {_join(where, name)}: {hint}")
    for name, entry in known.items():
        if name not in content and entry.default is MISSING and entry.default_factory is MISSING:
            raise InvalidRequest(f"{_join(where, name)} is missing")
    values = {
        name: _convert(hints[name], value, _join(where, name), folder) for name, value in content.items()
    }
    return kind(**values)


def _convert(kind: Any, value: Any, name: str, folder: Path) -> Any:
    """A value of TOML as the type of its field."""
    origin = get_origin(kind)
    if origin in (UnionType, typing.Union):  # X | None: TOML has no null
        return _convert(next(one for one in get_args(kind) if one is not type(None)), value, name, folder)
    if origin is Literal:
        if value not in get_args(kind):
            raise InvalidRequest(f"{name} must be {' or '.join(get_args(kind))}, not {value!r}")
        return value
    if origin is tuple:
        inner = get_args(kind)
        if not isinstance(value, list) or (inner[-1] is not ... and len(value) != len(inner)):
            raise InvalidRequest(f"{name} must be a list, such as {_default_list(inner)}, not {value!r}")
        kinds = [inner[0]] * len(value) if inner[-1] is ... else inner
        return tuple(_convert(one, entry, name, folder) for one, entry in zip(kinds, value, strict=True))
    if is_dataclass(kind):
        return _build(kind, value, name, folder)  # type: ignore[type-var, arg-type]
    if kind is Path:
        return folder / expand_user(_expect(str, value, name))
    if kind is float:
        number = float(_expect((int, float), value, name))
        if not math.isfinite(number):
            raise InvalidRequest(f"{name} must be a number, not {value!r}")
        return number
    return _expect(kind, value, name)


def _expect(kind: Any, value: Any, name: str) -> Any:
    words = {int: "a whole number", bool: "true or false", str: "text", (int, float): "a number"}
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidRequest(f"{name} must be {words[kind]}, not {value!r}")
    return value


def _default_list(kinds: tuple[Any, ...]) -> str:
    return '["to_q", "to_v"]' if kinds[0] is str else "[0.9, 0.99]"


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _check_positive(where: str, table: Any, *names: str) -> None:
    for name in names:
        if not getattr(table, name) > 0:
            raise InvalidRequest(f"{where} {name} must be above 0, not {getattr(table, name)}")


def _check_range(where: str, table: Any, low: float, high: float, *names: str) -> None:
    for name in names:
        if not low <= getattr(table, name) <= high:
            limits = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
            raise InvalidRequest(f"{where} {name} must be {limits}, not {getattr(table, name)}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _drop_none(value: Any) -> Any:
    """TOML has no null: None is a setting that is not there."""
    if isinstance(value, dict):
        return {name: _drop_none(entry) for name, entry in value.items() if entry is not None}
    return value
