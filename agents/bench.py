"""``latentcraft bench``: how fast both worlds and the training are on this machine, printed and as JSON.

Speeds mean little without the machine, so the same run also measures what the machine's matrix products can do.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from latentcraft.agents.bench_table import sizes_table, table
from latentcraft.agents.rollout import pad_to_chunks
from latentcraft.agents.script import load_script
from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start, World
from latentcraft.simulator.worlds import make_world

WARMUP = 8
"""Chunks played before measuring: compilation, caches, and the dream's context window filling up."""
MATMUL_REPEATS = 10
MATMUL_SIZE = 2048
"""Side of the square matrices of the peak measurement; large enough that overheads vanish."""
BATCH = 16
"""Worlds of the batch that is held against a single one."""
PRESETS = ("smoke", "cpu", "gpu", "gpu-large")
COMPILE_TRAINING = False
"""``torch.compile`` takes minutes before the first step; long trainings win it back, a benchmark does not."""


@dataclass(frozen=True)
class BenchConfig:
    """What ``latentcraft bench`` measures and where the figures go."""

    json: bool | Path | None = None
    """File to write the figures to as JSON as well; ``true`` prints JSON instead of the table."""
    checkpoint: Path | None = None
    """The dream's checkpoint file; null takes the shipped one."""
    steps: tuple[int, ...] = (1, 2, 4)
    """Denoising steps to measure the dream at."""
    precisions: tuple[str, ...] = ("auto",)
    """Number formats to measure the dream in: ``fp32``, ``bf16``; ``auto`` is what this machine multiplies fastest."""
    chunks: int = 50
    """Chunks of the dream to measure at each number of steps."""
    batch: bool = True
    """Measure a batch of 16 dreams too, at the largest number of steps and a fifth of the chunks."""
    seconds: float = 3.0
    """How long to measure the reference world."""
    training: bool = True
    """Measure the training speed too."""
    sizes: bool = False
    """Measure nothing; print what the training presets cost in FLOPs and memory."""


def main(config: BenchConfig) -> int:
    """Run ``latentcraft bench``."""
    if config.chunks < 1 or config.seconds <= 0 or not config.steps:
        raise UserError("chunks and seconds must be above zero and steps not empty")
    check_dream(config)
    if config.sizes:
        counted = preset_sizes()
        print(json.dumps(counted, indent=2) if config.json is True else sizes_table(counted))
        write(counted, config.json)
        return 0
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "matmul": matmul_peak,
        "reference": lambda: reference_speed(config.seconds),
    }
    for kind in config.precisions:
        sections[dream_key(kind)] = partial(dream_speed, config, kind)
    if config.training:
        sections["training"] = training_speed
    report: dict[str, Any] = {"machine": machine()}
    for name, measure in sections.items():
        if sys.stderr.isatty():
            print(f"measuring {name}...", end="\x1b[K\r", file=sys.stderr, flush=True)
        report[name] = measure() | {"peak_memory_mb": peak_memory()}
    print(json.dumps(report, indent=2) if config.json is True else table(report))
    write(report, config.json)
    return 0


def write(report: dict[str, Any], path: bool | Path | None) -> None:
    """Write figures as JSON where ``path`` is a file."""
    if isinstance(path, Path):
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {path}")


def dream_key(kind: str) -> str:
    """Return the name of the section with the dream's figures in the number format ``kind``."""
    return "dream" if kind == "auto" else f"dream_{kind}"


def preset_sizes() -> dict[str, Any]:
    """Return what each training preset costs, see :class:`latentcraft.model.train.sizes.Sizes`."""
    from latentcraft.configs.compose import compose_config
    from latentcraft.model.train.sizes import sizes

    counted = {}
    for preset in PRESETS:
        training: Any = compose_config("train", ["data=x", "out=y", f"preset={preset}"])
        counted[preset] = asdict(sizes(training))
    return counted


def check_dream(config: BenchConfig) -> None:
    """Raise a UserError for a checkpoint or a number of steps that does not exist, before anything is measured."""
    from latentcraft.model.sampler import STEPS

    unknown = [steps for steps in config.steps if steps not in STEPS]
    if unknown:
        raise UserError(f"steps must be among {', '.join(map(str, STEPS))}, got {unknown[0]}")
    for kind in config.precisions:
        if kind not in precisions():
            raise UserError(f"precisions must be among {', '.join(precisions())}, got {kind}")
    if config.checkpoint is not None and not config.checkpoint.is_file():
        raise UserError(f"no checkpoint at {config.checkpoint}; give checkpoint=FILE.safetensors")


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, threads, versions."""
    import torch

    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_name() -> str:
    """Return the processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def peak_memory() -> float | None:
    """Return the most memory this process has held so far, MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def matmul_peak() -> dict[str, Any]:
    """Return the best GFLOP/s of a large matrix product in fp32 and bf16."""
    import torch

    from latentcraft.model.precision import matmul_flops

    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {
        f"{name}_gflops": round(matmul_flops(dtype, MATMUL_SIZE, repeats=MATMUL_REPEATS) / 1e9, 1)
        for name, dtype in kinds.items()
    }


def reference_speed(seconds: float) -> dict[str, Any]:
    """Return frames/s of one reference world at its default frame size; its code runs on one core."""
    world = make_world("voxel")
    try:
        times = chunk_times(world, seconds=seconds)
        size = world.spec.frame_size
        return {"frame_size": list(size), "frames_per_second": round(len(times) * world.spec.chunk / sum(times), 1)}
    finally:
        world.close()


def dream_speed(config: BenchConfig, kind: str = "auto") -> dict[str, Any]:
    """Return, for each number of steps, times per chunk with decoding and frames/s at batch 1; then those of a batch.

    Beside each stands ``peak_share``: its products of matrices and convolutions (counted, see
    :mod:`latentcraft.model.train.sizes`) per second, as a share of the peak measured in the same number format.
    """
    from latentcraft.model.checkpoint import SHIPPED, load_checkpoint
    from latentcraft.model.precision import fast_dtype, matmul_flops
    from latentcraft.model.train.sizes import frame_flops
    from latentcraft.simulator.dream.world import DreamWorld

    if config.checkpoint is None and not SHIPPED.is_file():
        # A source tree without the shipped weights still has a machine, a reference world and a training to measure.
        return {"not_available": f"no checkpoint at {SHIPPED}; give checkpoint=FILE.safetensors"}
    dtype = precisions()[kind] or fast_dtype()
    model = load_checkpoint(config.checkpoint, dtype=dtype)
    peak = matmul_flops(dtype, MATMUL_SIZE, repeats=MATMUL_REPEATS)
    chunk = model.dit.config.chunk

    def measured(world: World, steps: int, chunks: int) -> dict[str, Any]:
        times, games = chunk_times(world, chunks=chunks), world.spec.num_worlds
        speed = len(times) * chunk * games / sum(times)
        return {
            "chunk_ms_median": round(1000 * float(np.median(times)), 1),
            "chunk_ms_p95": round(1000 * float(np.percentile(times, 95)), 1),
            "frames_per_second": round(speed, 1),
            "peak_share": round(speed * frame_flops(model, steps) / peak, 3),
        }

    figures: dict[str, Any] = {"frame_size": list(model.frame_size), "chunk": chunk, "batch": 1}
    figures["precision"] = str(dtype).removeprefix("torch.")
    world = DreamWorld(checkpoint=model, steps=config.steps[0])
    for steps in config.steps:
        world.steps = steps
        figures[f"steps_{steps}"] = measured(world, steps, config.chunks)
        figures[f"steps_{steps}"]["frame_gflops"] = round(frame_flops(model, steps) / 1e9, 2)
    if config.batch:
        steps = max(config.steps)
        several = measured(
            DreamWorld(num_worlds=BATCH, checkpoint=model, steps=steps), steps, max(1, config.chunks // 5)
        )
        ratio = several["frames_per_second"] / max(figures[f"steps_{steps}"]["frames_per_second"], 1e-9)
        figures[f"batch_{BATCH}"] = {"steps": steps, "times_one_world": round(ratio, 2), **several}
    return figures


def precisions() -> dict[str, Any]:
    """Return the number formats by name; None stands for the fastest."""
    import torch

    return {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


def training_speed() -> dict[str, Any]:
    """Return frames/s of the training, as ``model.train.bench`` measures it, and how it was run."""
    from latentcraft.model.precision import fast_dtype, matmul_flops
    from latentcraft.model.train import bench

    peaks = [matmul_flops(fast_dtype(), MATMUL_SIZE, repeats=MATMUL_REPEATS)]
    try:
        measured = bench.training_speed(compile=COMPILE_TRAINING)
    except RuntimeError as error:  # too little memory
        return {"not_available": str(error).splitlines()[0]}
    peaks.append(matmul_flops(fast_dtype(), MATMUL_SIZE, repeats=MATMUL_REPEATS))
    peak = max(peaks)  # a machine that is shared has slow moments, which would flatter
    return {
        "frames_per_second": round(measured["frames_per_second"], 1),
        "noised_frames_per_second": round(measured["noised_frames_per_second"], 1),
        "step_seconds": round(measured["step_seconds"], 3),
        "peak_share": round(measured["step_flops"] / measured["step_seconds"] / peak, 3),
        "loading_share": round(measured["loading_share"], 5),
        "parameters": int(measured["parameters"]),
        "precision": str(fast_dtype()).removeprefix("torch."),
        "compiled": COMPILE_TRAINING,
        "bootstrap_steps": False,
    }


def chunk_times(world: World, *, chunks: int | None = None, seconds: float = float("inf")) -> list[float]:
    """Play the tour in ``world`` round and round; return the time of each chunk of all games after the warm-up."""
    actions = pad_to_chunks(load_script("tour", chunk=world.spec.chunk).actions, world.spec.chunk)
    parts = actions.reshape(-1, world.spec.chunk, actions.shape[-1])
    games = world.spec.num_worlds
    world.reset([Start(seed=HELD_OUT_SEED + game) for game in range(games)])
    turns = iter(range(10**9))

    def step() -> None:
        world.step(np.repeat(parts[next(turns) % len(parts)][None], games, 0))

    for _ in range(WARMUP):
        step()
    return _repeat(step, seconds, chunks)


def _repeat(call: Callable[[], Any], seconds: float, times: int | None = None) -> list[float]:
    """Call until ``seconds`` have passed or ``times`` calls were made; return the time of each call."""
    durations: list[float] = []
    began = last = time.perf_counter()
    while last - began < seconds and (times is None or len(durations) < times):
        call()
        now = time.perf_counter()
        durations.append(now - last)
        last = now
    return durations
