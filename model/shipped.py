"""Where the weights are that come with the package; known without torch."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "pretrained" / "latentcraft.safetensors"
"""The checkpoint that comes with the package."""
AUTOPILOT = Path(__file__).parent / "pretrained" / "autopilot.safetensors"
"""The policy that comes with it: a clone of the explorer's recorded play, which plays by what it sees."""
