"""The scalars of an action script: times, angles, counts and keys, read from words that know where they stand.

Each may be a range (``1s to 3s``), from which :mod:`latentcraft.agents.script_steps` draws.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, BUTTONS, CAMERA_LIMIT
from latentcraft.simulator.protocol import TICKS_PER_SECOND

MAX_TICKS = 10 * 60 * TICKS_PER_SECOND
"""Longest script, ten minutes: a rollout keeps its frames in memory (0.6 GB at 160x96)."""

KEYS = {**{name: name for name in BUTTONS if not name.startswith("hotbar.")}, "dig": "attack", "place": "use"}
"""What a script may call a button."""
KEY_HINTS = {
    **dict.fromkeys(("w", "walk", "ahead", "up"), "forward"), "s": "back", "a": "left", "d": "right",
    **dict.fromkeys(("space", "swim"), "jump"), **dict.fromkeys(("shift", "crouch"), "sneak"),
    **dict.fromkeys(("ctrl", "control", "run"), "sprint"), **dict.fromkeys(("mine", "break", "hit", "chop"), "dig"),
    **dict.fromkeys(("build", "put"), "place"),
}  # fmt: skip
"""What people write instead of a key, and the key they mean."""
TICK_UNITS = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), float(TICKS_PER_SECOND)),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0 * TICKS_PER_SECOND),
    "ms": TICKS_PER_SECOND / 1000,
    **dict.fromkeys(("tick", "ticks"), 1.0),
}
"""Ticks in each unit of time but chunks, which the world decides."""
EITHER = "either"
"""The side that is left to chance."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_UNIT = r"[^\d\s.+-][^\d\s.]*"
_DURATION = re.compile(rf"({_NUMBER})\s*({_UNIT})??(?:\s+to\s+({_NUMBER})\s*)?({_UNIT})?")
_ANGLE = re.compile(rf"([a-z]+)\s+({_NUMBER})\s*({_UNIT})??(?:\s+to\s+({_NUMBER})\s*)?({_UNIT})?")
_WHOLE = re.compile(r"(\d{1,9})(?:\s+to\s+(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True)
class Word:
    """A piece of a script's text that knows where it stands."""

    text: str
    """With parameters filled in."""
    source: str
    """File name that errors show."""
    line: int
    """From 1."""
    column: int
    """From 1."""
    note: str = ""
    """What errors add, for instance which parameter the text came from."""
    exact: bool = True
    """Whether ``text`` stands in the file letter for letter, so that a part of it can be pointed at."""

    def fail(self, reason: str, *, offset: int = 0) -> NoReturn:
        """Raise the UserError ``source:line:column: reason``; ``offset`` letters into the text, where that is known."""
        column = self.column + (offset if self.exact else 0)
        raise UserError(f"{self.source}:{self.line}:{column}: {reason}{self.note}")


@dataclass(frozen=True)
class Span:
    """A number, or a range of them to draw from; both ends belong to it."""

    low: float
    high: float


@dataclass(frozen=True)
class Angle:
    """A turn of the camera about one axis."""

    degrees: Span
    """Never negative."""
    signs: tuple[int, ...]
    """-1 for left or up, +1 for right or down; both where chance decides."""


def suggest(name: str, known: Iterable[str], hints: Mapping[str, str] | None = None) -> str:
    """Return the end of an error line about an unknown ``name``: what was meant, or all that is known."""
    known, name = list(known), name.lower()
    swapped = [each for each in known if sorted(each) == sorted(name)]  # difflib finds `run` nearer to `trun`
    close = [(hints or {}).get(name), *swapped, *difflib.get_close_matches(name, known, 1)]
    meant = next(filter(None, close), None)
    return f"did you mean {meant!r}?" if meant else f"known: {', '.join(known)}"


def check_length(word: Word, ticks: float, budget: int) -> None:
    """Fail where ``ticks`` more than the ``budget`` that is left would make the script too long."""
    if ticks > budget:
        word.fail(f"the script is longer than {MAX_TICKS // TICKS_PER_SECOND}s here; make it shorter")


def duration(word: Word, what: str, chunk: int, budget: int) -> Span:
    """Read ``2s``, ``3 chunks``, ``250ms`` or ``1 to 3s``: whole ticks, at least one and at most ``budget``.

    Raises:
        UserError: no time, an unknown unit, a time that is negative, too short or too long.
    """
    match = _DURATION.fullmatch(word.text)
    if match is None:
        word.fail(f"{what} must be a time, got {word.text!r}; write `2s`, `4 chunks` or `1s to 3s`")
    first, first_unit, second, last_unit = match.groups()
    unit = last_unit or first_unit or ""  # in `1 to 3s` the unit is that of both
    units = {**TICK_UNITS, "chunk": float(chunk), "chunks": float(chunk)}
    ends = [(first, first_unit or unit)] + ([(second, unit)] if second else [])
    ticks = []
    for number, name in ends:
        if name.lower() not in units:
            close = difflib.get_close_matches(name.lower(), filter(None, units), 1) if len(name) > 2 else []
            mend = f"did you mean {close[0]!r}?" if close else "write s, ms, min, ticks or chunks"
            word.fail(f"unknown unit {name!r} in {word.text!r}; {mend}")
        if number.startswith("-"):
            word.fail(f"{what} is negative ({word.text}); a time must be above zero")
        exact = float(number) * units[name.lower()]
        check_length(word, exact, budget)
        if round(exact) < 1:
            word.fail(f"{what} of {word.text} is less than one tick; the shortest is {1 / TICKS_PER_SECOND:g}s")
        ticks.append(round(exact))
    return _span(word, what, ticks)


def angle(word: Word, what: str, negative: str, positive: str) -> Angle:
    """Read ``left 90``, ``right 30 to 60`` or ``either 45``.

    Raises:
        UserError: an unknown side or unit, no degrees, negative or absurdly many of them.
    """
    match = _ANGLE.fullmatch(word.text)
    sides = {negative: (-1,), positive: (1,), EITHER: (-1, 1)}
    if match is None or match[1] not in sides:
        first = re.match(r"[A-Za-z]+", word.text)
        mend = suggest(first[0], sides) if first else ""
        mend = mend if match and "did you mean" in mend else f"write `{what}: {negative} 90`"
        word.fail(f"{what} must be a side and degrees, got {word.text!r}; {mend}")
    side, first_number, first_unit, second, last_unit = match.groups()
    for unit in (first_unit or "", last_unit or ""):
        if unit.lower() not in ("", "deg", "degree", "degrees", "°"):
            word.fail(f"unknown unit {unit!r} in {word.text!r}; angles are in degrees")
    numbers = [first_number] + ([second] if second else [])
    for number in numbers:
        if number.startswith("-"):
            other = {negative: positive, positive: negative, EITHER: EITHER}[side]
            word.fail(f"{what} is negative ({word.text}); write `{what}: {other} {number[1:]}`")
        if float(number) > CAMERA_LIMIT * MAX_TICKS:
            word.fail(f"{what} of {float(number):g} degrees takes longer than a script may; make it smaller")
    return Angle(_span(word, what, [float(number) for number in numbers]), sides[side])


def whole(word: Word, what: str, low: int, high: int) -> Span:
    """Read a whole number from ``low`` to ``high``, or a range of them: ``3``, ``2 to 4``.

    Raises:
        UserError: anything else.
    """
    match = _WHOLE.fullmatch(word.text)
    numbers = [int(number) for number in match.groups() if number] if match else []
    if not numbers or min(numbers) < low or max(numbers) > high:
        word.fail(f"{what} must be a whole number from {low} to {high}, got {word.text!r}")
    return _span(word, what, numbers)


def keys(word: Word, what: str) -> tuple[int, ...]:
    """Read a combination of keys, ``forward + jump``; returns their places in the action vector.

    Raises:
        UserError: an unknown key, pointed at.
    """
    places, offset = [], 0
    for part in word.text.split("+"):
        name = part.strip()
        if name not in KEYS:
            start = offset + len(part) - len(part.lstrip())
            word.fail(f"unknown key {name!r} to {what}; {suggest(name, KEYS, KEY_HINTS)}", offset=start)
        places.append(BUTTON_INDEX[KEYS[name]])
        offset += len(part) + 1
    return tuple(places)


def _span(word: Word, what: str, ends: list[float] | list[int]) -> Span:
    if ends[0] > ends[-1]:
        word.fail(f"{what} runs from more to less ({word.text}); write the smaller one first")
    return Span(ends[0], ends[-1])
