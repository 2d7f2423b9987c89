import math
from typing import Any

import pytest

from snnconvert.calibration.settings import LEARNED, SCOPES, Settings
from snnconvert.converter.errors import UsageError


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("learn", [LEARNED, ("bias",)])
def test_what_exists_is_accepted(scope: str, learn: tuple[str, ...]) -> None:
    Settings(scope=scope, learn=learn, iterations=1).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scope": "layers"},
            "unknown scope 'layers': expected one of layer, block, network\nhint: did you mean 'layer'",
        ),
        ({"learn": ("weight", "biases")}, "unknown thing to learn 'biases'"),
        ({"learn": ()}, "at least one iteration and one thing to learn"),
        ({"iterations": 0}, "at least one iteration and one thing to learn"),
        ({"weight_rate": 0.0}, "weight_rate must be a number above 0, got 0.0"),
        ({"threshold_rate": math.nan}, "threshold_rate must be a number above 0, got nan"),
        ({"hint": 1.0, "scope": "layer"}, "hint is for scope network or block: of layer, each site learns by itself"),
        ({"hint": -1.0}, "hint must be a number, 0 or more, got -1.0"),
        ({"hint": math.inf}, "hint must be a number, 0 or more, got inf"),
        ({"temperature": math.inf}, "temperature must be a number above 0, got inf"),
    ],
)
def test_what_does_not_exist_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**change).check()
