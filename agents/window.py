"""The play window: pygame around a :class:`~latentcraft.agents.loop.PlayLoop`, whichever world it plays."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from latentcraft.agents.controls import Controls
from latentcraft.agents.keymap import COMMANDS, help_lines
from latentcraft.agents.loop import PlayLoop
from latentcraft.agents.screen import Screen, pygame
from latentcraft.agents.starts import next_start, start_name
from latentcraft.agents.video import enlarge, watchable_scale, write_png
from latentcraft.errors import UserError
from latentcraft.model.actions import HOTBAR_SLOTS
from latentcraft.simulator.protocol import Start, World

MOUSE_BUTTONS = {1: "mouse left", 2: "mouse middle", 3: "mouse right"}
LARGEST_POLL = 0.005
"""Seconds between two looks at the input at most; a frame's due time is met within a millisecond."""
REDRAW_SECONDS = 0.25
"""A window whose world stands still is redrawn this often, for what the desktop may have painted over."""
MESSAGE_SECONDS = 2.0


class Window:
    """A resizable window that plays one world until the player quits.

    Args:
        world: any world of one game.
        start: where the first game starts.
        keymap: key name -> action name.
        scale: whole factor of enlargement of the first window; None fits the desktop.
        mouse_speed: degrees a pixel of mouse motion.
        fullscreen: start with the whole screen.
        screenshots: folder for screenshots.

    Raises:
        NoDisplayError: SDL cannot open a window.
        UserError: a key name that does not exist.
    """

    def __init__(
        self,
        world: World,
        *,
        start: Start,
        keymap: Mapping[str, str],
        scale: int | None = None,
        mouse_speed: float = 0.15,
        fullscreen: bool = False,
        screenshots: Path = Path("."),
    ) -> None:
        self.world, self.start, self.keymap = world, start, dict(keymap)
        self.controls = Controls()
        self.loop = PlayLoop(world, self.controls.sample)
        self._mouse_speed, self._screenshots = mouse_speed, screenshots
        self._running, self._captured, self._slot = True, False, 1
        self._show_hud, self._show_help = True, False
        self._frame: np.ndarray | None = None
        self._message, self._message_until = "", 0.0
        self._screen = Screen(world.spec.frame_size, f"latentcraft - {world.spec.name}", scale, fullscreen)
        self._key_names = {self._key_code(key): key for key in keymap if not key.startswith("mouse ")}

    def run(self) -> None:
        """Play until the player quits; closes the window, not the world."""
        self._start_game(self.start)
        redraw_at = 0.0
        try:
            while self._running:
                events = pygame.event.get()
                for event in events:
                    self._handle(event)
                now = time.perf_counter()
                frame = self.loop.update(now)
                if frame is not None:
                    self._frame = frame
                # Drawing costs milliseconds that the world's thread could use, so only what changed is drawn.
                if frame is not None or now >= redraw_at or any(event.type != pygame.MOUSEMOTION for event in events):
                    redraw_at = now + REDRAW_SECONDS
                    self._draw(now)
                time.sleep(min(LARGEST_POLL, self.loop.wait_seconds(time.perf_counter())))
        finally:
            self.loop.close()
            self._screen.close()

    # --- input ------------------------------------------------------------------------------------------------------

    def _handle(self, event: pygame.event.Event) -> None:
        if event.type == pygame.QUIT:
            self._running = False
        elif event.type == pygame.WINDOWFOCUSLOST:
            self._capture(False)
        elif event.type == pygame.KEYDOWN and event.key in self._key_names:
            self._press(self._key_names[event.key])
        elif event.type == pygame.KEYUP and event.key in self._key_names:
            self.controls.release(self._key_names[event.key])
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button in MOUSE_BUTTONS:
            if self._captured:
                self._press(MOUSE_BUTTONS[event.button])
            else:
                self._capture(True)  # the click that takes the mouse does not also dig
        elif event.type == pygame.MOUSEBUTTONUP and event.button in MOUSE_BUTTONS:
            self.controls.release(MOUSE_BUTTONS[event.button])
        elif event.type == pygame.MOUSEMOTION and self._captured:
            self.controls.turn(event.rel[1] * self._mouse_speed, event.rel[0] * self._mouse_speed)
        elif event.type == pygame.MOUSEWHEEL and event.y:
            self._slot = (self._slot - 1 - int(np.sign(event.y))) % HOTBAR_SLOTS + 1
            self.controls.tap(f"hotbar.{self._slot}")

    def _press(self, key: str) -> None:
        action = self.keymap.get(key)
        if action in COMMANDS:
            getattr(self, f"_on_{action}")()
        elif action is not None:
            if action.startswith("hotbar."):
                self._slot = int(action[-1])
            self.controls.press(key, action)

    def _capture(self, wanted: bool) -> None:
        """Take the mouse (hidden, endless motion) or give it back."""
        self._captured = wanted
        pygame.event.set_grab(wanted)
        pygame.mouse.set_visible(not wanted)
        pygame.mouse.get_rel()  # what moved before does not count
        if not wanted:
            self.controls.release_all()

    # --- commands, one method for each name in keymap.COMMANDS --------------------------------------------------------

    def _on_reset(self) -> None:
        self._start_game(self.start)

    def _on_next_seed(self) -> None:
        self._start_game(next_start(self.start))

    def _start_game(self, start: Start) -> None:
        self.start = start
        self.controls.release_all()
        self.loop.reset(start)
        self._say(start_name(start))

    def _on_more_steps(self) -> None:
        self._change_steps(1)

    def _on_fewer_steps(self) -> None:
        self._change_steps(-1)

    def _change_steps(self, direction: int) -> None:
        steps = getattr(self.world, "steps", None)
        if steps is None:
            self._say(f"the {self.world.spec.name} world has no denoising steps")
            return
        from latentcraft.model.sampler import STEPS  # imports torch, which the reference world does without

        index = STEPS.index(steps) + direction if steps in STEPS else 0
        chosen = STEPS[min(max(index, 0), len(STEPS) - 1)]
        self.loop.do(lambda world: setattr(world, "steps", chosen))
        self._say(f"{chosen} denoising step{'s' * (chosen > 1)}")

    def _on_pause(self) -> None:
        self.loop.paused = not self.loop.paused

    def _on_hud(self) -> None:
        self._show_hud = not self._show_hud

    def _on_help(self) -> None:
        self._show_help = not self._show_help

    def _on_screenshot(self) -> None:
        if self._frame is None:
            return
        path = self._screenshots / f"latentcraft-{time.strftime('%Y%m%d-%H%M%S')}-tick{self.loop.ticks}.png"
        try:
            write_png(path, enlarge(self._frame, watchable_scale(self._frame.shape[1])))
            self._say(f"saved {path}")
        except UserError as error:
            self._say(str(error))

    def _on_fullscreen(self) -> None:
        self._screen.toggle_fullscreen()

    def _on_release_or_quit(self) -> None:
        if self._captured:
            self._capture(False)
        else:
            self._running = False

    def _on_quit(self) -> None:
        self._running = False

    # --- words on the picture -----------------------------------------------------------------------------------------

    def _draw(self, now: float) -> None:
        self._screen.draw(
            self._frame,
            self._hud_lines() if self._show_hud else [],
            help_lines(self.keymap) if self._show_help else [],
            self._note(now),
        )

    def _hud_lines(self) -> list[str]:
        loop, spec = self.loop, self.world.spec
        steps = getattr(self.world, "steps", None)
        lines = [
            f"{spec.name}  {start_name(self.start)}" + (f"  steps {steps}" if steps else "") + "   F1 help",
            f"{loop.frames_per_second:4.1f} frames/s   chunk {loop.chunk_seconds * 1000:.0f} ms"
            f"   input to picture {loop.latency * 1000:.0f} ms",
        ]
        if spec.task != "free":
            lines.append(f"{spec.task}: reward {loop.reward:.2f}" + ("   done" if loop.terminated else ""))
        return lines

    def _note(self, now: float) -> str:
        if self.loop.paused:
            return "paused"
        if self.loop.busy and self._frame is None:
            return "loading..."
        if now < self._message_until:
            return self._message
        return "" if self._captured or self._frame is None else "click to look with the mouse"

    def _say(self, message: str) -> None:
        self._message, self._message_until = message, time.perf_counter() + MESSAGE_SECONDS

    def _key_code(self, key: str) -> int:
        try:
            return pygame.key.key_code(key)
        except ValueError as error:
            raise UserError(f"keymap: no key is called {key!r}; pygame's names are 'w', 'left shift'...") from error
