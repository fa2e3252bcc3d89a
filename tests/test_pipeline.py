"""One photo and a sentence become a video: the same one every time, as the settings say, and stoppable at any step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import T5EncoderModel, T5Tokenizer

from echovideo_model import pipeline as pipeline_module
from echovideo_model.devices import find_device, on_device
from echovideo_model.errors import Cancelled, InvalidRequest, ModelFileMissing, WrongModelFile
from echovideo_model.face.align import face_latent_pixels
from echovideo_model.identity import Identity
from echovideo_model.pipeline import Pipeline, Result
from echovideo_model.request import Request
from echovideo_model.tiny import PORTRAITS
from testbed.checkpoints import write_transformer

SMALL = Request("A man waves.", height=64, width=64, frames=5, steps=3)  # of the fixture `run`


@pytest.fixture(scope="module")
def stranger(pipeline: Pipeline) -> Identity:
    return pipeline.identify(PORTRAITS[1])


@pytest.fixture
def video(pipeline: Pipeline, person: Identity) -> Callable[..., Tensor]:
    """Latents of the small run with some settings changed."""

    def make(**changes: Any) -> Tensor:
        return pipeline.generate(person, replace(SMALL, **changes)).latents

    return make


@pytest.fixture
def branches(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch size of each call of the transformer."""
    seen: list[int] = []
    forward = pipeline.transformer.forward

    def counting(x: Tensor, *args: Any, **named: Any) -> Tensor:
        seen.append(len(x))
        return forward(x, *args, **named)

    monkeypatch.setattr(pipeline.transformer, "forward", counting)
    return seen


# What comes out --------------------------------------------------------------------------------------------------


def test_frames_are_floats_between_0_and_1_on_the_cpu_that_can_be_worked_on(run: Result) -> None:
    assert run.frames.shape == (5, 64, 64, 3)
    assert run.frames.dtype == torch.float32
    assert run.frames.device.type == "cpu"
    assert 0 <= run.frames.min() < run.frames.max() <= 1
    for tensor in (run.frames, run.latents):
        assert not tensor.is_inference()  # on such, nothing may be changed in place


@pytest.mark.parametrize(
    ("frames", "height", "width"),
    [(1, 64, 64), (5, 48, 80), (9, 64, 48), (1, 16, 16), (5, 16, 16), (1, 16, 2048), (1, 2048, 16)],
)
def test_any_number_of_frames_and_any_size_comes_out_as_asked(
    pipeline: Pipeline, person: Identity, frames: int, height: int, width: int
) -> None:
    request = Request("", height=height, width=width, frames=frames, steps=1)
    result = pipeline.generate(person, request)
    assert result.frames.shape == (frames, height, width, 3)
    assert result.latents.shape == request.latent_shape
    assert result.frames.isfinite().all()


@pytest.mark.parametrize(("frames", "changes"), [(49, False), (69, True)])
def test_riflex_changes_videos_longer_than_the_training_s_alone(
    video: Callable[..., Tensor], frames: int, changes: bool
) -> None:
    small = {"height": 16, "width": 16, "frames": frames, "steps": 1}
    assert torch.equal(video(**small, riflex=True), video(**small)) != changes


@pytest.mark.parametrize("sampler", ["dpm", "ddim"])
def test_a_run_equals_one_put_together_from_diffusers_and_transformers(
    pipeline: Pipeline, person: Identity, tiny_set: Path, sampler: str
) -> None:
    # 7 steps, which do not divide 1000; 9 frames, for which diffusers' VAE is right
    request = Request(
        "A man waves.", "blurred", 48, 64, frames=9, steps=7, seed=3, guidance_scale=3, guidance="constant",
        sampler=sampler,  # type: ignore[arg-type]
    )  # fmt: skip
    theirs, latents = by_other_libraries(pipeline, person, tiny_set, request)
    ours = pipeline.generate(person, request)
    assert (ours.latents - latents).abs().max() <= 1e-4 * latents.abs().max()
    assert (ours.frames - theirs).abs().max() <= 2e-3


def test_prompts_have_as_many_tokens_as_the_transformer_reads(
    tiny_set: Path, person: Identity, tmp_path: Path
) -> None:
    write_transformer(tmp_path / "few.safetensors", text_tokens=24)
    few = Pipeline(tiny_set, device="cpu", transformer=tmp_path / "few.safetensors")
    assert few.text_encoder.encode(["A man waves."]).shape[1] == 24
    assert few.generate(person, SMALL).latents.isfinite().all()


@torch.no_grad()
def by_other_libraries(
    pipeline: Pipeline, person: Identity, tiny_set: Path, request: Request
) -> tuple[Tensor, Tensor]:
    """Frames and latents as the reference's order of work gives them; ours is only the transformer."""
    tokenizer = T5Tokenizer.from_pretrained(tiny_set / "tokenizer")
    encoder = T5EncoderModel.from_pretrained(tiny_set / "text_encoder").eval()
    prompts = [request.negative_prompt, request.prompt]
    ids = tokenizer(prompts, padding="max_length", max_length=226, return_tensors="pt").input_ids
    text = encoder(ids).last_hidden_state
    face_tokens = torch.stack([person.null_tokens, person.face_tokens])
    embeddings = torch.stack([torch.zeros(512), person.id_embedding])
    context = pipeline.transformer.fuse(text, face_tokens, embeddings)

    vae = AutoencoderKLCogVideoX.from_pretrained(tiny_set / "vae").eval()
    generator = torch.Generator().manual_seed(request.seed)
    _, channels, frames, height, width = request.latent_shape
    x = torch.randn(1, frames, channels, height, width, generator=generator)
    pixels = face_latent_pixels(person.face_picture, request.height, request.width)[None, :, None]
    posterior = vae.encode(pixels).latent_dist
    noise = torch.randn(posterior.mean.transpose(1, 2).shape, generator=generator).transpose(1, 2)
    face_latent = 0.7 * (posterior.mean + posterior.std * noise)

    common = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": True,
        "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "snr_shift_scale": 1.0,
        "timestep_spacing": "trailing",
    }  # fmt: skip
    dpm = CogVideoXDPMScheduler(**common) if request.sampler == "dpm" else None
    scheduler = dpm or CogVideoXDDIMScheduler(**common)
    scheduler.set_timesteps(request.steps)
    old = before = None
    for t in scheduler.timesteps:
        inputs = x.transpose(1, 2).expand(2, -1, -1, -1, -1)
        negative, positive = pipeline.transformer(inputs, t.expand(2), context, face_latent).transpose(1, 2)
        v = (negative + request.guidance_scale * (positive - negative))[None]
        if dpm:
            x, old = dpm.step(v, old, t, before, x, generator=generator, return_dict=False)
        else:
            x = scheduler.step(v, t, x, return_dict=False)[0]
        before = t
    latents = x.transpose(1, 2)  # [1, 16, T, h, w]
    decoded = vae.decode(latents / 0.7).sample  # [1, 3, F, H, W]
    return (decoded[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1), latents


# Seeds -----------------------------------------------------------------------------------------------------------


def test_the_same_request_gives_the_same_video_to_the_bit(
    pipeline: Pipeline, person: Identity, run: Result
) -> None:
    again = pipeline.generate(person, SMALL)
    assert torch.equal(again.latents, run.latents)
    assert torch.equal(again.frames, run.frames)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 43},
        {"prompt": "A woman laughs."},
        {"negative_prompt": "blurred"},
        {"steps": 4},
        {"guidance": "constant"},
        {"guidance": "smooth"},
        {"guidance_scale": 5.0},
        {"sampler": "ddim"},
        {"strength": 0.9},
        {"face_latent": False},
    ],
    ids=str,
)
def test_every_setting_changes_the_video(
    run: Result, video: Callable[..., Tensor], change: dict[str, Any]
) -> None:
    latents = video(**change)
    assert (latents - run.latents).abs().max() > 1e-3 * run.latents.abs().max()


def test_torchs_own_random_numbers_are_neither_used_nor_disturbed(
    run: Result, video: Callable[..., Tensor]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        state = torch.get_rng_state()
        assert torch.equal(video(), run.latents)
        assert torch.equal(torch.get_rng_state(), state)


def test_videos_of_one_batch_equal_those_made_alone_and_nothing_is_loaded_twice(
    tiny_set: Path, person: Identity, run: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []

    def counted(name: str, load: Callable[..., Any]) -> Callable[..., Any]:
        def loading(*args: Any, **kwargs: Any) -> Any:
            loads.append(name)
            return load(*args, **kwargs)

        return loading

    for name in ("load_with_loras", "load_vae"):
        monkeypatch.setattr(pipeline_module, name, counted(name, getattr(pipeline_module, name)))
    encoder = pipeline_module.TextEncoder
    monkeypatch.setattr(encoder, "load", counted("text", encoder.load))
    fresh = Pipeline(tiny_set, device="cpu")
    requests = [replace(SMALL, prompt="Rain."), SMALL, replace(SMALL, prompt="Rain.", seed=1)]
    results = list(fresh.generate_all(person, requests))
    assert sorted(loads) == ["load_vae", "load_with_loras", "text"]
    assert [result.request for result in results] == requests
    assert torch.equal(results[1].latents, run.latents)
    assert torch.equal(results[1].frames, run.frames)
    assert torch.equal(results[2].latents, fresh.generate(person, requests[2]).latents)
    assert sorted(loads) == ["load_vae", "load_with_loras", "text"]


def test_each_video_of_a_batch_is_there_before_the_next_is_begun(
    pipeline: Pipeline, person: Identity
) -> None:
    stages: list[str] = []
    pipeline.on_progress = lambda stage, done, total, unit: stages.append(stage)
    try:
        results = pipeline.generate_all(person, [SMALL, replace(SMALL, seed=1)])
        next(results)
        assert stages.count("decoding") == 1
        second = next(results)
        assert stages.count("decoding") == 2
        assert "text" not in second.seconds  # that was done for the first one
    finally:
        pipeline.on_progress = None


# The person ------------------------------------------------------------------------------------------------------


def test_another_person_gives_another_video(pipeline: Pipeline, stranger: Identity, run: Result) -> None:
    other = pipeline.generate(stranger, SMALL).latents
    assert (other - run.latents).abs().max() > 1e-3 * run.latents.abs().max()


def test_the_null_branch_of_strength_0_knows_nobody(
    pipeline: Pipeline, person: Identity, stranger: Identity, video: Callable[..., Tensor]
) -> None:
    nobody = replace(SMALL, strength=0, face_latent=False)
    one, other = (pipeline.generate(who, nobody).latents for who in (person, stranger))
    assert torch.equal(one, other)
    # Both branches are then the same if the prompts are, so there is nothing for guidance to amplify.
    same = {"strength": 0, "negative_prompt": SMALL.prompt, "guidance": "constant"}
    strong, weak = video(**same, guidance_scale=9), video(**same, guidance_scale=2)
    assert (strong - weak).abs().max() <= 1e-4 * weak.abs().max()


def test_strength_1_is_the_person_and_small_changes_of_it_are_small_in_the_video(
    run: Result, video: Callable[..., Tensor]
) -> None:
    assert torch.equal(video(strength=1.0), run.latents)
    distances = [(video(strength=1 + step) - run.latents).norm().item() for step in (1e-3, 1e-2, 1e-1)]
    assert 0 < distances[0] < distances[1] < distances[2]
    assert distances[0] < 0.01 * run.latents.norm()


# Guidance --------------------------------------------------------------------------------------------------------


def test_without_guidance_only_the_positive_branch_is_computed(
    branches: list[int], video: Callable[..., Tensor]
) -> None:
    alone = video(guidance="constant", guidance_scale=1)
    assert branches == [1, 1, 1]
    assert torch.equal(video(guidance="constant", guidance_scale=1, negative_prompt="blurred"), alone)
    branches.clear()
    both = video(guidance="constant", guidance_scale=1.0001)
    assert branches == [2, 2, 2]
    assert (both - alone).abs().max() <= 1e-2 * alone.abs().max()


def test_a_scale_of_0_is_the_negative_prompt_alone(video: Callable[..., Tensor]) -> None:
    plain = {"guidance": "constant", "face_latent": False, "strength": 0}
    negative = video(**plain, guidance_scale=0, negative_prompt="Rain.")
    as_prompt = video(**plain, guidance_scale=1, prompt="Rain.")
    assert (negative - as_prompt).abs().max() <= 1e-4 * as_prompt.abs().max()


# Progress, stopping, failing -------------------------------------------------------------------------------------


def test_progress_tells_every_stage_up_to_its_end(tiny_set: Path) -> None:
    told: dict[str, list[tuple[int, int, str]]] = {}
    fresh = Pipeline(
        tiny_set, "cpu", on_progress=lambda stage, *counts: told.setdefault(stage, []).append(counts)
    )
    result = fresh.generate(fresh.identify(PORTRAITS[0]), SMALL)
    loading = {"loading text encoder", "loading transformer", "loading VAE"}
    assert set(told) == {"face", "text", "face latent", "sampling", "decoding"} | loading
    for counts in told.values():
        assert [done for done, *_ in counts] == sorted({done for done, *_ in counts})
        assert counts[-1][0] == counts[-1][1]
    assert told["sampling"] == [(done, 3, "steps") for done in range(4)]
    assert all(unit == "bytes" for stage in loading for *_, unit in told[stage])
    (file,) = (tiny_set / "vae").glob("*.safetensors")
    assert told["loading VAE"][-1][1] == pytest.approx(file.stat().st_size, rel=0.1)  # but for the header
    assert set(result.seconds) == {"text", "face latent", "sampling", "decoding"}


@pytest.mark.parametrize("stage", ["text", "face latent", "sampling", "decoding"])
def test_what_is_raised_in_the_callback_stops_the_run_and_leaves_the_pipeline_usable(
    pipeline: Pipeline, person: Identity, run: Result, stage: str
) -> None:
    def stop(at: str, done: int, total: int, unit: str) -> None:
        if at == stage and done:
            raise Cancelled(f"stopped at {stage} {done}")

    pipeline.on_progress = stop
    try:
        with pytest.raises(Cancelled, match=f"stopped at {stage} 1"):
            pipeline.generate(person, SMALL)
    finally:
        pipeline.on_progress = None
    assert torch.equal(pipeline.generate(person, SMALL).frames, run.frames)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_told_with_the_step_they_came_in(
    pipeline: Pipeline, person: Identity, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    steps: list[int] = []
    forward = pipeline.transformer.forward

    def overflowing(x: Tensor, *args: Any, **options: Any) -> Tensor:
        steps.append(1)
        v = forward(x, *args, **options)
        v[0, 0, 0, 0, 0] = value if len(steps) == 2 else 0.0
        return v

    monkeypatch.setattr(pipeline.transformer, "forward", overflowing)
    with pytest.raises(InvalidRequest, match=r"step 2 of 3 produced NaN or infinity in torch\.float32"):
        pipeline.generate(person, SMALL)


def test_untrained_sizes_are_warned_of_once_however_many_prompts(
    pipeline: Pipeline, person: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        list(pipeline.generate_all(person, [replace(SMALL, steps=1), replace(SMALL, steps=1, seed=1)]))
    assert [record.getMessage().split()[0] for record in caplog.records] == ["64x64", "the"]


# Models ----------------------------------------------------------------------------------------------------------


def linked(tiny_set: Path, folder: Path) -> Path:
    """A copy of the set in which files can be taken away and replaced."""
    for source in tiny_set.rglob("*.*"):
        target = folder / source.relative_to(tiny_set)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
    return folder


def test_all_that_is_missing_is_told_at_once_with_the_one_command_that_gets_it(tmp_path: Path) -> None:
    empty = Pipeline(tmp_path, device="cpu")
    with pytest.raises(ModelFileMissing, match="echovideo models download --models") as caught:
        empty.check()
    for group in ("clip_visual_encoder", "face_encoder", "text_encoder", "tokenizer", "transformer", "vae"):
        assert group in str(caught.value)
    with pytest.raises(ModelFileMissing, match="--only text_encoder tokenizer transformer vae --models"):
        empty.check(faces=False)
    with pytest.raises(ModelFileMissing, match="--only clip_visual_encoder face_encoder --models"):
        empty.identify(PORTRAITS[0])


def test_one_missing_shard_is_named(tiny_set: Path, tmp_path: Path) -> None:
    folder = linked(tiny_set, tmp_path / "set")
    shard = next((folder / "transformer").glob("*00002-of-00002*"))
    shard.unlink()
    with pytest.raises(ModelFileMissing, match=shard.name):
        Pipeline(folder, device="cpu").check()


@pytest.mark.parametrize("network", ["text_encoder", "transformer", "vae"])
def test_a_file_cut_short_is_found_before_any_work(tiny_set: Path, tmp_path: Path, network: str) -> None:
    folder = linked(tiny_set, tmp_path / "set")
    file = max((folder / network).glob("*.safetensors"))
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(WrongModelFile, match=f"{file.name}.*truncated"):
        Pipeline(folder, device="cpu").check()


def test_the_wrong_network_is_found_before_any_work(tiny_set: Path, person: Identity, tmp_path: Path) -> None:
    def refuse(path: Path, words: str) -> None:
        with pytest.raises(WrongModelFile, match=words):
            Pipeline(tiny_set, device="cpu", transformer=path).check()

    refuse(tiny_set / "vae", "not the EchoVideo transformer but a CogVideoX VAE")
    person.save(tmp_path / "person.safetensors")
    refuse(tmp_path / "person.safetensors", "an EchoVideo identity")
    state: dict[str, Tensor] = {}
    for shard in (tiny_set / "transformer").glob("*.safetensors"):
        state |= load_file(shard)
    plain = {name: tensor for name, tensor in state.items() if not name.startswith(("face_", "text_proj"))}
    save_file(plain, tmp_path / "plain.safetensors")
    refuse(tmp_path / "plain.safetensors", "CogVideoX transformer without identity fusion")
    lora = {"transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 64)}
    save_file(lora, tmp_path / "lora.safetensors")
    refuse(tmp_path / "lora.safetensors", "a LoRA")
    del state["transformer_blocks.1.norm1.linear.bias"]
    save_file(state, tmp_path / "incomplete.safetensors")
    refuse(tmp_path / "incomplete.safetensors", r"1 missing .*transformer_blocks\.1\.norm1\.linear\.bias")


@pytest.mark.parametrize(("storage", "share"), [(torch.bfloat16, 0.5), (torch.float8_e4m3fn, 0.45)])
def test_narrower_weights_take_less_memory_and_give_nearly_the_same(
    tiny_set: Path, person: Identity, run: Result, storage: torch.dtype, share: float
) -> None:
    narrow = Pipeline(tiny_set, device="cpu", storage=storage)
    result = narrow.generate(person, SMALL)

    def size(network: nn.Module) -> int:
        return sum(parameter.nbytes for parameter in network.parameters())

    assert size(narrow.transformer) <= share * size(Pipeline(tiny_set, device="cpu").transformer)
    likeness = torch.cosine_similarity(result.latents.flatten(), run.latents.flatten(), 0)
    assert 0.5 < likeness < 1


# Devices ---------------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """A network two of whose parameters are one, as T5's embeddings are."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(3, 3), nn.Linear(3, 3)
        self.other.weight = self.one.weight


@pytest.mark.parametrize("fails", [False, True])
def test_a_lent_network_has_its_own_parameters_back_afterwards(fails: bool) -> None:
    network = Tied()
    before = [(name, parameter, parameter.data_ptr()) for name, parameter in network.named_parameters()]
    try:
        with on_device(network, torch.device("meta")) as elsewhere:
            assert {parameter.device.type for parameter in elsewhere.parameters()} == {"meta"}
            if fails:
                raise Cancelled("stopped")
    except Cancelled:
        assert fails
    after = [(name, parameter, parameter.data_ptr()) for name, parameter in network.named_parameters()]
    assert [(name, id(parameter), at) for name, parameter, at in after] == [
        (name, id(parameter), at) for name, parameter, at in before
    ]
    assert network.one.weight is network.other.weight


def test_a_network_that_moves_by_its_parameters_data_has_it_back_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # as between CPU and GPU, where PyTorch keeps the parameter and changes what is in it
    network = Tied()
    weight, data = network.one.weight, network.one.weight.data_ptr()

    def halfway(device: torch.device) -> nn.Module:
        network.one.weight.data = torch.zeros(3, 3)
        raise RuntimeError("out of memory on the way")

    monkeypatch.setattr(network, "to", halfway)
    with pytest.raises(RuntimeError, match="on the way"), on_device(network, torch.device("meta")):
        pass
    assert network.one.weight is weight
    assert weight.data_ptr() == data


@pytest.fixture
def lendings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which network was lent to the device, and given back, in order."""
    seen: list[str] = []

    class Spy:
        def __init__(self, network: nn.Module, device: torch.device) -> None:
            self.network = network

        def __enter__(self) -> nn.Module:
            seen.append(f"+{type(self.network).__name__}")
            return self.network

        def __exit__(self, *error: object) -> None:
            seen.append(f"-{type(self.network).__name__}")

    monkeypatch.setattr(pipeline_module, "on_device", Spy)
    return seen


def test_only_one_network_is_on_the_device_at_a_time(
    pipeline: Pipeline, person: Identity, lendings: list[str]
) -> None:
    pipeline.generate(person, SMALL)
    text, vae, transformer = "T5EncoderModel", "CogVideoXVAE", "EchoVideoTransformer"
    assert lendings == [
        f"{sign}{network}" for network in (text, vae, transformer, vae) for sign in ("+", "-")
    ]


@pytest.mark.parametrize(
    ("memory", "share", "stay"), [(80 << 30, 1.0, True), (80 << 30, 0.1, False), (0, 1.0, False)]
)
def test_networks_stay_on_a_device_that_has_room_for_all(
    tiny_set: Path,
    person: Identity,
    lendings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    memory: int,
    share: float,
    stay: bool,
) -> None:
    monkeypatch.setattr(pipeline_module, "read_total_memory", lambda device: memory)
    moved: list[object] = []
    pipeline = Pipeline(tiny_set, device="cpu")
    assert pipeline.stay_on_device(share) is stay
    for network in (pipeline.text_encoder.network, pipeline.transformer, pipeline.vae):
        to = network.to
        monkeypatch.setattr(network, "to", lambda *given, to=to: moved.append(given[0]) or to(*given))
    pipeline.generate(person, SMALL)
    assert (len(moved) == 4, len(lendings) == 0) == (stay, stay)


@pytest.mark.parametrize("name", ["garbage", "", "cuda:-1", "meta", "CPU"])
def test_a_device_that_is_not_there_is_one_sentence_with_what_is(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f'"{name}" is not available here: choose .*cpu'):
        Pipeline(device=name)


def test_cuda_where_there_is_none_is_told_as_any_other_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_cuda(*_: object, **__: object) -> Tensor:
        raise AssertionError("Torch not compiled with CUDA enabled")  # what PyTorch raises

    monkeypatch.setattr(torch, "zeros", without_cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InvalidRequest, match='"cuda" is not available here'):
        find_device("cuda")


def test_without_a_word_the_best_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_device() == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert find_device() == torch.device("cuda")
