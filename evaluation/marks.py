"""What came of each image of a batch, from which every figure of an evaluation is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Marks:
    """The answers to one batch, or to all of them, and what was expected.

    Args:
        labels: the right classes, int64 [batch].
        ann: classes of the ANN, int64 [batch]; None where there is no ANN to compare with.
        snn: classes of the SNN, int64 [seeds, T or 1, batch].
        ann_top5: whether the label is among the ANN's first five, bool [batch]; None below six classes.
        snn_top5: the same of the SNN's last answer, bool [seeds, batch].
    """

    labels: NDArray[np.int64]
    ann: NDArray[np.int64] | None
    snn: NDArray[np.int64]
    ann_top5: NDArray[np.bool_] | None
    snn_top5: NDArray[np.bool_] | None

    @property
    def answers(self) -> NDArray[np.int64]:
        """The SNN's last answers with its first seed, int64 [batch]."""
        last: NDArray[np.int64] = self.snn[0, -1]
        return last

    @classmethod
    def joined(cls, parts: Sequence["Marks"]) -> "Marks":
        """Return the marks of several batches as those of one; there is at least one."""
        named = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        return cls(**{name: None if found[0] is None else np.concatenate(found, -1) for name, found in named.items()})  # type: ignore[arg-type]

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
        optional = {"ann", "ann_top5", "snn_top5"}
        paired = ("ann_top5" in tensors) == ({"ann", "snn_top5"} <= set(tensors))
        if not (set(shapes) - optional <= set(tensors) <= set(shapes)) or not paired:
            raise ValueError(f"marks of {', '.join(sorted(tensors)) or 'nothing'}")
        images = len(tensors["labels"])
        for name, tensor in tensors.items():
            kind = torch.bool if name.endswith("top5") else torch.int64
            if tensor.dtype is not kind or tensor.ndim != shapes[name] or tensor.shape[-1] != images or not images:
                raise ValueError(f"{name} of shape {list(tensor.shape)}, {tensor.dtype}, for {images} images")
        return cls(**{name: tensors[name].numpy() if name in tensors else None for name in shapes})  # type: ignore[arg-type]


NO_MARKS = Marks(np.zeros(0, np.int64), None, np.zeros((1, 1, 0), np.int64), None, None)
"""Those of no image."""
