"""How values lie in memory, against numbers that were laid there one by one."""

import pytest
import torch

from snnconvert.converter.population import Population, alike, rows_of, train_like

SHAPES = [(2, 3, 4, 5), (2, 3), (2, 1, 7), (2, 3, 1, 1), (1, 6, 5), (4, 3, 2, 2, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("axis", [1, -1])
def test_rows_lead_from_memory_to_channel_and_neuron(shape: tuple[int, ...], last: bool, axis: int) -> None:
    axis %= len(shape)
    x = torch.arange(float(torch.Size(shape).numel())).reshape(shape)  # each value is its place in contiguous order
    x = x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x
    channel = torch.arange(shape[axis]).reshape([-1 if d == axis else 1 for d in range(len(shape))]).expand(shape)
    rows = rows_of(x, Population(axis, torch.ones(shape[axis]), None, None, 4, 0, 4), len(x))
    if last and axis != 1 and not x.is_contiguous():
        assert rows is None
        return
    assert rows is not None
    memory = x.as_strided((x.numel(),), (1,)).long().tolist()
    per_image = x.numel() // len(x)
    for place, value in enumerate(memory):
        row, along = divmod(place, rows.length)
        image, row_of_image = divmod(row, rows.per_image)
        assert image == value // per_image
        assert row_of_image * rows.position + along * rows.channel == value % per_image
        assert (along if rows.spread else row % rows.channels) == channel.flatten()[value]
    assert rows.images * rows.per_image * rows.length == x.numel()


def test_several_rows_of_an_image_are_numbered_together() -> None:
    site = Population(1, torch.ones(3), None, None, 4, 0, 4)
    rows = rows_of(torch.zeros(6, 3, 5), site, 2)
    assert rows is not None
    assert (rows.images, rows.per_image, rows.position) == (2, 9, 5)
    assert rows_of(torch.zeros(6, 3, 5).movedim(1, -1).contiguous().movedim(-1, 1), site, 2) is None
    assert rows_of(torch.zeros(6, 3, 5), site, 4) is None


def test_steps_that_lie_in_memory_otherwise_are_not_alike() -> None:
    v = torch.zeros(2, 3, 4, 5)
    last = v.contiguous(memory_format=torch.channels_last)
    for potential in (v, last):
        train = train_like(torch.zeros(7, *v.shape), potential)
        assert train.shape == (7, *v.shape)
        assert alike(train, potential)
        assert alike(potential.expand(7, *v.shape), potential)
        assert not alike(train, last if potential is v else v)
        assert not alike(train.double(), potential)
        assert not alike(train.clone().requires_grad_(), potential)
    assert (
        alike(torch.zeros(7, 2, 3, 1, 5), torch.zeros(2, 3, 1, 5).contiguous(memory_format=torch.channels_last))
        is False
    )
    assert alike(torch.zeros(7, 2, 3, 1, 1), torch.zeros(2, 3, 1, 1).contiguous(memory_format=torch.channels_last))
