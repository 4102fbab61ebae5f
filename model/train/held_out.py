"""Which episodes are learned from and which are kept to try what was learned."""

import zlib
from pathlib import Path


def split(episodes: list[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Return training and held-out episodes, told apart by a hash of their names; at least one of each."""
    ranked = sorted(episodes, key=lambda path: zlib.crc32(path.stem.encode()))
    count = sum(zlib.crc32(path.stem.encode()) % 2**32 < share * 2**32 for path in ranked)
    count = min(max(count, 1), len(ranked) - 1)
    return sorted(ranked[count:]), sorted(ranked[:count])
