"""One file holds a world: weights (bf16), bank, configs and provenance, as safetensors. Loading never unpickles."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.autoencoder import Autoencoder, AutoencoderConfig
from latentcraft.model.bank import Bank, BankConfig
from latentcraft.model.dit import DiTConfig, SpacetimeDiT
from latentcraft.model.guesser import Guesser
from latentcraft.model.motion import Motion, MotionConfig
from latentcraft.model.scene import Scene, SceneConfig
from latentcraft.model.shipped import SHIPPED as SHIPPED
from latentcraft.model.undrawn import Undrawn

FORMAT = "latentcraft-1"
HEADS = "dit.outcome"
"""What the names of the reward and termination heads' weights begin with; a file without them is a world without."""


@dataclass(frozen=True)
class WorldModel:
    """The networks of one world, in evaluation mode."""

    autoencoder: Autoencoder
    motion: Motion
    dit: SpacetimeDiT
    frame_size: tuple[int, int]
    """(H, W) it was trained at."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was trained: steps, frames, seconds, data, version."""
    scene: Scene | None = None
    """Of worlds seen through a camera; others remember no places."""
    bank: Bank | None = None
    """Recorded places that such a world recalls where nothing is remembered; None leaves it to the transformer."""

    def check_task(self, task: str) -> None:
        """Raise a UserError if the heads cannot tell what ``task`` pays and when it ends."""
        if task == "free":  # pays nothing and never ends
            return
        if not self.dit.heads:
            raise UserError(
                f"this checkpoint has no reward and termination heads, which task {task!r} needs; "
                "take task='free' or another checkpoint"
            )
        learned = self.provenance.get("tasks")
        if learned is not None and task not in learned:
            raise UserError(
                f"this checkpoint's heads never saw task {task!r}, only {', '.join(learned) or 'none'}; "
                "take one of these or train on episodes of it"
            )

    @property
    def guesser(self) -> Guesser:
        """What guesses the next chunk before anything is dreamed, the start of its denoising."""
        return Guesser(self.autoencoder, self.motion, self.scene, self.bank)


def digest(module: nn.Module) -> str:
    """Return a short name for a network's weights as a checkpoint would hold them (in bf16)."""
    sha = hashlib.sha256()
    for name, value in module.state_dict().items():
        sha.update(name.encode())
        sha.update(value.detach().cpu().to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return sha.hexdigest()[:16]


def _tuples(config: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def save_checkpoint(path: Path | str, world: WorldModel) -> None:
    """Write ``world`` atomically, weights rounded to bf16, all but the body's and the hand's.

    Raises:
        UserError: the disk is full or the place cannot be written; what was at ``path`` stays.
    """
    tensors = {}
    parts: list[tuple[str, nn.Module]] = [
        ("autoencoder", world.autoencoder), ("motion", world.motion), ("dit", world.dit)
    ]  # fmt: skip
    if world.scene is not None:
        parts.append(("scene", world.scene))
    for prefix, module in parts:
        for name, value in module.state_dict().items():
            exact = name.startswith(("body.", "hand."))  # small, and what they say adds up
            tensors[f"{prefix}.{name}"] = value.detach().to(torch.float32 if exact else torch.bfloat16).contiguous()
    if world.bank is not None:
        tensors |= {f"bank.{name}": value.contiguous() for name, value in world.bank.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "autoencoder": json.dumps(asdict(world.autoencoder.config)),
        "motion": json.dumps(asdict(world.motion.config)),
        "dit": json.dumps(asdict(world.dit.config)),
        "frame_size": json.dumps(world.frame_size),
        "provenance": json.dumps(world.provenance),
    }
    if world.scene is not None:
        metadata["scene"] = json.dumps(asdict(world.scene.config))
    if world.bank is not None:
        metadata["bank"] = json.dumps(asdict(world.bank.config))
    with replacing(path) as temporary:
        # Through bytes, so that a full disk is an OSError like any other.
        temporary.write_bytes(save(tensors, metadata))


def load_checkpoint(
    path: Path | str | None = None, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> WorldModel:
    """Load a world from ``path`` (None: the shipped one) with weights in ``dtype``.

    Raises:
        UserError: missing, truncated, or not a latentcraft checkpoint.
    """
    path = SHIPPED if path is None else Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; give checkpoint=FILE.safetensors or train one (latentcraft train)")
    try:
        with safe_open(str(path), "pt", device=device) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                found = metadata.get("format")
                raise UserError(f"{path} is not a latentcraft checkpoint (its format is {found!r}, not {FORMAT!r})")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable checkpoint ({error}); if truncated, copy it again") from error
    try:
        height, width = json.loads(metadata["frame_size"])
        with Undrawn():
            autoencoder = Autoencoder(AutoencoderConfig(**_tuples(json.loads(metadata["autoencoder"]))))
            motion = Motion(MotionConfig(**_tuples(json.loads(metadata["motion"]))))
            heads = any(key.startswith(HEADS) for key in tensors)
            dit = SpacetimeDiT(DiTConfig(**json.loads(metadata["dit"])), heads=heads)
            parts: list[tuple[str, nn.Module]] = [("autoencoder", autoencoder), ("motion", motion), ("dit", dit)]
            scene = bank = None
            if "scene" in metadata:
                scene = Scene(SceneConfig.from_dict(json.loads(metadata["scene"]), width))
                parts.append(("scene", scene))
            if "bank" in metadata:
                bank = Bank(BankConfig(**_tuples(json.loads(metadata["bank"]))))
                parts.append(("bank", bank))
        for prefix, module in parts:
            module.load_state_dict({k.split(".", 1)[1]: v for k, v in tensors.items() if k.startswith(prefix + ".")})
            module.to(device).requires_grad_(False).eval()
            if isinstance(module, Scene):
                module.cast(dtype)
            elif not isinstance(module, Bank):
                module.to(dtype)
        provenance = json.loads(metadata["provenance"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not fit this version of latentcraft ({reason}); retrain it") from error
    if scene is not None:
        scene.depth.channels_last()
    nets = autoencoder.channels_last(), motion.channels_last(), dit
    return WorldModel(*nets, (height, width), provenance, scene, bank)
