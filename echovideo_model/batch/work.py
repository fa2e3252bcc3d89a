"""The jobs of a table on this machine: each person identified once, each prompt encoded once, what is there kept.

A job is done when its video is there whole: videos are written beside their place and renamed, and carry the job's id.
What failed is kept with its sentence in `failures.jsonl`. A fault of the machine (a full disk, say) is no job's fault:
it stops the batch, and the same command goes on from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import EchoVideoError, InvalidRequest
from ..face.photo import load_photo
from ..identity import Identity
from ..pipeline import Pipeline
from ..video import describe, write_mp4
from .job import Job

FAILURES = "failures.jsonl"
IDENTITIES = ".identities"  # in the output folder: what a person was identified as, for the next run
PROMPTS_AT_ONCE = 16  # encoded together, so that the text encoder is moved to the device once for all of them

OnJob = Callable[[Job, str], None]
"""Called after each job with "made" or the sentence of its failure."""


@dataclass(frozen=True)
class Plan:
    """What of a table is to be made, in the order in which it is cheapest; the rest is there or has failed before."""

    pending: list[Job]
    done: int
    failed: int


def plan_jobs(jobs: Sequence[Job], folder: Path, retry: bool = False) -> Plan:
    """Looks at what `folder` holds. `retry`: what failed before is made again."""
    failures = {} if retry else read_failures(folder)
    missing = [job for job in jobs if not is_done(job, folder)]
    pending = [job for job in missing if job.id not in failures]
    pending.sort(key=lambda job: (_prompts(job), job.person, job.line))
    return Plan(pending, len(jobs) - len(missing), len(missing) - len(pending))


def is_done(job: Job, folder: Path) -> bool:
    """Whether the job's own video is there; one of an older version of the job is not."""
    path = folder / job.output
    if not path.is_file():
        return False
    try:
        return describe(path).metadata.get("job") == job.id
    except InvalidRequest:  # not a video
        return False


def make_jobs(jobs: Sequence[Job], folder: Path, pipeline: Pipeline, on_job: OnJob) -> int:
    """Makes every job, in the order given; returns how many failed. Raises what is the machine's fault."""
    failed = 0
    for chunk in _chunks_of_prompts(jobs):
        prompts = list(dict.fromkeys(prompt for job in chunk for prompt in _prompts(job)))
        text = encode_each(prompts, pipeline)
        for job in chunk:
            try:
                make_job(job, folder, pipeline, text)
                on_job(job, "made")
            except JobFailed as error:
                failed += 1
                add_failure(folder, job, error)
                on_job(job, str(error))
    return failed


class JobFailed(Exception):
    """A job that cannot be made: its photo shows no face, say. The others go on."""


def encode_each(prompts: Sequence[str], pipeline: Pipeline) -> dict[str, Tensor | EchoVideoError]:
    """{prompt: its text tokens, or why there are none}: a prompt that cannot be read fails its own jobs alone."""
    encoded: dict[str, Tensor | EchoVideoError] = {}
    try:
        encoded |= pipeline.encode_prompts(prompts)
    except EchoVideoError:
        for prompt in prompts:
            try:
                encoded |= pipeline.encode_prompts([prompt])
            except EchoVideoError as error:
                encoded[prompt] = error
    return encoded


def make_job(job: Job, folder: Path, pipeline: Pipeline, text: dict[str, Tensor | EchoVideoError]) -> None:
    """One video. Raises JobFailed, and MachineFault where the output folder cannot be written."""
    try:
        identity = find_identity(job, folder, pipeline)
        tokens: dict[str, Tensor] = {}
        for prompt in _prompts(job):
            encoded = text[prompt]
            if isinstance(encoded, EchoVideoError):
                raise encoded
            tokens[prompt] = encoded
        result = pipeline.make(identity, job.request, tokens)
    except MachineFault:
        raise
    except EchoVideoError as error:
        raise JobFailed(f"line {job.line}: {error}") from error
    metadata = result.metadata() | {"fps": f"{job.fps:g}", "job": job.id}
    try:
        write_mp4(folder / job.output, result.frames, job.fps, metadata)
    except InvalidRequest as error:
        if isinstance(error.__cause__, OSError):
            raise MachineFault(str(error)) from error
        raise JobFailed(f"line {job.line}: {error}") from error  # frames with NaN


class MachineFault(InvalidRequest):
    """Something that would stop every job alike: a full disk, a folder that cannot be written."""


def find_identity(job: Job, folder: Path, pipeline: Pipeline) -> Identity:
    """The job's person, from the file that it names, from the run before, or from the photos."""
    if job.identity is not None:
        return Identity.load(job.identity)
    kept = folder / IDENTITIES / f"{job.person}.safetensors"
    if kept.is_file():
        return Identity.load(kept)
    identity = pipeline.identify([load_photo(path) for path in job.photos], job.choice)
    try:
        identity.save(kept, title="batch")
    except InvalidRequest as error:
        raise MachineFault(str(error)) from error
    return identity


def read_failures(folder: Path) -> dict[str, dict[str, Any]]:
    """{job's id: what was written of its failure}; a line that a kill cut short is left out."""
    found: dict[str, dict[str, Any]] = {}
    path = folder / FAILURES
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
                found[row["id"]] = row
            except (ValueError, KeyError, TypeError):
                continue
    return found


def add_failure(folder: Path, job: Job, error: JobFailed) -> None:
    cause = error.__cause__ or error
    row = {
        "id": job.id,
        "line": job.line,
        "output": job.output,
        "error": type(cause).__name__,
        "sentence": str(error),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FAILURES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error_of_writing:
        raise MachineFault(
            f"cannot write {folder / FAILURES}: {error_of_writing.strerror}"
        ) from error_of_writing


def _prompts(job: Job) -> tuple[str, str]:
    return job.request.negative_prompt, job.request.prompt


def _chunks_of_prompts(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """The jobs in groups of at most PROMPTS_AT_ONCE different prompts; jobs of one prompt stay together."""
    chunk: list[Job] = []
    known: set[str] = set()
    for prompts, group in groupby(jobs, key=_prompts):
        if chunk and len(known | {*prompts}) > PROMPTS_AT_ONCE + 1:
            yield chunk
            chunk, known = [], set()
        known |= {*prompts}
        chunk += group
    if chunk:
        yield chunk
