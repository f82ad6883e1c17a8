"""Whether the packages are there that a runner needs."""

from __future__ import annotations

from importlib.util import find_spec


def lacking(runner: str) -> str:
    """What to install for `train.runner: ray` or `dask`; '' when nothing lacks."""
    if runner not in ("ray", "dask"):
        return ""
    wanted = {"ray": ("ray", "prefect_ray"), "dask": ("distributed", "prefect_dask")}[runner]
    if all(find_spec(name) is not None for name in wanted):
        return ""
    return (
        f"train.runner: {runner} needs packages that are not installed: pip install "
        f"'everfit[{runner}]'"
    )
