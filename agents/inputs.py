"""From pygame's events to the player's hands and the window's commands: keys, mouse, wheel, gamepads."""

from collections.abc import Callable, Mapping

import numpy as np

from latentcraft.agents.controls import Controls
from latentcraft.agents.gamepad import Gamepads
from latentcraft.agents.keymap import COMMANDS, MOUSE_BUTTONS, PAD_KEYS
from latentcraft.agents.screen import pygame
from latentcraft.errors import UserError
from latentcraft.model.actions import HOTBAR_SLOTS


class Inputs:
    """Takes events; what the hands do goes to ``controls``, commands to ``command(name, down)``.

    Args:
        keymap: key name -> action name.
        controls: the hands.
        command: called with a name of :data:`latentcraft.agents.keymap.COMMANDS` when its key goes down (True) and up.
        mouse_speed: degrees a pixel of mouse motion.

    Raises:
        UserError: a key name that does not exist.
    """

    def __init__(
        self, keymap: Mapping[str, str], controls: Controls, command: Callable[[str, bool], None], mouse_speed: float
    ) -> None:
        """Look for gamepads; the mouse stays free until a click takes it."""
        self.controls, self.captured, self.hotbar = controls, False, 1
        self.gamepads = Gamepads()
        self._keymap, self._command, self._mouse_speed = dict(keymap), command, mouse_speed
        self._key_names = {_key_code(key): key for key in keymap if key not in (*MOUSE_BUTTONS.values(), *PAD_KEYS)}

    def handle(self, event: pygame.event.Event) -> None:
        """Take one event."""
        if event.type == pygame.WINDOWFOCUSLOST:
            self.capture(False)
        elif event.type in (pygame.KEYDOWN, pygame.KEYUP) and event.key in self._key_names:
            self._key(self._key_names[event.key], event.type == pygame.KEYDOWN)
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button in MOUSE_BUTTONS and not self.captured:
            self.capture(True)  # the click that takes the mouse does not also dig
        elif event.type in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP) and event.button in MOUSE_BUTTONS:
            self._key(MOUSE_BUTTONS[event.button], event.type == pygame.MOUSEBUTTONDOWN)
        elif event.type == pygame.MOUSEMOTION and self.captured:
            self.controls.turn(event.rel[1] * self._mouse_speed, event.rel[0] * self._mouse_speed)
        elif event.type == pygame.MOUSEWHEEL and event.y:
            self.select(-int(np.sign(event.y)))
        else:
            for key, down in self.gamepads.handle(event):
                self._key(key, down)
            self.controls.lean(*self.gamepads.look)

    def select(self, way: int) -> None:
        """Select the next block (1) or the one before (-1) by one tap."""
        self.hotbar = (self.hotbar - 1 + way) % HOTBAR_SLOTS + 1
        self.controls.tap(f"hotbar.{self.hotbar}")

    def capture(self, wanted: bool) -> None:
        """Take the mouse (hidden, endless motion) or give it back and let go of every key."""
        self.captured = wanted
        pygame.event.set_grab(wanted)
        pygame.mouse.set_visible(not wanted)
        pygame.mouse.get_rel()  # what moved before does not count
        if not wanted:
            self.controls.release_all()
            for name in COMMANDS:
                self._command(name, False)

    def _key(self, key: str, down: bool) -> None:
        action = self._keymap.get(key)
        if action is None:
            return
        if action in ("next_block", "previous_block"):
            if down:
                self.select(1 if action == "next_block" else -1)
        elif action in COMMANDS:
            self._command(action, down)
        elif down:
            if action.startswith("hotbar."):
                self.hotbar = int(action[-1])
            self.controls.press(key, action)
        else:
            self.controls.release(key)


def _key_code(key: str) -> int:
    try:
        return pygame.key.key_code(key)
    except ValueError as error:
        raise UserError(f"keymap: no key is called {key!r}; pygame's names are 'w', 'left shift'...") from error
