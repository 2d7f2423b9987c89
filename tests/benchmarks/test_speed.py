"""The pieces of the speed benchmark, and a small run of what measures; nothing here looks at a time."""

import json
import statistics
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snnconvert import observe, save
from snnconvert.model_zoo.cifar_resnet import CifarResNet

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import growth  # noqa: E402
import peer  # noqa: E402
import speed  # noqa: E402

needs_peer = pytest.mark.skipif(peer.version() is None, reason="needs SpikingJelly")
MACHINE = {"cpu": "a CPU", "threads": 2}
LOAD = {"load_at_start": [0.5, 0, 0], "load_at_end": [0.25, 0, 0]}


def tiny(batch: int = 3) -> growth.Subject:
    torch.manual_seed(0)
    return growth.Subject("tiny", "random", CifarResNet(8).eval(), torch.randn(batch, 3, 8, 8))


def made_up_parts(peers: bool) -> dict[str, Any]:
    times = {"ANN, contiguous": [2.0, 3.0], "ANN, channels_last": [1.0, 2.0]}
    times |= {"as given, contiguous": [5.0, 5.0], "as given, channels_last": [4.0, 4.0]}
    times |= {"two-phase": [2.0, 4.0], "tpp": [3.0, 6.0], "if": [8.0, 16.0]}
    if peers:
        times |= {"SpikingJelly s, contiguous": [16.0, 16.0], "SpikingJelly m, contiguous": [40.0, 8.0]}
        times |= {"SpikingJelly s, channels_last": [12.0, 12.0]}
    network = {
        "network": "tiny",
        "weights": "random",
        "input": [3, 3, 8, 8],
        "device": "cpu",
        "rows": [speed.summary(times, 4, 3)],
        "memory": [{"T": 4, "ann": 100, "if": 700, "above": 600}],
    }
    command = {"command": "ours", "against": "theirs"}
    quarter = {"median": 0.25, "quartiles": [0.2, 0.3]}
    command |= {"seconds": {"command": quarter, "bare": quarter}, "ratio": {"median": 1.0, "quartiles": [0.9, 1.1]}}
    rows = {"networks": [network], "command": [{"skipped": "no data"}], "start_up": [command, command]}
    rows["growth"] = [growth.fitted("Seconds against T", "T", [{"T": 1, "if": 2.0}, {"T": 2, "if": 4.0}], ["if"])]
    return {name: {"machine": MACHINE, "repeats": 2, **LOAD, "rows": each} for name, each in rows.items()}


def test_the_page_in_docs_is_that_of_its_document() -> None:
    target = ROOT / speed.TARGET
    if not target.exists():
        pytest.skip("not measured yet")
    assert target.with_suffix(".md").read_text() == speed.document(json.loads(target.read_text()))


def test_a_power_law_is_a_line_in_logarithms() -> None:
    x, y = [1.0, 2.0, 5.0, 9.0], [2.0, 7.0, 30.0, 200.0]
    slope, constant = np.polyfit(np.log(x), np.log(y), 1)
    left = np.log(y) - slope * np.log(x) - constant
    found = growth.power_law(x, y)
    assert found["exponent"] == pytest.approx(slope, abs=1e-3)
    assert found["residual"] == pytest.approx(np.sqrt((left**2).mean()), abs=1e-4)


def test_quartiles_are_those_of_the_standard_library() -> None:
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    assert growth.quartiles(values) == {"median": middle, "quartiles": [low, high]}
    assert growth.quartiles([2.0]) == {"median": 2.0, "quartiles": [2.0, 2.0]}


def test_a_ratio_is_taken_repeat_by_repeat() -> None:
    assert growth.ratio([2.0, 40.0, 9.0], [1.0, 10.0, 3.0], 2)["median"] == 1.5


def test_runs_are_interleaved_and_the_first_does_not_count() -> None:
    said: list[str] = []
    runs = {name: lambda name=name: said.append(name) for name in "ab"}
    times = growth.interleaved(runs, 2, lambda: said.append("|"))
    assert "".join(said) == "|a||b|" * 3
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def test_repeated_images_start_again_after_the_last() -> None:
    images, labels = torch.arange(5.0)[:, None], torch.arange(5)
    parts = list(growth.repeated(images, labels, 8, 3))
    assert torch.cat([part[1] for part in parts]).tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert torch.cat([part[2] for part in parts]).tolist() == list(range(8))
    assert torch.equal(torch.cat([part[0] for part in parts])[:, 0].long(), torch.cat([part[1] for part in parts]))


@pytest.mark.parametrize(
    ("tied", "expected"),
    [
        ({}, 3),
        ({"second": (0, 1)}, 2),  # excuses itself, and its image at the third site
        ({"first": (0, 0)}, 1),  # everything after it, in its image
        ({"third": (0, 0)}, 2),  # nothing before it
        ({"first": (1, 0)}, 2),  # not the other image
    ],
)
def test_a_tie_excuses_itself_and_what_comes_after_in_its_image(
    tied: dict[str, tuple[int, int]], expected: int
) -> None:
    names = ("first", "second", "third")
    different = {name: torch.zeros(2, 2, dtype=torch.bool) for name in names}
    ties = {name: torch.zeros(2, 2, dtype=torch.bool) for name in names}
    different["second"][0, 0] = different["third"][0, 0] = different["third"][1, 1] = True
    for name, place in tied.items():
        ties[name][place] = True
    assert peer.unexplained(names, different, ties) == expected


def test_a_summary_compares_with_the_faster_of_each() -> None:
    row = made_up_parts(True)["networks"]["rows"][0]["rows"][0]
    assert row["ann"] == "ANN, channels_last"
    assert row["ratios"]["two-phase"]["median"] == 2
    assert (row["ratios"]["if"]["median"], row["if_per_step"]["median"]) == (8, 2)
    assert (row["if_to_peer"]["median"], row["if_to_best_peer"]["median"]) == (0.75, 1.0)
    assert row["images_per_second"] == {"ANN, channels_last": 2.0, "two-phase": 1.0, "tpp": 0.7, "if": 0.2}


def test_bars_tell_the_worst_value_and_what_was_not_measured() -> None:
    rows = {name: part["rows"] for name, part in made_up_parts(False).items()}
    found = {bar["bar"]: (bar["worst"], bar["met"]) for bar in speed.bars(rows)}
    networks = [(2.0, False), (3.0, False), (2.0, False), (None, None), (600, False)]
    assert list(found.values()) == [*networks, (None, None), (None, None), (None, None), (1.0, True), (1.0, True)]


def test_the_page_shows_what_the_document_holds() -> None:
    page = speed.document(json.loads(json.dumps(made_up_parts(True))))
    ratios = "2 [2, 2] | 3 [3, 3] | 8 [8, 8] | 2 [2, 2]"
    theirs = "1.6e+04 / 1.2e+04 | 2.4e+04 /  | 0.75 [0.625, 0.875] | 1 [0.833, 1.17]"
    assert f"| 4 | 1500 (channels_last) | 5000 / 4000 | {ratios} | 1.2e+04 | {theirs} |" in page
    assert "| 500 | 600 | **not met** |" in page
    assert "Skipped: no data." in page
    assert "| ours | theirs | 0.25 [0.2, 0.3] | 0.25 [0.2, 0.3] | 1 [0.9, 1.1] |" in page
    assert "if T^1.00 (residual 0.0%)" in page
    assert "2 repeats; load 0.50 to 0.25" in page


def test_the_page_without_spikingjelly_says_how_to_get_it() -> None:
    page = speed.document(made_up_parts(False))
    assert "| 1.2e+04 |  /  |  /  |  |  |" in page
    assert peer.HOW in page
    assert peer.HOW in "".join(peer.spikes_page([]))


def test_writing_keeps_the_parts_that_were_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = made_up_parts(False)
    target = tmp_path / "speed.json"
    target.write_text(json.dumps({"command": parts["command"]}))
    monkeypatch.setattr(speed, "TARGET", target)
    monkeypatch.setattr(speed, "measure_part", lambda part, *_: parts[part]["rows"])
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["speed.py", "--start-up", "--write", "--threads", str(threads)])
    speed.main()
    written = json.loads(target.read_text())
    assert list(written) == ["command", "start_up"]
    assert target.with_suffix(".md").read_text() == speed.document(written)
    assert json.loads(capsys.readouterr().out)["start_up"]["rows"] == parts["start_up"]["rows"]


def test_two_commands_are_timed_and_heard() -> None:
    commands = {name: [sys.executable, "-S", "-c", f"print({name!r})"] for name in ("command", "bare")}
    found, printed = peer.timed(commands, 1, 1)
    assert printed == {"command": "command\n", "bare": "bare\n"}
    assert set(found) == {"seconds", "ratio"}


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(SystemExit, match="expected a number"):
        peer.quietly(sys.executable, "-S", "-c", "raise SystemExit('expected a number')", threads=1)


def test_the_whole_command_needs_shared_files(tmp_path: Path) -> None:
    found = peer.whole_command(tiny(), tmp_path, tmp_path, 1, 1)
    assert "cifar10_resnet20.pt" in found["skipped"]


@pytest.mark.filterwarnings("ignore")
def test_a_small_network_is_measured() -> None:
    found = speed.measure(tiny(), [2], 1)
    row = found["rows"][0]
    assert (found["input"], row["T"]) == ([3, 3, 8, 8], 2)
    assert set(made_up_parts(False)["networks"]["rows"][0]["rows"][0]) <= set(row)
    assert speed.network_page(found)[0].startswith("### tiny, 3x3x8x8, cpu")


def test_growth_is_measured() -> None:
    images = torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64)
    tables = [
        growth.against_steps(tiny(), (2, 4), 1),
        growth.against_images(tiny(), images, (3, 6), 1),
        *growth.against_size([tiny(), tiny()], 1),
    ]
    assert [list(table["fits"]) for table in tables] == [
        ["two-phase", "tpp", "if"],
        ["evaluate"],
        ["two-phase", "tpp"],
        ["prepare + convert"],
    ]
    assert "### Seconds against T: tiny, batch 3" in growth.page(tables)


def test_bandwidth_and_peak_memory_are_measured(tmp_path: Path) -> None:
    assert set(growth.bandwidth("cpu", 1, side=4, steps=2)["gigabytes_per_second"]) == {"copy", *growth.NEURONS}
    graph, images = growth.prepared(tiny())
    artefact = tmp_path / "if.snn"
    save(artefact, growth.spiking(graph, observe(graph, [images]), "if", 2), {})
    assert speed.peak_of("if", str(artefact), "2") > 2**20


def test_without_spikingjelly_there_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peer, "version", lambda: None)
    options = Namespace(shared=tmp_path, repeats=1, threads=1)
    assert speed.measure_part("spikes", options, tmp_path) == []


@needs_peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [1, 5])
def test_spikingjelly_fires_the_same_spikes(steps: int) -> None:
    found = peer.same_spikes(tiny(), steps, torch.float64)
    assert found["spikes"] > 0
    assert (found["unexplained"], found["layer_wise_different"]) == (0, 0)


def test_readme_shows_ratios_of_the_document() -> None:
    target = ROOT / speed.TARGET
    if not target.exists():
        pytest.skip("not measured yet")
    networks = json.loads(target.read_text())["networks"]["rows"]
    readme = (ROOT / "README.md").read_text()
    for network in networks:
        (line,) = (each for each in readme.splitlines() if each.startswith(f"| {network['network']}, batch "))
        rows = {row["T"]: row for row in network["rows"]}
        for cell, value_of in zip(
            line.split("|")[3:7],
            (
                lambda row: row["ratios"]["two-phase"],
                lambda row: row["ratios"]["tpp"],
                lambda row: row["if_per_step"],
                lambda row: row["if_to_peer"],
            ),
            strict=True,
        ):
            assert cell.strip() == ", ".join(f"{value_of(rows[t])['median']:.2f}" for t in (8, 64))
