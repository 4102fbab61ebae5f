"""Study 2, action following: an inverse dynamics network reads the played actions back from a world's frames.

Two ways of playing:

- *Rollout*: held-out games from their seeds, the explorer's actions, read over the whole length; scores also by time,
  since a dream that drifts may stop obeying.
- *MineWorld's protocol* (arXiv 2504.08388): clips of one real frame and 15 generated ones. The real frames are taken
  along the reference world's own course of the same games, and the world starts from such a frame alone, as from a
  picture. A world that cannot start from a picture (all those made of the reference world, whose frames do not depend
  on what was seen before) has its clips cut out of its rollout; the network then sees 16 of its frames and no more.

How far the figures stand beside MineWorld's: same length of clips, same groups, same averages, same camera bins. What
differs: a voxel world drawn at 96x160 instead of Minecraft, a scripted explorer instead of people, a small network
trained on this world instead of VPT's (half a billion parameters), which is shown the real frame too (MineWorld's gets
the 15 generated ones), and no ``drop``.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from latentcraft.errors import UserError
from latentcraft.simulator.fidelity.action_scores import mineworld_figures, score_figures
from latentcraft.simulator.fidelity.figures import Column, Figure, Subject
from latentcraft.simulator.fidelity.inverse_dynamics import (
    READ_BUTTONS,
    SHIPPED,
    InverseDynamics,
    Reader,
    Reading,
    load_inverse_dynamics,
)
from latentcraft.simulator.fidelity.replay import make_subject
from latentcraft.simulator.fidelity.rollout import Played, Rollout
from latentcraft.simulator.protocol import TICKS_PER_SECOND, Start, World

CLIP_TICKS = 15
"""Generated frames in one of MineWorld's clips."""
HORIZONS = (1.0, 4.0, 12.0)
"""Seconds; scores by time are of the ticks from one horizon to the next."""
NOISE_STRIDE = 1_000_000
"""Between the noise seeds of a game's clips: far enough that no two games share one."""
PUBLISHED = {
    "Oasis (500M)": {"precision": 0.49, "recall": 0.44, "f1": 0.41, "camera": 2.60},
    "MineWorld (300M)": {"precision": 0.72, "recall": 0.71, "f1": 0.70, "camera": 1.03},
    "MineWorld (1.2B)": {"precision": 0.76, "recall": 0.73, "f1": 0.73, "camera": 1.02},
}
"""MineWorld's own table 1, on Minecraft recordings of people (VPT), to stand beside the ``mineworld_`` columns."""
SECONDS = {"quick": 4.0, "full": 12.0}
"""Length of the rollouts in each mode, for an eighth or so of its time."""


def shipped_digest() -> str:
    """Return a short name of the shipped network's file, empty if it is missing: figures depend on it."""
    return hashlib.sha256(SHIPPED.read_bytes()).hexdigest()[:16] if SHIPPED.is_file() else ""


@dataclass(frozen=True)
class ActionPlan:
    """What is played."""

    seeds: tuple[int, ...]
    """Held-out games."""
    actions: np.ndarray
    """``float32 (b, T, 20)``: played in the games of ``seeds`` from the first tick after ``reset``."""
    clips: int
    """MineWorld clips of each game, evenly spaced over it."""
    network: str = field(default_factory=shipped_digest)
    """Which network reads."""

    def __post_init__(self) -> None:
        if self.actions.ndim != 3 or len(self.actions) != len(self.seeds):
            raise UserError(f"actions {self.actions.shape} do not fit {len(self.seeds)} games")
        if self.actions.shape[1] <= CLIP_TICKS:
            raise UserError(f"{self.actions.shape[1]} ticks are too few for clips of {CLIP_TICKS}; play longer")

    @classmethod
    def quick(cls, seeds: tuple[int, ...], actions: np.ndarray) -> "ActionPlan":
        """Return the plan of ``mode=quick``."""
        return cls(seeds, actions, clips=2)

    @classmethod
    def full(cls, seeds: tuple[int, ...], actions: np.ndarray) -> "ActionPlan":
        """Return the plan of ``mode=full``."""
        return cls(seeds, actions, clips=6)

    def looks(self, chunk: int) -> list[int]:
        """Return the ticks whose frames are wanted: the end of the warm-up and all that follow."""
        return list(range(1 - chunk, self.actions.shape[1] + 1))

    def clip_starts(self) -> list[int]:
        """Return the ticks at which the clips of every game begin: evenly spaced, the first at 0, all within it."""
        last = self.actions.shape[1] - CLIP_TICKS
        return sorted({int(first) for first in np.linspace(0, last, self.clips)})


ACTION_COLUMNS = [
    Column("f1", "F1 of the buttons", better="higher"),
    Column("precision", "precision of the buttons", better="higher"),
    Column("recall", "recall of the buttons", better="higher"),
    Column("camera_median", "camera error while turning, median", "°", "lower"),
    Column("camera_mean", "camera error while turning, mean", "°", "lower"),
    Column("camera_rest", "camera error at rest, mean", "°", "lower"),
    Column("mineworld_f1", "MineWorld F1", better="higher"),
    Column("mineworld_precision", "MineWorld precision", better="higher"),
    Column("mineworld_recall", "MineWorld recall", better="higher"),
    Column("mineworld_camera", "MineWorld camera L1", "bins", "lower"),
    *(Column(f"f1_until@{end:g}s", f"F1 from the time before, {end:g} s", better="higher") for end in HORIZONS),
    *(
        Column(f"camera_until@{end:g}s", f"Camera error from the time before, {end:g} s", "°", "lower")
        for end in HORIZONS
    ),
    *(
        Column(f"button_{score}@{button}", f"{title} by button, {button}", better="higher")
        for score, title in (("f1", "F1"), ("precision", "Precision"), ("recall", "Recall"))
        for button in READ_BUTTONS
    ),
]
ACTION_NOTE = (
    "An inverse dynamics network reads the played actions back from the frames. Its row for the reference world is its "
    "own ceiling: what it misses there (sneaking on the spot, a jump held in the air) no picture shows. F1, precision "
    "and recall of the buttons are plain means over those of the nine buttons that were held at all; camera errors are "
    "degrees a tick. The MineWorld figures follow arXiv 2504.08388: clips of 1 real frame and 15 generated ones, "
    "opposite buttons as one class, averages over classes with 'none' among them, camera errors in VPT's 11 bins. "
    + "; ".join(f"{name} F1 {found['f1']:.2f}, L1 {found['camera']:.2f}" for name, found in PUBLISHED.items())
    + " are that paper's own, on recordings of people playing Minecraft; here a scripted explorer plays a plainer "
    "world and a network made for it reads, without MineWorld's group 'drop'. Worlds made of the reference cannot "
    "start from one picture: their clips are cut from their rollouts."
)


def action_study(
    subject: Subject, plan: ActionPlan, *, network: InverseDynamics | None = None, rollout: Rollout | None = None
) -> dict[str, Figure]:
    """Measure how well ``subject`` follows actions.

    Args:
        subject: the world under test.
        plan: what to play.
        network: what reads the frames; None takes the shipped one.
        rollout: the plan's games, where others look at them too and perhaps for longer; None plays them for this study.

    Returns:
        Figures by the keys of :data:`ACTION_COLUMNS`; times beyond the plan's length are missing.
    """
    network = network or load_inverse_dynamics()
    rollout = rollout or Rollout(plan.seeds, plan.actions)
    rollout.want(plan.looks)
    played = rollout.of(subject)
    features = read_rollout(played, plan, network)
    world = make_subject(subject, len(plan.seeds))
    try:
        real = rollout.true(played.spec.frame_size, played.spec.chunk).at(plan.clip_starts())
        parts = read_from_pictures(world, plan, network, real)
    finally:
        world.close()
    firsts = plan.clip_starts()
    if parts is None:
        parts = [features[:, first : first + CLIP_TICKS] for first in firsts]
    clips = np.concatenate([plan.actions[:, first : first + CLIP_TICKS] for first in firsts], 1)
    figures = mineworld_figures(_end_to_end([network.decide(part) for part in parts]), list(clips))
    return scores_by_time(network.decide(features), plan.actions) | figures


def read_rollout(played: Played, plan: ActionPlan, network: InverseDynamics) -> Tensor:
    """Return the features of every tick ``(b, T, d)`` of the plan's games as they were played."""
    reader, chunk = Reader(network), played.spec.chunk
    ticks = plan.looks(chunk)
    reader.start(played.at(ticks[:chunk]))
    for first in range(chunk, len(ticks), chunk):
        reader.add(played.at(ticks[first : first + chunk]))
    return reader.features()


def read_from_pictures(
    world: World, plan: ActionPlan, network: InverseDynamics, real: np.ndarray
) -> list[Tensor] | None:
    """Return the features of every clip ``(b, 15, d)``, each begun from one of ``real uint8 (b, clips, H, W, 3)``.

    None if ``world`` cannot start from a picture.
    """
    parts = []
    with tempfile.TemporaryDirectory(prefix="latentcraft-") as folder:
        for clip, first in enumerate(plan.clip_starts()):
            starts = []
            for game, seed in enumerate(plan.seeds):
                picture = Path(folder) / f"{game}.png"
                Image.fromarray(real[game, clip]).save(picture)
                # Every clip has noise of its own, the same in every evaluation.
                starts.append(Start(media=picture, noise_seed=seed + NOISE_STRIDE * clip))
            try:
                world.reset(starts)
            except UserError:
                return None
            reader = Reader(network)
            reader.start(real[:, clip, None])
            for part in _chunks(plan.actions[:, first : first + CLIP_TICKS], world.spec.chunk):
                reader.add(world.step(part).frames)
            parts.append(reader.features()[:, :CLIP_TICKS])
    return parts


def _chunks(actions: np.ndarray, chunk: int) -> Iterator[np.ndarray]:
    """Yield actions ``(b, T, 20)`` in chunks, the last one filled up with no-ops."""
    padded = np.pad(actions, [(0, 0), (0, -actions.shape[1] % chunk), (0, 0)])
    yield from np.split(padded, padded.shape[1] // chunk, 1) if padded.shape[1] else ()


def scores_by_time(reading: Reading, actions: np.ndarray) -> dict[str, Figure]:
    """Return our scores of whole games, and F1 and camera error from one horizon to the next."""
    figures = score_figures(_end_to_end([reading]), list(actions))
    before = 0
    for end in HORIZONS:
        after = round(end * TICKS_PER_SECOND)
        if after > actions.shape[1]:
            break
        part = Reading(reading.held[:, before:after], reading.camera[:, before:after])
        here = score_figures(_end_to_end([part]), list(actions[:, before:after]), brief=True)
        figures[f"f1_until@{end:g}s"] = here["f1"]
        figures[f"camera_until@{end:g}s"] = here["camera_median"]
        before = after
    return figures


def _end_to_end(readings: list[Reading]) -> list[Reading]:
    """Put the readings of the same ``b`` games end to end; returns one reading a game."""
    held = np.concatenate([reading.held for reading in readings], 1)
    camera = np.concatenate([reading.camera for reading in readings], 1)
    return [Reading(one, turned) for one, turned in zip(held, camera, strict=True)]
