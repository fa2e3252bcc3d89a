"""The pack as the host sees it: it loads, quickly and quietly, and every node describes itself."""

from __future__ import annotations

from harness import Host


def test_the_pack_loads(host: Host) -> None:
    assert "IMPORT FAILED" not in host.log()
    assert "ComfyUI-EchoVideo" in host.log()
