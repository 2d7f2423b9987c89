from dataclasses import replace
from pathlib import Path

from snnconvert.cli.comparison import document, tables
from snnconvert.cli.measurement import Measurement
from snnconvert.evaluation import Evaluation
from snnconvert.evaluation.result import Difference, Reference, Spiking

SPIKING = Spiking(90.0, 99.0, 0.5, (88.0, 92.0), 95.0, Difference(-2.5, (-3.0, -2.0)))
FOUND = Evaluation(
    *(Reference(92.5, 99.5), SPIKING, None, "tpp", 8, 72, 8, 9, "binary", "counts", 3, 2000, 1.0),
)
FIRST = Measurement(Path("a/first.snn"), "sample", "test", "zoo:net", {"images": 1000}, FOUND)
STREAM = replace(
    FIRST,
    path=Path("stream.snn"),
    calibration={},
    evaluation=replace(
        FOUND, neuron="if", steps=5, by_t=[10.0, 20.0, 30.0, 40.0, 50.0], snn=replace(SPIKING, top1_std=0.0)
    ),
)


def test_one_artefact_is_its_evaluation_and_several_a_list() -> None:
    assert document([FIRST])["snn"]["top1"] == 90.0
    assert document([FIRST])["artefact"] == "a/first.snn"
    assert [each["neuron"] for each in document([FIRST, STREAM])["evaluations"]] == ["tpp", "if"]


def test_every_row_says_what_it_takes_to_compare_it() -> None:
    table, _ = tables([FIRST, STREAM])
    assert table.title == "sample (test), 2000 images"
    ann, first, stream = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (ann["network"], ann["top-1"], ann["top-5"], ann["T"]) == ("ANN zoo:net", "92.50", "99.50", "")
    assert first == {
        "network": "first",
        "neuron": "tpp",
        "spikes": "binary",
        "T": "8",
        "end to end": "72",
        "levels": "9",
        "calibrated on": "1000",
        "seeds": "3",
        "top-1": "90.00 ± 0.50",
        "95 % interval": "[88.0, 92.0]",
        "SNN - ANN (95 %)": "-2.50 [-3.0, -2.0]",
        "like ANN": "95.0",
        "top-5": "99.00",
    }
    assert (stream["top-1"], stream["calibrated on"]) == ("90.00", "no data")


def test_another_ann_has_a_row_of_its_own_and_equal_names_become_paths() -> None:
    other = replace(
        FIRST, path=Path("b/first.snn"), ann="zoo:other", evaluation=replace(FOUND, ann=Reference(80.0, None))
    )
    assert [row[0] for row in tables([FIRST, other])[0].rows] == [
        "ANN zoo:net",
        "ANN zoo:other",
        "a/first.snn",
        "b/first.snn",
    ]


def test_accuracy_by_t_at_powers_of_two_and_the_end() -> None:
    by_t = tables([FIRST, STREAM])[1]
    assert by_t.columns == ("t", "stream")
    assert list(by_t.rows) == [("1", "10.00"), ("2", "20.00"), ("4", "40.00"), ("5", "50.00")]
    assert len(tables([FIRST])) == 1
