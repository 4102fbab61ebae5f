"""Gamepads: buttons, triggers and the left stick as keys that go down and up, the right stick as a way to look.

SDL knows the common pads and names their buttons alike, whatever is printed on them.
"""

from typing import Any

from latentcraft.agents.keymap import PAD_KEYS
from latentcraft.agents.screen import pygame

BUTTON_KEYS = {
    pygame.CONTROLLER_BUTTON_A: "pad a", pygame.CONTROLLER_BUTTON_B: "pad b", pygame.CONTROLLER_BUTTON_X: "pad x",
    pygame.CONTROLLER_BUTTON_Y: "pad y", pygame.CONTROLLER_BUTTON_BACK: "pad back",
    pygame.CONTROLLER_BUTTON_START: "pad start", pygame.CONTROLLER_BUTTON_LEFTSTICK: "pad left stick",
    pygame.CONTROLLER_BUTTON_RIGHTSTICK: "pad right stick", pygame.CONTROLLER_BUTTON_LEFTSHOULDER: "pad left shoulder",
    pygame.CONTROLLER_BUTTON_RIGHTSHOULDER: "pad right shoulder", pygame.CONTROLLER_BUTTON_DPAD_UP: "pad up",
    pygame.CONTROLLER_BUTTON_DPAD_DOWN: "pad down", pygame.CONTROLLER_BUTTON_DPAD_LEFT: "pad left",
    pygame.CONTROLLER_BUTTON_DPAD_RIGHT: "pad right",
}  # fmt: skip
AXIS_KEYS: dict[int, tuple[str | None, str]] = {
    pygame.CONTROLLER_AXIS_LEFTX: ("pad stick left", "pad stick right"),
    pygame.CONTROLLER_AXIS_LEFTY: ("pad stick up", "pad stick down"),
    pygame.CONTROLLER_AXIS_TRIGGERLEFT: (None, "pad left trigger"),
    pygame.CONTROLLER_AXIS_TRIGGERRIGHT: (None, "pad right trigger"),
}
"""Axis -> keys that are down while it is pushed far to the one or the other side."""
LOOK_AXES = {pygame.CONTROLLER_AXIS_RIGHTY: 0, pygame.CONTROLLER_AXIS_RIGHTX: 1}
"""Axis -> place in (pitch, yaw)."""
FULL = 32767
"""An axis' value at its end."""
PRESSED, DEAD = 0.5, 0.15
"""Share of the way from which an axis is a pressed key, and below which a stick is at rest."""

assert set(PAD_KEYS) == {*BUTTON_KEYS.values(), *(key for keys in AXIS_KEYS.values() for key in keys if key)}


class Gamepads:
    """Every gamepad there is, and those plugged in later; they all play the one player."""

    def __init__(self) -> None:
        """Open what is plugged in; without any, or where SDL cannot, nothing happens."""
        self.look = [0.0, 0.0]
        """Where the right stick points, (pitch, yaw) from -1 to 1; gentle near the middle."""
        self._pads: dict[int, Any] = {}
        self._down: set[str] = set()
        try:
            from pygame._sdl2 import controller

            self._controller: Any = controller
            controller.init()
            for index in range(controller.get_count()):
                self._open(index)
        except (ImportError, pygame.error):
            self._controller = None

    @property
    def plugged_in(self) -> bool:
        """Whether there is any."""
        return bool(self._pads)

    def handle(self, event: pygame.event.Event) -> list[tuple[str, bool]]:
        """Return the keys that went down (True) or up (False) by ``event``, in order."""
        if event.type == pygame.CONTROLLERDEVICEADDED:
            self._open(event.device_index)
        elif event.type == pygame.CONTROLLERDEVICEREMOVED:
            self._pads.pop(event.instance_id, None)
            self.look = [0.0, 0.0]
            down, self._down = sorted(self._down), set()
            return [(key, False) for key in down]
        elif event.type in (pygame.CONTROLLERBUTTONDOWN, pygame.CONTROLLERBUTTONUP) and event.button in BUTTON_KEYS:
            return self._set(BUTTON_KEYS[event.button], event.type == pygame.CONTROLLERBUTTONDOWN)
        elif event.type == pygame.CONTROLLERAXISMOTION:
            value = max(-1.0, event.value / FULL)
            if event.axis in LOOK_AXES:
                pushed = max(0.0, abs(value) - DEAD) / (1 - DEAD)
                self.look[LOOK_AXES[event.axis]] = pushed**2 * (1 if value > 0 else -1)
            elif event.axis in AXIS_KEYS:
                low, high = AXIS_KEYS[event.axis]
                changed = self._set(low, value < -PRESSED) if low else []
                return changed + self._set(high, value > PRESSED)
        return []

    def _set(self, key: str, down: bool) -> list[tuple[str, bool]]:
        if (key in self._down) == down:
            return []
        (self._down.add if down else self._down.remove)(key)
        return [(key, down)]

    def _open(self, index: int) -> None:
        if self._controller is None:
            return
        try:
            pad = self._controller.Controller(index)
            self._pads[pad.as_joystick().get_instance_id()] = pad
        except pygame.error:  # gone again, or a joystick SDL has no layout for
            pass
