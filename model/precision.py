"""Which number format this machine multiplies fastest."""

import platform
import time
from functools import lru_cache

import torch

PROBE_SIZE = 768
"""Side of the probe's square matrices: large enough to fill the units, small enough for a few milliseconds."""


def matmul_flops(dtype: torch.dtype, size: int = PROBE_SIZE, *, repeats: int = 5) -> float:
    """Return the best measured FLOP/s of a ``size`` x ``size`` matrix product on the CPU in ``dtype``."""
    x = torch.ones(size, size, dtype=dtype)
    x @ x  # the first call packs and plans
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        x @ x
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def has_fast_bf16() -> bool | None:
    """Whether this CPU multiplies bf16 natively (AVX512-BF16, AMX); None where torch cannot tell."""
    known = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    if platform.machine().lower() not in ("x86_64", "amd64") or None in known:
        return None
    return any(supported() for supported in known if supported is not None)


@lru_cache(maxsize=4)
def fast_dtype(device: str = "cpu") -> torch.dtype:
    """Return bf16 where it is faster than fp32, else fp32.

    The CPU's own word decides where there is one, since a game must play the same bits in every process; a probe
    decides on other machines. Emulated bf16 is several times *slower* than fp32, so a margin of 1.2 tells them apart.
    """
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if not device.startswith("cpu"):
        return torch.float32
    faster = has_fast_bf16()
    if faster is None:
        faster = matmul_flops(torch.bfloat16) > 1.2 * matmul_flops(torch.float32)
    return torch.bfloat16 if faster else torch.float32
