"""Scene: a world seen through a camera; its memory of places, the body that carries the eye, and the hand.

This part is optional. It needs episodes that say where the eye was (``pose``) and, to learn from, how far things were
(``depth``), as the reference world's do. A world without it moves its last picture only (motion.py).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from latentcraft.model.body import BodyConfig, BodyNet, Gait, walk
from latentcraft.model.completion import CompletionConfig, CompletionNet
from latentcraft.model.deeds import DeedConfig, DeedNet
from latentcraft.model.depth import DepthConfig, DepthNet
from latentcraft.model.goals import GoalConfig, GoalNet
from latentcraft.model.hand import Grip, HandConfig, HandNet, work
from latentcraft.model.matter import MatterConfig, MatterNet
from latentcraft.model.place import Place
from latentcraft.model.points import POOL
from latentcraft.model.relief import Nearby
from latentcraft.model.whereabouts import WhereaboutsConfig, WhereaboutsNet

TELEPORT = 8.0
"""Metres in one frame that nobody walks: the eye was put elsewhere, and what was remembered is of no use."""
EARLIER_MAP = {"place": False, "marks": False, "one_by_one": False}
"""What maps of earlier checkpoints lack."""


@dataclass(frozen=True)
class SceneConfig:
    """Shape of the scene's nets."""

    depth: DepthConfig = field(default_factory=DepthConfig)
    """The depth net's."""
    body: BodyConfig = field(default_factory=BodyConfig)
    """The body net's."""
    hand: HandConfig | None = None
    """The hand net's; None where the episodes do not tell what the hand did."""
    matter: MatterConfig | None = None
    """Of the net that says what changed cells look like; None where they do not tell where that was."""
    completion: CompletionConfig | None = None
    """Of the net that makes a map of blocks; None where they do not tell of blocks."""
    deeds: DeedConfig | None = None
    """Of the net that says what deeds pay; None where no task pays for deeds only."""
    goals: GoalConfig | None = None
    """Of the net that says what the way to somewhere pays; None where no task pays for that only."""
    whereabouts: WhereaboutsConfig | None = None
    """Of the net that says where the goal of a task stands; None where none was found in the recordings."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], width: int | None = None) -> "SceneConfig":
        """Undo ``dataclasses.asdict``, also after a detour through JSON. Nets that do not say so have learned from
        pictures as wide as ``width``.
        """
        depth: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values["depth"].items()
        }
        depth["picture"] = depth.get("picture") or width
        hand, matter, completion, deeds, goals, whereabouts = (
            values.get(name) for name in ("hand", "matter", "completion", "deeds", "goals", "whereabouts")
        )
        return cls(
            DepthConfig(**depth), BodyConfig(**values["body"]), None if hand is None else HandConfig(**hand),
            None if matter is None else MatterConfig.from_dict(matter),
            None if completion is None else CompletionConfig(**EARLIER_MAP | completion),
            None if deeds is None else DeedConfig(**deeds), None if goals is None else GoalConfig(**goals),
            None if whereabouts is None else
            WhereaboutsConfig(**whereabouts | {"picture": whereabouts.get("picture") or width}),
        )  # fmt: skip


class Scene(nn.Module):
    """The nets of a world that is seen through a camera."""

    def __init__(self, config: SceneConfig = SceneConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        self.depth, self.body = DepthNet(config.depth), BodyNet(config.body)
        self.hand = None if config.hand is None else HandNet(config.hand)
        self.matter = None if config.matter is None else MatterNet(config.matter)
        self.completion = None if config.completion is None else CompletionNet(config.completion)
        self.deeds = None if config.deeds is None else DeedNet(config.deeds)
        self.goals = None if config.goals is None else GoalNet(config.goals)
        self.whereabouts = None if config.whereabouts is None else WhereaboutsNet(config.whereabouts)

    @classmethod
    def of(
        cls, depth: DepthNet, body: BodyNet, hand: HandNet | None, dtype: torch.dtype, matter: MatterNet | None = None,
        completion: CompletionNet | None = None, deeds: DeedNet | None = None, goals: GoalNet | None = None,
        whereabouts: WhereaboutsNet | None = None,
    ) -> "Scene":  # fmt: skip
        """Join trained nets, in evaluation mode and one number format; see :meth:`cast`."""
        nets = {
            "depth": depth, "body": body, "hand": hand, "matter": matter, "completion": completion, "deeds": deeds,
            "goals": goals, "whereabouts": whereabouts,
        }  # fmt: skip
        there = {name: net for name, net in nets.items() if net is not None}
        configs: dict[str, Any] = {name: net.config for name, net in there.items()}
        scene = cls(SceneConfig(**configs)).cast(dtype)
        for name, net in there.items():
            getattr(scene, name).load_state_dict(net.state_dict())
        scene.depth.channels_last()
        return scene.requires_grad_(False).eval()

    def cast(self, dtype: torch.dtype) -> "Scene":
        """Put the nets into a number format, all but depth and the map of blocks stay in fp32."""
        self.depth.to(dtype)
        if self.completion is not None:
            self.completion.to(dtype)
        for small in (self.body, self.hand, self.matter, self.deeds, self.goals, self.whereabouts):
            if small is not None:
                small.float()
        return self

    def without_map(self) -> "Scene":
        """Return a scene of the same nets that makes no map of blocks."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.completion = None
        return other

    def place(self, frame_size: tuple[int, int]) -> "Place":
        """Return an empty memory for one world."""
        looks, marks = (None, None) if self.completion is None else (self.completion.looks(), self.completion.marks())
        goal = None if self.whereabouts is None else self.whereabouts.goal()
        return Place(frame_size, self.config.depth.field_of_view, looks, marks, goal)


class Seen(NamedTuple):
    """Pictures with their depth, of the last frames of some chunks."""

    pictures: np.ndarray
    """``uint8 (k, H, W, 3)``."""
    distances: np.ndarray
    """``float32 (k, H, W)``."""
    pitches: np.ndarray
    """Degrees, ``float32 (k,)``."""


def strayed(eye: np.ndarray, path: np.ndarray) -> bool:
    """Whether somewhere on ``path (f, 5)`` from ``eye (5,)`` there is a :data:`TELEPORT`."""
    return bool((np.abs(np.diff(np.concatenate([eye[None], path])[:, :3], axis=0)) > TELEPORT).any())


@torch.no_grad()
def predicted_changes(net: HandNet, places: Sequence[Place], latents: Tensor, actions: Tensor) -> Tensor:
    """Let the places' hands work for a chunk; returns what they change, fp32 ``(k, f, 2)``.

    Args:
        net: the hand net.
        places: of the worlds.
        latents: of the last frames, ``(k, h, w, c)``.
        actions: ``(k, f, a)``.
    """
    loose = Grip.loose(1, net.config.width)
    grips = [loose if place.grip is None else place.grip for place in places]
    grip = Grip(*(torch.cat(parts).to(latents.device) for parts in zip(*grips, strict=True)))
    changes, grip = work(net, grip, latents, actions)
    for index, place in enumerate(places):
        place.grip = Grip(*(part[index : index + 1].cpu() for part in grip))
    return changes


@torch.no_grad()
def predicted_eyes(scene: Scene, places: Sequence[Place], latents: Tensor, actions: Tensor) -> np.ndarray:
    """Return where the body goes, ``float64 (k, f, 5)``.

    Args:
        scene: the nets.
        places: whose pictures are up to date.
        latents: of the last frames, ``(k, h, w, c)``.
        actions: ``(k, f, a)``.
    """
    gaits = [place.gait for place in places if place.gait is not None]
    gait = Gait(*(torch.cat(parts) for parts in zip(*gaits, strict=True)))
    eyes = gait.eyes.numpy()
    near = POOL.map(lambda pair: pair[0].surroundings(pair[1]), zip(places, eyes, strict=True))
    boxes, tints = (np.stack(parts) for parts in zip(*near, strict=True))
    nearby = Nearby(boxes, tints, eyes)
    on_device = Gait(*(part.to(latents.device) for part in gait))
    return walk(scene.body, nearby, on_device, latents, actions).cpu().numpy()
