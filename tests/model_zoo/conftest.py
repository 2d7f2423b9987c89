import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

SHARED = Path(os.environ.get("SNNCONVERT_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.fixture
def shared() -> Path:
    """The folder of development data and weights, which a user does not have."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED}: set SNNCONVERT_SHARED")
    return SHARED


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Write an object as torch does, and return the path."""

    def write(content: Any, name: str = "weights.pt") -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays as .npz, and return the path."""

    def write(**arrays: Any) -> Path:
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return write
