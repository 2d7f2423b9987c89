"""The marks of finished batches in a folder, so that an evaluation that was killed goes on where it was.

Each batch is one file, written all or nothing; each evaluation has a sub-folder, named by a hash of what decides its
result. So no image is counted twice, and no mark for another evaluation, whatever the number of processes.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from snnconvert.converter import processes
from snnconvert.converter.errors import ArtefactRefused, UsageError
from snnconvert.converter.tensor_file import read_tensors, write_tensors

from .marks import Marks

_KEY = "snnconvert.shard"
_FORMAT = 1
_NAME = re.compile(r"(0|[1-9]\d{0,11})\.shard")
_ANOTHER = "name another folder to resume from"


class Shards:
    """The finished batches of one evaluation; all processes make it together.

    Args:
        folder: where the sub-folders of evaluations lie; made where there is none.
        identity: what decides the result, JSON-able; the same in all processes.

    Attributes:
        folder: the sub-folder of this evaluation.
        finished: marks by the number of the batch, as the first process found them.

    Raises:
        UsageError: ``folder`` is a file.
        ArtefactRefused: a file in the sub-folder that is damaged, or of something else.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
        self.folder = folder / self.name
        self.finished = processes.gather(lambda: self._find() if processes.rank() == 0 else {})[0]

    def keep(self, number: int, marks: Marks) -> None:
        """Write the marks of a finished batch.

        Raises:
            ArtefactRefused: the folder cannot be written.
        """
        document = {"format": _FORMAT, "evaluation": self.name, "batch": number}
        self._make_folder()  # on this machine, too
        try:
            write_tensors(self.folder / f"{number}.shard", marks.tensors(), _KEY, document)
        except ArtefactRefused as error:
            raise ArtefactRefused(error.message, _ANOTHER) from error

    def _find(self) -> dict[int, Marks]:
        for place in (self.folder.parent, self.folder):
            if place.exists() and not place.is_dir():
                raise UsageError(f"expected a folder to resume from, got the file {place}", _ANOTHER)
        self._make_folder()
        paths = sorted(path for path in self.folder.iterdir() if not path.name.startswith("."))  # half-written ones
        return dict(map(self._read, paths))

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtefactRefused(f"{self.folder} cannot be made: {error.strerror}", _ANOTHER) from error

    def _read(self, path: Path) -> tuple[int, Marks]:
        delete = "delete it, and its images are evaluated again"
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise ArtefactRefused(f"{path} is no shard of an evaluation", f"move it, or {_ANOTHER}")
        try:
            tensors, document = read_tensors(path, _KEY, _FORMAT, ".shard")
            if (document.get("evaluation"), document.get("batch")) != (self.name, int(name[1])):
                raise ValueError("it is of another evaluation, or another batch")
            return int(name[1]), Marks.of(tensors)
        except ArtefactRefused as error:
            raise ArtefactRefused(error.message, delete) from error
        except ValueError as error:
            raise ArtefactRefused(f"{path} is a damaged .shard file: {error}", delete) from error
