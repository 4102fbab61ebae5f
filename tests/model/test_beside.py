"""Two lanes."""

import threading

import pytest
import torch

from latentcraft.model.beside import beside, halves, lanes, two_lanes


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_in_lanes_both_run_at_the_same_time_with_half_of_the_threads():
    met = threading.Barrier(2, timeout=20)  # would break if one came after the other

    def lane():
        met.wait()
        return threading.get_ident(), torch.get_num_threads(), two_lanes(), torch.is_grad_enabled()

    with lanes():
        assert two_lanes()
        one, other = beside(lane, lane)
    assert one[0] != other[0]
    assert one[1:] == other[1:] == (1, False, False)
    assert torch.get_num_threads() == 2
    assert not two_lanes()


def test_elsewhere_one_comes_after_the_other():
    order = []
    assert beside(lambda: order.append(1) or "a", lambda: order.append(2) or "b") == ("a", "b")
    assert order == [1, 2]
    torch.set_num_threads(1)
    with lanes():
        assert not two_lanes()


def test_a_failure_in_either_is_raised_when_both_are_done():
    done = threading.Event()

    def fails():
        raise ValueError("lane")

    for first, second in ((fails, done.set), (done.set, fails)):
        done.clear()
        with lanes(), pytest.raises(ValueError, match="lane"):
            beside(first, second)
        assert done.is_set()
        assert torch.get_num_threads() == 2
        assert not two_lanes()


def test_halves_are_put_together():
    batch = torch.arange(5.0)[:, None]
    with lanes():
        assert torch.equal(halves(lambda part: part * 2, batch), batch * 2)
    assert torch.equal(halves(lambda part: part * 2, batch), batch * 2)
