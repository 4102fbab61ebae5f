"""Sample images: rows of frames as one PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from latentcraft.files import replacing


def save_rows(rows: Sequence[Tensor | np.ndarray], path: Path) -> None:
    """Write rows of frames, each ``uint8 (k, H, W, 3)``, as one picture."""
    picture = np.concatenate([np.concatenate(list(np.asarray(row)), axis=1) for row in rows], axis=0)
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary)
