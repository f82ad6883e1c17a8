"""What `everfit up` runs for these configs: its parts, in the order in which they start."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deployments import environment, stack
from deployments.processes import StackFault, answers, port_is_free
from deployments.up import health, ports
from deployments.up.part import Part
from deployments.up.place import Place

if TYPE_CHECKING:
    from tasks.config import Config

_SERVED = ("http://", "https://")
_DRAIN = (
    25.0  # seconds: the model server lets its workers finish for 15, the runner its runs for 20
)


@dataclass(frozen=True, slots=True)
class Model:
    """A config, and the file that it was read from."""

    path: Path
    config: Config

    @property
    def name(self) -> str:
        return self.config.name


@dataclass(frozen=True, slots=True)
class Wishes:
    """The flags."""

    prefect_port: int | None = None
    mlflow_port: int | None = None
    evidently_port: int | None = None
    evidently: bool = False
    mlflow: bool = True
    train: bool = False
    postgres: str | None = None  # without a password
    exports: Mapping[str, str] = field(default_factory=dict)  # what other terminals need for it


@dataclass(frozen=True, slots=True)
class Plan:
    """Parts by stage: those of a stage start together, once those before it are well."""

    place: Place
    models: tuple[Model, ...]
    api: str  # of Prefect
    stages: tuple[tuple[Part, ...], ...]
    mlflow: dict[str, Part] = field(default_factory=dict)  # by model
    ours: bool = True  # the Prefect server is not somebody else's
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> list[Part]:
        return [part for stage in self.stages for part in stage]

    @property
    def stopping(self) -> list[list[Part]]:
        """The order of the end: what starts work, then the pages, and what answers callers last."""
        kinds = [("runner", "evidently", "mlflow"), ("prefect",), ("server",)]
        return [[p for p in self.parts if p.key.split()[0] in kind] for kind in kinds]


def check(models: Sequence[Model]) -> None:
    """What no start could mend. Raises StackFault."""
    seen: dict[object, Model] = {}
    for model in models:
        serving = model.config.serving
        ours = [model.name, model.config.folder, serving.port, serving.grpc_port]
        names = ["name", "runs", "serving.port", "serving.grpc_port"]
        for what, value in zip(names, ours, strict=True):
            key = ("port", value) if what.endswith("port") else (what, value)
            if value is not None and (other := seen.setdefault(key, model)) is not model:
                raise StackFault(
                    f"models that run together differ in their {what}, got {value} in "
                    f"{other.path} and {model.path}: change one of them"
                )


def check_ports(models: Sequence[Model]) -> None:
    """Whether the model servers can listen. Raises StackFault."""
    from tasks.server import served

    for model in models:
        serving = model.config.serving
        for what, port in (("port", serving.port), ("grpc_port", serving.grpc_port)):
            if port is None or port_is_free(port, serving.host):
                continue
            if what == "port" and served(model.config).running:
                raise StackFault(
                    f"a server of {model.name} runs at {model.config.server_url} already, perhaps "
                    "by `everfit serve`: stop it first"
                )
            raise StackFault(
                f"port {port} on {serving.host} for {model.name} is taken: stop what listens "
                f"there, or change serving.{what} in {model.path}"
            )


def plan(
    place: Place, models: Sequence[Model], wishes: Wishes, told: Callable[[Part], None]
) -> Plan:
    """Choose the ports and lay out the parts; nothing is started. Raises StackFault."""
    named = os.environ.get("PREFECT_API_URL")
    if named and not answers(f"{named.rstrip('/')}/health", whatever=True):
        raise StackFault(
            f"PREFECT_API_URL names {named}, which does not answer: start that server, or unset "
            "the variable to have one started here"
        )
    for home in () if named else sorted(homes(place, models)):
        if url := stack.recorded_server(home):
            raise StackFault(
                f"another everfit command runs a Prefect server on {home}, at {url}: let it end, "
                "or stop it, then start this again"
            )
    chosen, notes = _ports(place, models, wishes, needed=not named)
    if named:
        api = named.rstrip("/")
        prefect = _external("prefect", "the Prefect server", api, "/health", told)
    else:
        server = stack.prefect_command(
            place.prefect,
            chosen["prefect"],
            os.environ.get("PREFECT_API_DATABASE_CONNECTION_URL"),
        )
        api = f"{server.url}/api"
        probe = health.of_server(server.url + server.health)
        prefect = Part("prefect", server, probe, told=told)
    registries: dict[str, Part] = {}
    mlflow: dict[str, Part] = {}
    for model in models:
        url = model.config.registry_url
        if not wishes.mlflow and not url.startswith(_SERVED):
            continue  # its page is not needed: all of everfit reads and writes the database itself
        if url not in registries:
            registries[url] = _mlflow(model, models, chosen, told)
        mlflow[model.name] = registries[url]
    shown = (*registries.values(), prefect)
    works = [_server(model, models, told) for model in models]
    works.append(_runner(place, models, prefect, api, told))
    if wishes.evidently:
        works += [_evidently(model, models, chosen, told) for model in models]
    return Plan(place, tuple(models), api, (shown, tuple(works)), mlflow, not named, tuple(notes))


def homes(place: Place, models: Sequence[Model]) -> set[Path]:
    """Where commands look for the Prefect server of these models."""
    return {place.prefect, *(environment.prefect_home(m.config.folder) for m in models)}


def label(kind: str, model: Model, models: Sequence[Model]) -> str:
    """`mlflow`, or `mlflow of churn` where there are several."""
    return kind if len(models) == 1 else f"{kind} of {model.name}"


def _ports(
    place: Place, models: Sequence[Model], wishes: Wishes, *, needed: bool
) -> tuple[dict[str, int], list[str]]:
    wanted: dict[str, int | None] = {"prefect": wishes.prefect_port} if needed else {}
    urls: dict[str, Model] = {}
    for model in models:
        if wishes.mlflow and not model.config.registry_url.startswith(_SERVED):
            urls.setdefault(model.config.registry_url, model)
    owners = list(urls.values())
    for number, model in enumerate(owners):
        wanted[label("mlflow", model, owners)] = wishes.mlflow_port if number == 0 else None
    if wishes.evidently:
        for number, model in enumerate(models):
            wanted[label("evidently", model, models)] = (
                wishes.evidently_port if number == 0 else None
            )
    barred = frozenset(
        port
        for model in models
        for port in (model.config.serving.port, model.config.serving.grpc_port)
        if port is not None
    )
    before = place.ports()
    chosen, notes = ports.choose(wanted, before, barred)
    place.keep_ports({**before, **chosen})
    return chosen, notes


def _external(
    key: str, name: str, url: str, path: str, told: Callable[[Part], None], page: str = ""
) -> Part:
    server = stack.Server(name, (), url, path, Path(os.devnull), {})
    whatever = key == "prefect"  # one that wants a login says so, and is well
    probe = health.of_server(url + path, whatever=whatever)
    return Part(key, server, probe, page=page, external=True, told=told)


def _mlflow(
    model: Model, models: Sequence[Model], chosen: dict[str, int], told: Callable[[Part], None]
) -> Part:
    url = model.config.registry_url
    if url.startswith(_SERVED):
        page = f"{url}/#/models/{model.name}"
        return _external("mlflow", "the MLflow server", url, "/health", told, page)
    owner = next(key for key in (label("mlflow", model, models), "mlflow") if key in chosen)
    server = stack.mlflow_command(model.config, chosen[owner], **_may_call())
    sharing = [m for m in models if m.config.registry_url == url]
    return Part(
        owner,
        server,
        health.of_mlflow(server.url),
        asks=health.mlflow_question(server.url),
        page=f"{server.url}/#/models" + (f"/{model.name}" if len(sharing) == 1 else ""),
        told=told,
    )


def _may_call() -> dict[str, str]:
    """What MLflow needs to send webhooks to this machine, and to read their secrets after a
    restart: a key that follows from our secret. Nothing where there is none. Raises ConfigFault."""
    from deployments.serving.hooks import secret

    key = secret()
    if key is None:
        return {}
    limits = {"ALLOWED_SCHEMES": "http,https", "ALLOW_PRIVATE_IPS": "true"}
    found = {f"MLFLOW_WEBHOOK_{name}": value for name, value in limits.items()}
    found |= {f"_{name}": value for name, value in found.items()}  # as other versions spell them
    derived = hashlib.sha256(f"everfit mlflow webhooks {key}".encode()).digest()
    found["MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"] = base64.urlsafe_b64encode(derived).decode()
    return {name: value for name, value in found.items() if name not in os.environ}


def _server(model: Model, models: Sequence[Model], told: Callable[[Part], None]) -> Part:
    server = stack.inference_command(model.path, model.config)
    return Part(
        label("server", model, models),
        server,
        health.of_model(model.config, server.url),
        page=f"{server.url}/docs",
        hang=max(60.0, 3 * model.config.serving.hang_seconds),
        grace=_DRAIN,
        told=told,
    )


def _runner(
    place: Place, models: Sequence[Model], prefect: Part, api: str, told: Callable[[Part], None]
) -> Part:
    beat = place.folder / "runner.beat"
    env = environment.child(
        PREFECT_API_URL=api, PREFECT_HOME=str(place.prefect), EVERFIT_BEAT=str(beat)
    )
    server = stack.Server(
        "the runner",
        (*stack.python("deployments.runner"), *(str(model.path) for model in models)),
        "",
        "",
        place.logs / "runner.log",
        env,
    )
    return Part(
        "runner",
        server,
        health.of_beat(beat),
        asks=str(beat),
        page=str(server.log),
        grace=_DRAIN,
        before=lambda: beat.unlink(missing_ok=True),
        excused=lambda: prefect.state.state != "healthy",  # it cannot find work, and may have some
        told=told,
    )


def _evidently(
    model: Model, models: Sequence[Model], chosen: dict[str, int], told: Callable[[Part], None]
) -> Part:
    from tasks import places

    workspace = places.reports_workspace(model.config)
    workspace.mkdir(parents=True, exist_ok=True)
    key = label("evidently", model, models)
    log = model.config.folder / "logs" / "evidently.log"
    server = stack.evidently_command(workspace, log, chosen[key])
    return Part(key, server, health.of_server(server.url + server.health), told=told)
