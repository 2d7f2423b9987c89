"""What types of numbers a device computes with."""

from typing import Any

import torch


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether ``device`` multiplies numbers of that type in its own instructions."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
