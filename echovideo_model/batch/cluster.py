"""Runs the jobs of a table on a Ray cluster, or on processes of this machine that Ray starts and ends.

A job goes through three stages: a person is identified on CPUs, prompts are encoded and the clip is made by a worker
with its (share of a) GPU, and the video file is encoded on a CPU again. Ray places them, hands the results from one to
the next, restarts dead workers and repeats what they were doing. Only this process, the driver, reads photos and writes
to the output folder: nodes need the models, any LoRAs and this package, but no shared disk.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import cycle
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from ..errors import DependencyMissing, InvalidRequest
from ..face.choice import FaceChoice
from ..identity import Identity
from ..pipeline import Pipeline
from ..weights.merging import Lora
from .folder import Folder, MachineFault
from .job import Job
from .work import (
    JOBS_FAULT,
    Clip,
    Encoded,
    OnJob,
    PersonFiles,
    add_failure,
    encode_each,
    encode_mp4,
    identify,
    keep_identity,
    load_identity,
    make_clip,
    read_person,
    write_video,
)

if TYPE_CHECKING:
    from ..credentials import Credential

JOBS_A_WORKER = 2  # handed out at a time: one is made, the next one's person and prompt are prepared
WORKERS_A_FACE_WORKER = 16  # a face takes a second or two, a video a minute or more
REPEATS = 3  # of a job whose worker dies, before it is left to the next run of the command
USAGE = "RAY_USAGE_STATS_ENABLED"
RECENT = 32  # persons and prompts whose tensors wait in the object store for another job: 2 and 4 MB each


@dataclass(frozen=True)
class Cluster:
    """address: of a running cluster ("auto": the one that this machine belongs to); None starts one here.

    workers: how many make clips; by default one for each `gpus_per_worker` of the cluster's GPUs, or for each CPU where
    the device is the CPU.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 1.0


@dataclass(frozen=True)
class Models:
    """The arguments of a worker's Pipeline."""

    folder: Path
    device: str | None = None
    storage: torch.dtype | None = None
    transformer: Path | None = None
    loras: tuple[Lora, ...] = ()


def make_jobs_on(
    cluster: Cluster,
    jobs: Sequence[Job],
    folder: Folder,
    models: Models,
    on_job: OnJob,
    ai_tag: bool = True,
    credential: Credential | None = None,
) -> int:
    """`work.make_jobs` over a cluster: every job once, in any order; returns how many failed.

    At most JOBS_A_WORKER jobs a worker are under way, so neither the driver's memory nor the object store grows with
    the table. A job whose worker died REPEATS + 1 times is not kept as a failure: the same command tries it again.
    Videos are signed here, so the private key of `credential` stays in this process.
    Raises what is the machine's fault, and DependencyMissing without Ray.
    """
    with _connected(cluster) as ray:
        stages = _Stages(ray, cluster, models, folder, ai_tag, credential)
        stages.check(faces=any(job.photos for job in jobs))
        failed = 0
        for job, error in _run(ray, jobs, stages):
            failed += error is not None
            on_job(job, error or "made")
        return failed


def _run(ray: ModuleType, jobs: Sequence[Job], stages: _Stages) -> Iterator[tuple[Job, str | None]]:
    """Yields each job when it ends, with the sentence of its failure."""
    free = stages.makers * JOBS_A_WORKER
    running: dict[Any, tuple[Job, Any]] = {}  # {video file to be: job, its worker}

    def end_one() -> tuple[Job, str | None]:
        (ended, *_), _ = ray.wait(list(running), num_returns=1, fetch_local=False)
        job, maker = running.pop(ended)
        free.append(maker)
        return job, stages.finish(job, lambda: stages.get(ended))

    for job in jobs:
        if not free:
            yield end_one()
        try:
            running[stages.submit(job, free[0])] = job, free[0]
            del free[0]
        except JOBS_FAULT as error:  # its photo cannot be read, say
            yield job, stages.finish(job, partial(_raise, error))
    while running:
        yield end_one()


class _Worker:
    """One process of a stage. `share` of a GPU is its own; 0 where it works on CPUs."""

    def __init__(self, models: Models, share: float) -> None:
        self.models, self.share = models, share

    @cached_property
    def pipeline(self) -> Pipeline:
        models = self.models
        try:
            pipeline = Pipeline(
                models.folder, models.device, models.storage, models.transformer, loras=models.loras
            )
            if models.loras:  # one that only this node lacks is not the job's fault
                pipeline.check(faces=False)
        except InvalidRequest as error:
            raise MachineFault(str(error)) from error
        if self.share:
            pipeline.stay_on_device(self.share)
        return pipeline

    def check(self, faces: bool) -> None:
        self.pipeline.check(faces)

    def identify(self, person: PersonFiles, choice: FaceChoice) -> Identity:
        return identify(person, choice, self.pipeline)

    def encode(self, prompt: str) -> Encoded:
        return encode_each([prompt], self.pipeline)[prompt]

    def make(self, job: Job, identity: Identity, negative: Encoded, positive: Encoded) -> Clip:
        return make_clip(job, identity, negative, positive, self.pipeline)


class _Stages:
    """The workers, and how a job passes through them."""

    def __init__(
        self,
        ray: ModuleType,
        cluster: Cluster,
        models: Models,
        folder: Folder,
        ai_tag: bool,
        credential: Credential | None,
    ) -> None:
        self.ray, self.folder, self.ai_tag, self.credential = ray, folder, ai_tag, credential
        gpus, count = _share_out(cluster, models.device, ray.cluster_resources())
        worker = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=REPEATS)(_Worker)
        seeing = replace(models, device="cpu", loras=())
        making = replace(models, device="cuda" if gpus else "cpu")
        self.makers = [worker.options(num_gpus=gpus).remote(making, gpus) for _ in range(count)]
        self.faces = cycle([worker.remote(seeing, 0.0) for _ in range(_face_workers(count))])
        self.encode_mp4 = ray.remote(num_cpus=1, max_retries=REPEATS)(encode_mp4)
        self.people, self.prompts = _Recent(), _Recent()
        self.found: dict[str, Any] = {}  # {person: who was identified in this run and is not kept yet}

    def check(self, faces: bool) -> None:
        """Raises what the first worker lacks, before any job is handed out."""
        try:
            self.get(self.makers[0].check.remote(faces))
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().rpartition("\n")[2]
            raise MachineFault(f"the first worker could not start: {reason}") from error

    def submit(self, job: Job, maker: Any) -> Any:
        """Sends the job on its way; returns the reference of its video file. Raises JOBS_FAULT."""
        person = self.people.get(job.person, lambda: self._find_person(job))
        negative, positive = (self.prompts.get(one, partial(maker.encode.remote, one)) for one in job.prompts)
        clip = maker.make.remote(job, person, negative, positive)
        return self.encode_mp4.remote(clip, job.fps, self.ai_tag)

    def finish(self, job: Job, video: Callable[[], bytes]) -> str | None:
        """Writes the video; returns the sentence of its failure. Raises MachineFault."""
        found = self.found.pop(job.person, None)
        try:
            if found is not None:
                keep_identity(job, self.get(found), self.folder)
            write_video(job, video(), self.folder, self.credential)
        except MachineFault:
            raise
        except JOBS_FAULT as error:
            return add_failure(self.folder, job, error)
        except self.ray.exceptions.RayError as error:
            return (
                f"line {job.line}: its worker died repeatedly ({type(error).__name__}): run the command again"
            )
        return None

    def get(self, reference: Any) -> Any:
        """What a stage returned. Raises what it raised, and RayError where it died."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            cause: BaseException = error
            while isinstance(cause, self.ray.exceptions.RayTaskError):
                cause = cause.cause
            raise cause from None

    def _find_person(self, job: Job) -> Any:
        if (identity := load_identity(job, self.folder)) is not None:
            return self.ray.put(identity)
        self.found[job.person] = next(self.faces).identify.remote(read_person(job), job.choice)
        return self.found[job.person]


class _Recent(OrderedDict[str, Any]):
    """The most recently used references; Ray drops from its object store what no reference names."""

    def get(self, key: str, make: Callable[[], Any]) -> Any:  # type: ignore[override]
        if key not in self:
            self[key] = make()
            if len(self) > RECENT:
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]


def _raise(error: Exception) -> bytes:
    raise error


def _face_workers(makers: int) -> int:
    return math.ceil(makers / WORKERS_A_FACE_WORKER)


def _share_out(cluster: Cluster, device: str | None, there: dict[str, float]) -> tuple[float, int]:
    """GPUs for each worker, and how many workers. Raises InvalidRequest if they can never fit."""
    share, gpus, cpus = cluster.gpus_per_worker, there.get("GPU", 0.0), there.get("CPU", 0.0)
    if device not in (None, "cuda", "cpu"):
        raise InvalidRequest(
            f'with --ray, --device must be cuda or cpu, not "{device}": Ray chooses which GPU'
        )
    if device == "cpu" or (device is None and not gpus):
        return 0.0, cluster.workers or max(1, int(cpus) - 2)  # one for faces, one for video files
    count = cluster.workers or int(gpus / share + 1e-6)
    if count < 1 or (cluster.address is None and count * share > gpus + 1e-6):
        raise InvalidRequest(
            f"{max(count, 1)} workers with {share:g} GPUs each do not fit on {gpus:g} GPUs: choose "
            "fewer or --device cpu"
        )
    return share, count


@contextmanager
def _connected(cluster: Cluster) -> Iterator[ModuleType]:
    """Ray, connected; what was started here is stopped afterwards, and dies with this process."""
    try:
        import ray
    except ImportError as error:
        raise DependencyMissing('--ray needs Ray: pip install "ray>=2.40"') from error
    options: dict[str, Any] = {"address": cluster.address}
    if cluster.address is None:  # for this process alone
        workers = cluster.workers or 1
        cpus = max(os.cpu_count() or 1, workers + _face_workers(workers) + 1)
        options = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        options["_node_ip_address"] = "127.0.0.1"
        options["_system_config"] = {"agent_register_timeout_ms": 120_000}  # a busy machine is not broken
    try:
        with _undisturbed():
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """ray.init takes over SIGTERM, which the command line needs, and reports usage to Ray's makers unless an
    environment variable forbids it; it raises errors of many classes, Exception itself among them."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    said = os.environ.get(USAGE)
    os.environ[USAGE] = said or "0"
    try:
        yield
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise MachineFault(
            f"cannot reach or start Ray (if this machine is very busy, run the same command again): {reason}"
        ) from error
    finally:
        if said is None:
            del os.environ[USAGE]
        if in_main_thread:
            signal.signal(signal.SIGTERM, handler)
