from snnconvert.model_zoo import DATASETS, known_architectures, shipped
from snnconvert.model_zoo.baselines import METHODS


def test_everything_at_a_glance(run) -> None:  # type: ignore[no-untyped-def]
    result = run("zoo")
    assert result.code == 0
    assert "zoo:fashion-resnet8" in result.stdout
    assert "timm:resnet18" not in result.stdout
    assert all(name in result.stdout for name in DATASETS)
    assert f"{sum(not each.name.startswith('zoo:') for each in known_architectures())} architectures" in result.stderr


def test_a_filter_looks_at_the_bare_name_too(run) -> None:  # type: ignore[no-untyped-def]
    bare = run("zoo", "architectures", "--filter", "resnet18", "--json").document["architectures"]
    assert {entry["name"] for entry in bare} == {"torchvision:resnet18", "timm:resnet18"}
    full = run("zoo", "architectures", "--filter", "timm:resnet18", "--json").document["architectures"]
    assert [entry["name"] for entry in full] == ["timm:resnet18"]
    assert run("zoo", "architectures", "--filter", "nothing*", "--json").document == {"architectures": []}
    assert run("zoo", "architectures", "--filter", "nothing*").code == 0


def test_only_one_list(run) -> None:  # type: ignore[no-untyped-def]
    assert {entry["name"] for entry in run("zoo", "datasets", "--json").document["datasets"]} == set(DATASETS)
    weights = run("zoo", "weights", "--json").document
    assert list(weights) == ["weights"]
    assert {"name": "zoo:fashion-resnet8", "weights": "embedded"} in weights["weights"]


def test_an_unknown_list(run) -> None:  # type: ignore[no-untyped-def]
    result = run("zoo", "architecture")
    assert result.code == 2
    assert "did you mean 'architectures'?" in result.stderr


def test_methods_with_their_settings(run) -> None:  # type: ignore[no-untyped-def]
    found = {entry["name"]: entry for entry in run("zoo", "methods", "--json").document["methods"]}
    assert list(found) == list(METHODS)
    assert found["lif"]["settings"] == "leak=0.5, threshold=1.0, surrogate=arctangent, hard_reset=False"
    assert found["ann"]["settings"] == ""
    assert "reconstruction from the abstract" in found["albsnn"]["description"]


def test_spiking_networks_say_how_they_were_trained(run) -> None:  # type: ignore[no-untyped-def]
    found = run("zoo", "spiking", "--json").document["spiking"]
    assert [entry["name"] for entry in found] == [f"zoo:{name}" for name in shipped()]
    assert all(entry["trained with"].startswith("snnconvert train ") for entry in found)
