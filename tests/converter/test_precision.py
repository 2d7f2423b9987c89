"""Which devices compute in bfloat16."""

import pytest
import torch

from snnconvert.converter.precision import computes_bfloat16


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({}, False),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
    ],
    ids=str,
)
def test_a_processor_computes_with_bfloat16_if_it_says_so(
    able: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert computes_bfloat16(torch.device("cpu")) is expected


def test_a_torch_that_cannot_say_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert computes_bfloat16(torch.device("cpu")) is False


@pytest.mark.parametrize("able", [False, True])
def test_a_gpu_must_not_emulate_it(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: able or including_emulation)
    assert computes_bfloat16(torch.device("cuda")) is able
