"""Prompts on a real host: with T5's own tokenizer, which hosts bring."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from testbed.graphs import conditioning, loaders, node, out, prompts, sampled
from testbed.harness import Host, expect_failure


def plain(prompt: str, clip: str = "clip") -> dict[str, Any]:
    graph = loaders() | prompts(prompt) | conditioning() | sampled(steps=1)
    graph["prompt"]["inputs"]["clip"] = out(clip)
    return graph


@pytest.mark.parametrize("prompt", ["一个女人在读书", "男の人が笑う", "여자가 웃는다", "{~}", "👋"])
def test_a_prompt_of_which_t5_knows_nothing_is_refused(host: Host, prompt: str) -> None:
    assert "write it in English" in expect_failure(host, plain(prompt))


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a man 👋 waves <at> us", "T5 does not know 👋 <"),
        ("a man reads 書", "T5 does not know 書"),
        ("a man walks " * 100 + "to the sunlit beach", "cut off its end:"),
    ],
)
def test_what_of_a_prompt_is_lost_is_said(host: Host, prompt: str, said: str) -> None:
    before = host.log().count(said)
    assert host.run(plain(prompt)).status == "success"
    assert host.log().count(said) == before + 1


def test_options_of_the_tokenizer_do_not_change_the_trained_length(host: Host) -> None:
    options = {"other": node("T5TokenizerOptions", clip=out("clip"), min_padding=7, min_length=300)}
    changed = host.run(plain("a man waves", clip="other") | options)
    assert changed.status == "success", changed.message
    assert torch.equal(changed.latents(), host.run(plain("a man waves")).latents())
