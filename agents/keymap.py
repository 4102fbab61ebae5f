"""Which key does what: a table from key names to action names, declared in ``configs/keymap.yaml``.

Key names are pygame's (``w``, ``space``, ``left shift``), plus ``mouse left``, ``mouse middle``, ``mouse right`` and a
gamepad's :data:`PAD_KEYS`. Action names are the world's buttons, four ways to look, and the window's own commands.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

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
    "next_block": "select the next block",
    "previous_block": "select the block before",
    "rewind": "hold to go back, let go to play on",
    "pause": "pause",
    "single": "while paused: one chunk",
    "more_steps": "more steps (finer, slower)",
    "fewer_steps": "fewer steps (coarser, faster)",
    "reset": "start again from this seed",
    "next_seed": "start from the next seed",
    "save": "save the game in this slot",
    "load": "load the game of this slot",
    "next_slot": "choose the next slot",
    "branch": "two futures side by side, or one again",
    "other": "what the other future does",
    "swap": "change over to the other future",
    "hand_over": "let the next player play, in the end you",
    "truth": "show the reference world and the error",
    "hud": "show or hide the figures",
    "help": "show or hide this help",
    "screenshot": "save the frame as a PNG",
    "record": "record episodes from now on, or stop",
    "clip": "save the last seconds as a film",
    "fullscreen": "full screen and back",
    "release_or_quit": "let go of the mouse; then quit",
    "quit": "quit",
}
"""What the window itself can do, with the words the help shows."""

MOUSE_BUTTONS = {1: "mouse left", 2: "mouse middle", 3: "mouse right"}
"""pygame's numbers of the mouse's buttons."""
PAD_KEYS: tuple[str, ...] = tuple(
    f"pad {name}"
    for name in (
        "a", "b", "x", "y", "back", "start", "left stick", "right stick", "left shoulder", "right shoulder", "up",
        "down", "left", "right", "left trigger", "right trigger", "stick up", "stick down", "stick left", "stick right",
    )
)  # fmt: skip
"""What a gamepad's buttons, triggers and left stick are called; the right stick looks."""

ACTIONS: tuple[str, ...] = (*BUTTONS, *LOOKS, *COMMANDS)
"""Every name a key may be mapped to."""

HELP_GROUPS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("forward", "left", "back", "right"), "walk"),
    (("jump",), "jump, swim up"),
    (("sneak",), "sneak"),
    (("sprint",), "sprint"),
    (("attack",), "dig"),
    (("use",), "place the selected block"),
    (("hotbar.1", f"hotbar.{HOTBAR_SLOTS}"), "choose a block (or the wheel)"),
    (tuple(LOOKS), "look (or click, then the mouse)"),
    *(((name,), text) for name, text in COMMANDS.items()),
)
"""Lines of the help page: actions that share a line, and its words."""

Keys = str | Sequence[str] | None


def load_keymap(path: Path | None = None, changes: Mapping[str, Keys] | None = None) -> dict[str, str]:
    """Return key -> action: the bundled table, changed by a file, changed by ``changes``.

    A key that is given to another action leaves the one it had.

    Args:
        path: a YAML mapping of actions to keys as ``configs/keymap.yaml``; may name some actions only.
        changes: action -> key, keys, or None (or ``none``) for no key.

    Raises:
        UserError: an action that does not exist, a file that is no such mapping, one key for two actions.
    """
    keymap: dict[str, str] = {}
    _change(keymap, _read(None), "configs/keymap.yaml")
    if path is not None:
        _change(keymap, _read(path), str(path))
    _change(keymap, changes or {}, "keys")
    return keymap


def _read(path: Path | None) -> Mapping[str, Keys]:
    source = resources.files("latentcraft.configs") / "keymap.yaml" if path is None else path
    try:
        values: Any = yaml.safe_load(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the keymap {path}: {error.strerror}; give keymap=FILE.yaml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}; mend the syntax") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must be a mapping of actions to keys, such as 'forward: w'")
    return values


def _change(keymap: dict[str, str], changes: Mapping[str, Keys], source: str) -> None:
    given: dict[str, str] = {}
    for action, keys in changes.items():
        if action not in ACTIONS:
            raise UserError(f"{source}: unknown action {action!r}; known: {', '.join(ACTIONS)}")
        names = [] if keys is None or keys == "none" else [keys] if isinstance(keys, (str, int)) else list(keys)
        for key in map(str, names):
            if given.setdefault(key, action) != action:
                raise UserError(f"{source}: key {key!r} is given to {given[key]} and {action}; choose one")
            if key.startswith(("mouse ", "pad ")) and key not in (*MOUSE_BUTTONS.values(), *PAD_KEYS):
                raise UserError(
                    f"{source}: no key is called {key!r}; known: {', '.join((*MOUSE_BUTTONS.values(), *PAD_KEYS))}"
                )
        for key in keys_of(action, keymap):
            del keymap[key]
    for key, action in given.items():
        keymap.pop(key, None)
        keymap[key] = action


def help_lines(keymap: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (keys, meaning) for each line of the help page; actions without a key are left out."""
    lines = []
    for actions, meaning in HELP_GROUPS:
        shown = 1 if len(actions) > 1 else 3
        keys = [" or ".join(_short(key) for key in keys_of(action, keymap)[:shown]) for action in actions]
        if any(keys):
            lines.append(("  ".join(key for key in keys if key), meaning))
    return lines


def keys_of(action: str, keymap: Mapping[str, str]) -> list[str]:
    """Return the keys that do ``action``."""
    return [key for key, name in keymap.items() if name == action]


def _short(key: str) -> str:
    words: Iterable[str] = {".": "period", "-": "minus"}.get(key, key).split()  # dots are easily overlooked
    return "-".join(word.capitalize() for word in words)
