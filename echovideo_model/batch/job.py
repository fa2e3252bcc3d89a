"""A table of jobs, JSON lines or CSV: read, checked line by line before any work, each job named by its content.

A job is one video: `photos` (one or several of one person) or `identity`, which face is meant, whether the picture
shows the whole person, the prompt, any setting of a Request, frames per second, and the name of its file. Paths are
relative to the table.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequest
from ..face.choice import LARGEST, FaceChoice
from ..facts import RELEASED, ModelFacts
from ..files import expand_user, hash_file
from ..limits import MAX_FPS, MIN_FPS
from ..request import Request

if TYPE_CHECKING:
    from ..weights.merging import Lora

EXAMPLE = {"photos": ["me.jpg"], "prompt": "A man waves.", "seed": 1, "output": "waving.mp4"}
CHOICE = ("face_order", "face_index", "padding")
PICTURE = ("picture", "masks")
PICTURES = ("face", "person")
SETTINGS = tuple(field.name for field in fields(Request))
KEYS = ("photos", "identity", *CHOICE, *PICTURE, *SETTINGS, "fps", "output")
SEPARATOR = ";"  # between the files of one CSV cell
_WHOLE = ("height", "width", "frames", "steps", "seed", "face_index")
_REAL = ("guidance_scale", "strength", "fps", "padding")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Job:
    """One line of a table. `id` is a hash of everything that decides the frames, so a changed job is a new job."""

    line: int
    photos: tuple[Path, ...]  # empty where an identity is given
    identity: Path | None
    choice: FaceChoice
    request: Request
    fps: float
    output: str  # relative to the output folder
    person: str  # a hash of the photos, the masks and the choice of face, or of the identity
    id: str
    whole_person: bool = False
    masks: tuple[Path, ...] = ()  # one for each photo; empty where the photos' own transparency serves

    @property
    def prompts(self) -> tuple[str, str]:
        """The negative one and the positive one."""
        return self.request.negative_prompt, self.request.prompt


def read_jobs(table: str | Path, model: ModelFacts = RELEASED, loras: Sequence[Lora] = ()) -> list[Job]:
    """Every job of a table, in its order; what a line leaves open, `model` decides. `loras` apply to all jobs.

    Raises InvalidRequest, with the line, for the first that is wrong.
    """
    table = Path(table)
    rows = _read_csv if table.suffix.lower() == ".csv" else _read_json_lines
    jobs: list[Job] = []
    names: dict[str, int] = {}
    files = _Files(table.parent if table.is_file() else Path())  # a pipe such as /dev/stdin has no folder
    merged = [[_hash_file(lora.path), lora.strength] for lora in loras]
    try:
        for line, row in rows(table):
            job = _read_job(line, row, files, model, merged)
            if (before := names.setdefault(job.output.casefold(), line)) != line:
                raise InvalidRequest(
                    f'lines {before} and {line} both write "{job.output}" (upper and lower case are the same file on '
                    "many disks): give one of them another output"
                )
            jobs.append(job)
        _check_folders(names)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"{table} cannot be read as a table of jobs ({error}): give JSON lines or CSV"
        ) from error
    if not jobs:
        raise InvalidRequest(
            f"{table} holds no jobs: give one per line, as `echovideo batch --example` shows"
        )
    return jobs


def _check_folders(names: dict[str, int]) -> None:
    for name, line in names.items():
        parts = name.split("/")
        for count in range(1, len(parts)):
            if (other := names.get("/".join(parts[:count]))) is not None:
                raise InvalidRequest(
                    f'line {line} writes "{name}" into a folder, but line {other} writes a video with '
                    "that name: give one of them another output"
                )


def _read_json_lines(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with table.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text.rstrip())
            except ValueError as error:  # also a number of thousands of digits
                where = (
                    f"{error.msg} at column {error.colno}"
                    if isinstance(error, json.JSONDecodeError)
                    else error
                )
                raise InvalidRequest(f"line {line} of {table} is not JSON: {where}") from error
            if not isinstance(row, dict):
                raise InvalidRequest(f"line {line} of {table} is not a JSON object but {type(row).__name__}")
            yield line, row


def _read_csv(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            line = reader.line_num
            if None in row:
                raise InvalidRequest(f"line {line} of {table} has more cells than there are columns")
            yield line, {key: _read_cell(key, text, line) for key, text in row.items() if text}


def _read_cell(key: str, text: str, line: int) -> Any:
    """A CSV cell as JSON would give it."""
    try:
        if key in _WHOLE:
            return int(text)
        if key in _REAL:
            return float(text)
        if key in ("face_latent", "riflex"):
            return _TRUTH[text.lower()]
    except (ValueError, KeyError):
        raise InvalidRequest(f"line {line}: {key} cannot be {text!r}") from None
    return text.split(SEPARATOR) if key in ("photos", "masks") else text


def _read_job(
    line: int, row: dict[str, Any], files: _Files, model: ModelFacts, loras: list[list[Any]]
) -> Job:
    for key in row:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            meant = f"did you mean {near[0]}?" if near else f"choose from {', '.join(KEYS)}"
            raise InvalidRequest(f'line {line}: unknown setting "{key}"; {meant}')
    if "prompt" not in row:
        raise InvalidRequest(f"line {line}: the prompt is missing")
    try:
        photos, identity = _read_person(row, files)
        whole_person, masks = _read_picture(row, files, photos)
        request = Request(**model.defaults | {key: row[key] for key in SETTINGS if key in row})
        choice = _read_choice(row) if any(key in row for key in CHOICE) else LARGEST
        fps = row.get("fps", model.fps)
        if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not MIN_FPS <= fps <= MAX_FPS:
            raise InvalidRequest(f"fps must be from {MIN_FPS} to {MAX_FPS}, not {fps!r}")
        hashes = [files.hashes[path] for path in ((identity,) if identity else photos)]
        cut_out = ["person", [files.hashes[path] for path in masks]] if whole_person else []
        person = _digest([bool(identity), hashes, choice.order, choice.index, choice.padding, *cut_out])
        id = _digest([person, _list_settings(request), float(fps), *loras])
        output = _read_output(row.get("output"), id)
        return Job(
            line, photos, identity, choice, request, float(fps), output, person, id, whole_person, masks
        )
    except InvalidRequest as error:
        raise InvalidRequest(f"line {line}: {error}") from error
    except TypeError as error:
        raise InvalidRequest(f"line {line}: a value has the wrong type ({error})") from error


def _read_choice(row: dict[str, Any]) -> FaceChoice:
    index = row.get("face_index", LARGEST.index)
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise InvalidRequest(f"face_index counts from 0, so it cannot be {index!r}")
    padding = row.get("padding", LARGEST.padding)
    return FaceChoice(row.get("face_order", LARGEST.order), index, padding=padding)


def _list_settings(request: Request) -> dict[str, Any]:
    """What decides the frames. riflex is left out if it is off, so that ids from before it existed stay valid."""
    settings = vars(request)
    return settings if request.riflex else {name: settings[name] for name in settings if name != "riflex"}


def _read_person(row: dict[str, Any], files: _Files) -> tuple[tuple[Path, ...], Path | None]:
    photos, identity = row.get("photos"), row.get("identity")
    if bool(photos) == bool(identity):
        raise InvalidRequest("give either photos or an identity")
    if identity and any(key in row for key in CHOICE):
        raise InvalidRequest(f"an identity holds only one face: leave out {', '.join(CHOICE)}")
    if identity:
        return (), _find_files("identity", [identity], files)[0]
    return _find_files("photos", photos, files), None


def _read_picture(
    row: dict[str, Any], files: _Files, photos: tuple[Path, ...]
) -> tuple[bool, tuple[Path, ...]]:
    """Whether the picture shows the whole person, and the masks."""
    picture = row.get("picture", "face")
    if picture not in PICTURES:
        raise InvalidRequest(f"picture must be {' or '.join(PICTURES)}, not {picture!r}")
    if not photos and any(key in row for key in PICTURE):
        raise InvalidRequest(f"an identity's picture is already made: leave out {', '.join(PICTURE)}")
    masks = _find_files("masks", row["masks"], files) if row.get("masks") else ()
    if masks and picture != "person":
        raise InvalidRequest('masks need the picture "person": add that, or leave them out')
    if masks and len(masks) != len(photos):
        raise InvalidRequest(f"there must be one mask for each photo: {len(photos)}, not {len(masks)}")
    return picture == "person", masks


def _find_files(key: str, names: Any, files: _Files) -> tuple[Path, ...]:
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidRequest(f"{key} must name files, not {names!r}")
    return tuple(files.find(name) for name in names)


def _read_output(name: Any, id: str) -> str:
    if name is None:
        return f"{id[:16]}.mp4"
    path = PurePosixPath(name) if isinstance(name, str) and name[:1] != "~" else None
    if path is None or path.suffix != ".mp4" or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InvalidRequest(f"output must be a name below the output folder that ends in .mp4, not {name!r}")
    return str(path)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _hash_file(path: Path) -> str:
    """Raises InvalidRequest for a file that is missing or cannot be read."""
    if not path.is_file():
        raise InvalidRequest(f"{path} was not found")
    try:
        return hash_file(path)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from error


class _Files:
    """The hashes of the files that a table names, each file read once however many jobs it has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: dict[str, Path] = {}
        self.hashes: dict[Path, str] = {}

    def find(self, name: str) -> Path:
        """A file that a line names. Raises InvalidRequest where there is none."""
        if (known := self.paths.get(name)) is not None:
            return known
        path = self.folder / expand_user(name)
        if path not in self.hashes:
            self.hashes[path] = _hash_file(path)
        self.paths[name] = path
        return path
