"""What the stages of a run share: where they begin, what they learn from, what is done so far."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from latentcraft.errors import UserError
from latentcraft.model.checkpoint import WorldModel
from latentcraft.model.latents import LatentDataset
from latentcraft.model.train.config import TrainConfig
from latentcraft.model.train.loop import LoopConfig, Progress, Stage, run_stage, saved_step
from latentcraft.model.train.ranks import Ranks
from latentcraft.model.train.take_over import take_over


class Stopped(Exception):
    """The stage ``stop_after`` is done."""


class Episodes(NamedTuple):
    """Recorded episodes; of each pair the first part is learned from, the second held out."""

    paths: tuple[list[Path], list[Path]]
    """As they were recorded."""
    files: tuple[list[Path], list[Path]]
    """Encoded."""
    data: tuple[LatentDataset, LatentDataset]
    """Those as long as a clip, in memory; where none of the second part is, the first stands in for it."""


def some(paths: list[Path], most: int) -> list[Path]:
    """Return about as many of ``paths`` as ``most``, and no more, spread evenly."""
    return paths[:: -(-len(paths) // most)]


@dataclass
class Course:
    """One run as one process sees it."""

    config: TrainConfig
    ranks: Ranks
    dtype: torch.dtype
    device: str
    begun: WorldModel | None
    """The checkpoint it begins with."""
    done: dict[str, Progress] = field(default_factory=dict)
    """Stages that were run."""
    inherited: set[str] = field(default_factory=set)
    """Stages whose weights :attr:`begun` gave."""

    @property
    def alike(self) -> dict[str, Any]:
        """Arguments that all stages take."""
        return {"seed": self.config.seed, "dtype": self.dtype, "device": self.device, "ranks": self.ranks}

    @property
    def quiet(self) -> bool:
        """Whether another process speaks for this one."""
        return not self.ranks.first

    def kept(self, name: str) -> bool:
        """Whether stage ``name`` is taken from :attr:`begun` as it is."""
        return name in self.config.keep

    def learns(self, name: str) -> bool:
        """Whether stage ``name`` is to be trained here at all."""
        return not self.kept(name) and getattr(self.config, name).steps > 0

    def learned(self, name: str) -> bool:
        """Whether stage ``name`` has made all its steps in an earlier run, so that it needs nothing to learn from."""
        return saved_step(name, self.config.out) >= getattr(self.config, name).steps

    def earlier(self, name: str) -> Any:
        """Return the net ``name`` of the scene that the run begins with, None where it has none.

        Raises:
            UserError: it is to be kept and there is none.
        """
        scene = None if self.begun is None else self.begun.scene
        net = None if scene is None else getattr(scene, name)
        if self.kept(name) and net is None:
            raise UserError(f"keep={name}: {self.config.begin} has no such net; leave it out of keep to train one")
        return net

    def train(self, stage: Stage) -> None:
        """Run ``stage`` to its last step."""
        config = self.config
        loop = LoopConfig(
            getattr(config, stage.name).steps, config.save_seconds, sample_every=config.sample_every,
            max_seconds=config.max_seconds,
        )  # fmt: skip
        self.done[stage.name] = run_stage(stage, loop, config.out, self.ranks)

    def train_from(self, stage: Stage, known: nn.Module | None) -> None:
        """Run ``stage`` to its last step from the network ``known`` on, where there is one; one that is to be kept is
        done when it has begun with that.

        Raises:
            UserError: it is to be kept and ``known`` is of another shape.
        """
        begin = self.config.begin
        if known is not None and take_over(known, stage):
            self.inherited.add(stage.name)
            lost = next((name for name in known.state_dict() if name not in stage.network.state_dict()), None)
            if lost is not None and self.kept(stage.name):
                raise UserError(
                    f"keep={stage.name}: {begin} has {lost}, which would be lost: the configured net has no such"
                    f" part; give {stage.name}.model the shape that it was trained with"
                )
        elif self.kept(stage.name):
            raise UserError(f"keep={stage.name}: {begin} has no such net of the shape that is configured")
        if not self.kept(stage.name):
            self.train(stage)

    def check_stop(self, name: str) -> None:
        """Raise Stopped if the run ends after stage ``name``."""
        if self.config.stop_after == name:
            raise Stopped

    def trained(self, stage: Stage, known: nn.Module | None) -> Any:
        """Return the net that ``stage`` ends with; see :meth:`train_from`.

        Raises:
            Stopped: the run ends after it.
        """
        self.train_from(stage, known)
        self.check_stop(stage.name)
        return stage.result()  # type: ignore[attr-defined]
