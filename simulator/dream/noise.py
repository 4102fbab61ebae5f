"""The dream's randomness: noise is a function of (seed, chunk number), so a restored game goes on with the same."""

import torch
from torch import Tensor


def chunk_noise(seed: int, chunk: int, shape: tuple[int, ...] | torch.Size, *, context: bool = False) -> Tensor:
    """Return standard normal noise of ``shape`` for chunk number ``chunk`` of the game with ``seed``.

    Args:
        seed: the game's seed.
        chunk: chunks since the start.
        shape: of the result.
        context: the noise a finished chunk is fed back with, rather than the one it is dreamed from.
    """
    # An odd multiplier keeps neighbouring (seed, chunk) pairs on different Philox/MT streams.
    mixed = ((int(seed) * 0x9E3779B97F4A7C15 + chunk * 2 + int(context)) * 0xD1342543DE82EF95) & 0x7FFFFFFFFFFFFFFF
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(mixed))
