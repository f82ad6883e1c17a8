"""Kernels between units: the definition, in blocks and by random features."""

import numpy as np
import pytest
import torch

from monitoring.kernels import Fourier, median_distance, mixed, row_kernels, unit_sums
from monitoring.units import of_blocks, of_rows

UNITS = {
    "rows": of_rows(20, 15, 0),
    "bins": of_rows(40, 30, 0, most=10, least=3),
    "blocks": of_blocks([0, 0, 0, 1, 2, 2, 1], [5, 6, 6, 6, 5, 7, 7, 7, 7]),
}
BANDWIDTHS = {"one": [1.3], "halves": [0.5, 1.0, 2.0], "unordered": [2.0, 0.5], "any": [0.7, 1.9]}


def by_hand(points, units, bandwidth):
    """Sums of the kernel over the rows of two units, a row never with itself."""
    squared = ((points[:, None].astype(np.float64) - points[None]) ** 2).sum(axis=-1)
    kernel = np.exp(-squared / (2 * bandwidth**2))
    np.fill_diagonal(kernel, 0.0)
    member = np.eye(units.count)[units.unit]
    return member.T @ kernel @ member


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("widths", BANDWIDTHS)
@pytest.mark.parametrize("memory_mb", [0.001, 64])
def test_sums_over_units_are_the_definition(kind, widths, memory_mb):
    units = UNITS[kind]
    points = np.random.default_rng(0).normal(size=(len(units.order), 3)).astype(np.float32)
    found = unit_sums(points, units, BANDWIDTHS[widths], memory_mb=memory_mb, device="cpu")
    assert found.shape == (len(BANDWIDTHS[widths]), units.count, units.count)
    for sums, bandwidth in zip(found, BANDWIDTHS[widths], strict=True):
        assert sums.numpy() == pytest.approx(by_hand(points, units, bandwidth), abs=1e-4)


def test_rows_far_from_all_others_have_no_sum():
    points = np.r_[np.zeros((5, 2)), np.full((5, 2), 1e4)].astype(np.float32)
    sums = unit_sums(points, of_rows(5, 5, 0), [1.0], memory_mb=1, device="cpu")[0].numpy()
    assert np.isfinite(sums).all()
    assert (sums[:5, 5:] == 0).all()
    assert sums[:5, :5].sum() == pytest.approx(20)


def test_the_median_distance_is_the_median():
    points = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=-1))
    median = np.median(distances[np.tril_indices(90, -1)])
    assert median_distance(points) == pytest.approx(median, rel=1e-5)
    many = np.random.default_rng(1).normal(size=(5_000, 4)).astype(np.float32)
    assert median_distance(many) == pytest.approx(median, rel=0.1)


@pytest.mark.parametrize(
    ("points", "expected"),
    [([[0.0]] * 9 + [[3.0]], 3.0), ([[0.0]] * 5, 1.0), (np.zeros((4, 0)), 1.0)],
)
@pytest.mark.filterwarnings("error")
def test_copies_still_have_a_distance(points, expected):
    assert median_distance(np.array(points, np.float32)) == pytest.approx(expected)


def test_random_features_approximate_the_kernel():
    """Products of a row's waves are the kernel, within the error of their number."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 3)).astype(np.float32)
    bandwidths, frequencies = [1.0, 2.0], 4_000
    waves = Fourier(3, bandwidths, frequencies, rng)
    means = waves.unit_means(torch.from_numpy(points), 1)
    assert means.shape == (60, 2, 2 * frequencies)
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    for place, bandwidth in enumerate(bandwidths):
        approximate = (means[:, place] @ means[:, place].T).numpy()
        exact = np.exp(-squared / (2 * bandwidth**2))
        assert np.abs(approximate - exact).max() < 5 / np.sqrt(2 * frequencies)
        assert np.diag(approximate) == pytest.approx(1.0, abs=1e-4)


def test_unit_means_of_waves_are_means_over_rows():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32))
    waves = Fourier(3, [1.0], 8, np.random.default_rng(1))
    single, bins = waves.unit_means(points, 1), waves.unit_means(points, 4)
    expected = single.reshape(3, 4, 1, 16).mean(1)
    assert bins.numpy() == pytest.approx(expected.numpy(), abs=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", UNITS)
def test_cuda_sums_equal_the_cpus(kind):
    units = UNITS[kind]
    points = np.random.default_rng(0).normal(size=(len(units.order), 3)).astype(np.float32)
    cpu, cuda = (
        unit_sums(points, units, [0.5, 1.0], memory_mb=8, device=device).cpu().numpy()
        for device in ("cpu", "cuda")
    )
    assert cuda == pytest.approx(cpu, abs=1e-4)


@pytest.mark.parametrize("spread", [1.0, 1e-3], ids=["apart", "nearly one point"])
def test_mixed_kernels_are_centred_and_of_equal_norm(spread):
    """Where all rows nearly coincide, too: the norm must not be lost in rounding."""
    points = np.random.default_rng(0).normal(size=(60, 3), scale=spread).astype(np.float32)
    bandwidths = [0.5, 1.0, 2.0]
    found = mixed(row_kernels(points, bandwidths, device="cpu")).numpy()
    squared = ((points[:, None].astype(np.float64) - points[None]) ** 2).sum(axis=-1)
    centre = np.eye(60) - 1 / 60
    each = [centre @ np.exp(-squared / (2 * b * b)) @ centre for b in bandwidths]
    wanted = sum(kernel / np.linalg.norm(kernel) for kernel in each)
    if spread == 1.0:
        assert found == pytest.approx(wanted, abs=1e-5)
    assert np.abs(found.sum(axis=0)).max() < 1e-3
    assert 0.5 < np.linalg.norm(found) < 6.0
