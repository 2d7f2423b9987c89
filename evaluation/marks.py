"""What came of each image of a batch, from which every figure of an evaluation is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Marks:
    """The answers to one batch, and what was expected.

    Args:
        labels: the right classes, int64 [batch].
        ann: classes of the ANN, int64 [batch].
        snn: classes of the SNN, int64 [seeds, T or 1, batch].
        ann_top5: whether the label is among the ANN's first five, bool [batch]; None below six classes.
        snn_top5: the same of the SNN's last answer, bool [seeds, batch].
    """

    labels: NDArray[np.int64]
    ann: NDArray[np.int64]
    snn: NDArray[np.int64]
    ann_top5: NDArray[np.bool_] | None
    snn_top5: NDArray[np.bool_] | None

    def tensors(self) -> dict[str, Tensor]:
        """Return the same as tensors, by name; what is None is left out."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: torch.from_numpy(value) for name, value in named if value is not None}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Marks":
        """Return the marks that `tensors` were made of.

        Raises:
            ValueError: they are no marks, as those of a file may not be.
        """
        shapes = {"labels": 1, "ann": 1, "snn": 3, "ann_top5": 1, "snn_top5": 2}
        optional = {"ann_top5", "snn_top5"}
        if not (set(shapes) - optional <= set(tensors) <= set(shapes)) or len(optional & set(tensors)) == 1:
            raise ValueError(f"marks of {', '.join(sorted(tensors)) or 'nothing'}")
        images = len(tensors["labels"])
        for name, tensor in tensors.items():
            kind = torch.bool if name in optional else torch.int64
            if tensor.dtype is not kind or tensor.ndim != shapes[name] or tensor.shape[-1] != images or not images:
                raise ValueError(f"{name} of shape {list(tensor.shape)}, {tensor.dtype}, for {images} images")
        return cls(**{name: tensors[name].numpy() if name in tensors else None for name in shapes})  # type: ignore[arg-type]
