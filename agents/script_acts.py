"""Reads a step of keys and camera, the one thing in an action script that does something."""

import math

import yaml

from latentcraft.agents.script_scope import Fields, Scope
from latentcraft.agents.script_steps import Act, calm_ticks
from latentcraft.agents.script_values import Span, Word, angle, check_length, duration, keys, whole
from latentcraft.model.actions import CAMERA_LIMIT, HOTBAR_SLOTS
from latentcraft.simulator.protocol import TICKS_PER_SECOND


def read_act(node: yaml.Node, fields: Fields, scope: Scope, chunk: int, budget: int) -> Act:
    """Read the fields of a step of keys and camera.

    Args:
        node: the step.
        fields: its keys with their values.
        scope: where it stands.
        chunk: ticks in a chunk.
        budget: ticks it may last.

    Raises:
        UserError: ``source:LINE:COLUMN: reason; mend``.
    """

    def word(key: str) -> Word:
        return scope.word(fields[key], key)

    look = angle(word("look"), "look", "up", "down") if "look" in fields else None
    turn = angle(word("turn"), "turn", "left", "right") if "turn" in fields else None
    angles = {key: value.degrees for key, value in (("look", look), ("turn", turn)) if value}
    ticks: Span | None = Span(1, 1)
    if "for" in fields:
        if len(fields) == 1:
            scope.fail(node, "`for` alone does nothing; add hold, press, turn, look or select, or use `wait`")
        ticks = duration(word("for"), "for", chunk, budget)
    elif angles:
        ticks = None
        check_length(scope.at(node), calm_ticks([span.high for span in angles.values()]), budget)
    elif "hold" in fields:
        word("hold").fail("hold needs a time; add `for: 2s`, or use `press` for one tick")
    elif not fields:
        scope.fail(node, "the step is empty; add a key such as `wait: 1s`")
    check_length(scope.at(node), 1, budget)
    for key, span in angles.items():
        if ticks and span.high > CAMERA_LIMIT * ticks.low:
            least = math.ceil(span.high / CAMERA_LIMIT) / TICKS_PER_SECOND
            word(key).fail(
                f"{span.high:g} degrees in {ticks.low / TICKS_PER_SECOND:g}s is {span.high / ticks.low:.4g} a tick, "
                f"more than the camera's {CAMERA_LIMIT:g}; give it at least {least:g}s",
            )
    return Act(
        ticks,
        hold=keys(word("hold"), "hold") if "hold" in fields else (),
        press=keys(word("press"), "press") if "press" in fields else (),
        select=whole(word("select"), "select", 1, HOTBAR_SLOTS) if "select" in fields else None,
        look=look,
        turn=turn,
    )
