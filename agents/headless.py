"""``latentcraft play`` without a display: the window's session and loop, hurried on by a clock of their own.

The loop shows twenty frames a second of a time that passes only as frames are shown, and the world's steps are
run where they are asked for. So nothing is timed, nothing is skipped, and the film is the same on any machine.
"""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np

from latentcraft.agents.loop import TICK, Job, PlayLoop
from latentcraft.agents.play import PlayConfig, open_world
from latentcraft.agents.players import check_player
from latentcraft.agents.rollout_files import check_places
from latentcraft.agents.session import YOU, Session
from latentcraft.agents.shot import Facts, Shot
from latentcraft.agents.signals import ENDING, quitting_on_signals
from latentcraft.agents.slots import go_on, read_game, slot_path
from latentcraft.agents.stage import Stage
from latentcraft.agents.starts import start_name
from latentcraft.agents.video import VIDEO_SUFFIXES, check_suffix, open_video
from latentcraft.agents.vitals import vitals
from latentcraft.errors import UserError
from latentcraft.model.actions import noop
from latentcraft.simulator.protocol import TICKS_PER_SECOND, Start

Write = Callable[[np.ndarray], None]
TICKS_PER_MINUTE = 60 * TICKS_PER_SECOND


class AtOnce(Executor):
    """Runs what is submitted before it returns."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:  # the loop raises it where it collects the result
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class Played:
    """What came of it."""

    facts: Facts
    """After the last picture."""
    ticks: int
    """Pictures shown after the first."""
    interrupted: bool
    """Whether it was asked to end."""
    failure: str
    """Why whoever played could not go on; empty if they could."""


def main(config: PlayConfig, start: Start, reason: str) -> int:
    """Play without a window and say in two lines what is done and what came out.

    Args:
        config: the command's.
        start: where the game starts, unless a slot is given.
        reason: why there is no window.

    Returns:
        0 done, 1 the player failed, 130 interrupted; whatever was played is in the film.

    Raises:
        UserError: no such player, one that never ends and no ``minutes``, files that cannot be read or written.
    """
    player = config.script or next(iter(config.players), "")
    if not check_player(player) and config.minutes is None:
        raise UserError(f"{player} would play forever; give minutes=N, or script=NAME of an action script")
    if config.out is not None:
        check_places(None, (check_suffix(config.out, VIDEO_SUFFIXES),), [start])
    slot = None if config.slot is None else slot_path(config.saves, config.slot)
    begin = _begin(start, player, slot)
    where = "no film" if config.out is None else str(config.out)
    length = "" if config.minutes is None else f" for {config.minutes:g} minutes"
    print(f"no display ({reason}): {player!r} plays the {config.world} world{length} without a window -> {where}",
          flush=True)  # fmt: skip
    began = time.perf_counter()
    world = open_world(config)
    stage = Stage(world)
    session = Session(stage, minutes=config.rewind_minutes)
    try:
        with _film(config.out, config.scale) as write:
            played = play(session, begin, player, write, minutes=config.minutes)
    finally:
        session.close()
        stage.close()
        world.close()
    if played.failure:
        print(f"latentcraft play: {played.failure}", file=sys.stderr)
    print(
        f"{'interrupted: ' * played.interrupted}{player} from {start_name(played.facts.start)}, {played.ticks} frames "
        f"in {time.perf_counter() - began:.1f} s, reward {played.facts.reward:.4g} -> {where}",
        flush=True,
    )
    return 130 if played.interrupted else 1 if played.failure else 0


def play(session: Session, begin: Job, player: str, write: Write, *, minutes: float | None = None) -> Played:
    """Drive the loop until ``player`` is done, or with ``minutes`` that long.

    Args:
        session: what is played; the caller closes it.
        begin: the job that starts the game and hands it over.
        player: who plays; with ``minutes`` once more, in the same game, whenever done (a chunk of nothing between).
        write: takes each frame ``uint8 (H, W, 3)`` that the window would show.
        minutes: of game time; for each that has passed, speed and what the process holds are printed.
    """
    loop = PlayLoop(session, noop, executor=AtOnce(), clock=lambda: 0.0)
    loop.do(begin)
    asked, ticks, facts, failure = 0, 0, Facts(), ""
    minute_began = time.perf_counter()

    def quit_() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:  # who asks again cannot wait for the chunk to end
            raise KeyboardInterrupt

    with quitting_on_signals(quit_, ("SIGINT", *ENDING)):
        for shot in _shots(loop):
            is_start = shot.action is None
            if not is_start and shot.facts.player == session.player == YOU:
                failure = _failure(session, player)
                if failure or minutes is None:
                    break
                loop.do(lambda session: session.hand_over(player))
            write(shot.frame)
            ticks, facts = ticks + (not is_start), shot.facts
            if minutes is not None and ticks % TICKS_PER_MINUTE == 0 and not is_start:
                now = time.perf_counter()
                words = [f"{TICKS_PER_MINUTE / (now - minute_began):.1f} frames/s", *vitals()]
                print(f"minute {ticks // TICKS_PER_MINUTE}: {', '.join(words)}", flush=True)
                minute_began = now
            if asked or (minutes is not None and ticks >= minutes * TICKS_PER_MINUTE):
                break
    loop.close()
    return Played(facts, ticks, bool(asked), failure)


def _shots(loop: PlayLoop) -> Iterator[Shot]:
    """Yield what ``loop`` shows, without end."""
    now = 0.0
    while True:
        if loop.update(now) is not None:
            assert loop.shot is not None
            yield loop.shot
        now += TICK  # the very sum the loop forms, so that each frame is due on the dot


def _begin(start: Start, player: str, slot: Path | None) -> Job:
    """Return the job that starts the game, or goes on with the one in ``slot``, and hands it over to ``player``."""
    saved = None if slot is None else read_game(slot)

    def job(session: Session) -> Shot:
        shot = session.begin(start)
        if saved is not None:
            assert slot is not None
            shot = go_on(session, slot, *saved)
        session.hand_over(player)
        return shot

    return job


def _failure(session: Session, player: str) -> str:
    """Return why ``player`` gave the game back, empty if it was merely done."""
    reason = ""
    while True:
        try:
            reason = session.notes.get_nowait()
        except Empty:
            return "" if reason.startswith(f"{player} is done") else reason


@contextmanager
def _film(path: Path | None, scale: int | None) -> Iterator[Write]:
    """Yield what writes frames to ``path``, or nowhere."""
    if path is None:
        yield lambda frame: None
        return
    with open_video(path, scale=scale) as video:
        yield video.write
