"""The lines of figures over the picture: read-outs only, nothing here changes anything."""

from collections.abc import Sequence

import numpy as np

from latentcraft.agents.shot import Shot
from latentcraft.agents.starts import start_name
from latentcraft.model.actions import BUTTONS, PITCH, YAW
from latentcraft.simulator.protocol import TICKS_PER_SECOND


def clock(ticks: int) -> str:
    """Return ticks as minutes and seconds, ``1:05``."""
    minutes, seconds = divmod(ticks // TICKS_PER_SECOND, 60)
    return f"{minutes}:{seconds:02}"


def keys_pressed(action: np.ndarray | None) -> str:
    """Return what an action ``float32 (20,)`` presses, in its own words; empty for nothing."""
    if action is None:
        return ""
    words = [name for name, value in zip(BUTTONS, action, strict=False) if value > 0.5]
    pitch, yaw = float(action[PITCH]), float(action[YAW])
    if abs(yaw) >= 0.05:
        words.append(f"{'right' if yaw > 0 else 'left'} {abs(yaw):.1f}°")
    if abs(pitch) >= 0.05:
        words.append(f"{'down' if pitch > 0 else 'up'} {abs(pitch):.1f}°")
    return "  ".join(words)


def hud_lines(
    shot: Shot,
    *,
    world: str,
    task: str,
    steps: int | None,
    frames_per_second: float,
    chunk_seconds: float,
    latency: float,
    player: str,
    slot: int,
    help_key: str,
    extra: Sequence[str] = (),
) -> list[str]:
    """Return the figures as lines of text.

    Args:
        shot: what is shown.
        world: its world's name.
        task: its task's name.
        steps: denoising steps, None where there are none.
        frames_per_second: shown lately.
        chunk_seconds: to compute a chunk.
        latency: seconds from reading the input to showing its effect.
        player: who plays.
        slot: the save slot chosen.
        help_key: shows all keys; empty for none.
        extra: further lines.
    """
    facts = shot.facts
    first = [
        {"voxel": "reference"}.get(world, world),
        start_name(facts.start),
        clock(facts.ticks),
        "you play" if player == "you" else f"{player} plays",
    ]
    second = [
        f"{frames_per_second:4.1f} frames/s",
        f"chunk {chunk_seconds * 1000:.0f} ms",
        f"input to picture {latency * 1000:.0f} ms",
    ]
    if steps is not None:
        second.append(f"steps {steps}")
    if facts.uncertainty is not None:
        second.append(f"uncertainty {facts.uncertainty:.2f}")
    first.append(f"slot {slot}")
    if help_key:
        first.append(f"{help_key.upper()}: keys")
    lines = ["   ".join(first), "   ".join(second)]
    if task != "free":
        lines.append(f"{task}: reward {facts.reward:.2f}" + ("   done" if facts.terminated else ""))
    lines += extra
    pressed = keys_pressed(shot.action)
    return [*lines, f"> {pressed}"] if pressed else lines
