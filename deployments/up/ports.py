"""The ports of the pages: those asked for, else those of the last time, else the usual ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from deployments.processes import StackFault, free_port, port_is_free

USUAL = {"prefect": 4200, "mlflow": 5000, "evidently": 8000}


def choose(
    wanted: Mapping[str, int | None],
    before: Mapping[str, int],
    barred: frozenset[int] = frozenset(),
    *,
    is_free: Callable[[int], bool] = port_is_free,
    any_free: Callable[[], int] = free_port,
) -> tuple[dict[str, int], list[str]]:
    """(port of each page, what to tell of those that have moved).

    wanted: for each page the port of its flag, or None; pages are called `mlflow` or, where there
    are several, `mlflow of NAME`. before: those of the last time. barred: of the model servers.
    Raises StackFault for a port of a flag that is taken.
    """
    chosen: dict[str, int] = {}
    told = []

    def fits(port: int) -> bool:
        return port not in barred and port not in chosen.values() and is_free(port)

    for page, flag in wanted.items():  # first those that leave no choice
        if flag is None:
            continue
        if not fits(flag):
            raise StackFault(
                f"port {flag} for {page} is taken: name another with --{page.split()[0]}-port, or "
                "leave it out"
            )
        chosen[page] = flag
    for page in wanted:
        if page in chosen:
            continue
        last = before.get(page)
        candidates = [last, USUAL[page.split()[0]]]
        port = next((p for p in candidates if p is not None and fits(p)), None)
        while port is None:
            found = any_free()
            port = found if fits(found) else None
        if last is not None and port != last:
            told.append(f"port {last}, where {page} was, is taken: it is at {port} now")
        chosen[page] = port
    return chosen, told
