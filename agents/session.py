"""A game as it is played: a stage, who plays on it, and all that happened lately.

A session can be stepped like a world of one game. All methods belong to one thread, the loop's worker, and are called
between two chunks; :attr:`Session.timeline` may be read from elsewhere while nothing runs.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from latentcraft.agents.other import NOTHING, RECORDED, SAME, Other
from latentcraft.agents.players import Player, make_player
from latentcraft.agents.shot import BRANCH, BRANCH_TRUTH, PLAYED, TRUTH, Facts, Shot
from latentcraft.agents.stage import Stage
from latentcraft.agents.timeline import Timeline
from latentcraft.errors import UserError
from latentcraft.model.actions import NUM_BUTTONS
from latentcraft.simulator.protocol import TICKS_PER_SECOND, Chunk, Start, WorldSpec, WorldState

if TYPE_CHECKING:
    from latentcraft.agents.recorder import Recorder

REWIND_MINUTES = 6
"""Everything of at least this long can be gone back to."""
YOU = "you"
TWINS = ((PLAYED, BRANCH), (TRUTH, BRANCH_TRUTH))


class Session:
    """See the module's docstring.

    Args:
        stage: with the world to play; the caller closes both.
        minutes: how far back one can go at least.
    """

    def __init__(self, stage: Stage, *, minutes: float = REWIND_MINUTES) -> None:
        """Begin without a game; :meth:`begin` starts one."""
        self.stage = stage
        self.timeline = Timeline(round(minutes * 60 * TICKS_PER_SECOND / stage.world.spec.chunk))
        self.notes: SimpleQueue[str] = SimpleQueue()
        """Lines for the player; may be filled from any thread."""
        self.player = YOU
        """Who plays."""
        self.other = Other()
        """What the other future does, after a branch."""
        self.recorder: Recorder | None = None
        self._policy: Player | None = None
        self._just_back = False
        self._facts = Facts()
        self._seen: dict[str, np.ndarray] = {}  # view -> last frames

    @property
    def spec(self) -> WorldSpec:
        """The played world's."""
        return self.stage.world.spec

    # --- time -------------------------------------------------------------------------------------------------------

    def begin(self, start: Start) -> Shot:
        """Start a game; returns what is seen."""
        views = self.stage.begin(start)
        self.other.recorded = []
        player = self.player
        shot = self._go_on(views, Facts(start))
        self.hand_over(player)  # whoever played begins anew with the game
        return shot

    def step(self, actions: np.ndarray) -> Chunk:
        """Play one chunk by the hands' ``actions`` ``float32 (1, f, 20)``, or as whoever plays wants.

        The chunk's info gains ``beside`` (view -> frames), ``actions`` ``(f, 20)`` and ``facts``.
        """
        played = self._choose(actions[0])
        other = None
        if self.stage.branched:
            seed = 1 + (self._facts.start.seed or 0)
            other = self.other.act(played, self.stage.lines[1].world, self._seen[BRANCH], seed)
        return self._advance(played, other)

    def go_back(self, number: int) -> Shot:
        """Put everything to where it was after entry ``number`` of the timeline, and forget what came after.

        Raises:
            UserError: that moment's state could not be kept.
        """
        state, again = self.timeline.way_to(number)
        views = self.stage.restore(state)
        steps = self.stage.steps
        for entry in again:
            self.stage.steps = entry.steps
            views = self.stage.step(entry.actions[PLAYED], entry.actions.get(BRANCH))[1]
        self.stage.steps = steps
        cut = self.timeline.truncate(number)
        first_start = next((i for i, entry in enumerate(cut) if entry.is_start), len(cut))
        self.other.recorded = [entry.actions[PLAYED] for entry in cut[:first_start]]
        entry = self.timeline[number]
        self._facts, self._seen = entry.facts, views
        self._moved()
        self._just_back = True
        return _last_shot(views, None if entry.is_start else entry.actions[PLAYED][-1], entry.facts)

    def state(self) -> tuple[WorldState, Facts]:
        """Return everything there is to know of this moment."""
        return self.stage.save(), self._facts

    def resume(self, state: WorldState, facts: Facts) -> Shot:
        """Go on from what :meth:`state` returned; what is played now can still be gone back to.

        Raises:
            UserError: the state is another world's or checkpoint's; the game goes on as it was.
        """
        views = self.stage.restore(state)
        self.other.recorded = []
        return self._go_on(views, facts)

    def _go_on(self, views: dict[str, np.ndarray], facts: Facts) -> Shot:
        self._facts = facts
        self._remember(views)
        self._moved()
        return _last_shot(views, None, facts)

    def _moved(self) -> None:
        if self.player != YOU:
            self.hand_over(YOU)
        self.other.do(self.other.name)
        self._record(lambda recorder: recorder.cut())

    def _advance(self, played: np.ndarray, other: np.ndarray | None) -> Chunk:
        world, before = self.stage.world, self._seen[PLAYED][-1]
        self._record(lambda recorder: recorder.look(world))
        chunk, views = self.stage.step(played, other)
        old, info = self._facts, chunk.infos[0]
        facts = self._facts = replace(
            old,
            ticks=old.ticks + len(played),
            reward=old.reward + float(chunk.rewards[0].sum()),
            terminated=old.terminated or bool(chunk.terminated[0].any()),
            uncertainty=info.get("uncertainty"),
            player=self.player,
        )
        self._seen, self._just_back = views, False
        if not self.stage.branched:
            self.other.recorded = self.other.recorded[1:]
        actions = {PLAYED: played} if other is None else {PLAYED: played, BRANCH: other}
        state = self.stage.save() if self.timeline.wants_state else None
        self.timeline.append(views, actions, facts, self.stage.steps, state)
        self._record(lambda recorder: recorder.add(world, before, chunk, played, facts))
        beside = {name: frames for name, frames in views.items() if name != PLAYED}
        told: dict[str, Any] = {**info, "beside": beside, "actions": played, "facts": facts}
        return chunk._replace(infos=[told])

    # --- recording --------------------------------------------------------------------------------------------------

    def record(self, folder: Path | None) -> None:
        """Record episodes to ``folder`` from now on; None finishes what is being recorded."""
        if self.recorder is not None:
            self._record(lambda recorder: recorder.close())
            self.recorder = None
        if folder is not None:
            from latentcraft.agents.recorder import Recorder  # with codecs, which no game needs to begin

            self.recorder = Recorder(folder, self.stage.world)

    def _record(self, what: "Callable[[Recorder], None]") -> None:
        """Do something with the recorder, if there is one; play goes on where recording cannot."""
        if self.recorder is None:
            return
        try:
            what(self.recorder)
        except UserError as error:
            self.recorder = None
            self.notes.put(f"recording stopped: {error}")

    # --- who plays --------------------------------------------------------------------------------------------------

    def hand_over(self, name: str) -> None:
        """Let ``name`` play from now on, :data:`YOU` or a name of :func:`latentcraft.agents.players.make_player`.

        Raises:
            UserError: nobody is called that; whoever played goes on.
        """
        self._policy = None if name == YOU else make_player(name, self.stage.world, self._facts.start.seed or 0)
        self.player = name

    def _choose(self, hands: np.ndarray) -> np.ndarray:
        """Return the played line's next actions; a pressed button takes the game out of a policy's hands."""
        if self._policy is None:
            return hands
        reason = ""
        if not hands[:, :NUM_BUTTONS].any():
            try:
                actions = self._policy.act(self.stage.world, self._seen[PLAYED])
                if actions is not None:
                    return actions
                reason = f"{self.player} is done; "
            except UserError as error:
                reason = f"{error}; "
        self.hand_over(YOU)
        self.notes.put(f"{reason}you play")
        return hands

    # --- two futures ------------------------------------------------------------------------------------------------

    def branch(self) -> None:
        """Split this moment into two futures, or with two keep only the one that is played.

        The other does what was done before going back, if one just went back to here; else it dreams the same under
        other noise, or where there is no noise, does nothing.
        """
        stage, seen = self.stage, self._seen
        if stage.branched:
            stage.end_branch()
            self._remember({name: seen[name] for name in (PLAYED, TRUTH) if name in seen})
            self.notes.put("the other future is gone")
            return
        stage.branch()
        self._seen = seen | {other: seen[name] for name, other in TWINS if name in seen}
        default = SAME if stage.world.spec.name == "dream" else NOTHING
        self.let_other(RECORDED if self.other.recorded and self._just_back else default)

    def next_other(self) -> None:
        """Let the other line do the next of :data:`latentcraft.agents.other.OTHERS`."""
        if not self.stage.branched:
            self.notes.put("there is only one future; branch first")
            return
        self.let_other(self.other.next_name())

    def let_other(self, name: str) -> None:
        """Let the other line do ``name`` of :data:`latentcraft.agents.other.OTHERS` from now on."""
        self.other.do(name)
        noisy = name == SAME and self.stage.dream_otherwise()
        self._remember(self._seen)
        self.notes.put(f"two futures; the other does {name}" + (" under other noise" if noisy else ""))

    def swap(self) -> Shot | None:
        """Play the other line from now on; the one left goes on with nothing. Returns what is seen."""
        if not self.stage.branched:
            self.notes.put("there is only one future; branch first")
            return None
        self.stage.swap()
        names = dict(TWINS) | {other: name for name, other in TWINS}
        self._seen = {names[name]: frames for name, frames in self._seen.items()}
        self._moved()
        self.other.do(NOTHING)
        self._remember(self._seen)
        self.notes.put("you are in the other future now; the one you left does nothing")
        return _last_shot(self._seen, None, self._facts)

    def _remember(self, views: dict[str, np.ndarray]) -> None:
        """Enter the present anew into the timeline: playing old actions again would not lead here."""
        self._seen = views
        last = {name: frames[-1:] for name, frames in views.items()}
        self.timeline.append(last, {}, self._facts, self.stage.steps, self.stage.save())

    def close(self) -> None:
        """Finish what is being recorded and forget the timeline; the stage is the caller's."""
        self.record(None)
        self.timeline.close()


def _last_shot(views: dict[str, np.ndarray], action: np.ndarray | None, facts: Facts) -> Shot:
    beside = {name: frames[-1].copy() for name, frames in views.items() if name != PLAYED}
    return Shot(views[PLAYED][-1].copy(), beside, action, facts)
