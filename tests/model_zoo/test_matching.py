from snnconvert.model_zoo.matching import mismatches


def test_names_every_kind_of_difference() -> None:
    expected = {"a": (1,), "b": (2, 3), "c": (4,)}
    assert mismatches(expected, {"b": (2, 5), "c": (4,), "d": ()}) == (
        "1 missing: a",
        "1 unexpected: d",
        "1 of another shape: b (expected [2, 3], got [2, 5])",
    )
    assert mismatches(expected, expected) == ()
