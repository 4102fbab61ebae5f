"""``latentcraft env bench``: how many environment steps a second, by world, observation and batch.

Measured is what an agent's loop waits for: ``step`` of the vector environment that ``gymnasium.make_vec`` gives, with
actions drawn before and held for a chunk. Nothing is learned and no policy is asked.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from latentcraft.agents.bench import machine, peak_memory
from latentcraft.agents.learning.moves import MOVES, held_moves
from latentcraft.envs.registration import ENV_IDS
from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.actions import vectors_to_batch
from latentcraft.simulator.protocol import HELD_OUT_SEED

_IDS = {world: env_id for env_id, world in ENV_IDS.items()}


@dataclass(frozen=True)
class EnvBenchConfig:
    """Keys of ``latentcraft env bench``."""

    json: bool | Path | None = None
    """File to write the figures to as JSON as well; ``true`` prints JSON instead of the table."""
    worlds: tuple[Literal["voxel", "dream"], ...] = ("voxel", "dream")
    """``voxel`` (the reference world) and ``dream``."""
    observations: tuple[Literal["rgb", "latent", "none"], ...] = ("rgb", "latent")
    """What is observed, of the last frame of a step."""
    batches: tuple[int, ...] = (1, 4, 16, 64)
    """Games stepped together."""
    seconds: float = 5.0
    """How long each is measured; two steps at least."""
    warmup: int = 1
    """Steps before that, which are not counted: compilation and caches."""
    denoising: int = 4
    """Steps of the dream: 1, 2, 4 or 8."""
    checkpoint: Path | None = None
    """The dream's checkpoint file, whose autoencoder also makes the reference world's latents; null takes the shipped
    one."""
    info_frames: bool = False
    """Draw all frames of a step for the infos, as ``make_vec`` does unless told otherwise; false draws what is
    observed only."""
    threads: int | None = None
    """Threads of the networks; null leaves that to torch. Those of the reference world are NUMBA_NUM_THREADS."""

    def __post_init__(self) -> None:
        if not self.worlds or not self.observations or not self.batches:
            raise UserError("worlds, observations and batches must not be empty")
        if min(self.batches) < 1 or self.seconds <= 0 or self.warmup < 0:
            raise UserError("batches must be 1 or more, seconds above zero and warmup zero or more")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads must be 1 or more, got {self.threads}")


def main(config: EnvBenchConfig) -> int:
    """Run ``latentcraft env bench``."""
    import numba
    import torch

    from latentcraft.model.precision import fast_dtype

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    rows = []
    for world in config.worlds:
        for observation in config.observations:
            for batch in config.batches:
                rows.append(measure(config, world, observation, batch))
                print(f"{world}, {observation}, batch {batch}: {show(rows[-1])} steps/s", file=sys.stderr)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    threads = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    report = {
        "machine": machine() | {"voxel_threads": threads, "precision": str(fast_dtype()).removeprefix("torch.")},
        "settings": settings, "rows": rows, "peak_memory_mb": peak_memory(),
    }  # fmt: skip
    print(json.dumps(report, indent=1) if config.json is True else table(report))
    if isinstance(config.json, Path):
        with replacing(config.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"written to {config.json}")
    return 0


def measure(config: EnvBenchConfig, world: str, observation: str, batch: int) -> dict[str, Any]:
    """Return steps/s of one batch; a batch that does not fit into memory says so instead.

    Raises:
        UserError: a bad checkpoint or number of denoising steps.
    """
    import gymnasium

    row: dict[str, Any] = {"world": world, "observation": observation, "batch": batch}
    rng = np.random.default_rng(0)
    try:
        env = gymnasium.make_vec(
            _IDS[world], num_envs=batch, observation=observation, info_frames=config.info_frames,
            steps=config.denoising, checkpoint=config.checkpoint, max_episode_steps=-1,
        )  # fmt: skip
        try:
            chunk = env.unwrapped.chunk  # type: ignore[attr-defined]
            env.reset(seed=HELD_OUT_SEED)  # the games take the seeds from there on
            times: list[float] = []
            processor = time.process_time()
            for turn in range(config.warmup + 10**9):
                actions = vectors_to_batch(held_moves(rng.integers(len(MOVES), size=batch), chunk))
                if turn == config.warmup:
                    processor = time.process_time()
                began = time.perf_counter()
                env.step(actions)
                if turn >= config.warmup:
                    times.append(time.perf_counter() - began)
                    if len(times) >= 2 and sum(times) >= config.seconds:
                        break
            processor = time.process_time() - processor
        finally:
            env.close()
    except (MemoryError, RuntimeError) as error:  # torch says that it cannot allocate by a RuntimeError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return row | {"not_available": reason}
    steps = batch * len(times)
    return row | {
        "chunk": chunk, "calls": len(times), "steps_per_second": round(steps / sum(times), 2),
        "frames_per_second": round(chunk * steps / sum(times), 1),
        "call_ms_median": round(1000 * float(np.median(times)), 2),
        "call_ms_p95": round(1000 * float(np.percentile(times, 95)), 2),
        "processor_ms_per_step": round(1000 * processor / steps, 3),
    }  # fmt: skip


def show(row: dict[str, Any]) -> str:
    """Return a row's steps/s in words."""
    return "-" if "not_available" in row else f"{row['steps_per_second']:.4g}"


def table(report: dict[str, Any]) -> str:
    """Return worlds and observations by batches, below what the figures depend on."""
    machine, settings, rows = report["machine"], report["settings"], report["rows"]
    cells = {(row["world"], row["observation"], row["batch"]): show(row) for row in rows}
    chunk = next((row["chunk"] for row in rows if "chunk" in row), 4)
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores; torch {machine['torch']} on {machine['device']} with "
        f"{machine['threads']} threads, {machine['precision']}; reference world: {machine['voxel_threads']} threads",
        f"environment steps/s (a step is {chunk} frames of each game), {settings['seconds']:g} s each after "
        f"a warm-up of {settings['warmup']}; denoising steps of the dream: {settings['denoising']}; "
        + ("all frames in the infos" if settings["info_frames"] else "only observed frames are drawn"),
        f"{'games':<20}" + "".join(f"{batch:>10}" for batch in settings["batches"]),
    ]
    for world in settings["worlds"]:
        for seen in settings["observations"]:
            figures = "".join(f"{cells[world, seen, batch]:>10}" for batch in settings["batches"])
            lines.append(f"{world + ', ' + seen:<20}{figures}")
    lines += [
        f"{row['world']}, {row['observation']}, {row['batch']} games: {row['not_available']}"
        for row in rows if "not_available" in row
    ]  # fmt: skip
    if report["peak_memory_mb"] is not None:
        lines.append(f"peak memory {report['peak_memory_mb']:g} MB")
    return "\n".join(lines)
