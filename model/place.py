"""Place: one world's memory, what it knows of the coming views, and where its eye and hand are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcraft.model import points
from latentcraft.model.actions import ACTION_SIZE, CHANGES
from latentcraft.model.aim import AimNet
from latentcraft.model.autoencoder import DOWNSAMPLING
from latentcraft.model.awaited import Awaited
from latentcraft.model.blockmap import AIR, BlockMap, Looks
from latentcraft.model.body import Gait
from latentcraft.model.camera import EYE_HEIGHT, axes
from latentcraft.model.cells import distances_to
from latentcraft.model.completion import CompletionNet, complete
from latentcraft.model.hand import Grip
from latentcraft.model.marks import NOTHING, Marks, Strike, mark
from latentcraft.model.memory import REAL, Memory, View, contradicts, widened
from latentcraft.model.points import POOL
from latentcraft.model.standing import Goal, around
from latentcraft.model.views import DRAWN, Views

NEWS = 4.0
"""Squared error of a dreamed position, in variances that the judge expected, from which on something has changed there:
a crack, a block gone. Real chunks exceed it in 5 % of their positions, in 2 % of those where nothing changed."""
CHANGED = 0.7
"""Spread of the guess from which on it counts as changed where the hand is known to have changed something."""
VAGUE = 0.55
"""Spread of the guess from which on memory is shown no longer: it may be bent or torn, which a dream mends."""
UNKNOWN = -1
"""For a block that nobody has looked at."""
SHARP = 2.2
"""Coarseness of a remembered pixel from which on the decoder draws the better picture."""
CLEAR = 0.5
"""How clear (:attr:`Memory.clear`) what is remembered has to be not to give way to blocks behind it."""
UPRIGHT = (-1.1, 1.0)
"""Metres above the eye between which it does not: what stands in one's way. Ground may be where the map has it."""
AWAY = 1.0
"""Metres from where a picture was taken up to which it is right however wrong its distances may be."""


class Drawn(NamedTuple):
    """A recorded picture, as it was recorded."""

    pixels: Tensor
    """-1 to 1, ``(1, 3, H, W)``."""
    distances: np.ndarray
    """Metres, ``float32 (1, H, W)``."""


class Place:
    """One world's memory, and where its eye is."""

    def __init__(
        self, frame_size: tuple[int, int], field_of_view: float, looks: Looks | None = None, marks: Marks | None = None,
        goal: Goal | None = None,
    ):  # fmt: skip
        """Know nothing yet; without ``looks`` of blocks there is no map of them, without ``marks`` no hand's work is
        seen on it, and without ``goal`` it is not known what one looks like.
        """
        self.frame_size, self.field_of_view = frame_size, field_of_view
        self.memory = Memory(frame_size, field_of_view=field_of_view)
        self.blocks, self.looks = None if looks is None else BlockMap(), looks
        """The map of blocks, and what they look like."""
        self.marks, self.strike = marks, NOTHING
        """What a hand's work looks like on them, and what it is at."""
        self.goal_looks = goal
        self.goal: np.ndarray | None = None
        """What the goal of its task looks like, and the cell ``int64 (3,)`` in which its lowest block stands; None
        where nobody knows."""
        self.goal_shown = np.zeros(frame_size, np.bool_)
        """Where it is in the last picture."""
        self.marked, self.bare = np.zeros(frame_size, np.bool_), np.zeros((*frame_size, 3), np.uint8)
        """Where the last picture shows that, and what is there without it."""
        self.gait: Gait | None = None
        """Of the one body at the last frame; None before the first."""
        self.grip: Grip | None = None
        """Of the one hand; None before the first chunk, and where there is no hand net."""
        self._views: list[View] = []  # those of :attr:`ahead`
        self.ahead: Views | None = None
        """What is remembered of the chunk that comes next."""
        self.changed = np.zeros(frame_size, np.bool_)
        """Pixels of the last picture that were dreamed otherwise than remembered."""
        self.attached = np.zeros(frame_size, np.bool_)
        """Pixels of the last picture that move with the lens."""
        self.slot = UNKNOWN
        """Which of the player's blocks is in the hand; :data:`UNKNOWN` until somebody has looked."""
        self.light, self.swing = 1.0, 0
        """In what light it was first seen, 1 being the average; and how far the hand's swing is, see held.py."""
        self.in_hand: tuple[np.ndarray, np.ndarray] | None = None
        """Where that is in the coming chunk, ``bool (f, H, W)``, and what it looks like, ``uint8 (f, H, W, 3)``."""
        self.covered = np.zeros(frame_size, np.bool_)
        """Where it is in the last picture."""
        self.kept = np.zeros(frame_size, np.float32)
        """How far away that is in the last picture which memory or the hand's work shows there, metres; 0 elsewhere: of
        the rest the depth net tells."""
        self.sure = np.ones((frame_size[0] // DOWNSAMPLING, frame_size[1] // DOWNSAMPLING), np.float32)
        """How much of the last picture was once real and not dreamed, 0 to 1; see :attr:`Memory.sure`."""
        self.recalled = np.zeros(0, np.int32)
        """Places of the bank that were recalled last, ``int32 (k,)``, the newest at the end."""
        self.awaited = Awaited.nothing()
        """What more there is of the newest."""
        self.foreseen: dict[int, Drawn] = {}
        """Of that, by numbers in the bank, what was drawn ahead of time; only speed depends on it."""
        self.clear = np.ones_like(self.sure)
        """How much of it was not drawn by the transformer, 0 to 1; see :attr:`Memory.clear`."""
        self.clear_ahead = self.clear
        """The same of what is remembered of the coming picture."""
        self._sure_ahead = self.sure
        """The same of what is remembered of the coming picture; elsewhere it is as sure as the last one on average."""

    def forget(self) -> None:
        """Start anew: the eye went nobody knows where."""
        self.memory.forget()
        self.gait = self.grip = self.ahead = None
        self.strike, self.marked = NOTHING, np.zeros(self.frame_size, np.bool_)
        self.goal, self.goal_shown = None, np.zeros(self.frame_size, np.bool_)
        if self.blocks is not None:
            self.blocks.clear()
        self.changed, self.recalled = np.zeros(self.frame_size, np.bool_), np.zeros(0, np.int32)
        self.awaited, self.foreseen = Awaited.nothing(), {}
        self.sure = self._sure_ahead = np.ones_like(self.sure)
        self.clear = self.clear_ahead = np.ones_like(self.sure)
        self.slot, self.light, self.swing = UNKNOWN, 1.0, 0
        self.in_hand, self.covered = None, np.zeros(self.frame_size, np.bool_)
        self.kept = np.zeros(self.frame_size, np.float32)

    @property
    def eye(self) -> np.ndarray | None:
        """``float64 (5,)`` at the last frame; None before the first."""
        return None if self.gait is None else self.gait.eyes[0].numpy().copy()

    def begin(self, eye: np.ndarray) -> np.ndarray:
        """Stand at ``eye (5,)``; returns it."""
        self.gait = Gait.standing(torch.tensor(eye, dtype=torch.float64)[None])
        return eye

    def remember(self, picture: np.ndarray, distance: np.ndarray, pitch: float) -> np.ndarray:
        """Add the last frame's picture; a place that knows nothing begins here. Returns the eye."""
        eye = self.eye
        if eye is None:
            eye = self.begin(np.array([0.5, EYE_HEIGHT, 0.5, 0.0, pitch]))  # in the middle of a block
        distance = np.where((self.kept > 0) & (distance > 0), self.kept, distance)
        distance[self.covered] = 0
        picture = np.where(self.marked[..., None], self.bare, picture)
        goal = around(self.goal_shown) if self.goal_shown.any() else None  # it is always drawn anew
        self.memory.remember(picture, distance, eye, self.changed, self.sure, self.clear, goal)
        self.attached = widened(distance == 0)
        return eye

    def set_goal(self, cell: np.ndarray) -> None:
        """Let the goal of the task stand in a ``cell (3,)`` from now on."""
        self.goal = np.array(cell, np.int64)
        if self.goal_looks is not None:
            self.goal_looks.give_room(self.memory, self.goal)

    def make(self, cell: np.ndarray, kind: int) -> None:
        """Note that a hand made a block of ``kind`` of a ``cell (3,)``; 0 is air."""
        if self.blocks is not None:
            self.blocks.put(cell, kind + AIR)

    def surroundings(self, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is known close by ``eye (5,)``; see :meth:`Memory.surroundings`."""
        if self.blocks is None or self.looks is None:
            return self.memory.surroundings(eye)
        return self.memory.surroundings(eye, self.blocks.cells, 255 * self.blocks.gain * self.looks.means)

    def complete(self, net: CompletionNet | None) -> None:
        """Bring the map of blocks up to date, if the eye has moved on since, or something was recalled."""
        eye = self.eye
        if net is None or self.blocks is None or self.looks is None or eye is None:
            return
        recalled = self.ahead is not None and self.ahead.recalled is not None
        if self.blocks.is_old(eye) or recalled:
            complete(net, self.memory, self.blocks, self.looks, eye)

    def view(self, eye: np.ndarray) -> View:
        """Return what is known of the view from ``eye (5,)``."""
        view = self.memory.view(eye)
        self._show_blocks(view, eye, guessed=False)
        if self.goal is not None and self.goal_looks is not None:
            gain = np.ones(3) if self.blocks is None else self.blocks.gain
            self.goal_looks.show(view, self.goal, eye, self.memory.rays, self.memory.focal, gain)
        return view

    def _show_blocks(self, view: View, eye: np.ndarray, *, guessed: bool) -> None:
        """Show the map in a view."""
        if self.blocks is not None and self.looks is not None:
            memory = self.memory
            vague = memory.pixels_of(view, memory.sure, 1.0) < REAL
            away = np.linalg.norm(memory.eyes[:, :3] - eye[:3], axis=1)
            fixed = memory.pixels_of(view, away[:, None, None], 0.0) < AWAY
            up = np.einsum("i,ihw->hw", axes(eye[3], eye[4])[1], memory.rays) * view.distance
            firm = (memory.pixels_of(view, memory.clear, 0.0) >= CLEAR) & (up > UPRIGHT[0]) & (up < UPRIGHT[1])
            self.blocks.show(
                view, eye, memory.rays, memory.focal, self.looks, vague=vague, fixed=fixed, firm=firm, guessed=guessed
            )  # fmt: skip

    def guess_ahead(self) -> Views | None:
        """Show in what is remembered of the coming chunk what the map guesses, too; returns :attr:`ahead`."""
        if self.ahead is None or self.blocks is None:
            return self.ahead
        # Blocks are settled in whichever order: none of them hides another one for that.
        list(POOL.map(lambda view, eye: self._show_blocks(view, eye, guessed=True), self._views, self.ahead.eyes))
        return self.look_ahead(self._views, self.ahead.eyes, self.ahead.recalled)

    def mark(self, frames: range, actions: np.ndarray, aim: AimNet | None) -> Views | None:
        """Show in some ``frames`` of :attr:`ahead` that the hand is at work, led by ``actions (f, a)``; returns it."""
        if self.ahead is not None and self.blocks is not None and self.marks is not None:
            self.ahead, self.strike = mark(
                self.ahead, frames, self.marks, self.strike, actions, self.memory.rays, self.field_of_view,
                self.blocks, aim,
            )  # fmt: skip
        return self.ahead

    def look_ahead(self, views: Sequence[View], eyes: np.ndarray, recalled: np.ndarray | None = None) -> Views:
        """Take what is known of the coming chunk's views from ``eyes (f, 5)``, and which pixels of it were just
        ``recalled``, for :attr:`ahead`, and return it.
        """
        self._views = list(views)
        unsure = float(self.sure.mean())
        self._sure_ahead = self.memory.behind(views[-1], self.memory.sure, unsure, unsure)
        self.clear_ahead = self.memory.behind(views[-1], self.memory.clear, 0.0, 1.0)
        self.ahead = Views(
            np.stack([view.picture for view in views]), np.stack([view.known for view in views]),
            np.stack([view.coarseness for view in views]), np.stack([view.distance for view in views]), eyes,
            recalled,
            mapped=None if self.blocks is None and self.goal is None else np.stack([view.mapped for view in views]),
        )  # fmt: skip
        return self.ahead

    def arrive(self, eyes: np.ndarray, actions: np.ndarray | None = None) -> None:
        """Move on through ``eyes (f, 5)`` to the last of them, led by ``actions (f, a)``; None: by no button."""
        path = torch.tensor(eyes, dtype=torch.float64)
        held = torch.zeros(len(path), ACTION_SIZE) if actions is None else torch.as_tensor(actions)
        gait = Gait.standing(path[:1]) if self.gait is None else self.gait
        for eye, action in zip(path, held, strict=True):
            gait = gait.moved(eye[None], action[None])
        self.gait = gait

    def sharpened(
        self, frames: np.ndarray, surprise: np.ndarray, spread: np.ndarray, *, hand: bool = False,
        holds: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Lay over decoded ``frames uint8 (f, H, W, 3)`` the pixels of :attr:`ahead` that show the same, as sharp as
        they were when first seen; whatever was dreamed otherwise stays as it was dreamed, and is what is remembered.

        Args:
            frames: of the chunk.
            surprise: how far its latents are from the guess, ``(f, h, w)``; see
                :func:`latentcraft.model.guess.surprise`.
            spread: of the guess, ``(f, h, w)``.
            hand: whether the hand changed the world in this chunk. What the judge then knows next to nothing of is
                what the hand changed, and what was remembered there is no longer so, however alike it may look.
            holds: which cells it changed, ``(f, 2, 6)``, see :func:`latentcraft.model.cells.hold`: what was remembered
                of the block that was dug, or behind the one that was placed, is no longer so either.
        """
        scale = frames.shape[1] // surprise.shape[1]
        news, vague = ((part).repeat(scale, 1).repeat(scale, 2) for part in (surprise > NEWS, spread > VAGUE))
        worked = None if self.ahead is None else self.ahead.worked
        if hand and worked is None:
            news |= (spread > CHANGED).repeat(scale, 1).repeat(scale, 2)
        if hand and worked is None and holds is not None and self.ahead is not None:
            for new, told, distances in zip(news, holds, self.ahead.distances, strict=True):
                new |= self._gone(told, distances)
        if self.ahead is not None and (seams := self.ahead.seams()) is not None:
            news |= seams.repeat(scale, 1).repeat(scale, 2) & self.ahead.recalled
        self.changed, self.kept = news[-1], np.zeros(self.frame_size, np.float32)
        self.marked = np.zeros(self.frame_size, np.bool_)
        if worked is not None:
            news &= worked != DRAWN
            self.changed = self.changed | (worked[-1] > 0)
        sure = np.full_like(self.sure, self.sure.mean()) if self.ahead is None else self._sure_ahead
        missed = np.square(spread[-1], dtype=np.float32)
        self.sure = sure * (1 - missed)
        # What is half known already is hardly drawn anew.
        self.clear = self.clear_ahead * (1 - np.square(missed))
        if hand:  # what it made is to stay
            self.clear[spread[-1] > CHANGED] = 1.0
            if worked is not None:
                self.clear[(worked[-1] == DRAWN).reshape(len(self.clear), scale, -1, scale).any((1, 3))] = 1.0
        if self.ahead is None:
            return self._with_hand(frames)
        out = frames.copy()
        drawn = np.zeros(frames.shape[:3], np.bool_) if worked is None else worked == DRAWN
        ahead = zip(out, news | vague, drawn, self.ahead.pictures, self.ahead.known, self.ahead.coarseness, strict=True)
        for frame, other, new, picture, known, coarseness in ahead:
            same = known & (coarseness < SHARP) & ~self.attached & ~other & ~contradicts(picture, known, frame)
            same |= new & ~self.attached
            frame[same] = picture[same]
        self.kept[same] = self.ahead.distances[-1][same]
        if self.goal is not None and self.goal_looks is not None:
            self.goal_shown = self.goal_looks.shown(
                self.goal, self.ahead.eyes[-1], self.memory, self.ahead.distances[-1]
            )  # fmt: skip
        if self.ahead.bare is not None:
            self.bare[same] = self.ahead.bare[-1][same]
            self.marked = same & (self.bare != out[-1]).any(-1)
        return self._with_hand(out)

    def _with_hand(self, frames: np.ndarray) -> np.ndarray:
        """Return ``frames`` with what is in the hand."""
        self.covered = np.zeros(self.frame_size, np.bool_)
        if self.in_hand is None:
            return frames
        shape, looks = (part[-len(frames) :] for part in self.in_hand)
        self.covered, self.kept[shape[-1]] = shape[-1], 0.0
        return np.where(shape[..., None], looks, frames)

    def _gone(self, holds: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """Return where a remembered view with ``distances (H, W)`` shows what the hand took away or put something
        before, ``bool (H, W)``; ``holds (2, 6)``.
        """
        gone = np.zeros(distances.shape, np.bool_)
        for change, told in zip(CHANGES, holds, strict=True):
            if not np.isnan(told[0]):
                enters, leaves = distances_to(told, self.memory.rays)
                there = np.isfinite(enters) & (distances > (1 - points.SAME) * enters)
                gone |= there if change == "placed" else there & (distances < (1 + points.SAME) * leaves)
        return gone

    def save(self) -> dict[str, np.ndarray]:
        """Return everything there is, as arrays."""
        gait = Gait.standing(torch.full((1, 5), torch.nan)) if self.gait is None else self.gait
        arrays = {f"gait.{name}": part.numpy().copy() for name, part in gait._asdict().items()}
        if self.grip is not None:
            arrays |= {f"grip.{name}": part.numpy().copy() for name, part in self.grip._asdict().items()}
        arrays |= {f"awaited.{name}": part.copy() for name, part in self.awaited._asdict().items()}
        state = {
            "changed": self.changed, "surely": self.sure, "clearly": self.clear, "recalled": self.recalled,
            "kept": self.kept, "slot": np.array(self.slot), "light": np.array(self.light),
            "swing": np.array(self.swing), "covered": self.covered,
        }  # fmt: skip
        if self.blocks is not None:
            arrays |= {**self.blocks.save(), "strike": self.strike.array}
        if self.goal is not None:
            arrays |= {"goal": self.goal.copy(), "goal_shown": self.goal_shown.copy()}
        if self.marked.any():
            arrays |= {"marked": self.marked.copy(), "bare": self.bare.copy()}
        return {**self.memory.save(), **arrays, **{name: part.copy() for name, part in state.items()}}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what :meth:`save` returned."""
        self.memory.restore(arrays)
        if self.blocks is not None:
            self.blocks.restore(arrays)
        self.goal = np.array(arrays["goal"]) if "goal" in arrays else None
        self.goal_shown = np.array(arrays.get("goal_shown", np.zeros(self.frame_size, np.bool_)))
        self.strike = Strike.of(arrays["strike"]) if "strike" in arrays else NOTHING
        self.marked = np.array(arrays.get("marked", np.zeros(self.frame_size, np.bool_)))
        self.bare = np.array(arrays.get("bare", np.zeros((*self.frame_size, 3), np.uint8)))
        gait = Gait(*(torch.from_numpy(arrays[f"gait.{name}"].copy()) for name in Gait._fields))
        self.gait = None if gait.eyes.isnan().any() else gait
        self.grip = None
        if "grip.hidden" in arrays:
            self.grip = Grip(*(torch.from_numpy(arrays[f"grip.{name}"].copy()) for name in Grip._fields))
        self.changed = np.array(arrays["changed"])
        self.sure = np.array(arrays.get("surely", np.ones_like(self.sure)))
        self.clear = np.array(arrays.get("clearly", np.ones_like(self.sure)))
        self.slot, self.swing = int(arrays.get("slot", UNKNOWN)), int(arrays.get("swing", 0))
        self.covered = np.array(arrays.get("covered", np.zeros(self.frame_size, np.bool_)))
        self.in_hand = None
        self.light = float(arrays.get("light", 1.0))
        self.kept = np.array(arrays.get("kept", np.zeros(self.frame_size, np.float32)))
        self.awaited, self.foreseen = Awaited.nothing(), {}
        if "awaited.sky" in arrays:  # earlier versions did not know
            self.awaited = Awaited(*(np.array(arrays[f"awaited.{name}"]) for name in Awaited._fields))
        self.recalled = np.array(arrays.get("recalled", np.zeros(0, np.int32)))


def views_of(places: Sequence[Place], paths: np.ndarray) -> list[Views]:
    """Return what each place remembers of the views from ``paths (k, f, 5)``; its :attr:`Place.ahead` from now on."""
    looks = [(place, eye) for place, path in zip(places, paths, strict=True) for eye in path]
    drawn = list(POOL.map(lambda look: look[0].view(look[1]), looks))
    frames = paths.shape[1]
    return [
        place.look_ahead(drawn[at * frames : (at + 1) * frames], path)
        for at, (place, path) in enumerate(zip(places, paths, strict=True))
    ]
