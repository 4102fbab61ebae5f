"""How much this process holds right now, where the system says so: what a leak shows up in."""

import os
from pathlib import Path

PROC = Path("/proc/self")


def vitals() -> list[str]:
    """Return the resident memory and the open file handles in words; what the system does not say is left out."""
    words = []
    memory, handles = resident_bytes(), open_handles()
    if memory is not None:
        words.append(f"{memory / 1e6:.0f} MB")
    if handles is not None:
        words.append(f"{handles} open files")
    return words


def resident_bytes() -> int | None:
    """Return the memory of this process that is in RAM, or None where ``/proc`` does not say."""
    try:
        return int((PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def open_handles() -> int | None:
    """Return the number of this process's file descriptors, or None where ``/proc`` does not say."""
    try:
        return len(list((PROC / "fd").iterdir())) - 1  # listing them opens one
    except OSError:
        return None
