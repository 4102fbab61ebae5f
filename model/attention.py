"""Pure functions for attention: rotary positions, attention within a chunk, attention to past chunks; and the cache."""

from dataclasses import dataclass

import torch
from torch import Tensor

ROPE_BASE = 100.0
"""Rotary base; small, since positions are few (tens of patches, tens of chunks) and must be told apart."""


def rope_angles(positions: Tensor, size: int) -> Tensor:
    """Return rotary angles ``(..., size / 2)`` in fp32 for integer ``positions (...)`` (RoFormer, arXiv 2104.09864)."""
    frequencies = ROPE_BASE ** (-torch.arange(0, size, 2, dtype=torch.float32, device=positions.device) / size)
    return positions.float()[..., None] * frequencies


def grid_angles(height: int, width: int, size: int, device: torch.device | None = None) -> Tensor:
    """Return 2-D rotary angles ``(h * w, size / 2)``: half of the pairs turn with the row, half with the column."""
    rows = rope_angles(torch.arange(height, device=device), size // 2)
    columns = rope_angles(torch.arange(width, device=device), size // 2)
    rows = rows[:, None].expand(-1, width, -1)
    columns = columns[None].expand(height, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + size / 2) of ``x (..., size)`` by angles given as ``cos``, ``sin (..., size / 2)``."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Full attention among the ``n`` tokens of one chunk, ``(batch, heads, n, size)`` each.

    Plain matrix products: at 60 tokens the fused CPU kernel's backward alone cost a fifth of a training step (compiled
    step 1.40 s with it, 1.01 s without).
    """
    return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), -1) @ v


def attend_past(q: Tensor, k: Tensor, v: Tensor, past_k: Tensor, past_v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of each query to past keys and to its own key, nothing else.

    One formula serves training (past: the clean copies, masked to strictly earlier chunks), the full causal forward
    (the same with one copy) and streaming (past: the cache), so they agree by construction.

    Args:
        q: ``(batch, heads, queries, size)``; ``k`` and ``v`` likewise: the query's own key and value.
        k: own key.
        v: own value.
        past_k: ``(batch, heads, past, size)``; ``past_v`` likewise.
        past_v: past values.
        mask: additive ``(queries, past)`` or None where every past key may be seen.
    """
    scale = q.shape[-1] ** -0.5
    q = q * scale
    own = (q * k).sum(-1, keepdim=True)
    scores = q @ past_k.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    weights = torch.softmax(torch.cat([scores, own], -1), -1)
    past = past_k.shape[-2]
    return weights[..., :past] @ past_v + weights[..., past:] * v


@dataclass
class KVCache:
    """What streaming remembers of finished chunks: keys and values in a preallocated ring, and the last chunk itself.

    Worlds of a batch may have different lengths: unused slots are masked per world.
    """

    keys: Tensor
    """``(layers, b * n, heads, capacity, size)``, time-rotated."""
    values: Tensor
    """Same shape."""
    last: Tensor
    """``(b, f, h, w, c)``: the last chunk, zeros before the first."""
    length: Tensor
    """``int64 (b,)``: chunks written so far, which is also the next chunk's position in time."""

    @classmethod
    def empty(
        cls, *, layers: int, worlds: int, chunk: tuple[int, int, int, int], tokens: int, heads: int, capacity: int,
        size: int, dtype: torch.dtype, device: torch.device | str = "cpu",
    ) -> "KVCache":  # fmt: skip
        """Allocate a ring of ``capacity`` chunks of shape ``chunk`` (f, h, w, c) and ``tokens`` patches each."""
        keys = torch.zeros(layers, worlds * tokens, heads, capacity, size, dtype=dtype, device=device)
        last = torch.zeros(worlds, *chunk, dtype=dtype, device=device)
        return cls(keys, torch.zeros_like(keys), last, torch.zeros(worlds, dtype=torch.int64, device=device))

    @property
    def tokens(self) -> int:
        """Tokens of one chunk, ``n``."""
        return self.keys.shape[1] // len(self.length)

    @property
    def capacity(self) -> int:
        """Chunks the ring holds."""
        return self.keys.shape[3]

    def mask(self) -> Tensor:
        """Additive mask ``(b * n, 1, 1, capacity)`` that hides slots not yet written."""
        written = torch.arange(self.capacity, device=self.length.device) < self.length[:, None]
        hidden = torch.where(written, 0.0, float("-inf")).to(self.keys.dtype)
        return hidden.repeat_interleave(self.tokens, 0)[:, None, None]

    def view(self, world: int) -> "KVCache":
        """Return the cache of one world alone; what is appended to it is appended here."""
        return self.part(slice(world, world + 1))

    def part(self, worlds: slice) -> "KVCache":
        """Return the cache of some worlds alone, likewise."""
        rows = slice(worlds.start * self.tokens, worlds.stop * self.tokens)
        return KVCache(self.keys[:, rows], self.values[:, rows], self.last[worlds], self.length[worlds])

    def append(self, keys: Tensor, values: Tensor, latents: Tensor) -> None:
        """Write one finished chunk into every world's next slot.

        Args:
            keys: time-rotated ``(layers, b * n, heads, 1, size)``, as the transformer returns them.
            values: same shape.
            latents: the chunk itself, ``(b, f, h, w, c)``.
        """
        for world in range(len(self.length)):
            rows = self._rows(world)
            slot = int(self.length[world]) % self.capacity
            self.keys[:, rows, :, slot] = keys[:, rows, :, 0]
            self.values[:, rows, :, slot] = values[:, rows, :, 0]
        self.last.copy_(latents)
        self.length += 1

    def clear(self, world: int) -> None:
        """Forget everything of one world, to the bit."""
        for part in self._parts(world).values():
            part.zero_()

    def save(self, world: int) -> dict[str, Tensor]:
        """Copy one world's part."""
        return {name: part.clone() for name, part in self._parts(world).items()}

    def restore(self, world: int, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`save` returned."""
        for name, part in self._parts(world).items():
            part.copy_(state[name])

    def shapes(self, world: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what :meth:`save` returns."""
        return {name: tuple(part.shape) for name, part in self._parts(world).items()}

    def _rows(self, world: int) -> slice:
        return slice(world * self.tokens, (world + 1) * self.tokens)

    def _parts(self, world: int) -> dict[str, Tensor]:
        """Return views of everything that belongs to one world."""
        return {name: getattr(self.view(world), name) for name in ("keys", "values", "last", "length")}
