"""What a run was begun with, in its ``config.json``: a resumed one has to fit it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.precision import fast_dtype
from latentcraft.model.train.config import NETS, TrainConfig


def recorded(path: Path) -> dict[str, Any] | None:
    """Return the configuration a run was begun with, None for a new run.

    Raises:
        UserError: the file is torn or foreign.
    """
    if not path.exists():
        return None
    try:
        before = json.loads(path.read_text())
        assert {"autoencoder", "dynamics", "frame_size", "resolved_precision"} <= set(before)
    except (OSError, ValueError, AssertionError, TypeError) as error:
        raise UserError(f"{path} is not the configuration of a training run; choose another out=") from error
    return before


def precision(config: TrainConfig, device: str) -> torch.dtype:
    """Return the number format: the configured one, the one the run was begun with, or what this machine does best."""
    name = config.precision
    if name == "auto":
        before = recorded(config.out / "config.json")
        # A resumed run keeps its format: a busy machine must not turn the probe and with it the results.
        name = before["resolved_precision"] if before else name
    return {"bf16": torch.bfloat16, "fp32": torch.float32}.get(name) or fast_dtype(device)


def remember(config: TrainConfig, dtype: torch.dtype, path: Path) -> None:
    """Write the configuration beside the run; refuse to resume a run whose networks had another shape.

    Raises:
        UserError: ``path`` holds other shapes.
    """
    described = json.loads(json.dumps(asdict(config), default=str))
    described["resolved_precision"] = "bf16" if dtype == torch.bfloat16 else "fp32"
    before = recorded(path)
    if before:
        for stage in NETS:
            # What a run from before did not know of yet was as it is by default.
            usual = json.loads(json.dumps(asdict(type(getattr(config, stage).model)())))
            if usual | before.get(stage, {}).get("model", {}) != described[stage]["model"]:
                raise UserError(f"{path.parent} was begun with another {stage}.model; choose another out= or delete it")
        if before["frame_size"] != described["frame_size"]:
            raise UserError(f"{path.parent} was begun with frame_size {before['frame_size']}; choose another out=")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(described, indent=2) + "\n")
