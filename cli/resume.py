"""`eval --resume`: the batches that an earlier run of the same evaluation finished.

Commands import this module late, because it imports torch.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from snnconvert.evaluation import Shards
from snnconvert.model_zoo import ImageData


def open_shards(folder: Path, artefact: Path, data: ImageData, against: str | None, choices: dict[str, Any]) -> Shards:
    """Return the finished batches in ``folder`` of an evaluation of ``artefact`` on ``data``.

    Args:
        against: the ANN to compare with, None for the one that was converted.
        choices: whatever else decides the result, JSON-able.

    Raises:
        UsageError, ArtefactRefused: as for `Shards`.
    """
    identity = {
        "artefact": _hash(artefact),
        "data": [data.name, data.split, data.count, data.classes, data.stamp()],
        "preprocessing": data.preprocessing.to_json(),
        "against": None if against is None else [against, _hash(Path(against))],
        "versions": {"snnconvert": version("snnconvert"), "torch": torch.__version__},
    }
    return Shards(folder, identity | choices)


def _hash(path: Path) -> str | None:
    """Return the hash of what is in a file; None where ``path`` is a name of something else."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
