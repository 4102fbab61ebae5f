"""Turns the YAML nodes of an action script into actions; the language is described in :mod:`latentcraft.agents.script`.

Nodes (rather than plain Python values) know their line and column, so every complaint can point at its place.
"""

import difflib
import math
import re
from typing import NoReturn

import numpy as np
import yaml

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, BUTTONS, CAMERA_LIMIT, HOTBAR_SLOTS, PITCH, YAW, noop
from latentcraft.simulator.protocol import TICKS_PER_SECOND

TURN_SPEED = 90.0
"""Degrees a second of a turn or look without ``for``: a calm hand."""
MAX_TICKS = 10 * 60 * TICKS_PER_SECOND
"""Longest script, ten minutes: a rollout keeps its frames in memory (0.6 GB at 160x96)."""
MAX_DEPTH = 8
"""Deepest nesting of ``repeat``; also what stops a YAML alias that contains itself."""
CAMERA_GRID = 1024
"""Camera positions along a turn lie on multiples of 1/1024 degree, so that float32 sums of them stay exact."""

KEYS = {**{name: name for name in BUTTONS if not name.startswith("hotbar.")}, "dig": "attack", "place": "use"}
STEP_KEYS = ("hold", "press", "turn", "look", "select", "for", "wait", "repeat", "steps")
DURATION_UNITS = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), float(TICKS_PER_SECOND)),
    "ms": TICKS_PER_SECOND / 1000,
    **dict.fromkeys(("tick", "ticks"), 1.0),
}
DURATION = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+))\s*([^\d\s.]*)")
ANGLE = re.compile(r"([a-z]+)\s+([-+]?(?:\d+\.?\d*|\.\d+))\s*([^\d\s.]*)")

Fields = dict[str, yaml.Node]


class ScriptParser:
    """Walks the nodes of one script; every method raises a UserError that names file, line and column.

    Args:
        source: file name that errors show.
        chunk: ticks in a chunk.
    """

    def __init__(self, source: str, chunk: int) -> None:
        self.source = source
        self.units = {**DURATION_UNITS, "chunk": float(chunk), "chunks": float(chunk)}

    def fail(self, node: yaml.Node, reason: str) -> NoReturn:
        """Complain about ``node``."""
        mark = node.start_mark
        raise UserError(f"{self.source}:{mark.line + 1}:{mark.column + 1}: {reason}")

    def script(self, node: yaml.Node) -> tuple[str, np.ndarray]:
        """Return the ``about`` line and the actions ``float32 (T, 20)``."""
        about = ""
        if isinstance(node, yaml.MappingNode):
            fields = self.fields(node, ("about", "steps"))
            if "steps" not in fields:
                self.fail(node, "the script has no steps; add `steps:` with a list below it")
            about = self.text(fields["about"], "about") if "about" in fields else ""
            node = fields["steps"]
        return about, self.steps(node, MAX_TICKS, depth=0)

    def steps(self, node: yaml.Node, budget: int, depth: int) -> np.ndarray:
        """Return the actions of a list of steps, ``float32 (T, 20)`` with T at most ``budget``."""
        if depth > MAX_DEPTH:
            self.fail(node, f"nested too deeply; at most {MAX_DEPTH} repeats inside each other")
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, "steps must be a list; start each step with `- `")
        if not node.value:
            self.fail(node, "the list of steps is empty; add a step such as `- wait: 1s`")
        parts: list[np.ndarray] = []
        for child in node.value:
            part = self.step(child, budget, depth)
            budget -= len(part)
            parts.append(part)
        return np.concatenate(parts)

    def step(self, node: yaml.Node, budget: int, depth: int) -> np.ndarray:
        """Return the actions of one step of any kind."""
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, "a step must be `key: value`, such as `hold: forward` with `for: 2s`")
        fields = self.fields(node, STEP_KEYS)
        if "repeat" in fields or "steps" in fields:
            self.only(fields, ("repeat", "steps"), "a repeat")
            if len(fields) < 2:
                self.fail(node, "a repeat needs both `repeat: N` and `steps:`")
            count = self.whole(fields["repeat"], "repeat", 1, MAX_TICKS)
            body = self.steps(fields["steps"], budget, depth + 1)
            self.check_length(fields["repeat"], len(body) * count, budget)
            return np.tile(body, (count, 1))
        if "wait" in fields:
            self.only(fields, ("wait",), "a wait")
            return noop(self.duration(fields["wait"], "wait", budget))
        return self.act(node, fields, budget)

    def act(self, node: yaml.Node, fields: Fields, budget: int) -> np.ndarray:
        """Return the actions of a step of keys and camera."""
        turns = {
            axis: self.angle(fields[key], key, negative, positive)
            for key, axis, negative, positive in (("look", PITCH, "up", "down"), ("turn", YAW, "left", "right"))
            if key in fields
        }
        if "for" in fields:
            if len(fields) == 1:
                self.fail(node, "`for` alone does nothing; add hold, press, turn, look or select, or use `wait`")
            ticks = self.duration(fields["for"], "for", budget)
        elif turns:
            ticks = max(1, math.ceil(max(map(abs, turns.values())) / TURN_SPEED * TICKS_PER_SECOND))
        elif "hold" in fields:
            self.fail(fields["hold"], "hold needs a time; add `for: 2s`, or use `press` for one tick")
        elif fields:
            ticks = 1
        else:
            self.fail(node, "the step is empty; add a key such as `wait: 1s`")
        self.check_length(node, ticks, budget)

        actions = noop(ticks)
        for axis, degrees in turns.items():
            if abs(degrees) > CAMERA_LIMIT * ticks:
                least = math.ceil(abs(degrees) / CAMERA_LIMIT) / TICKS_PER_SECOND
                self.fail(
                    fields["turn" if axis == YAW else "look"],
                    f"{abs(degrees):g} degrees in {ticks / TICKS_PER_SECOND:g}s is {abs(degrees) / ticks:.4g} a tick, "
                    f"more than the camera's {CAMERA_LIMIT:g}; give it at least {least:g}s",
                )
            actions[:, axis] = spread_turn(degrees, ticks)
        if "hold" in fields:
            actions[:, self.keys(fields["hold"], "hold")] = 1
        if "press" in fields:
            actions[0, self.keys(fields["press"], "press")] = 1
        if "select" in fields:
            slot = self.whole(fields["select"], "select", 1, HOTBAR_SLOTS)
            actions[0, BUTTON_INDEX[f"hotbar.{slot}"]] = 1
        return actions

    def fields(self, node: yaml.MappingNode, known: tuple[str, ...]) -> Fields:
        fields: Fields = {}
        for key_node, value in node.value:
            key = self.text(key_node, "a key")
            if key not in known:
                self.fail(key_node, f"unknown key {key!r}; {_suggest(key, known)}")
            if key in fields:
                self.fail(key_node, f"{key!r} is given twice in one step; start a new step with `- `")
            fields[key] = value
        return fields

    def only(self, fields: Fields, allowed: tuple[str, ...], what: str) -> None:
        for key, value in fields.items():
            if key not in allowed:
                self.fail(value, f"{what} cannot also have {key!r}; give it a step of its own")

    def check_length(self, node: yaml.Node, ticks: float, budget: int) -> None:
        if ticks > budget:
            self.fail(node, f"the script is longer than {MAX_TICKS // TICKS_PER_SECOND}s here; make it shorter")

    def text(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.fail(node, f"{what} must be plain text or a number, not a list or a mapping")
        return str(node.value).strip()

    def whole(self, node: yaml.Node, what: str, low: int, high: int) -> int:
        text = self.text(node, what)
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not low <= int(text) <= high:
            self.fail(node, f"{what} must be a whole number from {low} to {high}, got {text!r}")
        return int(text)

    def keys(self, node: yaml.Node, what: str) -> list[int]:
        names = [name.strip() for name in self.text(node, what).split("+")]
        for name in names:
            if name not in KEYS:
                self.fail(node, f"unknown key {name!r} to {what}; {_suggest(name, tuple(KEYS))}")
        return [BUTTON_INDEX[KEYS[name]] for name in names]

    def duration(self, node: yaml.Node, what: str, budget: int) -> int:
        """Return ticks, at least one."""
        text = self.text(node, what)
        match = DURATION.fullmatch(text)
        if match is None:
            self.fail(node, f"{what} must be a time, got {text!r}; write `2s`, `4 chunks` or `8 ticks`")
        number, unit = float(match[1]), match[2].lower()
        if unit not in self.units:
            self.fail(node, f"unknown unit {match[2]!r} in {text!r}; write s, ms, ticks or chunks")
        if match[1].startswith("-"):
            self.fail(node, f"{what} is negative ({text}); a time must be above zero")
        ticks = number * self.units[unit]
        self.check_length(node, ticks, budget)
        if round(ticks) < 1:
            self.fail(node, f"{what} of {text} is less than one tick; the shortest is {1 / TICKS_PER_SECOND:g}s")
        return round(ticks)

    def angle(self, node: yaml.Node, what: str, negative: str, positive: str) -> float:
        """Return signed degrees."""
        text = self.text(node, what)
        match = ANGLE.fullmatch(text)
        if match is None or match[1] not in (negative, positive):
            self.fail(node, f"{what} must be a side and degrees, got {text!r}; write `{what}: {negative} 90`")
        if match[3].lower() not in ("", "deg", "degree", "degrees", "°"):
            self.fail(node, f"unknown unit {match[3]!r} in {text!r}; angles are in degrees")
        if match[2].startswith("-"):
            other = positive if match[1] == negative else negative
            self.fail(node, f"{what} is negative ({text}); write `{what}: {other} {match[2][1:]}`")
        degrees = float(match[2])
        if degrees > CAMERA_LIMIT * MAX_TICKS:
            self.fail(node, f"{what} of {degrees:g} degrees takes longer than a script may; make it smaller")
        return -degrees if match[1] == negative else degrees


def spread_turn(degrees: float, ticks: int) -> np.ndarray:
    """Return per-tick turns ``float32 (ticks,)`` that are even and sum to ``degrees``.

    Multiples of 1/1024 degree sum exactly even in float32; anything finer is left to the last tick.
    """
    reached = np.round(degrees * np.arange(ticks + 1) / ticks * CAMERA_GRID) / CAMERA_GRID
    reached[-1] = degrees
    return np.clip(np.diff(reached), -CAMERA_LIMIT, CAMERA_LIMIT).astype(np.float32)


def _suggest(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
