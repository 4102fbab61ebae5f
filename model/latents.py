"""Encoded episodes in memory, and the clips training draws from them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX

EVENT_SHARE = 0.2
"""Share of clips drawn around a tick with a reward or an end; by chance they would be a few percent."""

DEEDS = ("attack", "use")
"""Buttons that change the world; where they are pressed is where a dream has most to learn and least to go by."""


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
    eyes: Tensor
    """Where each frame was seen from, ``float64 (b, t, f, 5)``, see :mod:`latentcraft.model.camera`; NaN if unknown."""
    changes: Tensor
    """What the hand did to the world, ``float32 (b, t, f, 2)``, see :data:`latentcraft.model.actions.CHANGES`; NaN if
    unknown."""
    spots: Tensor
    """Where, ``float32 (b, t, f, 2, 3)``; NaN if unknown."""

    def to(self, device: str) -> "Clips":
        """Move everything to ``device``."""
        return Clips(*(part.to(device) for part in self))

    def last(self, chunks: int) -> "Clips":
        """Return the last ``chunks`` chunks of each."""
        return Clips(
            self.latents[:, -chunks:], self.actions[:, -chunks:], self.rewards[:, -chunks:],
            self.terminated[:, -chunks:], self.task, self.eyes[:, -chunks:], self.changes[:, -chunks:],
            self.spots[:, -chunks:],
        )  # fmt: skip


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
    eyes: Tensor
    """``float64 (frames, 5)``: where each was seen from; NaN if unknown."""
    changes: Tensor
    """``float32 (frames, 2)``: what the hand did to the world; NaN if unknown."""
    spots: Tensor
    """``float32 (frames, 2, 3)``: where; NaN if unknown."""
    spans: Tensor
    """``int64 (k, 2)``: first frame and number of frames of each episode."""
    events: Tensor
    """``int64 (m, 2)``: a frame with an event, and its episode."""
    deeds: Tensor
    """``int64 (m, 2)``: a frame in which the hand changed the world, and its episode; where that is not known, the last
    frame of each time that one of :data:`DEEDS` was held, when the block mostly breaks or appears."""

    @property
    def longest(self) -> int:
        """Frames of the longest episode, and so of the longest clip there is."""
        return int(self.spans[:, 1].max())

    @classmethod
    def load(cls, paths: list[Path], clip_frames: int) -> "LatentDataset":
        """Read the files :func:`latentcraft.model.train.encode.encode_episodes` wrote.

        Raises:
            UserError: a file is unreadable, or none is as long as a clip.
        """
        parts: dict[str, list[Tensor]] = {
            key: [] for key in ("latents", "actions", "rewards", "terminated", "task", "eyes", "changes", "spots")
        }
        spans: list[tuple[int, int]] = []
        events: list[tuple[int, int]] = []
        deeds: list[Tensor] = []
        buttons = [BUTTON_INDEX[name] for name in DEEDS]
        offset = 0
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
            for event in torch.nonzero((part["rewards"].abs() >= 0.5) | part["terminated"]).flatten().tolist():
                events.append((offset + event, len(spans)))
            held = (part["actions"][:, buttons] > 0).any(-1)
            changed, let_go = part["changes"], held & ~torch.cat([held[1:], held.new_zeros(1)])
            done = torch.nonzero(let_go if changed.isnan().any() else changed.any(-1)).flatten()
            deeds.append(torch.stack([offset + done, torch.full_like(done, len(spans))], -1))
            spans.append((offset, frames))
            offset += frames
        if not spans:
            raise UserError(f"no episode has the {clip_frames} frames of a clip; record longer ones (ticks=...)")
        joined = {key: torch.cat(values) for key, values in parts.items()}
        return cls(
            **joined, spans=torch.tensor(spans), events=torch.tensor(events, dtype=torch.int64).reshape(-1, 2),
            deeds=torch.cat(deeds),
        )  # fmt: skip

    def of_tasks(self, tasks: list[int]) -> "LatentDataset":
        """Return the episodes of ``tasks`` alone, by number; the frames are shared, not copied."""
        return self._only(torch.isin(self.task[self.spans[:, 0]], torch.tensor(tasks)))

    def that_tell(self) -> "LatentDataset":
        """Return the episodes alone that tell what the hand did; the frames are shared, not copied."""
        return self._only(~self.changes[self.spans[:, 0]].isnan().any(-1))

    def _only(self, kept: Tensor) -> "LatentDataset":
        number = kept.cumsum(0) - 1

        def moments(pairs: Tensor) -> Tensor:
            pairs = pairs[kept[pairs[:, 1]]]
            return torch.stack([pairs[:, 0], number[pairs[:, 1]]], -1)

        return replace(self, spans=self.spans[kept], events=moments(self.events), deeds=moments(self.deeds))

    def sample(
        self, batch: int, chunks: int, chunk: int, generator: torch.Generator, *, event_share: float = EVENT_SHARE,
        deed_share: float = 0.0, mine: slice = slice(None),
    ) -> Clips:  # fmt: skip
        """Draw ``batch`` clips of ``chunks`` chunks of ``chunk`` frames, a pure function of ``generator``.

        Args:
            batch: clips.
            chunks: in a clip.
            chunk: frames in a chunk.
            generator: of the choice.
            event_share: share of clips drawn around a tick with a reward or an end.
            deed_share: share of clips drawn around a tick at which the world was changed by hand.
            mine: which of the ``batch`` to return; the choice of all of them is drawn in any case.

        Raises:
            UserError: no episode is as long.
        """
        frames = chunks * chunk
        first, length = self.spans.unbind(-1)
        last = first + length - frames  # the last start of a clip in each episode
        ends = (last - first + 1).clamp(min=0).cumsum(0)  # clips up to and with each episode
        if not int(ends[-1]):
            raise UserError(f"no episode has the {frames} frames of a clip; record longer ones (ticks=...)")
        number = torch.randint(int(ends[-1]), (batch,), generator=generator)
        episode = torch.searchsorted(ends, number, right=True)
        picks = last[episode] + 1 - (ends[episode] - number)
        for moments, share in ((self.events, event_share), (self.deeds, deed_share)):
            if not len(moments) or not share:
                continue
            moment, owner = moments[torch.randint(len(moments), (batch,), generator=generator)].unbind(-1)
            low = torch.maximum(first[owner], moment - frames + 1)
            room = torch.minimum(moment, last[owner]) - low + 1
            around = low + (torch.rand(batch, generator=generator) * room).long()
            chosen = (torch.rand(batch, generator=generator) < share) & (room > 0)
            picks = torch.where(chosen, around, picks)
        return self.clips(picks[mine], chunks, chunk)

    def clips(self, first: Tensor, chunks: int, chunk: int) -> Clips:
        """Return the clips of ``chunks`` chunks of ``chunk`` frames that begin at the frames ``first (k,)``."""
        index = first[:, None] + torch.arange(chunks * chunk)
        shape = (len(first), chunks, chunk)
        return Clips(
            self.latents[index].float().unflatten(1, shape[1:]),
            self.actions[index].unflatten(1, shape[1:]),
            self.rewards[index].reshape(shape),
            self.terminated[index].reshape(shape),
            self.task[first],
            self.eyes[index].unflatten(1, shape[1:]),
            self.changes[index].unflatten(1, shape[1:]),
            self.spots[index].unflatten(1, shape[1:]),
        )
