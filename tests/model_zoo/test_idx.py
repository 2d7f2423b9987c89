import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from snnconvert.model_zoo.idx import read_idx

CONTENT = b"\0\0\x08\x02" + struct.pack(">2I", 2, 3) + bytes(range(6))


def test_reads_plain_and_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    (tmp_path / "a.gz").write_bytes(gzip.compress(CONTENT))
    for name in ("a", "a.gz"):
        np.testing.assert_array_equal(read_idx(tmp_path / name), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an idx file"),
        (b"\0\0\x0d" + CONTENT[3:], "is not an idx file of unsigned bytes"),
        (CONTENT[:-1], "holds 5 values where its header says 2x3"),
        (CONTENT + b"\0", "holds 7 values"),
    ],
)
def test_refuses_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "a")
