"""The idx format of the MNIST family: a big-endian header of type and shape, then the values."""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the unsigned bytes in ``path`` (gzip or plain), in the shape its header states.

    Raises:
        ValueError: the file is not an idx file of unsigned bytes, or is shorter or longer than its header says.
    """
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        content = file.read()
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an idx file of unsigned bytes")
    rank = content[3]
    shape = np.frombuffer(content, ">u4", rank, 4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if values.size != shape.prod():
        raise ValueError(f"{path} holds {values.size} values where its header says {'x'.join(map(str, shape))}")
    return values.reshape(shape).copy()
