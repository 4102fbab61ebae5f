"""What a set of recorded episodes holds: frames, rewards, ends, buttons."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from latentcraft.model.actions import BUTTONS, PITCH, YAW


def _zeros() -> defaultdict[str, float]:
    return defaultdict(float)


@dataclass
class RecordStats:
    """What a set of episodes holds: enough to judge whether it is good to learn from."""

    frames: int = 0
    """Frames, the first of each episode included."""
    lengths: dict[str, list[int]] = field(default_factory=dict)
    """Frames of each episode, by task."""
    rewards: defaultdict[str, float] = field(default_factory=_zeros)
    """Sum of rewards by task."""
    ends: Counter[str] = field(default_factory=Counter)
    """Episodes that ended, by task."""
    actions: Counter[str] = field(default_factory=Counter)
    """Ticks in which each button was held; ``turn`` and ``tilt`` count ticks with a yaw or pitch movement."""

    def count(self, action: np.ndarray) -> None:
        """Count one action vector ``(20,)``."""
        self.actions.update(name for name, value in zip(BUTTONS, action, strict=False) if value > 0.5)
        self.actions.update(turn=int(action[YAW] != 0), tilt=int(action[PITCH] != 0))

    def merge(self, other: "RecordStats") -> None:
        """Add another set's counts to this one's."""
        self.frames += other.frames
        for task, lengths in other.lengths.items():
            self.lengths.setdefault(task, []).extend(lengths)
        for task, reward in other.rewards.items():
            self.rewards[task] += reward
        self.ends.update(other.ends)
        self.actions.update(other.actions)

    def __str__(self) -> str:
        """Return a small table."""
        lengths = [length for task in self.lengths.values() for length in task]
        if not lengths:
            return "no new episodes"
        rows = [f"{len(lengths)} episodes, {self.frames} frames, {np.mean(lengths):.0f} frames a piece"]
        for task, values in sorted(self.lengths.items()):
            mean = self.rewards[task] / len(values)
            rows.append(f"  {task:<16}{len(values):>6} episodes  reward {mean:7.2f}  ended {self.ends[task]:>5}")
        ticks = max(self.frames - len(lengths), 1)
        shares = [f"{name} {100 * self.actions[name] / ticks:.1f}" for name in ("turn", "tilt", *BUTTONS)]
        rows.append("  % of ticks: " + ", ".join(shares))
        return "\n".join(rows)
