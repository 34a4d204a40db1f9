"""Packed weights are the weights."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fastglt.compile.export.compact import CompactLinear, compact, packed, rounded, unpacked


def make_linear(weight):
    rows, columns = weight.shape
    linear = nn.Linear(1, 1)
    linear.weight = nn.Parameter(weight)
    linear.bias = nn.Parameter(torch.randn(rows, dtype=weight.dtype))
    linear.in_features, linear.out_features = columns, rows
    return linear


def make_matrix(seed, rows, columns, density, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=generator).to(dtype)
    return matrix * (torch.rand(rows, columns, generator=generator) < density)


MATRICES = st.builds(
    make_matrix,
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 40),
    columns=st.integers(1, 80),
    density=st.sampled_from([0.0, 0.0005, 0.01, 0.2, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)


@settings(deadline=None)
@given(MATRICES)
def test_unpacking_gives_the_matrix_back(matrix):
    values, gaps = packed(matrix)
    assert gaps.dtype == torch.uint8
    assert len(values) == len(gaps)
    assert torch.equal(unpacked(values, gaps, *matrix.shape), matrix)


@settings(deadline=None)
@given(st.lists(st.sampled_from([1, 254, 255, 256, 257, 509, 510, 511, 765, 1000]), max_size=5))
def test_distances_that_no_byte_holds_are_bridged(distances):
    flat = torch.zeros(sum(distances) + 300)
    places = torch.tensor([0, *distances]).cumsum(0)
    flat[places] = torch.arange(1.0, len(places) + 1)
    for matrix in (flat.view(1, -1), flat[1:].view(-1, 1)):
        values, gaps = packed(matrix)
        assert torch.equal(unpacked(values, gaps, *matrix.shape), matrix)
        kept = int(matrix.count_nonzero())
        # Each bridge crosses 255 places.
        assert kept <= len(values) <= max(1, kept + matrix.numel() // 255)


@settings(deadline=None)
@given(MATRICES)
def test_a_compact_map_is_exact_and_never_larger(matrix):
    linear = make_linear(matrix)
    small = CompactLinear(linear, "float")
    x = torch.randn(3, matrix.size(1), dtype=matrix.dtype)
    with torch.no_grad():
        assert torch.equal(small.weight(), matrix)
        assert torch.equal(small(x), linear(x))
    gaps = 0 if small.gaps is None else small.gaps.nbytes
    assert small.values.nbytes + gaps <= matrix.nbytes


@settings(deadline=None)
@given(MATRICES)
def test_whole_numbers_are_half_a_unit_off_at_most(matrix):
    numbers, unit = rounded(matrix)
    assert numbers.dtype == torch.int8
    assert int(numbers.to(torch.int64).abs().max()) <= 127
    gap = (numbers.to(matrix.dtype) * unit.unsqueeze(1) - matrix).abs()
    assert bool((gap <= unit.unsqueeze(1) * 0.501).all())
    with torch.no_grad():
        weight = CompactLinear(make_linear(matrix), "int8").weight()
    torch.testing.assert_close(weight, numbers.to(matrix.dtype) * unit.unsqueeze(1), rtol=0, atol=0)


def test_sizes_of_zero_stay_dense():
    for shape in ((3, 0), (0, 3)):
        for weights in ("float", "int8"):
            small = CompactLinear(make_linear(torch.zeros(shape)), weights)
            assert small.gaps is None
            assert small(torch.zeros(2, shape[1])).shape == (2, shape[0])


def test_a_full_matrix_is_not_packed():
    assert "dense" in repr(CompactLinear(nn.Linear(5, 5), "float"))
    assert "1 packed" in repr(CompactLinear(make_linear(torch.eye(1, 50)), "float"))


def test_the_model_itself_is_left_alone():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))
    small = compact(model, "float")
    assert type(small[0]) is type(small[2][0]) is CompactLinear
    assert type(model[0]) is type(model[2][0]) is nn.Linear
    assert model.training
    assert model[0].weight.requires_grad
