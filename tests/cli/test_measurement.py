from pathlib import Path

import pytest

from snnconvert.cli.measurement import Measurement, missed_bar
from snnconvert.evaluation import Evaluation
from snnconvert.evaluation.result import Difference, Reference, Spiking

SPIKING = Spiking(90.0, 99.0, 0.5, (88.0, 92.0), 95.0, Difference(-2.5, (-3.0, -2.0)))
FOUND = Evaluation(
    *(Reference(92.5, 99.5), SPIKING, None, "tpp", 8, 72, 8, 9, "binary", "counts", 3, 2000, 1.0),
)
FIRST = Measurement(Path("a/first.snn"), "sample", "test", "zoo:net", {"images": 1000}, FOUND)


@pytest.mark.parametrize(("bar", "missed"), [(None, False), (2.5, False), (2.4, True), (0, True), (100, False)])
def test_the_bar(bar: float | None, missed: bool) -> None:
    error = missed_bar([FIRST], bar)
    assert (error is not None) is missed
    if error:
        assert error.exit_code == 4
        assert "a/first.snn: top-1 90.00, the ANN's 92.50" in error.message
