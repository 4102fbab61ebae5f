"""The transformer's layers for one chunk on a CPU: those of layer.py, with compiled loops between the products.

A chunk is few tokens. The products of one layer take 0.6 ms of a core then, and the thirty small operations between
them, each hardly more than its call, as long again. Here those are three loops, over numbers of either format: numbers
are read as *bits*, bfloat16 being the upper half of a float32, and what goes from layer to layer stays float32.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft.model.attention import KVCache
from latentcraft.model.layer import EPSILON, Layer
from latentcraft.model.points import POOL, compiled_fast

TOGETHER = 4
"""Worlds from which on they are shared out among threads."""
POWER = (2.16138082e-04, 1.24673764e-03, 9.67553263e-03, 5.54852202e-02, 2.40229325e-01, 6.93147042e-01)
"""Of the sixth to the first power of x in 2 ** x, from 0 to 1."""
PACKED_FOR = 64
"""Rows for which matrices are packed, however many there are: else bits would depend on who came first."""
CAN_PACK = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
_PACKED = WeakKeyDictionary[Layer, tuple[tuple, list[Tensor]]]()
BITS = {torch.bfloat16: torch.uint16, torch.float32: torch.uint32}


class Streamed(NamedTuple):
    """What the layers make of a chunk."""

    tokens: Tensor
    """``(b * n, d)``, fp32."""
    keys: Tensor
    """For the cache, ``(temporal layers, b * n, heads, 1, size)``."""
    values: Tensor
    """Same shape."""


def can_stream(x: Tensor, cache: KVCache | None) -> bool:
    """Whether :func:`stream` may be used for tokens ``x``: on a CPU, from a cache, and when nothing learns."""
    return cache is not None and x.device.type == "cpu" and x.dtype in BITS and not torch.is_grad_enabled()


def stream(
    layers: Sequence[Layer], x: Tensor, modulation: Tensor, space: Tensor, time: Tensor, cache: KVCache
) -> Streamed:
    """Run the layers.

    Args:
        layers: of one width and head size.
        x: tokens ``(b, n, d)``.
        modulation: of the layers, ``(b, layers, 6 * d)``, see :func:`modulations`.
        space: rotary angles of the tokens, ``(n, size / 2)``.
        time: of the worlds' chunks, ``(b, size / 2)``.
        cache: of finished chunks.
    """
    b, n, width = x.shape
    size, dtype, rows = layers[0].head_size, x.dtype, b * n
    heads, shift = width // size, np.uint32(16 if dtype is torch.bfloat16 else 0)
    tokens = x.reshape(rows, width).float().numpy().copy()
    new = torch.empty(2, sum(1 for layer in layers if layer.temporal), rows, heads, 1, size, dtype=dtype)
    normal, mixed = (torch.empty(rows, width, dtype=dtype) for _ in range(2))
    split, scores = torch.empty(3, b * heads, n, size), torch.empty(b * heads, n, n)
    normal_bits, mixed_bits, added_bits = _bits(normal), _bits(mixed), _bits(torch.zeros_like(normal))
    told_of = modulation.float().numpy().reshape(b, len(layers), 6, width).transpose(1, 2, 0, 3)
    all_scales = torch.stack([part for layer in layers for part in (layer.q_scale, layer.k_scale)]).float()
    all_scales = all_scales.unflatten(0, (len(layers), 2)).mul(torch.tensor([[size**-0.5], [1.0]])).numpy()
    (cos, sin), (time_cos, time_sin) = _waves(space), _waves(time)
    lengths, parts = cache.length.numpy(), shares(b)
    head_parts = [(first * heads, last * heads) for first, last in parts]
    gate, at = np.zeros((b, width), np.float32), 0
    for layer, told, scales in zip(layers, told_of, all_scales, strict=True):
        _each(parts, enter, tokens, added_bits, gate, told[0], told[1], normal_bits, n, shift)
        weights = packed(layer)
        qkv_bits = _bits(times(normal, weights[0]))
        if layer.temporal:
            past = [_bits(part[at]) for part in (cache.keys, cache.values)]
            own = [_bits(part[at]) for part in new]
            _each(parts, attend_time, qkv_bits, scales, time_cos, time_sin, *past, lengths, mixed_bits, *own, n, shift)
            at += 1
        else:
            queries, keys, values = split
            _each(parts, split_heads, qkv_bits, scales, cos, sin, *split.numpy(), n, shift)
            torch.bmm(queries, keys.transpose(1, 2), out=scores)
            _each(head_parts, soften_all, scores.numpy())
            torch.bmm(scores, values, out=queries)
            _each(parts, join_heads, queries.numpy(), mixed_bits, n, shift)
        added_bits = _bits(times(mixed, weights[1]))
        _each(parts, enter, tokens, added_bits, told[2], told[3], told[4], normal_bits, n, shift)
        more = F.relu(times(normal, weights[2]), inplace=True).square_()
        added_bits = _bits(times(more, weights[3]))
        gate = told[5]
    nothing = np.zeros_like(gate)
    _each(parts, enter, tokens, added_bits, gate, nothing, nothing, normal_bits, n, shift)
    return Streamed(torch.from_numpy(tokens), new[0], new[1])


def modulations(layers: Sequence[Layer], condition: Tensor) -> Tensor:
    """Return what ``condition (..., d)``, see :meth:`latentcraft.model.dit.SpacetimeDiT.condition`, makes of all
    layers' adaLN parameters, ``(..., layers, 6 * d)``. For one chunk these products are mostly the reading of their
    matrices, so those of all denoising steps are made at once.
    """
    return torch.stack([layer.modulation(condition) for layer in layers], -2)


def packed(layer: Layer) -> Sequence[Tensor]:
    """Return a layer's matrices, put in the order in which they are multiplied the fastest.

    That takes as long as ten products, so it is done once, and again when they have learned.
    """
    weights = [part.weight for part in (layer.qkv, layer.out, layer.up, layer.down)]
    if not CAN_PACK:
        return weights
    state = tuple((weight.data_ptr(), weight._version) for weight in weights)
    known = _PACKED.get(layer)
    if known is None or known[0] != state:
        ordered = [torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACKED_FOR) for weight in weights]
        known = _PACKED[layer] = state, ordered
    return known[1]


def times(x: Tensor, weight: Tensor) -> Tensor:
    """Return the product of ``x (rows, d)`` and a matrix that :func:`packed` returned, transposed."""
    if not weight.is_mkldnn:
        return F.linear(x, weight)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product


def _bits(part: Tensor) -> np.ndarray:
    """Return the numbers of a tensor as whole ones, sharing its memory."""
    bits: np.ndarray = part.view(BITS[part.dtype]).numpy()
    return bits


def _waves(angles: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines and sines, fp32."""
    return angles.float().cos().numpy(), angles.float().sin().numpy()


def shares(worlds: int) -> list[tuple[int, int]]:
    """Return the first world, and the one after the last, of each share that a thread has."""
    if worlds < TOGETHER or torch.get_num_threads() == 1:
        return [(0, worlds)]
    return [(0, worlds // 2), (worlds // 2, worlds)]


def _each(parts: list[tuple[int, int]], loop: Callable, *arguments: object) -> None:
    """Run a loop over all worlds."""
    if len(parts) == 1:
        loop(*parts[0], *arguments)
    else:
        list(POOL.map(lambda part: loop(*part, *arguments), parts))


@compiled_fast
def read(bits, shift, out):
    """Write numbers given as ``bits (k,)`` to ``out``, float32 seen as ``uint32 (k,)``."""
    for i in range(len(out)):
        out[i] = np.uint32(np.uint32(bits[i]) << shift)


@compiled_fast
def write(numbers, shift, out):
    """Write numbers, float32 seen as ``uint32 (k,)``, as bits, rounded to the nearest, to even."""
    for i in range(len(out)):
        bits = numbers[i]
        if shift:
            odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
            bits = np.uint32(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))
        out[i] = bits


@compiled_fast
def enter(first, last, tokens, added, gate, shifts, scales, out, n, shift):
    """Add what a sub-layer made, and normalise, scale and shift for the next one.

    Args:
        first: world.
        last: world, that after it.
        tokens: ``float32 (b * n, d)``, changed.
        added: ``(b * n, d)``, bits.
        gate: by which that is multiplied, ``float32 (b, d)``.
        shifts: ``float32 (b, d)``.
        scales: likewise, less one.
        out: ``(b * n, d)``, bits, overwritten.
        n: tokens of a world.
        shift: of the bits.
    """
    width = tokens.shape[1]
    line = np.empty(width, np.float32)
    bits = line.view(np.uint32)
    for world in range(first, last):
        for row in range(world * n, (world + 1) * n):
            token = tokens[row]
            read(added[row], shift, bits)
            total = np.float32(0)
            for i in range(width):
                token[i] += gate[world, i] * line[i]
                total += token[i] * token[i]
            factor = np.float32(1) / np.sqrt(total / np.float32(width) + np.float32(EPSILON))
            for i in range(width):
                line[i] = token[i] * factor * (np.float32(1) + scales[world, i]) + shifts[world, i]
            write(bits, shift, out[row])


@compiled_fast
def turned(bits, shift, scale, cos, sin, out):
    """Read one head's query or key ``(size,)``, normalise it, scale it and turn it; see :func:`rotate`."""
    size = len(out)
    half = size // 2
    read(bits, shift, out.view(np.uint32))
    total = np.float32(0)
    for i in range(size):
        total += out[i] * out[i]
    factor = np.float32(1) / np.sqrt(total / np.float32(size) + np.float32(EPSILON))
    for i in range(half):
        a, b = out[i] * factor * scale[i], out[i + half] * factor * scale[i + half]
        out[i], out[i + half] = a * cos[i] - b * sin[i], b * cos[i] + a * sin[i]


@compiled_fast
def soften(scores, powers):
    """Make a softmax of ``scores (k,)``; ``powers``, ``int32 (k,)``, are overwritten.

    The machine has no exponential of many numbers at once, so it is made here: of the whole part of the exponent to 2
    by its bits, of the rest by a polynomial (least squares; 2e-9 off at most, relatively).
    """
    most, total = scores[0], np.float32(0)
    for i in range(1, len(scores)):
        most = max(most, scores[i])
    for i in range(len(scores)):
        exponent = max((scores[i] - most) * np.float32(1.442695041), np.float32(-126))
        whole = np.floor(exponent)
        rest = exponent - whole
        powers[i] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        part = np.float32(POWER[0])
        for coefficient in POWER[1:]:
            part = part * rest + np.float32(coefficient)
        scores[i] = part * rest + np.float32(1)
    twos = powers.view(np.float32)
    for i in range(len(scores)):
        scores[i] *= twos[i]
        total += scores[i]
    for i in range(len(scores)):
        scores[i] /= total


@compiled_fast
def split_heads(first, last, qkv, scales, cos, sin, queries, keys, values, n, shift):
    """Write queries, keys and values, ready to be multiplied.

    Args:
        first: world.
        last: world, that after it.
        qkv: ``(b * n, 3 * d)``, bits.
        scales: of queries and keys, ``float32 (2, size)``.
        cos: ``float32 (n, size / 2)``.
        sin: likewise.
        queries: ``float32 (b * heads, n, size)``, overwritten.
        keys: likewise.
        values: likewise.
        n: tokens of a world.
        shift: of the bits.
    """
    size = scales.shape[1]
    width = qkv.shape[1] // 3
    heads = width // size
    for world in range(first, last):
        for token in range(n):
            row = qkv[world * n + token]
            for head in range(heads):
                at, to = head * size, world * heads + head
                turned(row[at : at + size], shift, scales[0], cos[token], sin[token], queries[to, token])
                at += width
                turned(row[at : at + size], shift, scales[1], cos[token], sin[token], keys[to, token])
                at += width
                read(row[at : at + size], shift, values[to, token].view(np.uint32))


@compiled_fast
def soften_all(first, last, scores):
    """Make softmaxes of ``scores (b * heads, n, n)``."""
    _, n, _ = scores.shape
    powers = np.empty(n, np.int32)
    for each in range(first, last):
        for token in range(n):
            soften(scores[each, token], powers)


@compiled_fast
def join_heads(first, last, mixed, out, n, shift):
    """Write ``mixed``, ``float32 (b * heads, n, size)``, side by side as bits ``(b * n, d)``."""
    size = mixed.shape[2]
    heads = out.shape[1] // size
    for world in range(first, last):
        for token in range(n):
            for head in range(heads):
                part = mixed[world * heads + head, token].view(np.uint32)
                write(part, shift, out[world * n + token, head * size : (head + 1) * size])


@compiled_fast
def attend_time(
    first, last, qkv, scales, cos, sin, past_keys, past_values, lengths, out, own_keys, own_values, n, shift
):
    """Attend of each token to itself and to its place in the chunks before.

    Args:
        first: this and the next three as for :func:`split_heads`.
        last: see there.
        qkv: see there.
        scales: see there.
        cos: ``float32 (b, size / 2)``.
        sin: likewise.
        past_keys: ``(b * n, heads, capacity, size)``, bits.
        past_values: likewise.
        lengths: chunks that were written so far, ``int64 (b,)``.
        out: ``(b * n, d)``, bits, overwritten.
        own_keys: ``(b * n, heads, 1, size)``, bits, overwritten.
        own_values: likewise.
        n: tokens of a world.
        shift: of the bits.
    """
    width, size = out.shape[1], scales.shape[1]
    query, mixed, line = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    for world in range(first, last):
        count = min(lengths[world], past_keys.shape[2])
        scores, powers = np.empty(count + 1, np.float32), np.empty(count + 1, np.int32)
        for row in range(world * n, (world + 1) * n):
            for head in range(width // size):
                at = head * size
                turned(qkv[row, at : at + size], shift, scales[0], cos[world], sin[world], query)
                turned(qkv[row, width + at : width + at + size], shift, scales[1], cos[world], sin[world], line)
                write(line.view(np.uint32), shift, own_keys[row, head, 0])
                for past in range(count + 1):
                    if past < count:
                        read(past_keys[row, head, past], shift, line.view(np.uint32))
                    else:
                        read(own_keys[row, head, 0], shift, line.view(np.uint32))
                    total = np.float32(0)
                    for i in range(size):
                        total += query[i] * line[i]
                    scores[past] = total
                soften(scores, powers)
                mixed[:] = 0
                for i in range(size):
                    own_values[row, head, 0, i] = qkv[row, 2 * width + at + i]
                for past in range(count + 1):
                    if past < count:
                        read(past_values[row, head, past], shift, line.view(np.uint32))
                    else:
                        read(own_values[row, head, 0], shift, line.view(np.uint32))
                    for i in range(size):
                        mixed[i] += scores[past] * line[i]
                write(mixed.view(np.uint32), shift, out[row, at : at + size])
