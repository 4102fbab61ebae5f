"""What the window's own keys do: one method ``on_NAME`` for each name in :data:`latentcraft.agents.keymap.COMMANDS`.

Nothing here knows a screen. What touches the game is done by the loop between two chunks; what takes long on disk, by a
thread of its own. Whatever goes wrong becomes a line the player reads, and play goes on.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from latentcraft.agents.controls import Controls
from latentcraft.agents.curve import Curve
from latentcraft.agents.hud import clock
from latentcraft.agents.keep import last_entries, picture_of, pictures_of, write_clip
from latentcraft.agents.loop import PlayLoop
from latentcraft.agents.places import Places
from latentcraft.agents.session import YOU, Session
from latentcraft.agents.shot import Shot
from latentcraft.agents.sights import Sights
from latentcraft.agents.slots import SLOTS, SUFFIX, go_on, read_game, slot_path, write_game
from latentcraft.agents.starts import next_start, start_from_file, start_name
from latentcraft.agents.video import enlarge, watchable_scale, write_png
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import HELD_OUT_SEED, TICKS_PER_SECOND, Start


class Commands:
    """The commands that concern the game, and what is shown of it.

    Args:
        session: what is played.
        loop: that plays it.
        controls: the player's hands.
        places: where things go.
        start: where the first game starts.
    """

    def __init__(self, session: Session, loop: PlayLoop, controls: Controls, places: Places, start: Start) -> None:
        self.session, self.loop, self.controls, self.places, self.start = session, loop, controls, places, start
        self.slot = 1
        self.show_truth = False
        self.curve = Curve()
        self.sights = Sights(round(places.clip_seconds * TICKS_PER_SECOND)) if places.clip_words else None
        """What the window showed, figures and all; None where films show the bare pictures."""
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")

    def say(self, line: str) -> None:
        """Let the player read ``line``."""
        self.session.notes.put(line)

    def close(self) -> None:
        """Wait for what is being written."""
        self._disk.shutdown(wait=True)

    # --- games ------------------------------------------------------------------------------------------------------

    def begin(self, start: Start, *, forgiving: bool = True) -> None:
        """Start a game; the one that is played stays where ``start`` leads nowhere, if ``forgiving``."""

        def job(session: Session) -> Shot:
            shot = session.begin(start)
            self.start = start
            self.say(start_name(start))
            return shot

        self.controls.release_all()
        self._do(job) if forgiving else self.loop.do(job)

    def on_reset(self) -> None:
        self.begin(self.start)

    def on_next_seed(self) -> None:
        self.begin(next_start(self.start))

    def on_drop(self, path: Path) -> None:
        """Take a file that was dropped on the window: a start, a saved game, or a script to play."""
        if path.suffix.lower() in (".yaml", ".yml"):
            self.hand_over(str(path))
        elif path.suffix.lower() == SUFFIX:
            self.load(path)
        elif self.session.spec.name != "dream":
            self.say(f"{path.name} starts a dream only; this is the {self.session.spec.name} world")
        else:
            self.begin(start_from_file(path))

    def on_save(self) -> None:
        slot = self.slot

        def job(session: Session) -> None:
            state, facts = session.state()
            path = slot_path(self.places.saves, slot)
            self._write(lambda: write_game(path, state, facts), f"saved in slot {slot}")

        self._do(job)

    def on_load(self) -> None:
        self.load(slot_path(self.places.saves, self.slot))

    def load(self, path: Path) -> None:
        """Go on from a saved game."""

        def job(session: Session) -> Shot:
            state, facts = self._disk.submit(read_game, path).result()  # after what is still being written
            shot = go_on(session, path, state, facts)
            self.start = facts.start
            self.say(f"{path.stem}: {start_name(facts.start)}")
            return shot

        self.controls.release_all()
        self._do(job)

    def on_next_slot(self) -> None:
        self.slot = self.slot % SLOTS + 1
        path = slot_path(self.places.saves, self.slot)
        saved = time.strftime("saved %d %b, %H:%M", time.localtime(path.stat().st_mtime)) if path.is_file() else "empty"
        self.say(f"slot {self.slot}: {saved}")

    def go_back(self, number: int) -> None:
        """Go on from entry ``number`` of the timeline."""

        def job(session: Session) -> Shot:
            shot = session.go_back(number)
            self.start = shot.facts.start
            self.say(f"back at {clock(shot.facts.ticks)}; you play")
            return shot

        self.controls.release_all()
        self._do(job)

    # --- time and quality -------------------------------------------------------------------------------------------

    def on_pause(self) -> None:
        self.loop.paused = not self.loop.paused

    def on_single(self) -> None:
        self.loop.paused = True
        self.loop.single()

    def on_more_steps(self) -> None:
        self._change_steps(1)

    def on_fewer_steps(self) -> None:
        self._change_steps(-1)

    def _change_steps(self, direction: int) -> None:
        steps = self.session.stage.steps
        if steps is None:
            self.say(f"the {self.session.spec.name} world has no denoising steps")
            return
        from latentcraft.model.sampler import STEPS  # imports torch, which the reference world does without

        index = STEPS.index(steps) + direction if steps in STEPS else 0
        chosen = STEPS[min(max(index, 0), len(STEPS) - 1)]
        self.loop.do(lambda session: setattr(session.stage, "steps", chosen))
        self.say(f"{chosen} denoising step{'s' * (chosen > 1)}")

    # --- who plays, and how many futures ----------------------------------------------------------------------------

    def on_hand_over(self) -> None:
        names = (YOU, *self.places.players)
        now = self.session.player
        self.hand_over(names[(names.index(now) + 1) % len(names)] if now in names else YOU)

    def hand_over(self, name: str) -> None:
        """Let ``name`` play."""

        def job(session: Session) -> None:
            session.hand_over(name)
            self.say("you play" if name == YOU else f"{name} plays; press a key to take over")

        self._do(job)

    def on_branch(self) -> None:
        self._do(lambda session: session.branch())

    def on_other(self) -> None:
        self._do(lambda session: session.next_other())

    def on_swap(self) -> None:
        self._do(lambda session: session.swap())

    def on_truth(self) -> None:
        if not self.show_truth and not self.session.stage.lines[0].has_truth:
            dream = self.session.spec.name == "dream"
            self.say("no truth is known here; start from a seed" if dream else "this is the reference world itself")
            return
        self.show_truth = not self.show_truth

    # --- keeping ----------------------------------------------------------------------------------------------------

    def on_screenshot(self) -> None:
        shot = self.loop.shot
        if shot is not None:
            path = self._new_name("png")
            picture = picture_of(shot, self.curve, truth=self.show_truth)
            picture = enlarge(picture, watchable_scale(picture.shape[1]))
            self._write(lambda: write_png(path, picture), f"saved {path}")

    def on_clip(self) -> None:
        unseen, truth, path = self.loop.waiting, self.show_truth, self._new_name(self.places.clip_format)

        def job(session: Session) -> None:
            entries = last_entries(session.timeline, self.places.clip_seconds, skip=unseen)
            film = partial(pictures_of, entries, truth=truth) if self.sights is None else self.sights.film()
            if entries:
                self.say("writing the film...")
                limit = self.places.gif_megabytes
                self._write(lambda: write_clip(path, film, megabytes=limit), f"saved {path}")

        self._do(job)

    def on_record(self) -> None:
        def job(session: Session) -> None:
            if session.recorder is not None:
                seconds, episodes = session.recorder.ticks // 20, session.recorder.episodes
                session.record(None)
                self.say(f"recorded {seconds} s in {episodes} episode{'s' * (episodes != 1)}")
                return
            session.record(self.places.recordings)
            seed = self.start.seed
            held_out = seed is not None and seed >= HELD_OUT_SEED
            warning = f"; seed {seed} is held out: do not train on it" if held_out else ""
            self.say(f"recording to {self.places.recordings}{warning}")

        self._do(job)

    def _new_name(self, suffix: str) -> Path:
        ticks = self.loop.shot.facts.ticks if self.loop.shot else 0
        stem = f"latentcraft-{time.strftime('%Y%m%d-%H%M%S')}-tick{ticks}"
        return self.places.screenshots / f"{stem}.{suffix}"

    def _do(self, job: Callable[[Session], Shot | None]) -> None:
        """Run ``job`` between two chunks; what the user gave wrong is said, and nothing else happens."""

        def forgiving(session: Session) -> Shot | None:
            try:
                return job(session)
            except UserError as error:
                self.say(str(error))
                return None

        self.loop.do(forgiving)

    def _write(self, work: Callable[[], Any], done: str) -> None:
        """Do ``work`` on disk while play goes on, then say ``done``."""

        def run() -> None:
            try:
                work()
                self.say(done)
            except UserError as error:
                self.say(str(error))

        self._disk.submit(run)
