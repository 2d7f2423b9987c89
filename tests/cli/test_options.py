import pytest

from snnconvert.cli import options
from snnconvert.cli.options import worker_count
from snnconvert.converter.errors import UsageError


@pytest.mark.parametrize(
    ("stated", "files", "count"), [(None, False, 0), (None, True, 2), (0, True, 0), (5, True, 5), (5, False, 5)]
)
def test_files_are_read_ahead_unless_stated_otherwise(stated: int | None, files: bool, count: int) -> None:
    assert worker_count(stated, files=files) == count


@pytest.mark.parametrize(("text", "size"), [("1B", 1), ("500MB", 500_000_000), ("2GiB", 2**31), ("1.5 KiB", 1536)])
def test_sizes_are_numbers_with_a_unit(text: str, size: int) -> None:
    assert options.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "2", "GiB", "-1MB", "0MB", "1.2.3MB", "2TB", "inf MB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a size such as 500MB or 2GiB, got"):
        options.parse_size(text)
