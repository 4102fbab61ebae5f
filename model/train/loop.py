"""The loop every stage shares: resume, step, log, sample, save; killed at any moment it goes on from its last save."""

import io
import math
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from tqdm import tqdm

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.optimizer import MasterOptimizer
from latentcraft.model.train.journal import Journal
from latentcraft.model.train.ranks import ALONE, Ranks

PATIENCE = 10
"""Bad losses in a row after which a run counts as diverged."""
WORST_LOSS = 10.0
"""A loss so many times the running mean is a bad one."""
ROLLBACKS = 3
"""Times a run goes back to its last good state, each time with half the learning rate, before it gives up."""


@dataclass(frozen=True)
class LoopConfig:
    """How a stage runs, whatever it trains."""

    steps: int
    """Optimiser steps in all."""
    save_seconds: float = 180.0
    """Wall-clock time between saves of the whole training state."""
    log_every: int = 20
    """Steps between log lines."""
    sample_every: int = 500
    """Steps between validation and sample images."""
    max_seconds: float | None = None
    """Wall-clock limit of this run of the stage; at the limit it saves and stops early. None means no limit."""


class Stage(Protocol):
    """What a stage gives the loop. A step is a function of its number and of how many there are in all, so that a
    resumed run repeats an unbroken one. Its figures are of this process' share of the batch.
    """

    name: str
    optimizer: MasterOptimizer

    @property
    def network(self) -> nn.Module: ...

    @property
    def average(self) -> nn.Module: ...

    def train_step(self, step: int, steps: int) -> dict[str, float]: ...

    def validate(self, step: int, directory: Path) -> dict[str, float]:
        """Try ``average``, which is up to date, on held-out episodes."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Interrupted(UserError):
    """Training stopped before its last step; the state is saved and the same command goes on."""


@dataclass
class Progress:
    """Where a stage stands; saved with it."""

    step: int = 0
    seconds: float = 0.0
    """Wall-clock training time over all runs."""
    rollbacks: int = 0
    """Times it diverged and went back."""


def run_stage(stage: Stage, config: LoopConfig, out: Path, ranks: Ranks = ALONE) -> Progress:
    """Train ``stage`` to ``config.steps``, resuming from ``out/NAME.state.pt``.

    Writes ``NAME.state.pt`` (atomically), ``NAME.log.jsonl``, TensorBoard's files where that is installed, and whatever
    the stage samples into ``out/samples``. Where the loss is no longer finite or has exploded it goes back to the last
    saved state and on from there with half the learning rate.

    Of several processes the first one writes, and they decide as one: losses are averaged before they are judged, a
    signal to any of them stops all after the same step, and the first one's clock says when to save. They must all see
    ``out``, of which all read the state. What is sharded is whole on disk.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or ``max_seconds``; the state was saved first.
        UserError: the state cannot be read or written, or the run diverged again and again.
    """
    state_path, samples = out / f"{stage.name}.state.pt", out / "samples"
    journal = Journal(out, stage.name) if ranks.first else None
    progress = _resume(stage, state_path)
    if ranks.told(progress.step) != progress.step:
        raise UserError(f"the processes do not see the same {state_path}; out= must be on a disk that all share")
    began, done_before, bad = time.monotonic(), progress.seconds, 0
    started = last_save = began
    sums: dict[str, float] = {}
    with _stop_signal() as stopped, tqdm(
        total=config.steps, initial=progress.step, desc=stage.name, unit="step", mininterval=2.0,
        disable=not ranks.first,
    ) as bar:  # fmt: skip
        while progress.step < config.steps:
            losses = stage.train_step(progress.step, config.steps)
            losses = ranks.means(losses)
            progress.step += 1
            progress.seconds = done_before + time.monotonic() - began
            bar.update()
            good = all(math.isfinite(value) for value in losses.values())
            loss = losses.get("loss", 0.0)
            bad = 0 if good and loss <= WORST_LOSS * sums.get("loss", loss) else bad + 1
            if bad >= PATIENCE:
                progress = _roll_back(stage, progress, state_path)
                bad, sums = 0, {}
                done_before, began = progress.seconds, time.monotonic()
                bar.reset()
                bar.update(progress.step)
                continue
            for key, value in losses.items():
                if math.isfinite(value) and not bad:
                    sums[key] = 0.95 * sums.get(key, value) + 0.05 * value
            last = progress.step == config.steps
            line = {"step": progress.step, "seconds": round(progress.seconds, 1)}
            if journal is not None and (progress.step % config.log_every == 0 or last):
                bar.set_postfix({key: f"{value:.4f}" for key, value in sums.items()}, refresh=False)
                journal.write(line | {key: round(value, 5) for key, value in sums.items()})
            if progress.step % config.sample_every == 0 or last:
                stage.optimizer.copy_average_to(stage.average)  # by all: each may have but its share of it
            if journal is not None and (progress.step % config.sample_every == 0 or last):
                figures = stage.validate(progress.step, samples)
                journal.write(line | {key: round(value, 5) for key, value in figures.items()})
            now = time.monotonic()
            late = ranks.first and config.max_seconds is not None and now - started > config.max_seconds
            unsaved = ranks.first and now - last_save > config.save_seconds
            stop, overdue, due = ranks.anywhere(bool(stopped), late, unsaved)
            # What diverges is not saved over what did not.
            if last or stop or overdue or (not bad and due):
                state = stage.state_dict()  # by all, likewise
                if ranks.first:
                    _save(state, progress, state_path)
                last_save = time.monotonic()
            if stop or (overdue and not last):
                raise Interrupted(
                    f"{stage.name} stopped at step {progress.step} of {config.steps}, saved in {state_path}; "
                    "the same command goes on from there"
                )
    return progress


def saved_step(name: str, out: Path) -> int:
    """Return how many steps of stage ``name`` are saved in ``out``; 0 if none or unreadable."""
    try:
        return int(torch.load(out / f"{name}.state.pt", weights_only=True, mmap=True)["progress"]["step"])
    except Exception:  # absent, torn or foreign: the stage itself says so when it resumes
        return 0


def _resume(stage: Stage, path: Path) -> Progress:
    if not path.exists():
        return Progress()
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        stage.load_state_dict(state["stage"])
    except Exception as error:  # torch raises many kinds for a torn or foreign file
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot resume from {path} ({reason}); move it away to start this stage anew") from error
    progress = Progress(**state["progress"])
    stage.optimizer.ease = 0.5**progress.rollbacks
    return progress


def _roll_back(stage: Stage, progress: Progress, path: Path) -> Progress:
    """Load the last saved state and halve the learning rate.

    Raises:
        UserError: nothing was saved, or it has diverged too often.
    """
    what = f"{stage.name} diverged at step {progress.step}: its losses are not finite or many times what they were"
    if progress.rollbacks >= ROLLBACKS or not path.exists():
        where = f"the last good state is {path}" if path.exists() else "nothing was saved yet"
        raise UserError(f"{what}; {where}, lower the learning rate")
    again = replace(_resume(stage, path), rollbacks=progress.rollbacks + 1)
    stage.optimizer.ease = 0.5**again.rollbacks
    warnings.warn(f"{what}; back to step {again.step} with half the learning rate", stacklevel=3)
    return again


def _save(state: dict[str, Any], progress: Progress, path: Path) -> None:
    buffer = io.BytesIO()  # through bytes, so that a full disk is an OSError like any other
    torch.save({"stage": state, "progress": vars(progress)}, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


@contextmanager
def _stop_signal() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of breaking a step in the middle."""
    received: list[int] = []
    try:
        previous = {kind: signal.signal(kind, lambda number, _: received.append(number))
                    for kind in (signal.SIGINT, signal.SIGTERM)}  # fmt: skip
    except ValueError:  # not the main thread: whoever runs us there handles signals
        yield received
        return
    try:
        yield received
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)
