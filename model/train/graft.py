"""Put a body net into a checkpoint that has another: ``python -m latentcraft.model.train.graft BODY.pt FILE``.

Everything else of the checkpoint stays to the bit. ``BODY.pt`` is what ``torch.save`` wrote of a dict: ``config`` (the
net's, as a dict), ``state`` (its weights), ``steps`` and ``seconds`` of its training. A checkpoint from before the body
had its present shape, which :func:`latentcraft.model.checkpoint.load_checkpoint` refuses, is mended this way.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from latentcraft.errors import UserError
from latentcraft.files import replacing
from latentcraft.model.body import BodyConfig, BodyNet
from latentcraft.model.checkpoint import load_checkpoint

PREFIX = "scene.body."


def graft(body: Path, checkpoint: Path) -> None:
    """Rewrite ``checkpoint`` atomically with the net in ``body``.

    Raises:
        UserError: a checkpoint without a scene, or a net that does not fit its own configuration.
    """
    saved = torch.load(body, weights_only=True)
    net = BodyNet(BodyConfig(**saved["config"]))
    try:
        net.load_state_dict(saved["state"])
    except RuntimeError as error:
        raise UserError(f"{body} does not fit this version of latentcraft; train it anew") from error
    with safe_open(str(checkpoint), "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys() if not key.startswith(PREFIX)}  # noqa: SIM118
    if "scene" not in metadata:
        raise UserError(f"{checkpoint} is of a world without a memory of places: no body has a place in it")
    scene, provenance = json.loads(metadata["scene"]), json.loads(metadata["provenance"])
    scene["body"] = asdict(net.config)
    provenance |= {"body_steps": saved["steps"], "body_seconds": round(saved["seconds"])}
    metadata |= {"scene": json.dumps(scene), "provenance": json.dumps(provenance)}
    tensors |= {f"{PREFIX}{name}": value.float().contiguous() for name, value in net.state_dict().items()}
    with replacing(checkpoint) as temporary:
        temporary.write_bytes(save(tensors, metadata))
        load_checkpoint(temporary)  # or else the old one stays


if __name__ == "__main__":
    graft(Path(sys.argv[1]), Path(sys.argv[2]))
