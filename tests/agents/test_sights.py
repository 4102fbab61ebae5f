import numpy as np

from latentcraft.agents.sights import Sights


def test_sights_keep_the_last_pictures_of_one_size():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (4, 6, 3), dtype=np.uint8) for _ in range(5)]
    sights = Sights(4)
    assert list(sights.film()()) == []
    for picture in pictures:
        sights.add((4, 6), picture.tobytes())
    film = sights.film()
    assert len(sights) == 4
    for _ in range(2):  # a film can be looked at again, whatever was shown since
        np.testing.assert_array_equal(list(film()), pictures[1:])
        sights.add((2, 3), bytes(18))
    assert [frame.shape for frame in sights.film()()] == [(2, 3, 3)] * 2
