"""A run's samples: videos of people that it is not trained on, on one contact sheet, and their loss."""

from __future__ import annotations

from itertools import groupby

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..devices import on_device
from ..errors import InvalidRequest
from ..picture import GREY, INK, MARGIN, PAPER, TEXT_SIZE, TITLE_SIZE, line_height, save_picture, wrap, write
from ..provenance import TRAINED
from ..samplers import sample
from ..schedule import Step, plan_steps
from ..vae.autoencoder import LATENT_SCALE
from ..weights.loading import load_vae
from .examples import Examples, Sample, generator
from .objective import make_batch
from .recipe import Dropout, Recipe
from .trained import Trained

FRAMES = 4  # of each video, on the sheet
HELD_OUT = 32  # takes whose loss is measured
TILE = 192  # pixels, the height of a picture on the sheet


class Sampler:
    """The examples of [samples], and the VAE that makes them visible."""

    def __init__(self, recipe: Recipe, trained: Trained, device: torch.device) -> None:
        """Raises InvalidRequest or ModelFileMissing for what [samples] names."""
        assert recipe.samples is not None  # the caller has seen to it
        self.settings, self.recipe, self.trained, self.device = recipe.samples, recipe, trained, device
        self.examples = Examples(self.settings.examples)
        trained.require_fitting(self.examples)
        self.vae = load_vae(self.settings.vae, torch.bfloat16 if device.type == "cuda" else torch.float32)
        self.numbers = range(min(self.settings.count, len(self.examples)))

    @torch.no_grad()
    def show(self, step: int) -> float:
        """Writes samples/step-N.png of the run; returns the examples' mean loss, their noise being always the same."""
        rows = []
        for number in self.numbers:
            chosen = self.examples.read(number, generator(self.settings.seed, "sample", number))
            face = LATENT_SCALE * chosen.face_mean.float()[None]  # [1, 16, 1, h, w]
            clip = LATENT_SCALE * chosen.mean.float()[None]
            made = self._denoise(chosen, face if self.settings.face_latent else None, number)
            if not made.isfinite().all():
                raise InvalidRequest(
                    f"the samples of step {step} are NaN or infinite: lower [optimizer] rate"
                )
            rows.append((self._decode(face)[:1], self._decode(clip), self._decode(made), chosen.caption))
        sheet = _lay_out(rows, f"Step {step} of {self.recipe.steps}")
        save_picture(sheet, self.recipe.output / "samples" / f"step-{step:07}.png", TRAINED)
        return self._held_out_loss()

    def _denoise(self, chosen: Sample, face_latent: Tensor | None, number: int) -> Tensor:
        """chosen's caption and person as latents [1, 16, t, h, w]: DDIM, constant guidance."""
        network, dtype, empty = self.trained.network, self.trained.dtype, self.examples.empty
        text = torch.stack([empty.text, chosen.text]).to(self.device, dtype)
        tokens = torch.stack([empty.face_tokens, chosen.face_tokens]).to(self.device, dtype)
        embedding = torch.stack([torch.zeros_like(chosen.id_embedding), chosen.id_embedding])
        context = network.fuse(text, tokens, embedding.to(self.device, dtype))
        face = None if face_latent is None else face_latent.to(self.device, dtype)
        noise = torch.randn(1, *chosen.mean.shape, generator=generator(self.settings.seed, "noise", number))

        def predict(x: Tensor, step: Step) -> Tensor:
            timesteps = torch.full((2,), step.t, device=self.device)
            without, with_both = network(
                x.to(dtype).expand(2, -1, -1, -1, -1), timesteps, context, face
            ).float()
            return (without + self.settings.guidance_scale * (with_both - without))[None]

        return sample("ddim", plan_steps(self.settings.steps), noise.to(self.device), predict, torch.Tensor)

    def _decode(self, latents: Tensor) -> Tensor:
        """latents [1, 16, t, h, w] -> uint8 frames [F, H, W, 3]."""
        with on_device(self.vae, self.device):
            dtype = next(self.vae.parameters()).dtype
            video = self.vae.decode((latents / LATENT_SCALE).to(self.device, dtype))
        return video[0].float().add(1).mul(127.5).clamp(0, 255).round().byte().permute(1, 2, 3, 0).cpu()

    def _held_out_loss(self) -> float:
        takes = sorted(range(min(HELD_OUT, len(self.examples))), key=self.examples.latent_shape)
        losses = []
        for _, group in groupby(takes, self.examples.latent_shape):
            same = list(group)
            for place in range(len(same)):
                batch = make_batch(
                    self.examples,
                    same,
                    [place],
                    0,
                    len(same),
                    self.settings.seed,
                    Dropout(0, 0, 0),
                    float(self.settings.face_latent),
                )
                losses.append(self.trained.loss(batch.to(self.device)))
        return torch.cat(losses).mean().item()


def _lay_out(rows: list[tuple[Tensor, Tensor, Tensor, str]], title: str) -> Image.Image:
    """A row an example: the face, a frame of its clip, and frames of the video; its caption below."""
    strips = [
        [
            *map(_picture, face),
            _picture(clip[len(clip) // 2]),
            *(_picture(made[index]) for index in _spread(made)),
        ]
        for face, clip, made, _ in rows
    ]
    gap, step = 8, TILE + line_height(TEXT_SIZE) + 12
    width = max(sum(picture.width + gap for picture in strip) for strip in strips) + 2 * MARGIN
    top = MARGIN + line_height(TITLE_SIZE) + 12
    sheet = Image.new("RGB", (max(width, 640), top + step * len(rows) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    write(draw, (MARGIN, MARGIN), [f"{title}: face, example, video"], TITLE_SIZE, INK)
    for number, (strip, row) in enumerate(zip(strips, rows, strict=True)):
        x = MARGIN
        for picture in strip:
            sheet.paste(picture, (x, top + number * step))
            x += picture.width + gap
        caption = wrap(row[3], TEXT_SIZE, sheet.width - 2 * MARGIN, most=1)
        write(draw, (MARGIN, top + number * step + TILE + 2), caption, TEXT_SIZE, GREY)
    return sheet


def _spread(frames: Tensor) -> list[int]:
    return torch.linspace(0, len(frames) - 1, min(len(frames), FRAMES)).round().int().tolist()


def _picture(frame: Tensor) -> Image.Image:
    picture = Image.fromarray(frame.numpy())
    return picture.resize((round(picture.width * TILE / picture.height), TILE), Image.Resampling.LANCZOS)
