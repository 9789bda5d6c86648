"""The similarities of USIMC and USIMF, part of Scripts/bench.py."""

from __future__ import annotations

from typing import Any

from bench_registry import Row, Size, benchmark, cpu_seconds, in_turn


def factors(count: int, filters: int, channels: int, height: int, width: int, seed: int) -> Any:
    """Gradient factors of a bottleneck layer, of samples of ten kinds, float32."""
    import numpy as np

    from alunet.query import Factors

    rng = np.random.default_rng(0)  # the same ten kinds of slices, whatever the seed
    kinds = [
        rng.standard_normal((10, depth, height, width), np.float32) for depth in (filters, channels)
    ]
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 10, count)
    delta, inputs = (
        kind[which] + 0.7 * rng.standard_normal((count, *kind.shape[1:]), np.float32)
        for kind in kinds
    )
    return Factors(delta, inputs)


@benchmark("cosine")
def cosine(size: Size) -> list[Row]:
    """USIMC's similarity at the two layers of docs/method.md, against explicit gradients one
    sample at a time.
    """
    layers = {"256 ch 7x5": (256, 256, 7, 5), "512 ch 4x4": (512, 512, 4, 4)}
    sizes = (64, 32) if size.quick else (512, 128)
    return [row for name, layer in layers.items() for row in _cosine(name, layer, *sizes)]


def _cosine(name: str, layer: tuple[int, int, int, int], n: int, queries: int) -> list[Row]:
    import numpy as np

    from alunet.query import Factors
    from alunet.query.similarity import CosineKernel

    pool, query = factors(n, *layer, seed=0), factors(queries, *layer, seed=1)
    few = max(8, n // 8)
    part = Factors(pool.delta[:few], pool.inputs[:few])
    columns = _explicit(query)

    def one_by_one() -> None:
        for i in range(few):
            _explicit(Factors(part.delta[i : i + 1], part.inputs[i : i + 1])) @ columns.T

    naive = cpu_seconds(one_by_one) * n / few
    exact = CosineKernel(query).rows(part)
    default = CosineKernel(query).method
    direct, positions = 18 * layer[0] * layer[1], layer[2] * layer[3]
    operations = {"direct": direct, "gram": 2 * positions**2 * (layer[0] + layer[1] + 9)}
    rows = []
    for method, precision in [
        ("direct", "fp32"),
        ("gram", "fp32"),
        ("direct", "bf16"),
        ("gram", "bf16"),
    ]:
        found = CosineKernel(query, method=method, precision=precision)  # type: ignore[arg-type]
        ours = cpu_seconds(lambda: found.rows(pool))  # noqa: B023
        error = float(np.abs(found.rows(part) - exact).max())
        chosen = ", the default" if (method, precision) == (default, "fp32") else ""
        note = f"{1e6 * ours / (n * queries):.1f} us a pair, error {error:.0e}{chosen}"
        rows.append(
            Row(
                f"cosine {method} {precision}, {name}, {n} x {queries}",
                ours,
                naive,
                naive / ours,
                1.5 if chosen else None,
                note=note,
                operations=n * queries * operations[method],
            )
        )
    return rows


def _explicit(given: Any) -> Any:
    """(m, Cout Cin 9) normalised weight gradients, formed in full."""
    import torch

    delta, inputs = torch.as_tensor(given.delta), torch.as_tensor(given.inputs)
    seen = torch.nn.functional.unfold(inputs, 3, padding=1)
    return torch.nn.functional.normalize((delta.flatten(2) @ seen.transpose(1, 2)).flatten(1))


@benchmark("fisher")
def fisher(size: Size) -> list[Row]:
    """USIMF's similarity, one product of scaled gradients, against one sample at a time."""
    import numpy as np

    from alunet.query.similarity import DotKernel, fisher_scale

    n, queries, length = (500, 100, 10_000) if size.quick else (4000, 600, 10_000)
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((n, length), np.float32)
    diagonal = rng.lognormal(size=length).astype(np.float32)
    scale, few = fisher_scale(diagonal, 0), n // 20

    def one_by_one() -> Any:
        return [(pool[:queries] / diagonal) @ row / length for row in pool[:few]]

    def ours() -> Any:
        return DotKernel(pool[:queries], scale=scale).rows(pool)

    ours_seconds, naive = in_turn(ours, one_by_one)
    naive *= n / few
    error = float(np.abs(ours()[:few] - np.maximum(one_by_one(), 0)).max())
    return [
        Row(
            f"Fisher product, {n} x {queries} x {length}",
            ours_seconds,
            naive,
            naive / ours_seconds,
            3,
            note=f"error {error:.0e}",
            operations=2.0 * n * queries * length,
        )
    ]
