"""Which precision a machine multiplies sooner."""

from collections.abc import Callable, Iterator

import pytest
import torch

from microscope_atlas.models import device

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    device._measured_faster.cache_clear()
    yield
    device._measured_faster.cache_clear()


@pytest.mark.parametrize(("bfloat16", "faster"), [(0.5, True), (0.95, False), (1.5, False)])
def test_a_processor_with_instructions_for_bfloat16_is_measured(
    monkeypatch: pytest.MonkeyPatch, bfloat16: float, faster: bool
) -> None:
    """Some have them and take longer: they multiply half as many numbers at once as others do."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr(device, "_seconds", {torch.bfloat16: bfloat16, torch.float32: 1.0}.__getitem__)
    assert device.multiplies_bfloat16(CPU) is faster


@pytest.mark.parametrize("told", [dict, lambda: {"avx2": True, "avx512_bf16": False}])
def test_a_processor_without_them_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, told: Callable[[], dict[str, bool]]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", told, raising=False)
    monkeypatch.setattr(device, "_seconds", lambda dtype: pytest.fail("measured"))
    assert not device.multiplies_bfloat16(CPU)


def test_the_measure_is_short_and_leaves_the_threads_as_they_were() -> None:
    threads = torch.get_num_threads()
    for dtype in (torch.float32, torch.bfloat16):
        assert 0 < device._seconds(dtype) < 5
    assert torch.get_num_threads() == threads
