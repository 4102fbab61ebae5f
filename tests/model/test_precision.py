import pytest
import torch

from latentcraft.model import precision


@pytest.mark.parametrize(("native", "chosen"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_cpus_word_decides(monkeypatch: pytest.MonkeyPatch, native: bool, chosen: torch.dtype):
    precision.fast_dtype.cache_clear()
    monkeypatch.setattr(precision, "has_fast_bf16", lambda: native)
    monkeypatch.setattr(precision, "matmul_flops", lambda dtype: pytest.fail("no probe needed"))
    assert precision.fast_dtype() == chosen
    precision.fast_dtype.cache_clear()


@pytest.mark.parametrize(("bf16", "chosen"), [(3e11, torch.bfloat16), (1.1e11, torch.float32), (1e10, torch.float32)])
def test_a_probe_decides_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch, bf16: float, chosen: torch.dtype):
    precision.fast_dtype.cache_clear()
    monkeypatch.setattr(precision, "has_fast_bf16", lambda: None)
    monkeypatch.setattr(precision, "matmul_flops", lambda dtype: bf16 if dtype == torch.bfloat16 else 1e11)
    assert precision.fast_dtype() == chosen
    precision.fast_dtype.cache_clear()


def test_the_probe_measures_something():
    assert precision.matmul_flops(torch.float32, 64, repeats=2) > 0
