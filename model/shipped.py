"""Where the checkpoint is that comes with the package; known without torch."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "pretrained" / "latentcraft.safetensors"
"""The checkpoint that comes with the package."""
