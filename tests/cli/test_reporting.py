"""What the page is filled with, next to what the artefacts and the executors say."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from snnconvert.cli import beside, reporting
from snnconvert.cli.output import Output
from snnconvert.cli.subject import Chosen, Conditions
from snnconvert.evaluation.report import Report
from snnconvert.model_zoo import Preprocessing, open_dataset
from snnconvert.model_zoo.libraries import torchvision

MODEL, DATA = "zoo:fashion-resnet8", "fashion-mnist-sample"


@pytest.fixture(scope="module")
def found(
    run: Callable[..., Any], artefacts: dict[str, Path], direct: Path, tmp_path_factory: pytest.TempPathFactory
) -> beside.Comparison:
    """A network that was searched for, with an account of its errors, one of mere thresholds, and a direct one."""
    path = tmp_path_factory.mktemp("searched") / "searched.snn"
    recipe = ["--recipe", "thresholds", "--neuron", "if", "-T", 2, "--max-drop", 100]
    result = run("convert", MODEL, "--data", DATA, "--images", 50, *recipe, "-o", path)
    assert result.code == 0, result.stderr
    conditions = Conditions(torch.device("cpu"), data=DATA, images=20, seed=4, seeds=2, reference=path)
    return beside.compare(Output(quiet=True), Chosen([path, artefacts["tpp"], direct], [], path, DATA), conditions)


@pytest.fixture(scope="module")
def page(found: beside.Comparison) -> Report:
    return reporting.make_report(found)


def test_sites_and_thresholds(found: beside.Comparison, page: Report) -> None:
    for network, detail in zip(found.networks, page.networks, strict=True):
        model = network.subject.model
        assert [site["name"] for site in detail.sites] == [site.name for site in model.graph.sites]
        for site in detail.sites:
            theta = model.thresholds.values[site["name"]].numpy()
            assert site["threshold"] == {
                "min": pytest.approx(theta.min()),
                "median": pytest.approx(np.sort(theta)[(theta.size - 1) // 2]),
                "max": pytest.approx(theta.max()),
            }
            assert site["rate"] == pytest.approx(site["spikes"] / site["neurons"] / model.steps)


def test_what_is_known_of_each_network(found: beside.Comparison, page: Report) -> None:
    searched, tpp, direct = page.networks
    assert [each.name for each in page.networks] == ["searched", "fashion-tpp", "direct"]
    assert searched.curve == [(1, pytest.approx(searched.curve[0][1]))]
    assert len(searched.errors) == len(searched.sites)
    assert {"site", "own", "clipped"} <= set(searched.errors[0])
    assert (tpp.curve, tpp.errors, tpp.by_t) == ([], [], None)
    assert direct.by_t == found.measured[2].evaluation.by_t
    assert direct.by_t is not None
    assert [row["name"] for row in page.rows] == [row.name for row in found.rows]
    assert page.pairs == found.pairs


def test_the_raster_is_that_of_the_first_image(found: beside.Comparison, page: Report) -> None:
    subject = found.networks[1].subject
    images, _, positions = next(subject.dataset.batches(20, limit=20, seed=4))
    raster = page.networks[1].raster
    assert raster is not None
    assert raster.image == f"image {int(positions[0])} of {DATA} (test)"
    names = [site.name for site in subject.model.graph.sites]
    assert [name for name in names if name in raster.sites] == list(raster.sites)
    assert (names[0] in raster.sites, names[-1] in raster.sites, len(raster.sites)) == (True, True, 4)
    counts = subject.model.activity(images[:1], index=positions[:1], executor="layers")
    for name, spikes in raster.sites.items():
        assert spikes.shape == (4, 24)
        flat = counts[name].flatten().numpy()
        assert spikes[:, 0].sum() == flat[0]
        assert spikes[:, -1].sum() == flat[-1]
    assert [raster.starts[name] for name in (names[0], names[-1])] == [4, subject.model.end_to_end_steps - 4]
    direct = page.networks[2].raster
    assert direct is not None
    assert (direct.sites["1"].shape[0], direct.starts) == (2, {"1": 0})


def test_samples_are_the_first_images_and_what_was_answered(found: beside.Comparison, page: Report) -> None:
    preprocessing = found.networks[0].subject.dataset.preprocessing
    data = open_dataset(DATA, split="test", preprocessing=preprocessing)
    _, labels, positions = next(data.batches(12, limit=20, seed=4))
    names = [name.lower() for name in torchvision().datasets.FashionMNIST.classes]
    assert [sample.label for sample in page.samples] == [names[label] for label in labels]
    for number, sample in enumerate(page.samples):
        picture = np.asarray(Image.open(io.BytesIO(sample.png)))
        assert np.array_equal(picture, data.read(positions[number : number + 1].numpy())[0, 0].numpy())
        assert sample.predictions == [(row.name, names[row.answers[number]]) for row in found.rows]
    assert page.samples[0].predictions[0][0] == MODEL


def test_classes_without_names_are_numbers(found: beside.Comparison) -> None:
    network = found.networks[0]
    data = replace(network.subject.dataset, names=())
    plain = replace(network, subject=replace(network.subject, dataset=data))
    said = [(sample.label, sample.predictions[0][1]) for sample in reporting._samples(plain, found.rows)]
    row = found.rows[0]
    assert said == [(str(label), str(answer)) for label, answer in zip(row.labels[:12], row.answers, strict=False)]


def test_fewer_images_than_samples(found: beside.Comparison) -> None:
    rows = [replace(row, images=3) for row in found.rows]
    assert len(reporting.make_report(replace(found, rows=rows)).samples) == 3


def test_colour_pictures() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 5, 4), np.uint8)
    again = np.asarray(Image.open(io.BytesIO(reporting._png(picture))))
    assert np.array_equal(again, picture.transpose(1, 2, 0))


def test_pictures_that_no_one_can_look_at(found: beside.Comparison) -> None:
    network = found.networks[0]
    four = Preprocessing(size=(4, 8, 8), mean=(0.0,) * 4, std=(1.0,) * 4)
    black = torch.zeros(12, 4, 8, 8, dtype=torch.uint8)
    data = replace(network.subject.dataset, preprocessing=four, read=lambda positions: black[: len(positions)])
    strange = replace(network, subject=replace(network.subject, dataset=data))
    assert reporting._samples(strange, found.rows) == []


def test_notes_say_what_was_counted_on_what(found: beside.Comparison, page: Report) -> None:
    notes = " ".join(page.notes)
    assert "on 20 test images" in notes
    assert "means over the first 20 of these images" in notes
    assert "means over 2 seeds" in notes
    assert "A quantised ANN has the ANN's weights" in notes
    assert all(name in notes for name in ("horowitz-45nm", "lemaire"))
    only = replace(found, rows=[row for row in found.rows if row.kind == "direct"])
    notes = " ".join(reporting.make_report(only).notes)
    assert "seeds" not in notes
    assert "quantised" not in notes
    assert "does not say what it took" not in notes
    assert "not seen" not in notes
    data = found.networks[0].subject.dataset
    about = {"model": {}, "training": {"digest": data.digest()}}
    seen = replace(found.networks[0], subject=replace(found.networks[0].subject, about=about))
    said = f"searched.snn was trained on images of {DATA}, so its accuracy there is not that on images it has not seen."
    assert said in reporting.make_report(replace(found, networks=[seen])).notes
    unknown = replace(only, rows=[replace(row, cost=None) for row in only.rows])
    assert "does not say what it took" in " ".join(reporting.make_report(unknown).notes)
