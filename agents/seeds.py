"""Seeds as a person writes them: one, a list, a range, or several of these."""

import re
from collections.abc import Iterable

from latentcraft.errors import UserError

MAX_SEEDS = 1024
"""Most games in one batch; a slip of the finger should not ask for millions."""

_RANGE = re.compile(r"(\d{1,18})(?:\s*-\s*(\d{1,18}))?", re.ASCII)


def read_seeds(seeds: int | str | Iterable[int | str]) -> tuple[int, ...]:
    """Return every seed in ``seeds``, in order.

    Args:
        seeds: numbers and ranges with both ends, such as ``900001``, ``"900001-900004"`` or a list of these; commas in
            a text separate them, too.

    Raises:
        UserError: no seeds or too many, something that is neither a seed nor a range.
    """
    items = [seeds] if isinstance(seeds, (int, str)) else list(seeds)
    found: list[int] = []
    for text in ",".join(map(str, items)).split(","):
        match = _RANGE.fullmatch(text.strip())
        if match is None:
            raise UserError(f"seeds={text.strip()} is no seed; give numbers from 0 up or ranges such as 900001-900004")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise UserError(f"seeds={text.strip()} runs backwards; write {last}-{first}")
        if last - first >= MAX_SEEDS - len(found):
            raise UserError(f"seeds={text.strip()} makes more than {MAX_SEEDS} games; take fewer")
        found.extend(range(first, last + 1))
    return tuple(found)
