"""Which sampler, which schedule, and which steps can be skipped, on the nano model in a real host.

    COMFYUI_PATH=... python -m benchmarks.steps caches|samplers|schedules [--people N]     (in that host's environment)

Each row is a mean over the same people with the same noise. PSNR: against the run that the title names. Time: of the
sampling alone, in processor seconds, against the first row. Similarity: to the photo, by EchoVideo Identity Score.
Faces: the share of frames that show one. Detail: the difference of neighbouring pixels against the title's run; much
above 1 is noise that was left, much below a blur.

caches: the host's EasyCache and LazyCache, TeaCache's rule with the coefficients published for CogVideoX-5b
(testbed/probe/teacache.py) and fewer steps, against the run that skips nothing. samplers, schedules: against euler with
the schedule simple and many steps, where every good solver without fresh noise leads.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from tqdm import tqdm

from benchmarks.on_nano import (
    GUIDANCE,
    Made,
    NoVideo,
    Subject,
    average,
    invite,
    ksampler,
    make,
    nano_host,
    parse,
    person,
    print_table,
    psnr,
    roughness,
    watched,
)
from testbed.graphs import Graph, node, out
from testbed.harness import Host

STEPS, MANY, FEW = 20, 100, 10
CACHED_STEPS = 50  # as the reference has it
EASY, LAZY, TEA = "EasyCache", "LazyCache", "TeaCacheRule"
THRESHOLDS = {EASY: (0.05, 0.1, 0.2, 0.3, 0.5), LAZY: (0.05, 0.2), TEA: (0.1, 0.2, 0.3)}
FEW_THRESHOLDS = {EASY: (0.2,), LAZY: (0.2,), TEA: (0.2,)}  # the nodes' own defaults, where they have one
FEWER = (30, 20)  # steps, the plain way to the same speed
SAMPLERS = (
    "euler", "ddim", "dpmpp_2m", "uni_pc", "res_multistep", "deis", "heun", "dpm_2", "dpm_fast",
    "euler_ancestral", "dpmpp_2m_sde", "er_sde", "ddpm", "lcm", "dpm_2_ancestral",
)  # fmt: skip
FRESH = SAMPLERS[SAMPLERS.index("euler_ancestral") :]  # draw new noise in every step: another video each
REFERENCE_DPM = "EchoVideo Sampler, reference DPM"
SCHEDULES = (
    "simple", "sgm_uniform", "beta", "normal", "ddim_uniform", "linear_quadratic", "karras", "exponential",
    "kl_optimal",
)  # fmt: skip
HEAD = "PSNR, dB", "time", "similarity", "faces", "detail"
Row = tuple[str, list[Made]]


def main() -> None:
    arguments = parse(__doc__, 2, add_table)
    with nano_host() as host:
        subjects = invite(host, arguments.people)
        make(host, plain(subjects[0], 1))  # networks are loaded and pages read before anything is timed
        TABLES[arguments.table](host, subjects)


def add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", choices=list(TABLES))


def caches(host: Host, subjects: list[Subject]) -> None:
    for steps, thresholds, fewer in ((CACHED_STEPS, THRESHOLDS, FEWER), (FEW, FEW_THRESHOLDS, ())):
        rows = [(f"all {steps} steps", [plain(one, steps) for one in subjects])]
        for kind, values in thresholds.items():
            for value in values:
                rows.append(
                    (f"{kind}, {value:g}", [cached(host, one, steps, kind, value) for one in subjects])
                )
        rows += [(f"{count} steps", [plain(one, count) for one in subjects]) for count in fewer]
        made = run_all(host, rows)
        first = next(made)
        print(
            f"\n{len(subjects)} people, euler, simple, {steps} steps, guidance {GUIDANCE}; against {first[0]}\n"
        )
        lines = (
            (name, steps_skipped(row), *figures(row, first[1], first[1]))
            for name, row in chain([first], made)
        )
        print_table(("", "steps skipped", *HEAD), lines)


def samplers(host: Host, subjects: list[Subject]) -> None:
    rows = [(describe(name), [plain(one, STEPS, sampler_name=name) for one in subjects]) for name in SAMPLERS]
    rows.append((f"{REFERENCE_DPM} *", [by_reference(one, STEPS) for one in subjects]))
    print_against_many(host, subjects, rows, f"simple, {STEPS} steps; *: draws fresh noise in every step")


def describe(sampler: str) -> str:
    return f"{sampler} *" if sampler in FRESH else sampler


def schedules(host: Host, subjects: list[Subject]) -> None:
    rows = [
        (f"{sampler}, {name}", [plain(one, STEPS, sampler_name=sampler, scheduler=name) for one in subjects])
        for sampler in ("euler", "dpmpp_2m")
        for name in SCHEDULES
    ]
    print_against_many(host, subjects, rows, f"{STEPS} steps")


TABLES = {"caches": caches, "samplers": samplers, "schedules": schedules}


def print_against_many(
    host: Host, subjects: list[Subject], rows: list[tuple[str, list[Graph]]], about: str
) -> None:
    many = (f"euler, simple, {MANY} steps", [plain(one, MANY) for one in subjects])
    made = run_all(host, [many, *rows])
    name, reference = next(made)
    first = next(made)
    print(f"\n{len(subjects)} people, {about}, guidance {GUIDANCE}; against {name}\n")
    lines = (
        (name, *figures(row, reference, first[1])) for name, row in chain([first, (name, reference)], made)
    )
    print_table(("", *HEAD), lines)


def plain(subject: Subject, steps: int, model: str = "model", **changed: str) -> Graph:
    return person(subject) | ksampler(subject, steps, model, **changed) | watched()


def cached(host: Host, subject: Subject, steps: int, kind: str, threshold: float) -> Graph:
    names = {EASY: "reuse_threshold", LAZY: "reuse_threshold", TEA: "threshold"}
    one = host.node(kind, model=out("model"), **{names[kind]: threshold})
    return plain(subject, steps, "cached") | {"cached": one}


def by_reference(subject: Subject, steps: int) -> Graph:
    """By this pack's own sampler: the published one."""
    graph = plain(subject, steps)
    ends = {"positive": out("cond", 0), "negative": out("cond", 1), "latent_image": out("cond", 2)}
    return graph | {
        "sampler": node("EchoVideoSampler", sampler="reference DPM"),
        "sigmas": node("EchoVideoScheduler", model=out("model"), steps=steps, denoise=1.0),
        "latents": node(
            "SamplerCustom",
            model=out("model"),
            add_noise=True,
            noise_seed=subject.seed,
            cfg=GUIDANCE,
            sampler=out("sampler"),
            sigmas=out("sigmas"),
            **ends,
        ),
    }


def run_all(host: Host, rows: Iterable[tuple[str, list[Graph]]]) -> Iterator[Row]:
    """Name and videos; none, and the reason in the name, where the host makes none."""
    for name, graphs in tqdm(list(rows), desc="rows", disable=None, mininterval=5):
        try:
            yield name, [make(host, graph) for graph in graphs]
        except NoVideo as error:  # a sampler that does not suit the model may end in NaN
            yield f"{name}: {error}", []


def figures(row: list[Made], reference: list[Made], first: list[Made]) -> tuple[str, ...]:
    """PSNR and detail against `reference`, time against `first`."""
    if not row:
        return ("",) * len(HEAD)
    detail = [
        roughness(one.frames) / roughness(other.frames) for one, other in zip(row, reference, strict=True)
    ]
    decibels = f"{psnr(zip(row, reference, strict=True)):.1f}".replace("inf", "equal")
    return (
        decibels if row is not reference else "",
        f"{average(one.seconds for one in row) / average(one.seconds for one in first):.2f}",
        f"{average(one.similarity for one in row):.3f}",
        f"{average(one.faces for one in row):.2f}",
        f"{average(detail):.2f}",
    )


def steps_skipped(row: list[Made]) -> str:
    """As the node's last line in the host's log says, on average; nothing where none could be."""
    counts = [re.findall(r" - skipped (\d+)/\d+ steps", one.log)[-1:] for one in row]
    return f"{average(float(count[0]) for count in counts):.1f}" if counts and all(counts) else ""


if __name__ == "__main__":
    main()
