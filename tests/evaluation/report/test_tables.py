"""Tables of a report: their cells, and what is left out."""

import math

from snnconvert.evaluation.report import NetworkDetail, Sample
from snnconvert.evaluation.report.tables import answers, best, networks, pairs, sites

from .made_up import ann, snn


def cells(rows: list[dict[str, object]], number: int) -> dict[str, str]:
    table = networks(rows)
    return dict(zip(table.headings[1:], table.rows[number][1], strict=True))


def test_every_figure_of_a_row_with_its_unit() -> None:
    rows = [ann(), snn(1)]
    table = networks(rows)
    assert [name for name, _ in table.rows] == ["fashion-resnet8", "fashion-tpp-T2"]
    assert table.rows[1][1] == [
        *("converted", "tpp", "binary"),
        *("84.20 ± 0.16", "82.9 to 85.4", "3", "2,000"),
        *("2", "16", "16", "2", "2"),
        *("77,824", "0.260", "4.08", "0.221", "500"),
        *("9.84", "1,079", "2.51", "calibration", "2.60", "1,000"),
    ]
    assert table.rows[0][1][:7] == ["ann", "ANN", "–", "92.90", "91.7 to 94.0", "–", "2,000"]
    assert table.groups == [
        *(("", 3), ("Accuracy", 4), ("Time in steps", 5), ("Operations per image", 5)),
        *(("Energy per image [µJ]", 2), ("Weights", 1), ("Cost to make", 3)),
    ]
    assert len(table.numbers) == len(table.starts) == len(table.headings) - 1
    assert [heading for heading, start in zip(table.headings[1:], table.starts, strict=True) if start] == [
        *("kind", "top-1 [%]", "T", "neurons", "horowitz-45nm", "[Mbit]", "by"),
    ]
    assert [heading for heading, number in zip(table.headings[1:], table.numbers, strict=True) if not number] == [
        *("kind", "method", "spikes", "by"),
    ]


def test_columns_without_a_figure_are_left_out() -> None:
    assert "epochs" in cells([snn(3)], 0)
    assert "epochs" not in cells([snn(0)], 0)
    assert [*cells([{"name": "x", "top1": 50, "energy": {"horowitz-45nm": math.nan}}], 0)] == ["top-1 [%]"]


def test_each_energy_stands_under_its_model() -> None:
    found = cells([snn(0, energy={"mine": 3e6}), snn(0, energy=None), snn(0, energy={"other": 0})], 0)
    assert (found["mine"], found["other"]) == ("3.00", "–")


def test_the_best_of_each_number_of_steps() -> None:
    rows = [ann(), snn(0, steps=4, top1=90.0), snn(3, steps=4, top1=91.0), snn(2, steps=8, top1=95.0)]
    assert best(rows) == {2: 4}
    assert best([*rows, snn(3, steps=4, top1=91.0)]) == {2: 4, 4: 4}
    assert best([*rows, snn(0, kind="quantised", steps=4, top1=99.0)]) == {2: 4}
    assert best([*rows, snn(0, steps=8, top1=math.nan), snn(0, steps=8, top1=None)]) == {2: 4}
    assert best([snn(0, steps=None), snn(1, steps=None)]) == {}


def test_sites_with_their_errors() -> None:
    found = sites(
        NetworkDetail(
            "n",
            [
                {"name": "a", "neurons": 1024, "spikes": 12.25, "rate": 0.012}
                | {"threshold": {"min": 1, "median": 2.0, "max": 3.5}},
                {"name": "b", "neurons": 8, "spikes": None, "rate": math.nan, "threshold": None},
            ],
            errors=[{"site": "b", "clipped": 0.25, "quantisation": None}, {"site": "gone", "clipped": 0.5}],
        )
    )
    assert found
    assert found.rows == [
        ("a", ["1,024", "12.2", "0.0120", "1.00", "2.00", "3.50", "–"]),
        ("b", ["8", "–", "–", "–", "–", "–", "0.250"]),
        ("gone", ["–", "–", "–", "–", "–", "–", "0.500"]),
    ]
    assert found.headings[-1] == "error: clipping"
    assert len(found.headings) == 8
    assert len(found.numbers) == len(found.starts) == 7
    assert sites(NetworkDetail("n")) is None


def test_answers_are_by_network() -> None:
    samples = [
        Sample(b"", "coat", [("ANN", "coat"), ("snn", "shirt")]),
        Sample(b"", "bag", [("ANN", "bag"), ("late", "bag")]),
    ]
    assert answers(samples) == [
        ("ANN", [("✓", "coat", True), ("✓", "bag", True)]),
        ("snn", [("✗", "shirt", False), ("", "–", None)]),
        ("late", [("", "–", None), ("✓", "bag", True)]),
    ]


def test_pairs() -> None:
    pair = {"first": "a", "second": "b", "agreement": 95.054, "only_first": 3, "only_second": 1200, "p_value": 1e-9}
    assert pairs([pair, {"first": "a"}]) == [
        ("a", "b", ["95.05", "3", "1,200", "<0.001"]),
        ("a", "–", ["–", "–", "–", "–"]),
    ]
