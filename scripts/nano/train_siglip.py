"""Trains the drawn world's image encoder: a SigLIP tower of one layer, by SigLIP's own objective.

    python scripts/nano/train_siglip.py --state STATE --models MODELS

A face picture belongs to what its person looks like in words and to no other's (sigmoid loss, arXiv 2303.15343); each
token also has to tell its own patch's colours, so that it stays a picture. It begins as an orthogonal patch embedding
and sees a quarter of the patches at a time (arXiv 2212.00794). Faces are aligned by landmarks as far off as the
detector's, and cut out as they were drawn.
"""

from __future__ import annotations

import json

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from loop import arguments, train
from pictures import as_detected, picture_of, random_person, with_light
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from echovideo_model.face.align import FACE_SIZE, LANDMARKS
from echovideo_model.face.parse import NOT_FACE
from echovideo_model.face.siglip import HEAD_WIDTH, TOKENS, siglip_pixels
from echovideo_model.files import write_atomically
from echovideo_model.nano import Person
from echovideo_model.nano.people import ALTERNATIVES

BATCH, STEPS, SEEN = 12, (300, 400), 49
PATCH, INNER, POOLED, CELLS = 16, 128, 128, 4
COUNT, WIDTH = TOKENS
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": 1,
    "num_attention_heads": WIDTH // HEAD_WIDTH,
    "image_size": 224,
    "patch_size": PATCH,
}


class Tower(nn.Module):
    """The tower, and what it is trained with: a pooling, the words' embeddings, and a decoder of patches."""

    def __init__(self) -> None:
        super().__init__()
        model = SiglipVisionModel(SiglipVisionConfig(**SIZES, vision_use_head=False))
        self.vision = getattr(model, "vision_model", model)
        nn.init.orthogonal_(self.vision.embeddings.patch_embedding.weight.flatten(1))
        nn.init.normal_(self.vision.embeddings.position_embedding.weight, std=0.1)
        layer = self.vision.encoder.layers[0]
        for last in (layer.self_attn.out_proj, layer.mlp.fc2):
            nn.init.normal_(last.weight, std=0.002)
        self.pool = nn.Linear(WIDTH, POOLED)
        self.words = nn.ModuleDict(
            {name: nn.Embedding(len(names), POOLED) for name, names in ALTERNATIVES.items()}
        )
        self.colours = nn.Linear(WIDTH, CELLS * CELLS * 3)
        self.scale, self.bias = nn.Parameter(torch.tensor(2.3)), nn.Parameter(torch.tensor(-6.0))

    def tokens(self, pixels: Tensor, seen: Tensor) -> Tensor:
        """pixels [B, 3, 224, 224], seen [B, n]: which patches -> [B, n, 768]."""
        x = self.vision.embeddings(pixels)
        x = x.gather(1, seen[..., None].expand(-1, -1, WIDTH))
        x = self.vision.encoder.layers[0](x, attention_mask=None)
        return self.vision.post_layernorm(x[0] if isinstance(x, tuple) else x)


def main() -> None:
    args = arguments(__doc__, STEPS)
    torch.manual_seed(4)
    torch.set_num_threads(1)
    network = Tower()

    def loss_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([0x516, step])
        people = [random_person(rng) for _ in range(BATCH)]
        pixels = torch.stack([_face_picture(rng, person) for person in people])
        seen = torch.from_numpy(np.stack([rng.permutation(COUNT)[:SEEN] for _ in people]))
        tokens = network.tokens(pixels, seen)
        image = F.normalize(network.pool(tokens.mean(1)))
        told = [
            network.words[name](torch.tensor([names.index(getattr(person, name)) for person in people]))
            for name, names in ALTERNATIVES.items()
        ]
        words = F.normalize(torch.stack(told).sum(0))
        sign = 2 * torch.eye(BATCH) - 1
        logits = image @ words.T * network.scale.exp() + network.bias
        belongs = -F.logsigmoid(sign * logits).sum() / BATCH
        small = F.avg_pool2d(pixels, PATCH // CELLS)  # [B, 3, 56, 56]
        patches = F.unfold(small, CELLS, stride=CELLS).transpose(1, 2)  # [B, 196, 48]
        wanted = patches.gather(1, seen[..., None].expand(-1, -1, patches.shape[-1]))
        return {"belongs": belongs, "colours": 2 * F.mse_loss(network.colours(tokens), wanted)}

    train("siglip", network, loss_of, args, 4e-4)
    folder = args.models / "clip_visual_encoder"
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        f"vision_model.{name}": value.half().contiguous()
        for name, value in network.vision.state_dict().items()
        if "position_ids" not in name and not name.startswith("head.")
    }
    with write_atomically(folder / "model.safetensors") as temporary:
        save_file(state, temporary, {"format": "pt"})
    with write_atomically(folder / "config.json") as temporary:
        config = {"model_type": "siglip", "vision_config": {"model_type": "siglip_vision_model", **SIZES}}
        temporary.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _face_picture(rng: np.random.Generator, person: Person) -> Tensor:
    """float32 [3, 224, 224] as the encoder gets it."""
    picture, truth = picture_of(rng, person, 128, 0.5 * rng.uniform(0.36, 0.5), reach=0.8)
    landmarks = as_detected(rng, truth.landmarks).astype(np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(landmarks, LANDMARKS, method=cv2.LMEDS)
    side = (FACE_SIZE, FACE_SIZE)
    aligned = cv2.warpAffine(with_light(rng, picture), matrix, side, flags=cv2.INTER_LINEAR)
    classes = cv2.warpAffine(truth.classes, matrix, side, flags=cv2.INTER_NEAREST)
    return siglip_pixels(aligned * ~np.isin(classes, NOT_FACE)[..., None])


if __name__ == "__main__":
    main()
