"""A sample of the sweep over all architectures, against its log in docs: one small network of each family."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from coverage import measure  # noqa: E402
from coverage_log import Logged, read  # noqa: E402
from coverage_models import Candidate, candidates  # noqa: E402

SAMPLE = 60


def sample() -> list[Logged]:
    """Return the quickest networks that passed, each of another family."""
    quickest: dict[tuple[str, str], Logged] = {}
    rows = read([ROOT / "docs" / "coverage.csv"]).values()
    passed = [row for row in rows if row["status"] == "passed" and row["mode"] == "full"]
    for row in sorted(passed, key=lambda row: float(row["seconds"])):
        quickest.setdefault((row["library"], row["family"]), row)
    return list(quickest.values())[:SAMPLE]


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, str], Candidate]:
    return {(each.library, each.name): each for each in candidates()}


def test_the_sample_is_as_large_as_is_said() -> None:
    assert len(sample()) == SAMPLE


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", sample(), ids=lambda row: f"{row['library']}:{row['name']}")
def test_a_network_converts_faithfully(row: Logged, known: dict[tuple[str, str], Candidate]) -> None:
    found = measure(known[row["library"], row["name"]])
    assert (found.status, found.reason) == ("passed", "")
    assert found.verdict == row["verdict"]
    assert [found.sites, found.ternary_sites, found.analog] == [
        int(row[n]) for n in ("sites", "ternary_sites", "analog")
    ]
