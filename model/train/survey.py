"""Walking through recorded episodes as a dream would: which surroundings the body net meets, and where the body went.

The surroundings are those that the depth net sees in decoded pictures, not the true ones, since a dream has no others.
And they are seen from places a little off the true path: a body that has sunk into the ground by a mistake must find
its way back up, which it can only learn where it has seen that happen (learning on one's own mistakes: DAgger, arXiv
1011.0686).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from latentcraft.model.autoencoder import DOWNSAMPLING, Autoencoder
from latentcraft.model.body import Motive, from_world
from latentcraft.model.depth import DepthNet
from latentcraft.model.guesser import Guesser
from latentcraft.model.memory import Memory
from latentcraft.model.scene import TELEPORT

SIDEWAYS, UPWARD = 0.1, 0.25
"""Standard deviations (metres) of the places off the path."""
COUNT_SCALE = 16
"""Surroundings are kept as whole numbers of this fraction."""


class BodyData(NamedTuple):
    """Moments with known surroundings and a known future."""

    near: Tensor
    """``uint8 (k, levels, AROUND, AROUND)``, :data:`COUNT_SCALE` times what
    :meth:`latentcraft.model.memory.Memory.surroundings` says."""
    latents: Tensor
    """``float16 (k, h, w, c)``."""
    eyes: Tensor
    """The frame before, this one, and those of the coming chunk, ``float64 (k, 2 + f, 5)``."""
    actions: Tensor
    """That lead to the coming chunk, ``float32 (k, f, a)``."""

    def steps(self) -> Tensor:
        """Return the step to each frame but the first, fp32 ``(k, 1 + f, 3)``: right, up, ahead in metres."""
        moved = self.eyes[:, 1:] - self.eyes[:, :-1]
        return from_world(moved[..., :3], self.eyes[:, 1:, 3]).float()

    def motive(self, steps: Tensor) -> Motive:
        """Return what the net is told; ``steps`` are :meth:`steps`."""
        pitch = self.eyes[:, 1, 4].float()
        return Motive(self.near.float() / COUNT_SCALE, self.latents, pitch, steps[:, 0], self.actions)

    def pick(self, index: Tensor, device: str) -> "BodyData":
        """Return some of it."""
        return BodyData(*(part[index].to(device) for part in self))


def survey(
    files: list[Path], autoencoder: Autoencoder, depth: DepthNet, *, chunk: int, levels: int, jolts: int, seed: int,
    device: str = "cpu",
) -> BodyData | None:  # fmt: skip
    """Walk through encoded episodes chunk by chunk, each with a memory that fills as a dream's would.

    Args:
        files: encoded episodes; those without poses are passed over.
        autoencoder: the codec.
        depth: the depth net.
        chunk: frames in a chunk.
        levels: of the surroundings.
        jolts: places off the path at each moment, besides the true one.
        seed: of those places.
        device: where the nets are.

    Returns:
        The moments, None without any.
    """
    rng = np.random.default_rng(seed)
    parts: list[tuple[Tensor, ...]] = []
    for file in tqdm(files, desc="survey", unit="episode", mininterval=2.0):
        episode = load_file(file)
        latents, eyes, actions = episode["latents"], episode["eyes"], episode["actions"]
        index = torch.arange(1, len(latents) - chunk, chunk)
        if not len(index) or eyes.isnan().any():
            continue
        with torch.no_grad():
            picture = autoencoder.decode_pixels(latents[index].to(device)).float().clamp(-1, 1)
            seen = Guesser.look(depth, picture, eyes[index, 4].float().to(device))
        height, width = DOWNSAMPLING * latents.shape[1], DOWNSAMPLING * latents.shape[2]
        memory = Memory((height, width), field_of_view=depth.config.field_of_view)
        for number, at in enumerate(index.tolist()):
            path = eyes[at - 1 : at + chunk + 1]
            if (path[1:, :3] - path[:-1, :3]).abs().max() > TELEPORT:
                memory = Memory((height, width), field_of_view=depth.config.field_of_view)
                continue
            memory.remember(seen.pictures[number], seen.distances[number], path[1].numpy())
            for jolt in range(1 + jolts):
                offset = rng.normal(0, (SIDEWAYS, UPWARD, SIDEWAYS)) if jolt else np.zeros(3)
                moved = jolted(path, torch.from_numpy(offset))
                near = memory.surroundings(moved[1].numpy(), levels)
                counts = torch.from_numpy((COUNT_SCALE * near).round().clip(0, 255).astype(np.uint8))
                parts.append((counts, latents[at], moved, actions[at + 1 : at + 1 + chunk]))
    if not parts:
        return None
    return BodyData(*(torch.stack(part) for part in zip(*parts, strict=True)))


def jolted(path: Tensor, offset: Tensor) -> Tensor:
    """Return ``path (2 + f, 5)`` as it goes on from a place that is off by ``offset (3,)`` metres.

    How high the ground is can be seen, so a wrong height is mended within the chunk; where along the ground one is
    makes no difference, so that error stays.
    """
    remaining = torch.ones(len(path), 3, dtype=path.dtype)
    remaining[2:, 1] = torch.linspace(1, 0, len(path) - 1, dtype=path.dtype)[1:]
    moved = path.clone()
    moved[:, :3] += remaining * offset
    return moved
