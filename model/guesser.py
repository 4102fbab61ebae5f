"""What the next chunk probably looks like, before anything is dreamed: the prior that denoising starts from.

The last frame is decoded and moved (motion.py). In a world seen through a camera (scene.py) whatever the memory of
places knows of the coming views is laid over it, and where that is too little, what the bank recalls (recall.py). The
result is encoded, and the motion net judges how far it can be trusted.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcraft.model.actions import CHANGES
from latentcraft.model.at_work import changed_by, made, marked
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.bank import Bank
from latentcraft.model.beside import beside
from latentcraft.model.compose import compose
from latentcraft.model.depth import DepthNet
from latentcraft.model.guess import Guess, surprise
from latentcraft.model.hand import HandNet
from latentcraft.model.handiwork import certain, settled
from latentcraft.model.held import Held, in_hand
from latentcraft.model.motion import Flow, Motion, judge
from latentcraft.model.place import Place, views_of
from latentcraft.model.points import POOL
from latentcraft.model.recall import doubted, foresee, recall
from latentcraft.model.scene import Scene, Seen, predicted_changes, predicted_eyes, strayed
from latentcraft.model.views import Views

LOOKED_AT = 16
"""Pictures the depth net sees at once."""


class Shown(NamedTuple):
    """What is seen of dreamed chunks."""

    frames: np.ndarray
    """``uint8 (b, k, H, W, 3)``: all of a chunk, or its last frame only."""
    picture: Tensor
    """The last frames as the decoder drew them, ``(b, 3, H, W)``: what the next chunk is moved from."""


class Guesser:
    """The nets at work; none is trained from here."""

    def __init__(
        self, autoencoder: Autoencoder, motion: Motion, scene: Scene | None = None, bank: Bank | None = None
    ):  # fmt: skip
        """Use them as they are; without ``bank`` nothing is recalled that was not seen."""
        self.autoencoder, self.motion, self.scene, self.bank = autoencoder, motion, scene, bank

    def place(self, frame_size: tuple[int, int]) -> Place | None:
        """Return an empty memory for one world, None where worlds have none."""
        return None if self.scene is None else self.scene.place(frame_size)

    @torch.no_grad()
    def __call__(
        self, past: Tensor, actions: Tensor, has_actions: Tensor | None = None, *,
        places: Sequence[Place | None] | None = None, eyes: Tensor | None = None,
        shown: np.ndarray | None = None, picture: Tensor | None = None, changes: Tensor | None = None,
        spots: Tensor | None = None,
    ) -> Guess:  # fmt: skip
        """Guess the chunks after ``past``.

        Args:
            past: the chunk before each, ``(b, f, h, w, c)``; zeros where there is none, which gives a standard normal.
            actions: ``(b, f, a)`` that lead to the guessed chunks.
            has_actions: ``bool (b,)``; default all True.
            places: the worlds' memories, which go on by this chunk. Default: nothing is remembered.
            eyes: where the eye goes, ``float64 (b, f, 5)``, if it is known; NaN where it is not. Default: the body net
                says.
            shown: the last frames as they were shown, ``uint8 (b, H, W, 3)``, to be remembered. Default: as decoded.
            picture: the last frames as decoded, see :class:`Shown`. Default: they are decoded here, to the same bits.
            changes: what the hand does, ``(b, f, 2)``, if it is known; NaN is nothing. Default: the hand net says.
            spots: where, ``(b, f, 2, 3)``, if it is known; NaN where it is not. Default: in the middle of the view.

        Returns:
            The distribution that denoising starts from, ``(b, f, h, w, ...)``.
        """
        b = len(past)
        if has_actions is None:
            has_actions = torch.ones(b, dtype=torch.bool, device=past.device)
        last, there = past[:, -1], past.flatten(1).any(1)
        picture = (self.autoencoder.decode_pixels(last) if picture is None else picture).float().clamp(-1, 1)
        views: list[Views | None] = [None] * b
        seen = flow = None
        if self.scene is not None and places is not None:
            pitches = [math.nan if place is None or place.eye is None else place.eye[4] for place in places]
            told = torch.tensor(pitches, dtype=torch.float32, device=picture.device)
            depth, hand, carriers, decoded = self.scene.depth, self.scene.hand, places, picture
            seen, (flow, done) = beside(
                lambda: self.look(depth, decoded, told),
                lambda: (
                    self.motion.find_flow(decoded, last, actions, has_actions),
                    None if hand is None or changes is not None else
                    self.worked(hand, carriers, last, actions, has_actions),
                ),
            )  # fmt: skip
            changes = done if changes is None else changes
            if shown is not None:
                seen = seen._replace(pictures=shown)
            views = self.remembered(self.scene, places, seen, last, there, actions, has_actions, eyes)
            if self.bank is not None:
                views = [
                    view if place is None or view is None else
                    recall(self.bank, self.autoencoder, self.scene.depth, place, view)
                    for place, view in zip(places, views, strict=True)
                ]  # fmt: skip
            views = self.guessed(self.scene, places, views)
        held = None
        if self.scene is not None and places is not None:
            held = in_hand(self.scene.matter, places, picture, actions, shown, there, changes)
            for index, place in enumerate(places):
                if place is not None:
                    place.in_hand = None if held is None else held.pixels(index)
        return self.judged(
            picture, last, there, actions, has_actions, views, seen, changes, spots, held, places, flow
        )  # fmt: skip

    @torch.no_grad()
    def along(
        self, past: Tensor, actions: Tensor, has_actions: Tensor | None = None, *, eyes: Tensor | None = None,
        predict: bool = False, changes: Tensor | None = None, spots: Tensor | None = None,
    ) -> Guess:  # fmt: skip
        """Guess every chunk of clips, each after the one before it.

        Args:
            past: the chunk before each, ``(b, t, f, h, w, c)``.
            actions: ``(b, t, f, a)``.
            has_actions: ``bool (b,)``.
            eyes: ``float64 (b, t, f, 5)``; without them nothing is remembered.
            predict: let the body net say for every chunk where the eye goes from the true place before it.
            changes: what the hand does, ``(b, t, f, 2)``; NaN counts as nothing. Default: nothing.
            spots: where, ``(b, t, f, 2, 3)``, NaN where it is not known. Default: in the middle of the view.

        Returns:
            ``(b, t, f, h, w, ...)``.
        """
        b, t = past.shape[:2]
        if has_actions is None:
            has_actions = torch.ones(b, dtype=torch.bool, device=past.device)
        flat = past.flatten(0, 1)
        last, there = flat[:, -1], flat.flatten(1).any(1)
        picture = self.autoencoder.decode_pixels(last).float().clamp(-1, 1)
        views, seen = self.remembered_along(picture, past, actions, has_actions, eyes, predict=predict)
        known = has_actions[:, None].expand(b, t).flatten()
        done, where = (None if part is None else part.flatten(0, 1) for part in (changes, spots))
        acted = actions.flatten(0, 1)
        held = None if self.scene is None else in_hand(self.scene.matter, [None] * (b * t), picture, acted, there=there)
        guess = self.judged(picture, last, there, acted, known, views, seen, done, where, held)
        return Guess(*(part.unflatten(0, (b, t)) for part in guess))

    def remembered_along(
        self, picture: Tensor, past: Tensor, actions: Tensor, has_actions: Tensor, eyes: Tensor | None, *,
        start: Tensor | None = None, predict: bool = False,
    ) -> tuple[list[Views | None], Seen | None]:  # fmt: skip
        """Walk through clips; see :meth:`along`.

        Args:
            picture: the last frames of ``past``, ``(b * t, 3, H, W)``.
            past: see :meth:`along`.
            actions: see :meth:`along`.
            has_actions: see :meth:`along`.
            eyes: see :meth:`along`.
            start: where the first of ``past`` was seen from, ``float64 (b, f, 5)``; needed unless it is empty.
            predict: see :meth:`along`.
        """
        b, t = past.shape[:2]
        views: list[Views | None] = [None] * (b * t)
        if self.scene is None or eyes is None:
            return views, None
        first = torch.full_like(eyes[:, 0, -1, 4], math.nan) if start is None else start[:, -1, 4]
        pitches = torch.cat([first[:, None], eyes[:, :-1, -1, 4]], 1).flatten().float()
        seen = self.look(self.scene.depth, picture, pitches)
        places = [self.scene.place((picture.shape[2], picture.shape[3])) for _ in range(b)]
        if start is not None:
            for place, path in zip(places, start.cpu().numpy(), strict=True):
                if not np.isnan(path).any():
                    place.arrive(path)
        there = past.flatten(2).any(2)
        for index in range(t):
            here = slice(index, None, t)
            views[here] = self.remembered(
                self.scene, places, Seen(*(part[here] for part in seen)), past[:, index, -1], there[:, index],
                actions[:, index], has_actions, eyes[:, index], predict=predict,
            )  # fmt: skip
            views[here] = self.guessed(self.scene, places, views[here])
            self.look_ahead(places, given=True)
        return views, seen

    @torch.no_grad()
    def look_ahead(self, places: Sequence[Place | None], *, given: bool = False) -> None:
        """Do what can be done ahead for the chunk after the one guessed: bring the worlds' maps of blocks up to date
        with what they remember, and draw what will be recalled.

        Args:
            places: the worlds' memories.
            given: whether the last chunk is not dreamed, so that nothing that their maps guessed is really shown.
        """
        for place in places:
            if place is not None and self.scene is not None:
                if given and place.blocks is not None:
                    place.blocks.loosen()
                place.complete(self.scene.completion)
                # Not outside the lanes: with more threads the bits are others, and who restores a game draws them anew.
                if self.bank is not None and not given:
                    foresee(self.bank, self.autoencoder, self.scene.depth, place)

    @torch.no_grad()
    def draw(self, latents: Tensor) -> Shown:
        """Decode the frames of dreamed chunks ``(b, k, h, w, c)``, each by a call of its own: their bits do not depend
        on which others are wanted.
        """
        pictures = [self.autoencoder.decode_pixels(frames) for frames in latents.unbind(1)]
        frames = torch.stack([self.autoencoder.to_frames(each) for each in pictures], 1)
        return Shown(frames.contiguous().cpu().numpy(), pictures[-1])

    @torch.no_grad()
    def show(
        self, frames: np.ndarray, latents: Tensor, guess: Guess, places: Sequence[Place | None]
    ) -> np.ndarray:  # fmt: skip
        """Return the frames of dreamed chunks with remembered pixels over them where both show the same.

        Args:
            frames: as decoded, of each chunk or its last one only, ``uint8 (b, k, H, W, 3)``; what goes on from there
                is the same to the bit.
            latents: of the chunks, ``(b, f, h, w, c)``.
            guess: what their denoising started from.
            places: the worlds' memories; called once for each chunk, since they note what is new.
        """
        hands, last_only = guess.changes.flatten(1).any(1).tolist(), frames.shape[1] < latents.shape[1]
        if last_only:
            latents, guess = latents[:, -1:], Guess(*(part[:, -1:] for part in guess))
        frames = frames.copy()
        news, spread = surprise(latents, guess).cpu().numpy(), guess.spread[..., 0].cpu().numpy()
        holds = guess.holds.cpu().numpy()

        def sharpen(index: int) -> None:
            place = places[index]
            if place is not None:
                if last_only and place.ahead is not None:
                    place.ahead = place.ahead.last()
                frames[index] = place.sharpened(
                    frames[index], news[index], spread[index], hand=bool(hands[index]), holds=holds[index]
                )

        list(POOL.map(sharpen, range(len(places))))
        return frames

    @staticmethod
    def guessed(
        scene: Scene, places: Sequence[Place | None], views: Sequence[Views | None]
    ) -> list[Views | None]:  # fmt: skip
        """Return ``views`` with what maps of blocks guess where nobody has looked, nor anything was recalled."""
        out = list(views)
        if scene.completion is None:
            return out
        for index, (place, view) in enumerate(zip(places, views, strict=True)):
            if place is not None and view is not None:
                out[index] = place.guess_ahead()
        return out

    @staticmethod
    def look(depth: DepthNet, picture: Tensor, pitches: Tensor) -> Seen:
        """Find the depth of pictures ``(k, 3, H, W)`` at ``pitches (k,)`` in degrees, NaN where it is not known."""
        unknown = pitches.isnan()
        if unknown.any():
            pitches = torch.where(unknown, depth.pitch(picture), pitches)
        pairs = zip(picture.split(LOOKED_AT), pitches.split(LOOKED_AT), strict=True)
        distances = torch.cat([depth.distances(part, pitch) for part, pitch in pairs]).cpu().numpy()
        pixels = (picture * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return Seen(np.ascontiguousarray(pixels), distances, pitches.cpu().numpy())

    @staticmethod
    def worked(
        hand: HandNet, places: Sequence[Place | None], last: Tensor, actions: Tensor, has_actions: Tensor
    ) -> Tensor:
        """Let every world's hand work on, or let go where no action is known; returns the changes ``(b, f, 2)``."""
        changes = torch.zeros(*actions.shape[:2], len(CHANGES), device=last.device)
        told = has_actions.tolist()
        at = [index for index, place in enumerate(places) if place is not None and told[index]]
        for index, place in enumerate(places):
            if place is not None and not told[index]:
                place.grip = None
        if at:
            holding = [place for index in at if (place := places[index]) is not None]
            changes[at] = predicted_changes(hand, holding, last[at], actions[at])
        return changes

    @staticmethod
    def remembered(
        scene: Scene, places: Sequence[Place | None], seen: Seen, last: Tensor, there: Tensor, actions: Tensor,
        has_actions: Tensor, eyes: Tensor | None, *, predict: bool = False,
    ) -> list[Views | None]:  # fmt: skip
        """Let every world remember its last picture and move on; returns what it then sees, None if it is lost."""
        views: list[Views | None] = [None] * len(places)
        given, acted = None if eyes is None else eyes.cpu().numpy(), actions.float().cpu().numpy()
        lost = ~has_actions.cpu().numpy() if given is None else np.isnan(given).any((1, 2))
        walking: list[int] = []
        for index, place in enumerate(places):
            if place is None:
                continue
            place.ahead = None
            if lost[index]:
                place.forget()
                continue
            if not there[index]:
                if given is not None:
                    place.arrive(given[index], acted[index])
                continue
            if given is not None and place.eye is not None and strayed(place.eye, given[index]):
                place.forget()
                place.arrive(given[index], acted[index])
                continue
            walking.append(index)
        if not walking:
            return views
        going = [place for index in walking if (place := places[index]) is not None]

        def remember(pair: tuple[int, Place]) -> None:
            index, place = pair
            place.remember(seen.pictures[index], seen.distances[index], float(seen.pitches[index]))

        list(POOL.map(remember, zip(walking, going, strict=True)))
        if given is None or predict:
            paths = predicted_eyes(scene, going, last[walking], actions[walking])
        else:
            paths = given[walking]
        for index, place, path, ahead in zip(walking, going, paths, views_of(going, paths), strict=True):
            views[index] = ahead
            place.arrive(path if given is None else given[index], acted[index])
        return views

    def judged(
        self, picture: Tensor, last: Tensor, there: Tensor, actions: Tensor, has_actions: Tensor,
        views: Sequence[Views | None], seen: Seen | None, changes: Tensor | None = None, spots: Tensor | None = None,
        held: Held | None = None, places: Sequence[Place | None] | None = None, flow: Flow | None = None,
    ) -> Guess:  # fmt: skip
        """Move ``picture (k, 3, H, W)``, lay over it what is remembered and what the hand makes, and judge the result.

        Args:
            picture: the last frames.
            last: their latents.
            there: whether there are any.
            actions: ``(k, f, a)``.
            has_actions: see :meth:`__call__`.
            views: what is remembered.
            seen: depth of the last frames.
            changes: what the hand does.
            spots: where, if that is known.
            held: what is in the hand.
            places: the worlds' memories, which forget what is dug out, and get what the views become.
            flow: where the motion net looks, if it has looked already.
        """
        if changes is None:
            changes = torch.zeros(*actions.shape[:2], len(CHANGES), device=picture.device)
        # Who does not know the actions is not told what they did either.
        changes = changes.nan_to_num() * has_actions[:, None, None]
        holds, doubtful = changed_by(self.scene, views, changes, spots, places), changes
        views = marked(self.scene, places, views, actions, changes, before=True)
        if held is not None and self.scene is not None and self.scene.matter is not None:
            views = made(self.scene, self.scene.matter, views, holds, held, places)
            seen_to = torch.tensor([view is not None and view.worked is not None for view in views])
            doubtful = torch.where(seen_to.to(changes.device)[:, None, None], 0.0, changes)
        views = marked(self.scene, places, views, actions, changes, before=False)
        if flow is None:
            flow = self.motion.find_flow(picture, last, actions, has_actions)
        found = compose(picture, flow, views, seen, held)
        guess = judge(self.autoencoder, self.motion, last, found, flow, there, doubtful, certain(views, held, last))
        return settled(doubted(guess, views), views)._replace(holds=holds, changes=changes)
