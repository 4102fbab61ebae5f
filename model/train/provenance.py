"""Where a checkpoint comes from: what it learned from, for how long, on which machine."""

import platform
import time
from typing import Any

import torch

from latentcraft import __version__
from latentcraft.model.bank import Bank
from latentcraft.model.latents import LatentDataset
from latentcraft.model.tasks import TASKS
from latentcraft.model.train.config import STAGES
from latentcraft.model.train.loop import Progress
from latentcraft.model.train.ranks import Ranks


def provenance_of(
    data: LatentDataset, before: dict[str, Any], done: dict[str, Progress], inherited: set[str], bank: Bank | None,
    dtype: torch.dtype, ranks: Ranks,
) -> dict[str, Any]:  # fmt: skip
    """Return what a checkpoint tells of its run, as JSON values.

    Args:
        data: what the run learned from.
        before: provenance of the checkpoint it began with, empty if there is none.
        done: its stages.
        inherited: stages whose weights that checkpoint gave.
        bank: recorded places, if there are any.
        dtype: number format.
        ranks: its processes.
    """
    return {
        "version": __version__,
        # The largest set any part of it learned from.
        "frames": max(len(data.latents), before.get("frames", 0)),
        "tasks": learned_tasks(data.task.unique().tolist(), before),
        **effort(done, before, inherited),
        "bank_frames": 0 if bank is None else bank.config.frames,
        "machine": f"{platform.processor() or platform.machine()}, {machine(ranks)}, {dtype}",
        "date": time.strftime("%Y-%m-%d"),
    }


def machine(ranks: Ranks) -> str:
    """Return how many threads train, and in how many processes."""
    several = f"{ranks.count} processes, " if ranks.count > 1 else ""
    return f"{several}{torch.get_num_threads()} threads"


def learned_tasks(numbers: list[int], before: dict[str, Any]) -> list[str]:
    """Return the names of the tasks that a run's heads have seen, those of the checkpoint it began with included."""
    earlier = before.get("tasks", [])
    return [task for number, task in enumerate(TASKS) if number in numbers or task in earlier]


def effort(done: dict[str, Progress], before: dict[str, Any], inherited: set[str]) -> dict[str, int]:
    """Return the steps and seconds that went into each stage's network, those of the checkpoint it began with
    (``before``, its provenance) included where its weights were taken over.
    """
    totals = {}
    for name in STAGES:
        own = done.get(name, Progress())
        for key, value in (("steps", own.step), ("seconds", own.seconds)):
            earlier = before.get(f"{name}_{key}", 0) if name in inherited else 0
            if own.step or earlier:
                totals[f"{name}_{key}"] = round(value + earlier)
    return totals
