"""numba's ``njit`` with a cache that notices every change.

numba keys a compiled function by the file it stands in, but freezes into it what it takes from others: the numbers of
``blocks`` and ``model.actions``, whole functions of ``raycast``. So each state of all these files has its own folder.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

from latentcraft.model import actions

_config: Any = numba.config  # its attributes are set at run time, which type checkers do not see


@cache
def cache_folder() -> Path | None:
    """Return the folder for code compiled from the files as they are, None where nothing can be written.

    It lies in ``NUMBA_CACHE_DIR`` if that is set, else beside the sources, else in the user's cache.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in (*sorted(here.glob("*.py")), Path(actions.__file__)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "latentcraft"
    parents = [Path(_config.CACHE_DIR)] if _config.CACHE_DIR else [here / "__pycache__", user_cache]
    for parent in parents:
        folder = parent / f"numba-{digest.hexdigest()[:16]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


def njit(**options: Any) -> Callable[[Callable], Any]:
    """Return the decorator ``numba.njit(**options)``; with ``cache=True`` it caches in :func:`cache_folder`.

    Compiled functions hold no lock, so that threads play the games of a batch side by side.
    """
    options = {"nogil": True, **options}

    def decorate(function: Callable) -> Any:
        if not options.get("cache"):
            return numba.njit(**options)(function)
        folder = cache_folder()
        if folder is None:  # then every process compiles anew, which beats running stale code
            return numba.njit(**{**options, "cache": False})(function)
        # numba chooses a function's folder as it decorates it: other packages' functions keep their own.
        before, _config.CACHE_DIR = _config.CACHE_DIR, str(folder)
        try:
            return numba.njit(**options)(function)
        finally:
            _config.CACHE_DIR = before

    return decorate
