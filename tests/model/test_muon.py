import pytest
import torch

from latentcraft.model.muon import Fp32Muon, orthogonalised

SHAPES = ((8, 24), (24, 8), (16, 16))


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_steps_are_those_of_torch_but_for_rounding(adjust: str):
    generator = torch.Generator().manual_seed(0)
    begin = [torch.randn(shape, generator=generator) for shape in SHAPES]
    ends, states = [], []
    for kind in (torch.optim.Muon, Fp32Muon):
        parameters = [value.clone() for value in begin]
        optimizer = kind(parameters, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn=adjust)
        generator.manual_seed(1)
        for _ in range(5):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
        ends.append(parameters)
        states.append(optimizer.state_dict())
    for before, theirs, ours in zip(begin, *ends, strict=True):
        way = (theirs - before).norm()
        assert (theirs - ours).norm() < 0.03 * way and way > 0.1
    for index in range(len(SHAPES)):  # a run begun on one machine goes on on the other
        torch.testing.assert_close(*(state["state"][index]["momentum_buffer"] for state in states))


def test_singular_values_come_near_one():
    matrix = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrix, (3.4445, -4.775, 2.0315), 5, 1e-7))
    assert 0.5 < values.min() and values.max() < 1.5
    assert torch.linalg.svdvals(matrix).max() > 5


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="no closure"):
        Fp32Muon([torch.zeros(2, 2)]).step(lambda: 0.0)
