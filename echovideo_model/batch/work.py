"""Runs the jobs of a table on this machine: identifies each person once, encodes each prompt once, keeps what exists.

A job is done when its video is complete: videos are written atomically and carry the job's id. Failures are kept with
their errors in `failures.jsonl`. A fault of the machine (such as a full disk) is not the job's: it stops the batch, and
the same command resumes it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from ..errors import (
    DependencyMissing,
    EchoVideoError,
    FaceIndexOutOfRange,
    InvalidRequest,
    NoFaceFound,
    WrongModelFile,
    is_out_of_memory,
)
from ..face.choice import FaceChoice
from ..face.person import File, decode_people
from ..face.photo import decode_photo
from ..identity import Identity
from ..pipeline import Pipeline
from ..video import to_uint8, write_mp4
from .folder import FAILURES, Folder, MachineFault
from .job import Job

if TYPE_CHECKING:
    from ..credentials import Credential

PROMPTS_AT_ONCE = 16  # encoded together, so that the text encoder is moved to the device once for all of them
JOBS_FAULT = (
    InvalidRequest,
    NoFaceFound,
    FaceIndexOutOfRange,
)  # MachineFault apart; a missing model stops all

OnJob = Callable[[Job, str], None]
"""Called after each job with "made" or the sentence of its failure."""

Encoded = Tensor | EchoVideoError
"""A prompt's text tokens [1, 226, 4096], or why there are none."""


@dataclass(frozen=True)
class Plan:
    """The jobs still to do, in the cheapest order; the others are done or failed before."""

    pending: list[Job]
    done: int
    failed: int


class PersonFiles(NamedTuple):
    """What a job's identity is made from, read, so that no other machine needs the files."""

    photos: Sequence[File]
    masks: Sequence[File]
    whole_person: bool


class Clip(NamedTuple):
    """A finished video before it is a file: frames uint8 [F, H, W, 3], and the file's metadata."""

    frames: np.ndarray
    metadata: dict[str, str]


def plan_jobs(jobs: Sequence[Job], folder: Folder, retry: bool = False) -> Plan:
    """Looks at what `folder` holds. `retry`: jobs that failed before are tried again."""
    failures = {} if retry else read_failures(folder)
    there = folder.list_jobs(job.output for job in jobs)
    missing = [job for job in jobs if there.get(job.output) != job.id]
    pending = [job for job in missing if job.id not in failures]
    pending.sort(key=lambda job: (job.prompts, job.person, job.line))
    return Plan(pending, len(jobs) - len(missing), len(missing) - len(pending))


def make_jobs(
    jobs: Sequence[Job],
    folder: Folder,
    pipeline: Pipeline,
    on_job: OnJob,
    ai_tag: bool = True,
    credential: Credential | None = None,
) -> int:
    """Makes every job, in the order given; returns how many failed. Raises what is the machine's fault.

    ai_tag: as of `write_mp4`. credential: signs every video.
    """
    failed = 0
    people = _People(folder, pipeline)
    text: dict[str, Encoded] = {}
    for chunk in _chunk_by_prompts(jobs):
        wanted = dict.fromkeys(prompt for job in chunk for prompt in job.prompts)
        text = {prompt: text[prompt] for prompt in wanted if prompt in text}
        text |= encode_each([prompt for prompt in wanted if prompt not in text], pipeline)
        for job in chunk:
            try:
                negative, positive = job.prompts
                clip = make_clip(job, people.find(job), text[negative], text[positive], pipeline)
                write_video(job, encode_mp4(clip, job.fps, ai_tag), folder, credential)
                on_job(job, "made")
            except MachineFault:
                raise
            except JOBS_FAULT as error:
                failed += 1
                on_job(job, add_failure(folder, job, error))
    return failed


def encode_each(prompts: Sequence[str], pipeline: Pipeline) -> dict[str, Encoded]:
    """{prompt: its text tokens, or why there are none}: a prompt that cannot be read fails its own jobs alone."""
    encoded: dict[str, Encoded] = {}
    try:
        encoded |= pipeline.encode_prompts(prompts)
    except InvalidRequest:
        for prompt in prompts:
            try:
                encoded |= pipeline.encode_prompts([prompt])
            except InvalidRequest as error:
                encoded[prompt] = InvalidRequest(str(error))
    return encoded


def load_identity(job: Job, folder: Folder) -> Identity | None:
    """The job's person from the file that it names, or from the run before; None where the photos are to be read."""
    path = job.identity or _kept_identity(job, folder)
    if job.identity is None and not path.is_file():
        return None
    try:
        return Identity.load(path)
    except WrongModelFile as error:
        raise InvalidRequest(str(error)) from error  # the job's, not the models'


def keep_identity(job: Job, identity: Identity, folder: Folder) -> None:
    """For the person's other jobs and for the next run. Raises MachineFault."""
    try:
        identity.save(_kept_identity(job, folder), title="batch")
    except InvalidRequest as error:
        raise MachineFault(str(error)) from error


def read_person(job: Job) -> PersonFiles:
    try:
        photos, masks = (
            [(str(path), path.read_bytes()) for path in paths] for paths in (job.photos, job.masks)
        )
    except OSError as error:
        raise InvalidRequest(f"cannot read {error.filename}: {error.strerror}") from error
    return PersonFiles(photos, masks, job.whole_person)


def identify(person: PersonFiles, choice: FaceChoice, pipeline: Pipeline) -> Identity:
    """The person in the photos of a job. Raises JOBS_FAULT."""
    try:
        if person.whole_person:
            pixels, masks = decode_people(person.photos, person.masks)
        else:
            pixels, masks = [decode_photo(data, name) for name, data in person.photos], None
    except DependencyMissing as error:  # for one format of photos; the others go on
        raise InvalidRequest(str(error)) from error
    return pipeline.identify(pixels, choice, masks)


def make_clip(job: Job, identity: Identity, negative: Encoded, positive: Encoded, pipeline: Pipeline) -> Clip:
    """The job's frames. Raises JOBS_FAULT, also when memory runs out: a smaller job may still fit."""
    request, text = job.request, {}
    for prompt, encoded in zip(job.prompts, (negative, positive), strict=True):
        if isinstance(encoded, EchoVideoError):
            raise encoded
        text[prompt] = encoded
    try:
        result = pipeline.make(identity, request, text)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InvalidRequest(
            f"out of memory at {request.width}x{request.height} and {request.frames} frames: choose fewer"
        ) from error
    frames = np.stack([to_uint8(frame, f"frame {index}") for index, frame in enumerate(result.frames)])
    return Clip(frames, result.metadata() | {"fps": f"{job.fps:g}", "job": job.id})


def encode_mp4(clip: Clip, fps: float, ai_tag: bool = True) -> bytes:
    """The video file's bytes: files go through a scratch folder, since writing an mp4 ends with moving its index to the
    front."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "video.mp4")
        try:
            write_mp4(path, clip.frames, fps, clip.metadata, ai_tag=ai_tag)
        except InvalidRequest as error:
            raise MachineFault(str(error)) from error  # frames and rate are right by now
        return path.read_bytes()


def write_video(job: Job, video: bytes, folder: Folder, credential: Credential | None) -> None:
    """Writes the video file, signed if there is a credential; if signing fails, nothing is written. Raises
    MachineFault."""
    if credential is not None:
        try:
            video = credential.sign_mp4(video)
        except InvalidRequest as error:
            raise MachineFault(str(error)) from error
    folder.write(job.output, video)


def read_failures(folder: Folder) -> dict[str, dict[str, Any]]:
    """{job's id: the record of its failure}; a line that a kill cut short is left out."""
    found: dict[str, dict[str, Any]] = {}
    for line in folder.read(FAILURES).decode("utf-8", "replace").splitlines():
        try:
            row = json.loads(line)
            found[row["id"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return found


def add_failure(folder: Folder, job: Job, error: Exception) -> str:
    """Keeps the failure for the next run; returns its sentence. Raises MachineFault."""
    sentence = f"line {job.line}: {error}"
    row = {
        "id": job.id,
        "line": job.line,
        "output": job.output,
        "error": type(error).__name__,
        "sentence": sentence,
    }
    folder.append(FAILURES, _to_line(row))
    return sentence


def forget_failures(folder: Folder, jobs: Sequence[Job]) -> None:
    """Removes the failures of jobs that are tried again, so that each is listed once, or not at all if it succeeds.
    Raises MachineFault."""
    failures, again = read_failures(folder), {job.id for job in jobs}
    if not again.isdisjoint(failures):
        kept = "".join(_to_line(row) for id, row in failures.items() if id not in again)
        folder.write(FAILURES, kept.encode())


def _to_line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


class _People:
    """Looks for each person once, whether found or not."""

    def __init__(self, folder: Folder, pipeline: Pipeline) -> None:
        self.folder, self.pipeline = folder, pipeline
        self.failures: dict[str, EchoVideoError] = {}

    def find(self, job: Job) -> Identity:
        if job.person in self.failures:
            raise self.failures[job.person]
        identity = load_identity(job, self.folder)
        if identity is None:
            try:
                identity = identify(read_person(job), job.choice, self.pipeline)
            except JOBS_FAULT as error:
                self.failures[job.person] = type(error)(
                    str(error)
                )  # without the frames, and so the pixels, of this one
                raise
            keep_identity(job, identity, self.folder)
        return identity


def _kept_identity(job: Job, folder: Folder) -> Path:
    return folder.identities / f"{job.person}.safetensors"


def _chunk_by_prompts(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """The jobs in groups of at most PROMPTS_AT_ONCE different prompts; jobs of one prompt stay together."""
    chunk: list[Job] = []
    known: set[str] = set()
    for prompts, group in groupby(jobs, key=lambda job: job.prompts):
        if chunk and len(known | {*prompts}) > PROMPTS_AT_ONCE + 1:
            yield chunk
            chunk, known = [], set()
        known |= {*prompts}
        chunk += group
    if chunk:
        yield chunk
