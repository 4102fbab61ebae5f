"""``latentcraft bench``: how fast both worlds and the training are on this machine, printed and as JSON.

Speeds mean little without the machine, so the same run also measures what the machine's matrix products can do.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
    chunks: int = 50
    """Chunks of the dream to measure at each number of steps."""
    seconds: float = 3.0
    """How long to measure the reference world."""
    training: bool = True
    """Measure the training speed too."""


def main(config: BenchConfig) -> int:
    """Run ``latentcraft bench``."""
    if config.chunks < 1 or config.seconds <= 0 or not config.steps:
        raise UserError("chunks and seconds must be above zero and steps not empty")
    check_dream(config)
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "matmul": matmul_peak,
        "reference": lambda: reference_speed(config.seconds),
        "dream": lambda: dream_speed(config),
    }
    if config.training:
        sections["training"] = training_speed
    report: dict[str, Any] = {"machine": machine()}
    for name, measure in sections.items():
        if sys.stderr.isatty():
            print(f"measuring {name}...", end="\x1b[K\r", file=sys.stderr, flush=True)
        report[name] = measure() | {"peak_memory_mb": peak_memory()}
    print(json.dumps(report, indent=2) if config.json is True else table(report))
    if isinstance(config.json, Path):
        with replacing(config.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {config.json}")
    return 0


def check_dream(config: BenchConfig) -> None:
    """Raise a UserError for a checkpoint or a number of steps that does not exist, before anything is measured."""
    from latentcraft.model.sampler import STEPS

    unknown = [steps for steps in config.steps if steps not in STEPS]
    if unknown:
        raise UserError(f"steps must be among {', '.join(map(str, STEPS))}, got {unknown[0]}")
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


def dream_speed(config: BenchConfig) -> dict[str, Any]:
    """Return, for each number of steps, times per chunk with decoding and frames/s at batch 1."""
    from latentcraft.model.checkpoint import SHIPPED

    if config.checkpoint is None and not SHIPPED.is_file():
        # A source tree without the shipped weights still has a machine, a reference world and a training to measure.
        return {"not_available": f"no checkpoint at {SHIPPED}; give checkpoint=FILE.safetensors"}
    world: Any = make_world("dream", checkpoint=config.checkpoint, steps=config.steps[0])
    try:
        figures: dict[str, Any] = {"frame_size": list(world.spec.frame_size), "chunk": world.spec.chunk, "batch": 1}
        figures["precision"] = str(next(world.model.dit.parameters()).dtype).removeprefix("torch.")
        for steps in config.steps:
            world.steps = steps
            times = chunk_times(world, chunks=config.chunks)
            figures[f"steps_{steps}"] = {
                "chunk_ms_median": round(1000 * float(np.median(times)), 1),
                "chunk_ms_p95": round(1000 * float(np.percentile(times, 95)), 1),
                "frames_per_second": round(len(times) * world.spec.chunk / sum(times), 1),
            }
        return figures
    finally:
        world.close()


def training_speed() -> dict[str, Any]:
    """Return frames/s of the training, as ``model.train.bench`` measures it, and how it was run."""
    from latentcraft.model.precision import fast_dtype
    from latentcraft.model.train import bench

    try:
        measured = bench.training_speed(compile=COMPILE_TRAINING)
    except RuntimeError as error:  # too little memory
        return {"not_available": str(error).splitlines()[0]}
    return {
        "frames_per_second": round(measured["frames_per_second"], 1),
        "noised_frames_per_second": round(measured["noised_frames_per_second"], 1),
        "step_seconds": round(measured["step_seconds"], 3),
        "parameters": int(measured["parameters"]),
        "precision": str(fast_dtype()).removeprefix("torch."),
        "compiled": COMPILE_TRAINING,
        "bootstrap_steps": False,
    }


def chunk_times(world: World, *, chunks: int | None = None, seconds: float = float("inf")) -> list[float]:
    """Play the tour in ``world`` (one game) round and round; return the time of each chunk after the warm-up."""
    actions = pad_to_chunks(load_script("tour", chunk=world.spec.chunk).actions, world.spec.chunk)
    parts = actions.reshape(-1, world.spec.chunk, actions.shape[-1])
    world.reset([Start(seed=HELD_OUT_SEED)])
    turns = iter(range(10**9))

    def step() -> None:
        world.step(parts[next(turns) % len(parts)][None])

    for _ in range(WARMUP):
        step()
    return _repeat(step, seconds, chunks)


def table(report: dict[str, Any]) -> str:
    """Return the report as lines of name and figures."""
    machine, rows = report["machine"], []
    rows.append(("machine", f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads"))
    rows.append(("software", f"torch {machine['torch']} on {machine['device']}, Python {machine['python']}"))
    peaks = report["matmul"]
    rows.append(("matrix product", f"{peaks['fp32_gflops']:g} GFLOP/s fp32, {peaks['bf16_gflops']:g} GFLOP/s bf16"))
    reference = report["reference"]
    height, width = reference["frame_size"]
    rows.append(("reference world", f"{reference['frames_per_second']:g} frames/s, {width}x{height}, one core"))
    dream = report["dream"]
    if "not_available" in dream:
        rows.append(("dream", f"not available: {dream['not_available']}"))
    for name, figures in dream.items():
        if name.startswith("steps_"):
            rows.append((
                f"dream, {name[6:]} steps".replace(" 1 steps", " 1 step"),
                f"{figures['frames_per_second']:g} frames/s; a chunk of {dream['chunk']} frames takes "
                f"{figures['chunk_ms_median']:g} ms (p95 {figures['chunk_ms_p95']:g} ms), {dream['precision']}",
            ))  # fmt: skip
    if "training" in report:
        rows.append(("training", training_row(report["training"])))
    memory = [(name, report[name].get("peak_memory_mb")) for name in report if name != "machine"]
    rows.append(("peak memory", ", ".join(f"{mb:g} MB after {name}" for name, mb in memory if mb) or "unknown"))
    return "\n".join(f"{name:<18}{figures}" for name, figures in rows)


def training_row(figures: dict[str, Any]) -> str:
    """Return the training's figures in one line, with all that makes them comparable."""
    if "not_available" in figures:
        return f"not available: {figures['not_available']}"
    return (
        f"{figures['frames_per_second']:g} frames/s ({figures['noised_frames_per_second']:g} noised); a step takes "
        f"{figures['step_seconds']:g} s, {figures['parameters'] / 1e6:.0f}M parameters, {figures['precision']}, "
        f"{'compiled' if figures['compiled'] else 'eager'}, "
        f"{'with' if figures['bootstrap_steps'] else 'without'} bootstrap steps"
    )


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
