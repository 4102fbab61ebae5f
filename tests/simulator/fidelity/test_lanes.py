"""Games looked at side by side give what they give one after the other."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from latentcraft.simulator.fidelity import lanes
from latentcraft.simulator.fidelity.pose import PoseFitter
from latentcraft.simulator.fidelity.reference import Reference
from latentcraft.simulator.protocol import HELD_OUT_SEED

SIZE = (96, 160)


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch):
    with ThreadPoolExecutor(3) as pool:
        monkeypatch.setattr(lanes, "_pool", lambda: pool)
        yield


def test_results_come_in_order_and_errors_come_through(three_threads: None):
    assert lanes.side_by_side(lambda number: number * number, range(20)) == [number * number for number in range(20)]
    with pytest.raises(ZeroDivisionError):
        lanes.side_by_side(lambda number: 1 // number, [1, 0])


def test_pictures_and_poses_are_the_same_on_any_thread(three_threads: None):
    def look(seed: int) -> tuple[np.ndarray, object]:
        game = Reference(seed)
        fitter = PoseFitter(SIZE, samples=8)
        frames = [game.draw(SIZE, (*game.pose[:3], game.pose[3] + turned, 0.0)) for turned in range(0, 360, 20)]
        return np.stack(frames), fitter.fit(game, frames[1], [(*game.pose[:3], game.pose[3] + 15.0, 2.0)])

    seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + 6)
    for (frames, fit), (true, alone) in zip(lanes.side_by_side(look, seeds), map(look, seeds), strict=True):
        assert (frames == true).all() and fit == alone
