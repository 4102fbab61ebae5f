"""Stage 4: the body net learns where the eye goes, from recorded poses and what was remembered close by.

It learns by walking: bodies set out from recorded moments and go their own way under the recorded actions, through the
recorded surroundings, and at each frame are told the step that the recorded one took, with what it takes to come back
to it. So it meets its own mistakes and learns to mend them (DAgger, arXiv 1011.0686). A body that has strayed so far
that the recorded step means nothing to it is put back on the path.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft.model.actions import BUTTON_INDEX
from latentcraft.model.body import LEVEL, SPEED_UNIT, BodyConfig, BodyNet, Gait, Motive, from_world, motive_of, to_world
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.train.survey import BodyData

WALKING = [BUTTON_INDEX[name] for name in ("forward", "back", "left", "right")]
JOLT = 0.7
"""Metres up or down, at most, that a body begins off the path."""
SIDEWAYS = 0.05
"""Standard deviation of how far (metres) it does along the ground."""
UNSEEN = 0.25
"""Metres up to which a wrong height is let be: what is remembered is no more exact, and mending it would be trembling.
"""
MENDED = 0.3
"""Share of a wrong place that is mended in a frame."""
QUICKEST = 0.25
"""Metres that are mended in a frame at most."""
STRAYED, STRAYED_SPEED = 0.8, 0.2
"""Metres off the path, and metres a frame of a wrong upward speed, from which on a body is put back."""
STOPPED = 0.03
"""Metres along the ground in a frame up to which one who wants to walk is held up, by a wall."""
DROP = 0.15
"""Metres downward in a frame from which on one falls, and does not just step down."""
EVENTS = (0.5, 0.3, 0.2)
"""Of the bodies that set out before something happens, the shares of going up or down, falling, and being held up. At a
third each, more bodies stopped at walls (3 of 6 for 2), but one in six stopped in the open too."""
CELL_HOLES, BLIND = 0.15, 0.03
"""Shares of columns, and of chunks with all columns, that are forgotten in training."""


@dataclass(frozen=True)
class BodyStageConfig:
    """Training of the body net."""

    steps: int = 1000
    """Times that bodies set out."""
    batch: int = 128
    """Bodies that do."""
    chunks: int = 4
    """Chunks that they walk; each is an optimiser step."""
    episodes: int = 250
    """Episodes that are walked through for moments, see :mod:`latentcraft.model.train.survey`."""
    eventful: float = 0.5
    """Share of bodies that set out where something is about to happen to the recorded one, see :data:`EVENTS`."""
    jolted: float = 0.12
    """Share of bodies that begin at a wrong height."""
    gate_weight: float = 0.6
    """Weight of saying whether there is a step against saying which. At 0.3 some who should stand went on walking."""
    model: BodyConfig = field(default_factory=BodyConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            other_lr=2e-3, weight_decay=0.0, warmup=50, decay_share=0.7, final_scale=0.02, ema=0.995
        )
    )
    """Step sizes."""


class BodyStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "body"

    def __init__(
        self, config: BodyStageConfig, data: BodyData, held_out: BodyData, *, seed: int, dtype: torch.dtype,
        device: str = "cpu", ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Prepare to train on ``data`` and validate on ``held_out``; the net is so small that it stays in fp32."""
        del dtype
        torch.manual_seed(seed)
        self.config, self.seed, self.data, self.held_out, self.device = config, seed, data, held_out, device
        self.ranks = ranks
        self.events = [(kind, share) for kind, share in zip(events(data), EVENTS, strict=True) if len(kind)]
        self.network = BodyNet(config.model).to(device)
        # All by AdamW: orthogonalising such small matrices takes longer than their products.
        self.optimizer = MasterOptimizer(
            self.network, config.optimizer, not_matrices=("",), peers=ranks
        )
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        data, batch, chunks = self.data, self.config.batch, min(self.config.chunks, self.data.moments)
        first = torch.randint(data.moments - chunks + 1, (batch,), generator=generator)
        if self.events:
            drawn = [kind[torch.randint(len(kind), (batch,), generator=generator)] for kind, _ in self.events]
            shares = torch.tensor([share for _, share in self.events])
            which = torch.multinomial(shares, batch, replacement=True, generator=generator)
            event = torch.stack(drawn).gather(0, which[None])[0]
            event = (event - torch.randint(chunks, (batch,), generator=generator)).clamp(0, data.moments - chunks)
            first = torch.where(torch.rand(batch, generator=generator) < self.config.eventful, event, first)
        jolt = torch.randn(batch, 3, generator=generator).double() * SIDEWAYS
        jolt[:, 1] = (2 * torch.rand(batch, generator=generator).double() - 1) * JOLT
        jolt *= (torch.rand(batch, 1, generator=generator) < self.config.jolted).double()
        first, jolt = self.ranks.share(first), self.ranks.share(jolt)
        gait, total, norm = data.gaits(first).shifted(jolt), 0.0, 0.0
        for number in range(chunks):
            index = first + number
            gait = gait if not number else back_on(gait, data.gaits(index), ~data.follows[index])
            seen = self.ranks.share(torch.rand(batch, 1, generator=generator)) >= BLIND
            loss, gait = self._walk(self.network, data, index, gait, seen, generator)
            loss.backward()
            norm, total = self.optimizer.step(step, steps), total + loss.item() / chunks
        return {"loss": total, "norm": norm}

    def _walk(
        self, net: BodyNet, data: BodyData, index: Tensor, gait: Gait, seen: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Gait]:
        """Walk one chunk from the moments ``index``; returns the loss and the bodies after it."""
        nearby, true = data.nearby(index), data.gaits(index)
        latents, losses = data.latents[index].to(self.device), []
        for action, goal in zip(data.actions[index].unbind(1), data.path[index].unbind(1), strict=True):
            after = true.moved(goal, action)
            turns = net.turns(action.to(self.device))
            motive, eyes = motive_of(nearby, gait, latents, action, turns.detach().cpu())
            holes = torch.rand((self.config.batch, motive.columns.shape[1]), generator=generator)
            kept = seen & (self.ranks.share(holes) >= CELL_HOLES)
            said = net(on(motive._replace(columns=motive.columns * kept[..., None]), self.device))
            step, moves = (part.to(self.device) for part in lesson(gait, true, after, eyes))
            wrong = (said.step - step).abs() / SPEED_UNIT
            along = moves[:, 0] * (wrong[:, 0] + wrong[:, 2])
            gates = F.binary_cross_entropy_with_logits(said.moves, moves)
            turned = from_degrees(goal[:, [4, 3]] - true.eyes[:, [4, 3]]).to(self.device) - turns
            losses.append((along + moves[:, 1] * wrong[:, 1]).mean() + self.config.gate_weight * gates
                          + turned.abs().mean())  # fmt: skip
            eyes[:, :3] += to_world(said.taken().detach().cpu().double(), eyes[:, 3])
            eyes[:, 3:] = goal[:, 3:]
            gait, true = gait.moved(eyes, action), after
            gait = back_on(gait, true, strayed(gait, true))
        return torch.stack(losses).mean(), gait

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Walk held-out moments for some chunks; returns mean distances (metres) along the ground and in height from
        the true place, and the share of frames at rest in which the body moved.
        """
        del step, directory
        data, chunks = self.held_out, min(5, self.held_out.moments)
        first = torch.linspace(0, data.moments - chunks, min(512, data.moments - chunks + 1)).long()
        for number in range(1, chunks):
            first = first[data.follows[first + number]]
        if not len(first):
            first, chunks = torch.arange(data.moments), 1
        gait, moved, rest = data.gaits(first), 0, 0
        for number in range(chunks):
            index = first + number
            nearby, true, latents = data.nearby(index), data.gaits(index), data.latents[index].to(self.device)
            for action, goal in zip(data.actions[index].unbind(1), data.path[index].unbind(1), strict=True):
                turns = self.average.turns(action.to(self.device)).cpu()
                motive, eyes = motive_of(nearby, gait, latents, action, turns)
                taken = self.average(on(motive, self.device)).taken().cpu()
                still = (goal[:, :3] - true.eyes[:, :3]).norm(dim=1) < LEVEL
                rest, moved = rest + int(still.sum()), moved + int((still & taken.any(1)).sum())
                eyes[:, :3] += to_world(taken.double(), eyes[:, 3])
                gait, true = gait.moved(eyes, action), true.moved(goal, action)
        missed = (gait.eyes - true.eyes)[:, :3]
        return {
            "height": missed[:, 1].abs().mean().item(), "along": missed[:, [0, 2]].norm(dim=1).mean().item(),
            "trembling": moved / max(rest, 1),
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    def result(self) -> BodyNet:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average


def events(data: BodyData) -> tuple[Tensor, Tensor, Tensor]:
    """Return the moments before going up or down, before falling, and before being held up by a wall."""
    before = torch.cat([data.gait.eyes[:, None], data.path[:, :-1]], 1)
    step = (data.path - before)[..., :3]
    rises, falls = (step[..., 1].abs() > LEVEL).any(1), (step[..., 1] < -DROP).any(1)
    wants = (data.actions[..., WALKING] > 0).any(-1)
    stopped = (wants & (step[..., [0, 2]].norm(dim=-1) < STOPPED)).sum(1) > 1
    return rises.nonzero()[:, 0], falls.nonzero()[:, 0], stopped.nonzero()[:, 0]


def lesson(gait: Gait, true: Gait, after: Gait, eyes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step that bodies should take, fp32 ``(k, 3)`` (right, up, ahead), and whether they should take one,
    along the ground and upward, fp32 ``(k, 2)``.

    Args:
        gait: the bodies.
        true: the recorded ones.
        after: the recorded ones after their step.
        eyes: where the bodies look already, ``(k, 5)``.
    """
    step, off = after.eyes[:, :3] - true.eyes[:, :3], gait.eyes[:, :3] - true.eyes[:, :3]
    moves = torch.stack([step[:, [0, 2]].norm(dim=1) > LEVEL, step[:, 1].abs() > LEVEL], 1)
    mended = (MENDED * off).clamp(-QUICKEST, QUICKEST)
    seen = off[:, 1].abs() > UNSEEN
    # Who lands, lands on the ground, not near it.
    landing = moves[:, 1] & (after.steps[:, 0, 1].abs() > LEVEL) & (gait.steps[:, 0, 1].abs() > LEVEL)
    mended[:, 1] = torch.where(seen | landing, mended[:, 1], 0.0)
    moves[:, 1] |= seen
    return from_world(step - mended, eyes[:, 3]).float(), moves.float()


def strayed(gait: Gait, true: Gait) -> Tensor:
    """Return which bodies are too far off the path, or up or down too differently, to learn from it; ``bool (k,)``."""
    off = (gait.eyes[:, :3] - true.eyes[:, :3]).abs().amax(1) > STRAYED
    return off | ((gait.steps[:, 0, 1] - true.steps[:, 0, 1]).abs() > STRAYED_SPEED + QUICKEST)


def back_on(gait: Gait, true: Gait, which: Tensor) -> Gait:
    """Put some bodies (``bool (k,)``) where the recorded ones are."""
    return Gait(*(
        torch.where(which.view(-1, *[1] * (mine.ndim - 1)), other, mine)
        for mine, other in zip(gait, true, strict=True)
    ))  # fmt: skip


def on(motive: Motive, device: str) -> Motive:
    """Move all of it to ``device``."""
    return Motive(*(part.to(device) for part in motive))


def from_degrees(turn: Tensor) -> Tensor:
    """Return turns the short way round, fp32."""
    return ((turn + 180) % 360 - 180).float()
