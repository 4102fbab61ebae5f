"""Walking through recorded episodes as a dream would: which surroundings a body meets, and where the body went.

The surroundings are those that the depth net sees in decoded pictures, not the true ones, since a dream has no others.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from latentcraft.model.autoencoder import DOWNSAMPLING, Autoencoder
from latentcraft.model.body import Gait
from latentcraft.model.depth import DepthNet
from latentcraft.model.guesser import Guesser
from latentcraft.model.memory import Memory
from latentcraft.model.relief import Nearby
from latentcraft.model.scene import TELEPORT, Seen


class BodyData(NamedTuple):
    """Moments at the ends of chunks, with known surroundings and a known future; episode after episode, in order."""

    boxes: Tensor
    """``uint8 (k, LINES, LINES, LEVELS)``, see :class:`latentcraft.model.relief.Nearby`."""
    tints: Tensor
    """``uint8 (k, LINES, LINES, 4)``."""
    latents: Tensor
    """``float16 (k, h, w, c)``."""
    gait: Gait
    """Where the body is and how it moves."""
    path: Tensor
    """Eyes of the coming chunk, ``float64 (k, f, 5)``."""
    actions: Tensor
    """That lead to it, ``float32 (k, f, a)``."""
    follows: Tensor
    """Whether the moment is the end of the chunk that comes after the moment before, ``bool (k,)``."""

    @property
    def moments(self) -> int:
        """How many there are, ``k``."""
        return len(self.boxes)

    def nearby(self, index: Tensor) -> Nearby:
        """Return the surroundings at some moments."""
        return Nearby(self.boxes[index].numpy(), self.tints[index].numpy(), self.gait.eyes[index].numpy())

    def gaits(self, index: Tensor) -> Gait:
        """Return the bodies at some moments."""
        return Gait(*(part[index] for part in self.gait))


def survey(
    files: list[Path],
    autoencoder: Autoencoder,
    depth: DepthNet,
    *,
    chunk: int,
    device: str = "cpu",
    quiet: bool = False,
) -> BodyData | None:
    """Walk through encoded episodes chunk by chunk, each with a memory that fills as a dream's would.

    Args:
        files: encoded episodes; those without poses are passed over.
        autoencoder: the codec.
        depth: the depth net.
        chunk: frames in a chunk.
        device: where the nets are.
        quiet: show no progress bar.

    Returns:
        The moments, None without any.
    """
    parts: list[BodyData] = []
    for file in tqdm(files, desc="survey", unit="episode", mininterval=2.0, disable=quiet):
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
        part = walked(memory, seen, latents[index], eyes, actions, index)
        parts += [] if part is None else [part]
    return joined(parts)


def joined(parts: list[BodyData]) -> BodyData | None:
    """Return the moments of all ``parts``, None without any."""
    if not parts:
        return None
    gait = Gait(*(torch.cat(part) for part in zip(*(part.gait for part in parts), strict=True)))
    rest = {name: torch.cat([getattr(part, name) for part in parts]) for name in BodyData._fields if name != "gait"}
    return BodyData(gait=gait, **rest)


def walked(
    memory: Memory, seen: Seen, latents: Tensor, eyes: Tensor, actions: Tensor, index: Tensor
) -> BodyData | None:
    """Walk through one episode with an empty ``memory``.

    Args:
        memory: fills on the way.
        seen: what was seen at the frames ``index``.
        latents: of those frames, ``(k, h, w, c)``.
        eyes: of all frames, ``float64 (t, 5)``.
        actions: that led to each, ``(t, a)``.
        index: the last frame of each chunk, evenly spaced, ``int64 (k,)``.
    """
    chunk = int(index[1] - index[0]) if len(index) > 1 else len(eyes) - 1 - int(index[0])
    leaps = (eyes[1:, :3] - eyes[:-1, :3]).abs().amax(1) > TELEPORT
    gait, gaits = Gait.standing(eyes[:1]), []
    for frame in range(len(eyes)):
        if frame and leaps[frame - 1]:
            gait = Gait.standing(eyes[frame : frame + 1])
        elif frame:
            gait = gait.moved(eyes[frame : frame + 1], actions[frame : frame + 1])
        gaits.append(gait)
    rows: list[tuple[Tensor, ...]] = []
    picked: list[Gait] = []
    follows = False
    for number, at in enumerate(index.tolist()):
        if leaps[at : at + chunk].any() or (at and leaps[at - 1]):
            memory.count, follows = 0, False
            continue
        eye = eyes[at].numpy()
        memory.remember(seen.pictures[number], seen.distances[number], eye)
        boxes, tints = (torch.from_numpy(part) for part in memory.surroundings(eye))
        coming = slice(at + 1, at + 1 + chunk)
        rows.append((boxes, tints, latents[number].half(), eyes[coming], actions[coming], torch.tensor(follows)))
        picked.append(gaits[at])
        follows = True
    if not rows:
        return None
    boxes, tints, last, path, acted, followed = (torch.stack(part) for part in zip(*rows, strict=True))
    gait = Gait(*(torch.cat(part) for part in zip(*picked, strict=True)))
    return BodyData(boxes, tints, last, gait, path, acted, followed)
