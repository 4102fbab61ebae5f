"""``latentcraft train data=DIR out=RUN``: autoencoder, encode, dynamics, checkpoint; the same command resumes."""

import json
import platform
import time
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric

from latentcraft import __version__
from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.autoencoder import DOWNSAMPLING
from latentcraft.model.checkpoint import WorldModel, save_checkpoint
from latentcraft.model.episodes import list_episodes
from latentcraft.model.latents import LatentDataset
from latentcraft.model.precision import fast_dtype
from latentcraft.model.train.autoencoder import AutoencoderStage, AutoencoderStageConfig, load_frames
from latentcraft.model.train.dynamics import DynamicsStage, DynamicsStageConfig
from latentcraft.model.train.encode import encode_episodes
from latentcraft.model.train.loop import LoopConfig, run_stage, saved_step

STAGES = ("autoencoder", "dynamics")


@dataclass(frozen=True)
class TrainConfig:
    """One training run, from episodes to a checkpoint."""

    data: Path
    """Directory of recorded episodes (``latentcraft record``)."""
    out: Path
    """Directory of the run: training states, logs, samples, encoded episodes and ``latentcraft.safetensors``."""
    frame_size: tuple[int, int] = (96, 160)
    """(H, W) that episodes are resized to, multiples of 16."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    held_out: float = 0.02
    """Share of episodes kept for validation, chosen by a hash of the name: recording more never moves one across."""
    threads: int | None = None
    """CPU threads; None takes all cores."""
    precision: str = "auto"
    """``auto`` probes the machine; ``bf16`` or ``fp32`` force the format of weights and activations."""
    accelerator: str = "auto"
    """Lightning Fabric's accelerator: ``auto``, ``cpu`` or ``cuda``."""
    save_seconds: float = 180.0
    """Wall-clock time between saves of the training state."""
    sample_every: int = 500
    """Steps between validation and sample images."""
    max_seconds: float | None = None
    """Wall-clock limit of each stage in this run; it saves and stops, the same command goes on. None: no limit."""
    stop_after: str | None = None
    """``autoencoder`` stops once that stage is done (and frames are encoded); None goes to the end."""
    autoencoder: AutoencoderStageConfig = field(default_factory=AutoencoderStageConfig)
    """Stage 1."""
    dynamics: DynamicsStageConfig = field(default_factory=DynamicsStageConfig)
    """Stage 3."""

    def __post_init__(self) -> None:
        if any(side % DOWNSAMPLING or side <= 0 for side in self.frame_size):
            raise UserError(f"frame_size {list(self.frame_size)} must be positive multiples of {DOWNSAMPLING}")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise UserError(f"precision must be auto, bf16 or fp32, got {self.precision!r}")
        if self.stop_after not in (None, *STAGES):
            raise UserError(f"stop_after must be one of {', '.join(STAGES)} or null, got {self.stop_after!r}")


def main(config: TrainConfig) -> None:
    """Run every stage that is not done yet."""
    if config.threads:
        torch.set_num_threads(config.threads)
    fabric = Fabric(accelerator=config.accelerator, devices=1)
    device = str(fabric.device)
    dtype = {"auto": fast_dtype(device), "bf16": torch.bfloat16, "fp32": torch.float32}[config.precision]
    episodes = list_episodes(config.data)
    if len(episodes) < 2:
        raise UserError(f"{config.data} holds {len(episodes)} episodes and training needs at least 2; record more")
    held_out = [path for path in episodes if is_held_out(path, config.held_out)] or episodes[-1:]
    training = [path for path in episodes if path not in set(held_out)]
    out = config.out
    out.mkdir(parents=True, exist_ok=True)
    remember(config, out / "config.json")
    print(f"{len(training)} + {len(held_out)} episodes, {dtype}, {torch.get_num_threads()} threads, {device} -> {out}")

    def loop(steps: int) -> LoopConfig:
        return LoopConfig(steps, config.save_seconds, sample_every=config.sample_every, max_seconds=config.max_seconds)

    frames = check = torch.empty(0, *config.frame_size, 3, dtype=torch.uint8)
    if saved_step(AutoencoderStage.name, out) < config.autoencoder.steps:  # else reading videos would be for nothing
        frames = load_frames(training, config.autoencoder.max_frames, config.frame_size)
        check = load_frames(held_out, 2048, config.frame_size)
    first = AutoencoderStage(config.autoencoder, frames, check, seed=config.seed, dtype=dtype, device=device)
    del frames
    codec_progress = run_stage(first, loop(config.autoencoder.steps), out)
    autoencoder = first.result()
    del first

    files = encode_episodes(autoencoder, episodes, out / "latents", config.frame_size, device=device)
    if config.stop_after == "autoencoder":
        return
    names = {path.stem for path in held_out}
    clip = config.dynamics.model.context * config.dynamics.model.chunk
    data = LatentDataset.load([file for file in files if file.stem not in names], clip)
    check_data = LatentDataset.load([file for file in files if file.stem in names] or files, clip)
    second = DynamicsStage(config.dynamics, data, check_data, autoencoder, seed=config.seed, dtype=dtype, device=device)
    progress = run_stage(second, loop(config.dynamics.steps), out)
    provenance = {
        "version": __version__,
        "frames": len(data.latents),
        "autoencoder_steps": codec_progress.step,
        "autoencoder_seconds": round(codec_progress.seconds),
        "dynamics_steps": progress.step,
        "dynamics_seconds": round(progress.seconds),
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {dtype}",
        "date": time.strftime("%Y-%m-%d"),
    }
    path = out / "latentcraft.safetensors"
    save_checkpoint(path, WorldModel(autoencoder, second.result(), config.frame_size, provenance))
    print(f"checkpoint: {path} ({path.stat().st_size / 1e6:.1f} MB)")


def is_held_out(path: Path, share: float) -> bool:
    """Whether the episode at ``path`` is kept for validation."""
    return zlib.crc32(path.stem.encode()) % 10_000 < share * 10_000


def remember(config: TrainConfig, path: Path) -> None:
    """Write the configuration beside the run; refuse to resume a run whose networks had another shape.

    Raises:
        UserError: ``path`` holds other shapes.
    """
    described = json.loads(json.dumps(asdict(config), default=str))
    if path.exists():
        before = json.loads(path.read_text())
        for stage in STAGES:
            if before[stage]["model"] != described[stage]["model"]:
                raise UserError(f"{path.parent} was begun with another {stage}.model; choose another out= or delete it")
        if before["frame_size"] != described["frame_size"]:
            raise UserError(f"{path.parent} was begun with frame_size {before['frame_size']}; choose another out=")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(described, indent=2) + "\n")

