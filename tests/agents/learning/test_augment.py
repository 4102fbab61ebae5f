"""Pictures and moves seen otherwise stay the same play."""

import numpy as np

from latentcraft.agents.learning.augment import augmented, mirrored_moves
from latentcraft.agents.learning.moves import MOVES


def test_mirror_images_of_moves() -> None:
    names = [name for name, _ in MOVES]
    mirrored = [names[row] for row in mirrored_moves()]
    assert mirrored[names.index("left")] == "right"
    assert mirrored[names.index("turn -36")] == "turn +36"
    assert mirrored[names.index("tilt +12, turn -12")] == "tilt +12, turn +12"
    assert mirrored[names.index("attack")] == "attack"
    assert (mirrored_moves()[mirrored_moves()] == np.arange(len(MOVES))).all()


def test_a_mirrored_picture_goes_with_the_mirrored_move() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (64, 6, 16, 24), np.uint8)
    moves = rng.integers(0, len(MOVES), 64)
    before = pictures.copy(), moves.copy()
    seen, done = augmented(pictures, moves, rng, shift=0, mirror=True)
    turned = np.array([(seen[i] == pictures[i, :, :, ::-1]).all() for i in range(64)])
    assert 16 < turned.sum() < 48
    assert (seen[~turned] == pictures[~turned]).all()
    assert (done == np.where(turned, mirrored_moves()[moves], moves)).all()
    assert (pictures == before[0]).all() and (moves == before[1]).all()


def test_a_shifted_picture_is_the_same_picture_elsewhere() -> None:
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (32, 3, 16, 24), np.uint8)
    seen, done = augmented(pictures, np.zeros(32, int), rng, shift=2, mirror=False)
    offsets = set()
    for before, after in zip(pictures, seen, strict=True):
        found = [
            (dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)
            if (after[:, 2:-2, 2:-2] == before[:, 2 + dy : 14 + dy, 2 + dx : 22 + dx]).all()
        ]  # fmt: skip
        assert len(found) == 1
        offsets.add(found[0])
    assert len(offsets) > 10 and (done == 0).all()
    same, _ = augmented(pictures, np.zeros(32, int), rng, shift=0, mirror=False)
    assert (same == pictures).all()
