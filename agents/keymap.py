"""Which key does what: one declared table from key names to action names.

Key names are pygame's (``w``, ``space``, ``left shift``), plus ``mouse left``, ``mouse middle``, ``mouse right``.
Action names are the world's buttons, four ways to look, and the window's own commands.
"""

from collections.abc import Iterable, Mapping

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTONS, HOTBAR_SLOTS

LOOKS: dict[str, tuple[float, float]] = {
    "look_up": (-1.0, 0.0),
    "look_down": (1.0, 0.0),
    "look_left": (0.0, -1.0),
    "look_right": (0.0, 1.0),
}
"""Action name -> direction (pitch, yaw): looking round with keys, for those who play without a mouse."""

COMMANDS: dict[str, str] = {
    "reset": "start again from this seed",
    "next_seed": "start from the next seed",
    "more_steps": "more denoising steps (finer, slower)",
    "fewer_steps": "fewer denoising steps (coarser, faster)",
    "pause": "pause",
    "hud": "show or hide the figures",
    "help": "show or hide this help",
    "screenshot": "save the frame as a PNG",
    "fullscreen": "full screen and back",
    "release_or_quit": "let go of the mouse; then quit",
    "quit": "quit",
}
"""What the window itself can do, with the words the help shows."""

KEYMAP: dict[str, str] = {
    "w": "forward",
    "s": "back",
    "a": "left",
    "d": "right",
    "space": "jump",
    "left shift": "sneak",
    "left ctrl": "sprint",
    "mouse left": "attack",
    "mouse right": "use",
    "e": "attack",
    "f": "use",
    **{str(slot): f"hotbar.{slot}" for slot in range(1, HOTBAR_SLOTS + 1)},
    "up": "look_up",
    "down": "look_down",
    "left": "look_left",
    "right": "look_right",
    "r": "reset",
    "n": "next_seed",
    "=": "more_steps",
    "+": "more_steps",
    "-": "fewer_steps",
    "p": "pause",
    "h": "hud",
    "f1": "help",
    "f2": "screenshot",
    "f11": "fullscreen",
    "escape": "release_or_quit",
    "q": "quit",
}
"""The default table."""

ACTIONS: tuple[str, ...] = (*BUTTONS, *LOOKS, *COMMANDS)
"""Every name a key may be mapped to."""

HELP_GROUPS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("forward", "left", "back", "right"), "walk"),
    (("jump",), "jump, swim up"),
    (("sneak",), "sneak"),
    (("sprint",), "sprint"),
    (("attack",), "dig"),
    (("use",), "place the selected block"),
    (("hotbar.1", f"hotbar.{HOTBAR_SLOTS}"), "select a block, first to ninth (or the wheel)"),
    (tuple(LOOKS), "look (or click, then the mouse)"),
    *(((name,), text) for name, text in COMMANDS.items()),
)
"""Lines of the help page: actions that share a line, and its words."""


def merge_keymap(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return :data:`KEYMAP` with ``changes`` (key -> action, None or ``none`` frees the key).

    Raises:
        UserError: an action that does not exist.
    """
    keymap = dict(KEYMAP)
    for key, action in changes.items():
        if action is None or action == "none":
            keymap.pop(key, None)
        elif action in ACTIONS:
            keymap[key] = action
        else:
            raise UserError(f"keymap: key {key!r} has unknown action {action!r}; known: {', '.join(ACTIONS)}")
    return keymap


def help_lines(keymap: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (keys, meaning) for each line of the help page; actions without a key are left out."""
    lines = []
    for actions, meaning in HELP_GROUPS:
        keys = [" or ".join(_short(key) for key in keys_of(action, keymap)[:2]) for action in actions]
        if any(keys):
            lines.append(("  ".join(key for key in keys if key), meaning))
    return lines


def keys_of(action: str, keymap: Mapping[str, str]) -> list[str]:
    """Return the keys that do ``action``."""
    return [key for key, name in keymap.items() if name == action]


def _short(key: str) -> str:
    words: Iterable[str] = key.split()
    return "-".join(word.capitalize() for word in words)
