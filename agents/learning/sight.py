"""What a learning agent sees: the last frames of the last few chunks, made small, one above the other.

One frame a chunk is enough to play by and a quarter of the work; an older one tells what moves. Cloning, PPO and a
player in the window all see through here, so a policy trained in one place fits the others.
"""

from dataclasses import dataclass

import numpy as np

from latentcraft.errors import UserError


@dataclass(frozen=True)
class SightConfig:
    """How small, and how far back."""

    size: tuple[int, int] = (48, 80)
    """(h, w) in pixels, each a multiple of 8. Half the usual frame's sides: a trunk four blocks away is 12 pixels wide,
    a beacon at 40 blocks one."""
    stack: int = 2
    """Frames seen, one a chunk, the newest last."""

    def __post_init__(self) -> None:
        if len(self.size) != 2 or any(side < 8 or side % 8 for side in self.size) or self.stack < 1:
            raise UserError(f"sight size={list(self.size)} must be multiples of 8 and stack={self.stack} 1 or more")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one observation: (3 * stack, h, w)."""
        return 3 * self.stack, *self.size


def shrink(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return ``uint8 (n, H, W, 3)`` as ``uint8 (n, 3, h, w)``, each pixel the mean of the area it covers."""
    n, height, width, channels = frames.shape
    h, w = size
    if height % h == 0 and width % w == 0:
        parts = frames.reshape(n, h, height // h, w, width // w, channels)
        count = (height // h) * (width // w)
        small = ((parts.sum((2, 4), dtype=np.uint32) + count // 2) // count).astype(np.uint8)
        return np.ascontiguousarray(small.transpose(0, 3, 1, 2))
    import torch  # heavy, and not needed for the usual sizes

    pixels = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).float()
    return torch.nn.functional.interpolate(pixels, size, mode="area").round().clamp(0, 255).byte().numpy()


class Sight:
    """The memory of ``n`` games: what each saw at the end of its last chunks."""

    def __init__(self, config: SightConfig, num_games: int) -> None:
        """Begin with nothing seen; :meth:`begin` comes before :meth:`see`."""
        self.config = config
        self._seen = np.zeros((num_games, config.stack, 3, *config.size), np.uint8)

    def begin(self, frames: np.ndarray, games: np.ndarray | None = None) -> np.ndarray:
        """Forget ``games`` ``bool (n,)`` (all for None) and see their first frames ``uint8 (n, H, W, 3)``.

        Returns observations ``uint8 (n, 3 * stack, h, w)``. What was never seen is taken to have looked the same.
        """
        games = np.ones(len(self._seen), bool) if games is None else games
        self._seen[games] = shrink(frames[games], self.config.size)[:, None]
        return self.now()

    def see(self, frames: np.ndarray) -> np.ndarray:
        """See the last frames of the next chunk ``uint8 (n, H, W, 3)``; returns observations as :meth:`begin`."""
        self._seen = np.roll(self._seen, -1, axis=1)
        self._seen[:, -1] = shrink(frames, self.config.size)
        return self.now()

    def save(self) -> np.ndarray:
        """Return the memory ``uint8 (n, stack, 3, h, w)``, a copy."""
        return self._seen.copy()

    def restore(self, seen: np.ndarray) -> np.ndarray:
        """Remember what :meth:`save` returned; returns observations."""
        assert seen.shape == self._seen.shape and seen.dtype == np.uint8
        self._seen = seen.copy()
        return self.now()

    def now(self) -> np.ndarray:
        """Return the present observations, a copy."""
        return self._seen.reshape(len(self._seen), *self.config.shape).copy()
