"""Ending in order when the system, or Ctrl-C, asks the program to."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

ENDING = ("SIGTERM", "SIGHUP")


@contextmanager
def quitting_on_signals(quit_: Callable[[], None], names: Sequence[str] = ENDING) -> Iterator[None]:
    """Call ``quit_`` on these signals, so that everything is finished and closed as by the key.

    Args:
        quit_: called in the main thread between any two of its instructions; anything but setting a flag is too much.
        names: of signals; those the system does not have are left out.
    """
    with handling([getattr(signal, name) for name in names if hasattr(signal, name)], lambda *_: quit_()):
        yield


@contextmanager
def handling(signals: Sequence[signal.Signals], handler: Any) -> Iterator[None]:
    """Handle ``signals`` by ``handler`` inside the block; nothing in threads, where Python allows no handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals}
    # What is ignored stays so (nohup). None is a handler that was not set by Python and could not be put back.
    before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def for_processes_deaf_to_signals() -> Iterator[None]:
    """Let a process that is started in the block not hear what a terminal sends to all: whoever started it ends it.

    An encoder that Ctrl-C ended would leave a film without its end.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    numbers = {getattr(signal, name) for name in ("SIGINT", *ENDING)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # inherited; meanwhile they wait
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
