"""A plain fast MMD, written from the definition: what a careful afternoon gives.

One Gaussian kernel of the median bandwidth, made in blocks of rows and never stored; all
permutations are one matrix product with the indicators of the sides, torch in float32. And, for
rows without end, random Fourier features averaged into random bins, the bins permuted.
"""

from __future__ import annotations

import numpy as np
import torch

BINS, FEATURES = 64, 256


def sketch_test(x: np.ndarray, y: np.ndarray, permutations: int, seed: int = 0) -> float:
    """p-value of the biased MMD² of x (m, d) and y (n, d)."""
    m, total = len(x), len(x) + len(y)
    rows = torch.as_tensor(np.concatenate([x, y]), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.empty(total, permutations + 1)  # column 0 is what was observed
    sign = torch.cat([torch.full((m,), 1 / m), torch.full((total - m,), -1 / (total - m))])
    weights[:, 0] = sign
    for column in range(1, permutations + 1):
        weights[:, column] = sign[torch.randperm(total, generator=generator)]
    some = rows[torch.randperm(total, generator=generator)[:500]]
    scale = -0.5 / torch.pdist(some).median() ** 2
    squares = (rows * rows).sum(1)
    values = torch.zeros(permutations + 1, dtype=torch.float64)
    block = 1_024
    for start in range(0, total, block):
        part = slice(start, start + block)
        distances = torch.addmm(squares, rows[part], rows.T, alpha=-2.0)
        kernel = distances.add_(squares[part, None]).mul_(scale).exp_()
        values += ((kernel @ weights) * weights[part]).sum(0)
    exceed = int((values[1:] >= values[0]).sum())
    return (1 + exceed) / (1 + permutations)


def loop_test(
    x: np.ndarray, y: np.ndarray, permutations: int, scales: tuple[float, ...] = (0.5, 1.0, 2.0)
) -> float:
    """p-value of the largest MMD² over the bandwidths, one permutation at a time, in NumPy float64.

    As a plain implementation does it: every permutation gathers the permuted kernel anew.
    """
    pooled, m = np.concatenate([x, y]).astype(np.float64), len(x)
    squares = (pooled**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * pooled @ pooled.T, 0)
    median = np.median(distances[np.triu_indices(len(pooled), 1)])
    kernels = [np.exp(-distances / (2 * scale**2 * median)) for scale in scales]
    for kernel in kernels:
        np.fill_diagonal(kernel, 0.0)
    rng = np.random.default_rng(0)

    def statistic(order: np.ndarray) -> float:
        values = []
        for kernel in kernels:
            mixed = kernel[np.ix_(order, order)]
            n = len(order) - m
            within = mixed[:m, :m].sum() / (m * (m - 1)) + mixed[m:, m:].sum() / (n * (n - 1))
            values.append(within - 2 * mixed[:m, m:].mean())
        return max(values)

    observed = statistic(np.arange(len(pooled)))
    exceed = sum(statistic(rng.permutation(len(pooled))) >= observed for _ in range(permutations))
    return (1 + exceed) / (1 + permutations)


def binned_test(x: np.ndarray, y: np.ndarray, permutations: int, seed: int = 0) -> float:
    """p-value for any number of rows in one pass: MMD² of binned random Fourier features."""
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    some = torch.as_tensor(np.concatenate([x[:500], y[:500]]), dtype=torch.float32)
    frequencies = torch.randn(x.shape[1], FEATURES, generator=generator)
    frequencies /= torch.pdist(some).median()
    phases = 2 * torch.pi * torch.rand(FEATURES, generator=generator)
    means = []
    for rows in (x, y):
        sums, counts = torch.zeros(BINS, FEATURES), torch.zeros(BINS)
        for start in range(0, len(rows), 4_096):
            part = torch.as_tensor(rows[start : start + 4_096], dtype=torch.float32)
            bins = torch.as_tensor(rng.integers(BINS, size=len(part)))
            sums.index_add_(0, bins, torch.addmm(phases, part, frequencies).cos_())
            counts += torch.bincount(bins, minlength=BINS)
        means.append(sums / counts[:, None].clamp(min=1))
    pooled = torch.cat(means).numpy()
    sides = np.repeat([1 / BINS, -1 / BINS], BINS).astype(np.float32)
    weights = np.vstack([sides, rng.permuted(np.tile(sides, (permutations, 1)), axis=1)])
    values = ((weights @ pooled) ** 2).sum(axis=1)
    return float((values >= values[0]).mean())
