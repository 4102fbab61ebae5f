"""Stage 10: the motion net learns where in the last picture each coming frame is to be found.

Its teacher is the video itself: the moved picture must look like the frame that came (optical flow without labels, Back
to Basics, arXiv 1608.05842), at four scales, so that a flow that is off by many pixels still learns which way to go.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import Autoencoder
from latentcraft.model.checkpoint import digest
from latentcraft.model.compose import compose
from latentcraft.model.guess import Guess
from latentcraft.model.guesser import Guesser
from latentcraft.model.latents import Clips, LatentDataset
from latentcraft.model.motion import Motion, MotionConfig, judge, sample
from latentcraft.model.objective import Wear, motion_loss, worn
from latentcraft.model.optimizer import MasterOptimizer, OptimizerConfig
from latentcraft.model.scene import Scene
from latentcraft.model.train.ranks import ALONE, Ranks
from latentcraft.model.train.samples import save_rows

SCALES = (1, 2, 4, 8)
"""Sides of the squares of pixels over which pictures are compared."""
OUTSIDE_PRICE = 0.05
"""Loss of a pixel found outside the last picture, where nothing can be compared; else all would be looked for there."""

ROUGHNESS_PRICE = 0.003
"""Loss of neighbouring pixels that are looked for one pixel further apart than they are. An edge of depth is rare and
costs next to nothing; without it the flow was a chequerboard wherever the picture moved fast."""

JUDGING = ("judge", "frame", "verdict")
"""Parts of the net that judge what the others found."""
HAND = "judge_hand"
"""Of those, the ones that judge what the hand did."""
NOT_MATRICES = (
    "action", "look.0", "turn", "flow", "frame", "judge_found", "judge_hidden", "judge_place", "judge_hand.0",
    "judge_hand.4", "verdict",
)  # fmt: skip
"""Weights that Muon leaves alone, see :class:`latentcraft.model.optimizer.MasterOptimizer`."""


@dataclass(frozen=True)
class MotionStageConfig:
    """Training of the motion net."""

    steps: int = 2000
    """Optimiser steps."""
    batch: int = 4
    """Clips a step."""
    chunks: int = 7
    """Chunks of a clip; each but the first is guessed from the one before it, and from what a memory of places made of
    all before."""
    flow_weight: float = 1.0
    """Weight of the moved picture's error; 0 leaves the flow as it is to the bit and trains the judge alone, in
    half the time."""
    only_hand: bool = False
    """Train only what judges where the hand changed something; elsewhere the net stays as it is to the bit. Needs
    ``flow_weight=0`` and ``model.hand=true``."""
    deed_share: float = 0.0
    """Share of clips drawn around something that was dug or placed, besides those that are by chance: the judge can
    learn when a block is about to break."""
    wear_share: float = 0.15
    """Share of pictures whose colours drift, and of those that blur, as dreamed ones do."""
    action_dropout: float = 0.1
    """Share of chunks whose actions are hidden."""
    judge_weight: float = 0.2
    """Weight of the guess's likelihood."""
    model: MotionConfig = field(default_factory=MotionConfig)
    """Shape of the network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(matrix_lr=0.02, other_lr=2e-3, warmup=50, decay_share=0.4, ema=0.995)
    )
    """Step sizes."""

    def __post_init__(self) -> None:
        if self.only_hand and (self.flow_weight or not self.model.hand):
            raise UserError("motion.only_hand=true needs motion.flow_weight=0 and motion.model.hand=true")


def photometric_loss(moved: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Robust (Charbonnier) difference of pictures ``(k, f, 3, H, W)`` at :data:`SCALES`.

    Args:
        moved: the last picture, moved.
        target: the frames that came.
        inside: which pixels were found inside the last picture, ``bool (k, f, H, W)``; the others cost a flat price.
    """
    weight = inside[:, :, None].float()
    error = ((moved - target) * weight).flatten(0, 1)
    total = error.new_zeros(())
    for side in SCALES:
        pooled = F.avg_pool2d(error, side) if side > 1 else error
        # Pooled errors are smaller; the root of the side makes up for about that.
        total = total + side**0.5 * torch.sqrt(pooled.square() + 1e-4).mean()
    return total / len(SCALES) + OUTSIDE_PRICE * (1 - weight).mean()


def roughness(flow: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring flows ``(k, f, H, W, 2)``, in pixels."""
    height = flow.shape[2]
    return height * (flow.diff(dim=2).abs().mean() + flow.diff(dim=3).abs().mean())


class Attempt(NamedTuple):
    """A guess and the pictures behind it."""

    guess: Guess
    moved: Tensor
    """``(k, f, 3, H, W)``, -1 to 1."""
    target: Tensor
    """The same of the truth."""
    photometric: Tensor
    """How much they differ, see :func:`photometric_loss`, and how rough the flow is."""


class MotionStage:
    """See :class:`latentcraft.model.train.loop.Stage`."""

    name = "motion"

    def __init__(
        self, config: MotionStageConfig, data: LatentDataset, held_out: LatentDataset, autoencoder: Autoencoder,
        scene: Scene | None = None, *, seed: int, dtype: torch.dtype, device: str = "cpu", ranks: Ranks = ALONE,
    ):  # fmt: skip
        """Prepare to train on ``data`` and validate on ``held_out``."""
        torch.manual_seed(seed)
        self.config, self.seed, self.data, self.device, self.ranks = config, seed, data, device, ranks
        self.autoencoder, self.scene = autoencoder, scene
        self.grounds = digest(autoencoder) + (digest(scene.depth) if scene is not None else "")
        network = Motion(config.model).to(device)
        if not config.flow_weight:
            for name, parameter in network.named_parameters():
                parameter.requires_grad_(name.startswith(HAND if config.only_hand else JUDGING))
        # Masters are taken in fp32, before the network itself is rounded.
        self.optimizer = MasterOptimizer(
            network, config.optimizer, peers=ranks,
            not_matrices=NOT_MATRICES,
        )  # fmt: skip
        self.network = network.to(dtype=dtype).channels_last()
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.check = held_out.sample(12, config.chunks, config.model.chunk, torch.Generator().manual_seed(seed)).to(
            device
        )

    def attempt(
        self, network: Motion, clips: Clips, past: Tensor, has_actions: Tensor, *, predict: bool = False
    ) -> Attempt:
        """Guess each chunk of ``clips`` but the first from those before it.

        Args:
            network: the motion net.
            clips: ``t`` chunks each.
            past: their first ``t - 1`` as they are shown to the net.
            has_actions: ``bool (b,)``.
            predict: see :meth:`latentcraft.model.guesser.Guesser.along`.
        """
        b, t = past.shape[:2]
        actions = clips.actions[:, 1:]
        last = past[:, :, -1].flatten(0, 1)
        with torch.no_grad():
            picture = self.autoencoder.decode_pixels(last).float().clamp(-1, 1)
            views, seen = Guesser(self.autoencoder, network, self.scene).remembered_along(
                picture,
                past,
                actions,
                has_actions,
                clips.eyes[:, 1:],
                start=clips.eyes[:, 0],
                predict=predict,
            )
        known = has_actions[:, None].expand(b, t).flatten()
        flow = network.find_flow(picture, last, actions.flatten(0, 1), known)
        found = compose(picture, flow, views, seen)
        changes = (clips.changes[:, 1:].nan_to_num() * has_actions[:, None, None, None]).flatten(0, 1)
        guess = judge(self.autoencoder, network, last, found, flow, torch.ones_like(known), changes)
        target, loss = found.pictures[:0], picture.new_zeros(())
        if self.config.flow_weight:
            with torch.no_grad():
                target = self.autoencoder.decode_pixels(clips.latents[:, 1:].flatten(0, 2)).float().clamp(-1, 1)
                target = target.unflatten(0, found.pictures.shape[:2])
            moved, inside = sample(picture, flow.flow)
            loss = photometric_loss(moved, target, inside) + ROUGHNESS_PRICE * roughness(flow.flow)
        return Attempt(guess, found.pictures, target, loss)

    def train_step(self, step: int, steps: int) -> dict[str, float]:
        config = self.config
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        share = self.ranks.share
        clips = self.data.sample(
            config.batch, config.chunks, config.model.chunk, generator, deed_share=config.deed_share,
            mine=self.ranks.mine,
        ).to(self.device)  # fmt: skip
        wear = Wear.draw(config.batch, config.model.channels, config.wear_share, generator)
        past = worn(clips.latents[:, :-1], Wear(*map(share, wear)))
        has_actions = share(torch.rand(config.batch, generator=generator) >= config.action_dropout).to(self.device)
        attempt = self.attempt(self.network, clips, past, has_actions)
        likelihood = motion_loss(attempt.guess, clips.latents[:, 1:].flatten(0, 1))
        (config.flow_weight * attempt.photometric + config.judge_weight * likelihood).backward()
        norm = self.optimizer.step(step, steps)
        return {"loss": attempt.photometric.item(), "likelihood": likelihood.item(), "norm": norm}

    @torch.no_grad()
    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Error of the guess on held-out clips, with true and shuffled actions; sample film strips."""
        clips = self.check
        known = torch.ones(len(clips.latents), dtype=torch.bool, device=self.device)
        truth = clips.latents[:, 1:].flatten(0, 1)

        def missed(attempt: Attempt) -> float:
            return (attempt.guess.mean - truth).square().mean().item()

        attempt = self.attempt(self.average, clips, clips.latents[:, :-1], known, predict=True)
        shuffled = clips._replace(actions=clips.actions.roll(1, 0))
        ratio = missed(self.attempt(self.average, shuffled, clips.latents[:, :-1], known, predict=True)) / missed(
            attempt
        )
        t = self.config.chunks - 1
        shown = [i * t + t - 1 for i in range(min(4, len(known)))]
        target = self.autoencoder.decode(truth[shown, ::3].flatten(0, 1)).unflatten(0, (len(shown), -1)).cpu()
        found = (
            (attempt.moved[shown, ::3].permute(0, 1, 3, 4, 2) * 127.5 + 127.5)
            .round()
            .clamp(0, 255)
            .to(torch.uint8)
            .cpu()
        )
        save_rows([torch.cat([a, b]) for a, b in zip(target, found, strict=True)], directory / f"motion-{step:06d}.png")
        return {"missed": missed(attempt), "shuffled_ratio": ratio}

    def state_dict(self) -> dict[str, Any]:
        return {**self.optimizer.state_dict(), "grounds": self.grounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["grounds"] != self.grounds:
            raise UserError("it learned with another autoencoder or scene than the run now has")
        self.optimizer.load_state_dict(state)

    def result(self) -> Motion:
        """Return the averaged network in evaluation mode."""
        self.optimizer.copy_average_to(self.average)
        return self.average
