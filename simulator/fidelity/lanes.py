"""Several games looked at side by side, one a core: drawing them, most of a search for a pose, holds no lock."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import numba

R = TypeVar("R")


def side_by_side(work: Callable[..., R], *games: Iterable[Any]) -> list[R]:
    """Return ``work`` of each game, in order, done on as many threads as numba would use.

    Args:
        work: must touch nothing that belongs to another game, so that the order of events changes no result.
        games: what to work on, one sequence for each argument; all of one length.
    """
    return [done.result() for done in [_pool().submit(work, *each) for each in zip(*games, strict=True)]]


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return the threads; they live on, and with them what each keeps for drawing."""
    return ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="lane")  # type: ignore[attr-defined]
