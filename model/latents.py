"""Encoded episodes in memory, and the clips training draws from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latentcraft.errors import UserError

EVENT_SHARE = 0.2
"""Share of clips drawn around a tick with a reward or an end; by chance they would be a few percent."""


class Clips(NamedTuple):
    """A batch of clips."""

    latents: Tensor
    """``(b, t, f, h, w, c)`` fp32."""
    actions: Tensor
    """``(b, t, f, a)``; entry ``i`` led to frame ``i``."""
    rewards: Tensor
    """``(b, t, f)``."""
    terminated: Tensor
    """``(b, t, f)`` bool."""
    task: Tensor
    """``int64 (b,)``."""

    def to(self, device: str) -> "Clips":
        """Move everything to ``device``."""
        return Clips(*(part.to(device) for part in self))


@dataclass(frozen=True)
class LatentDataset:
    """All encoded episodes of a directory, concatenated (a million frames are 2 GB)."""

    latents: Tensor
    """``float16 (frames, h, w, c)``."""
    actions: Tensor
    """``float32 (frames, a)``."""
    rewards: Tensor
    """``float32 (frames,)``."""
    terminated: Tensor
    """``bool (frames,)``."""
    task: Tensor
    """``int64 (frames,)``."""
    starts: Tensor
    """``int64 (k,)``: every frame at which a clip may start."""
    events: Tensor
    """``int64 (m, 2)``: first and last clip start that has the event inside."""

    @classmethod
    def load(cls, paths: list[Path], clip_frames: int) -> "LatentDataset":
        """Read the files :func:`latentcraft.model.train.encode.encode_episodes` wrote.

        Raises:
            UserError: a file is unreadable, or none is as long as a clip.
        """
        parts: dict[str, list[Tensor]] = {key: [] for key in ("latents", "actions", "rewards", "terminated", "task")}
        starts, events, offset = [], [], 0
        for path in paths:
            try:
                part = load_file(path)
            except (SafetensorError, OSError) as error:
                raise UserError(f"cannot read the latents {path} ({error}); delete it to encode it again") from error
            frames = len(part["latents"])
            if frames < clip_frames:
                continue
            for key, values in parts.items():
                values.append(part[key].expand(frames) if key == "task" else part[key])
            last = frames - clip_frames
            starts.append(torch.arange(offset, offset + last + 1))
            for event in torch.nonzero((part["rewards"].abs() >= 0.5) | part["terminated"]).flatten().tolist():
                events.append((offset + max(0, event - clip_frames + 1), offset + min(event, last)))
            offset += frames
        if not starts:
            raise UserError(f"no episode has the {clip_frames} frames of a clip; record longer ones (ticks=...)")
        joined = {key: torch.cat(values) for key, values in parts.items()}
        return cls(**joined, starts=torch.cat(starts), events=torch.tensor(events, dtype=torch.int64).reshape(-1, 2))

    def sample(self, batch: int, chunks: int, chunk: int, generator: torch.Generator) -> Clips:
        """Draw ``batch`` clips of ``chunks`` chunks of ``chunk`` frames, a pure function of ``generator``."""
        picks = self.starts[torch.randint(len(self.starts), (batch,), generator=generator)]
        if len(self.events):
            first, last = self.events[torch.randint(len(self.events), (batch,), generator=generator)].unbind(-1)
            around = first + (torch.rand(batch, generator=generator) * (last - first + 1)).long()
            chosen = torch.rand(batch, generator=generator) < EVENT_SHARE
            picks = torch.where(chosen, torch.minimum(around, last), picks)
        index = picks[:, None] + torch.arange(chunks * chunk)
        shape = (batch, chunks, chunk)
        return Clips(
            self.latents[index].float().unflatten(1, shape[1:]),
            self.actions[index].unflatten(1, shape[1:]),
            self.rewards[index].reshape(shape),
            self.terminated[index].reshape(shape),
            self.task[picks],
        )
