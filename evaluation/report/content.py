"""What a report shows: plain data, each part of which may be missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Spikes = NDArray[np.bool_] | NDArray[np.integer]


@dataclass(frozen=True)
class Raster:
    """The spikes that a few neurons fire for one image.

    Args:
        sites: site name to [steps, neurons]; true or positive where a neuron fires, negative where it fires a negative
            spike.
        image: what the image is, in words; "" if unknown.
        starts: site name to the steps after the image at which its window begins; 0 for those that are not named.
    """

    sites: Mapping[str, Spikes]
    image: str = ""
    starts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NetworkDetail:
    """One network, site by site.

    Args:
        name: that of its row.
        sites: in the order in which they run: "name", "neurons", "spikes" per image, "rate" in spikes per neuron and
            step, and "threshold" with "min", "median" and "max".
        by_t: top-1 in percent after 1..T steps; None where an answer exists only after the window.
        curve: (T, top-1 in percent) of the networks that a search tried.
        errors: each site's mean squares, in units of that of its activation, as `calibration.attribution` names them.
        raster: the spikes of a few neurons.
    """

    name: str
    sites: list[dict[str, Any]] = field(default_factory=list)
    by_t: list[float] | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    raster: Raster | None = None


@dataclass(frozen=True)
class Sample:
    """One test image.

    Args:
        png: the image, a PNG file of any size.
        label: its class.
        predictions: (row name, predicted class), the ANN's first.
    """

    png: bytes
    label: str
    predictions: list[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """Everything on the page.

    Args:
        title: what was compared, and on what.
        made: date and time, version and command line.
        rows: one dictionary a network, the ANN's first: a `Row` as JSON.
        pairs: two networks on the same images: "first", "second", "agreement" in percent, "only_first" and
            "only_second" in images that one alone had right, "p_value" of McNemar's test.
        networks: one entry each spiking network.
        samples: test images and what was made of them.
        notes: sentences.
    """

    title: str
    made: str
    rows: list[dict[str, Any]]
    pairs: list[dict[str, Any]] = field(default_factory=list)
    networks: list[NetworkDetail] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
