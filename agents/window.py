"""The play window: pygame around a session, from the first event to the last picture."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING

import numpy as np

from latentcraft.agents.controls import Controls
from latentcraft.agents.hud import clock, hud_lines
from latentcraft.agents.inputs import Inputs
from latentcraft.agents.keymap import PAD_KEYS, help_lines, keys_of
from latentcraft.agents.panes import Pane, panes_of, psnr
from latentcraft.agents.places import Places
from latentcraft.agents.screen import Screen, pygame
from latentcraft.agents.shot import TRUTH, Shot
from latentcraft.agents.signals import quitting_on_signals
from latentcraft.agents.starts import start_name
from latentcraft.simulator.protocol import TICKS_PER_SECOND, Start

if TYPE_CHECKING:
    from latentcraft.agents.rewind import Rewind
    from latentcraft.agents.session import Session

LARGEST_POLL = 0.005
"""Seconds between two looks at the input at most; a frame's due time is met within a millisecond."""
REDRAW_SECONDS = 0.25
"""A window whose world stands still is redrawn this often, for what the desktop may have painted over."""
MESSAGE_SECONDS = 3.0
DREAMING = "dreaming... this is where you will begin"


class Window:
    """A resizable window that plays one session until the player quits.

    Args:
        open_session: builds the session; called in the thread that will own it, while the window already stands.
        start: where the first game starts.
        keymap: key name -> action name.
        frame_size: (H, W) of the frames to come, pixels, for the window's first size.
        title: the window's.
        places: where what one keeps goes.
        slot: a saved game to go on with.
        scale: whole factor of enlargement of the first window; None fits the desktop.
        mouse_speed: degrees a pixel of mouse motion.
        fullscreen: start with the whole screen.
        preview: returns the picture the first game begins with, ``uint8 (H, W, 3)``, or None; called before
            ``open_session`` and in the same thread, and shown until there is more.
        began: when the program began, in seconds of ``time.time()``, for the time a start takes.

    Raises:
        NoDisplayError: SDL cannot open a window.
        UserError: a key name that does not exist.
    """

    def __init__(
        self,
        open_session: "Callable[[], Session]",
        *,
        start: Start,
        keymap: Mapping[str, str],
        frame_size: tuple[int, int] = (96, 160),
        title: str = "latentcraft",
        places: Places = Places(),  # noqa: B008 (frozen)
        slot: int | None = None,
        scale: int | None = None,
        mouse_speed: float = 0.15,
        fullscreen: bool = False,
        preview: "Callable[[], np.ndarray | None] | None" = None,
        began: float | None = None,
    ) -> None:
        self.keymap = dict(keymap)
        self.controls = Controls()
        self._open, self._start, self._places = open_session, start, places
        self._slot, self._preview = slot, preview
        self._picture: np.ndarray | None = None  # what the preview returned
        self._began = time.time() if began is None else began
        self._running = True
        self._playing = False  # from then on there are a session, a loop and commands
        self._show_hud, self._show_help = True, False
        self._shot: Shot | None = None
        self._rewind: Rewind | None = None
        self._rewinding = False
        self._message, self._message_until = "", 0.0
        self._screen = Screen(frame_size, title, scale, fullscreen)
        self._inputs = Inputs(self.keymap, self.controls, self._command, mouse_speed)

    def run(self) -> None:
        """Play until the player quits; closes the window, and finishes whatever is being written."""
        executor = ThreadPoolExecutor(1, thread_name_prefix="world")
        preview = executor.submit(self._preview or (lambda: None))
        opening = executor.submit(self._open)
        try:
            redraw_at = 0.0
            while self._running and not opening.done():
                events = pygame.event.get()
                for event in events:
                    self._handle(event)
                now = time.perf_counter()
                if self._picture is None and preview.done() and (picture := preview.result()) is not None:
                    self._picture, redraw_at = picture, now
                if now >= redraw_at or events:
                    redraw_at = now + REDRAW_SECONDS
                    self._draw_start()
                time.sleep(4 * LARGEST_POLL)  # seldom, since imports need the interpreter
            if self._running:
                self._play(opening, executor)
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
            if not opening.cancelled() and opening.exception() is None:
                opening.result().close()
            self._screen.close()

    def _draw_start(self) -> None:
        """Show where the first game begins, if that is known by now, and that there is nothing to play yet."""
        rows = [] if self._picture is None else [[Pane("", self._picture)]]
        note = DREAMING if rows else "loading..."
        self._screen.draw(rows, [], self._help_lines() if self._show_help else [], note)

    def _play(self, opening: "Future[Session]", executor: ThreadPoolExecutor) -> None:
        # What compiles and encodes is imported only now: the window should stand at once.
        from latentcraft.agents.commands import Commands
        from latentcraft.agents.loop import PlayLoop

        self.session = opening.result()
        self.loop = PlayLoop(self.session, self.controls.sample, executor=executor)
        self.commands = Commands(self.session, self.loop, self.controls, self._places, self._start)
        self._playing = True
        self.commands.begin(self._start, forgiving=False)
        if self._slot is not None:
            self.commands.slot = self._slot
            self.commands.on_load()
        if self._places.player is not None:
            self.commands.hand_over(self._places.player)
        redraw_at = 0.0
        try:
            with quitting_on_signals(self._on_quit):
                while self._running:
                    events = pygame.event.get()
                    for event in events:
                        self._handle(event)
                    now = time.perf_counter()
                    changed = self._update(now)
                    # Drawing costs milliseconds that the world's thread could use, so only what changed is drawn.
                    if changed or now >= redraw_at or any(event.type != pygame.MOUSEMOTION for event in events):
                        redraw_at = now + REDRAW_SECONDS
                        self._draw(now)
                        if changed and self.commands.sights is not None:
                            self.commands.sights.add(*self._screen.pixels())
                    time.sleep(min(LARGEST_POLL, self.loop.wait_seconds(time.perf_counter())))
        finally:
            self.loop.close()
            self.commands.close()

    def _update(self, now: float) -> bool:
        """Advance to ``now``; returns whether there is something new to show."""
        if self._rewind is not None:
            shot = self._rewind.update(now)
        else:
            shot = self.loop.shot if self.loop.update(now) is not None else None
            if self._rewinding and self.loop.idle and not self.loop.busy and self._shot is not None:
                from latentcraft.agents.rewind import Rewind

                self._rewind = Rewind(self.session.timeline, self.loop.waiting, now)
        if shot is not None and self._shot is None:
            seconds = time.time() - self._began
            self.session.notes.put(f"{start_name(shot.facts.start)}, started in {seconds:.1f} s")
        if shot is not None and TRUTH in shot.beside:
            self.commands.curve.add(shot.facts.ticks, psnr(shot.frame, shot.beside[TRUTH]))
        self._shot = shot or self._shot
        return shot is not None

    # --- input ------------------------------------------------------------------------------------------------------

    def _handle(self, event: pygame.event.Event) -> None:
        if event.type == pygame.QUIT:
            self._running = False
        elif event.type == pygame.DROPFILE and self._playing:
            self.commands.on_drop(Path(event.file))
        else:
            self._inputs.handle(event)

    def _command(self, name: str, down: bool) -> None:
        if not down:
            if name == "rewind":
                self._end_rewind()
        elif hasattr(self, f"_on_{name}"):
            getattr(self, f"_on_{name}")()
        elif self._playing:
            getattr(self.commands, f"on_{name}")()

    # --- commands that concern the window ---------------------------------------------------------------------------

    def _on_rewind(self) -> None:
        if self._shot is not None:
            self._rewinding = self.loop.paused = True

    def _end_rewind(self) -> None:
        if self._rewinding:
            rewind, self._rewind, self._rewinding = self._rewind, None, False
            self.loop.paused = False
            if rewind is not None:
                self.commands.go_back(rewind.target)

    def _on_hud(self) -> None:
        self._show_hud = not self._show_hud

    def _on_help(self) -> None:
        self._show_help = not self._show_help

    def _on_fullscreen(self) -> None:
        self._screen.toggle_fullscreen()

    def _on_release_or_quit(self) -> None:
        if self._inputs.captured:
            self._inputs.capture(False)
        else:
            self._running = False

    def _on_quit(self) -> None:
        self._running = False

    # --- words on the picture -----------------------------------------------------------------------------------------

    def _draw(self, now: float) -> None:
        shot, session = self._shot, self.session
        if shot is None:
            self._draw_start()
            return
        rows = panes_of(
            shot, world=session.spec.name, truth=self.commands.show_truth, other=session.other.name,
            curve=self.commands.curve,
        )  # fmt: skip
        hud = self._hud_lines(shot) if self._show_hud else []
        self._screen.draw(rows, hud, self._help_lines() if self._show_help else [], self._note(now))

    def _help_lines(self) -> list[tuple[str, str]]:
        """Return the help page, without a gamepad's keys where there is none."""
        pads = self._inputs.gamepads.plugged_in
        return help_lines({key: action for key, action in self.keymap.items() if pads or key not in PAD_KEYS})

    def _hud_lines(self, shot: Shot) -> list[str]:
        loop, session, recorder = self.loop, self.session, self.session.recorder
        return hud_lines(
            shot, world=session.spec.name, task=session.spec.task, steps=session.stage.steps,
            frames_per_second=loop.frames_per_second, chunk_seconds=loop.chunk_seconds, latency=loop.latency,
            player=session.player, slot=self.commands.slot, help_key=next(iter(keys_of("help", self.keymap)), ""),
            extra=[f"recording {clock(recorder.ticks)}"] if recorder is not None else [],
        )  # fmt: skip

    def _note(self, now: float) -> str:
        while True:
            try:
                self._say(self.session.notes.get_nowait())
            except Empty:
                break
        if self._rewind is not None:
            return f"<<  {self._rewind.ticks_back / TICKS_PER_SECOND:.1f} s back; let go to play on from here"
        if self.loop.busy:
            return "one moment..."
        if now < self._message_until or self.loop.paused:
            return " - ".join(self.loop.paused * ["paused"] + (now < self._message_until) * [self._message])
        return "" if self._inputs.captured else "click to look with the mouse"

    def _say(self, message: str) -> None:
        self._message, self._message_until = message, time.perf_counter() + MESSAGE_SECONDS
