"""Two lanes on the CPU: of many small operations two at a time gain more than each of them on two cores."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
U = TypeVar("U")

_LANE = ThreadPoolExecutor(1)
_THREAD = threading.local()


@contextmanager
def lanes() -> Iterator[None]:
    """Make two lanes of torch's threads, where there are at least two: what runs in here has half of them, and
    :func:`beside` the other half.

    Going to and fro between one lane and all threads would cost more than it gains: these wait for more, busily.
    """
    threads = torch.get_num_threads()
    if threads == 1 or two_lanes():
        yield
        return
    torch.set_num_threads(threads // 2)
    _THREAD.two = True
    try:
        yield
    finally:
        _THREAD.two = False
        torch.set_num_threads(threads)


def two_lanes() -> bool:
    """Whether there is another lane that :func:`beside` can use."""
    return getattr(_THREAD, "two", False)


def beside(one: Callable[[], T], other: Callable[[], U]) -> tuple[T, U]:
    """Call both and return what they return, without gradients: at the same time within :func:`lanes`, else one after
    the other.

    Neither may change what the other one looks at: then the result is the same to the bit whoever is the faster. Within
    them there is one lane.
    """
    if not two_lanes():
        with torch.no_grad():
            return one(), other()
    share = torch.get_num_threads()

    def apart() -> T:
        if torch.get_num_threads() != share:  # each thread has a number of its own
            torch.set_num_threads(share)
        with torch.no_grad():
            return one()

    first = _LANE.submit(apart)
    _THREAD.two = False
    try:
        with torch.no_grad():
            second = other()
    finally:
        first.exception()  # waits, also where the other one failed
        _THREAD.two = True
    return first.result(), second


def halves(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Call a function of a ``batch (k, ...)`` for both halves of it :func:`beside` each other, if there are lanes."""
    if len(batch) < 2 or not two_lanes():
        return function(batch)
    some, rest = batch.tensor_split(2)
    return torch.cat(beside(lambda: function(some), lambda: function(rest)))
