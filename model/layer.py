"""A layer of the transformer (dit.py): attention, in space or in time, and an MLP, each scaled and shifted by what the
chunk is conditioned on (adaLN-zero, DiT, arXiv 2212.09748).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentcraft.model.attention import attend, attend_past, rotate

EPSILON = 1e-5
"""Added to a mean square before its root is divided by."""


class Modulation(NamedTuple):
    """One sub-layer's adaLN parameters, each ``(b, g, t, 1, d)``."""

    shift: Tensor
    scale: Tensor
    gate: Tensor


def rms_norm(x: Tensor) -> Tensor:
    """RMSNorm without learned scale (adaLN or QK-norm follow with their own)."""
    return F.rms_norm(x, x.shape[-1:], eps=EPSILON)


def modulate(x: Tensor, modulation: Modulation) -> Tensor:
    """Normalise, scale, shift."""
    return torch.addcmul(modulation.shift, rms_norm(x), 1 + modulation.scale)


class Layer(nn.Module):
    """Attention (spatial or temporal) and MLP, both adaLN-zero."""

    def __init__(self, width: int, head_size: int, *, temporal: bool):
        """Shape it.

        Args:
            width: of the tokens, ``d``.
            head_size: of one attention head; ``width`` is a multiple of it.
            temporal: attend to the same place in earlier chunks, instead of within the chunk.
        """
        super().__init__()
        self.temporal, self.head_size = temporal, head_size
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_scale = nn.Parameter(torch.ones(head_size))
        self.k_scale = nn.Parameter(torch.ones(head_size))
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(
        self, x: Tensor, condition: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
        """Map ``x (b, g, t, n, d)``; a temporal layer also returns copy 0's keys and values for the cache."""
        b, g, t, n, d = x.shape
        parts = self.modulation(condition)[..., None, :].chunk(6, -1)
        first, second = Modulation(*parts[:3]), Modulation(*parts[3:])
        # Queries and keys go together, and as few operations as can be: at 60 tokens each costs mostly its call.
        heads, scales = d // self.head_size, torch.stack([self.q_scale, self.k_scale])[:, None, None, None]
        qkv, keys, values = self.qkv(modulate(x, first)), None, None
        if self.temporal:
            qkv = qkv.view(b, g * t, n, 3, heads, self.head_size).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)
        else:
            qkv = qkv.view(b * g * t, n, 3, heads, self.head_size).permute(2, 0, 3, 1, 4)
        (q, k), v = rotate(rms_norm(qkv[:2]) * scales, cos, sin).unbind(0), qkv[2]
        if self.temporal:
            keys, values = k[:, :, :t], v[:, :, :t]
            past_keys, past_values = (keys, values) if past is None else past
            y = attend_past(q, k, v, past_keys, past_values, mask)
            y = y.reshape(b, n, heads, g, t, self.head_size).permute(0, 3, 4, 1, 2, 5)
        else:
            y = attend(q, k, v).transpose(1, 2)
        x = torch.addcmul(x, first.gate, self.out(y.reshape(x.shape)))
        x = torch.addcmul(x, second.gate, self.down(F.relu(self.up(modulate(x, second))).square()))
        return x, keys, values
