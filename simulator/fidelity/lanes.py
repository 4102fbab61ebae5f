"""Several games looked at side by side, one a core: drawing them, most of a search for a pose, holds no lock."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import numba

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], games: Iterable[T]) -> list[R]:
    """Return ``work`` of each game, in order, done on as many threads as numba would use.

    Args:
        work: must touch nothing that belongs to another game, so that the order of events changes no result.
        games: what to work on.
    """
    return list(_pool().map(work, games))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return the threads; they live on, and with them what each keeps for drawing."""
    return ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="lane")  # type: ignore[attr-defined]
