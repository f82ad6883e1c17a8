"""The images and the stack: what cannot be built in a test is held against what is installed."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deployments import runner
from deployments.commands import serve
from tests.deployments.places import ROOT, unknown_variables

DOCKER = ROOT / "deployments" / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SERVICES = COMPOSE["services"]

# Imported by the serving worker of the config in argv[1], once it has loaded a version from
# whatever there is: the modules of distributions, one a line.
LOADED = """
import os, sys
os.environ["EVERFIT_CONFIG"] = sys.argv[1]
import click
import deployments.cli, deployments.commands.serve, deployments.serving.run
from deployments.serving.app import create_app
from deployments.serving.loading import load
from models.onnx import session
from models import registry_lean
from tasks.config import load as config
create_app(config(sys.argv[1]))
print("\\n".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(one.name): str(one.specifier) for one in found}


def closure(names: set[str]) -> set[str]:
    """Distributions with all that they need, as installed here."""
    found: set[str] = set()
    waiting = [(name, frozenset[str]()) for name in names]
    while waiting:
        name, extras = waiting.pop()
        if (name := canonicalize_name(name)) in found and not extras:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            need = Requirement(line)
            if need.marker is None or any(
                need.marker.evaluate({"extra": extra}) for extra in (*extras, "")
            ):
                waiting.append((need.name, frozenset(need.extras)))
    return found


def listed() -> set[str]:
    lines = (DOCKER / "serve.txt").read_text(encoding="utf-8").splitlines()
    return {Requirement(line).name for line in lines if line and not line.startswith("#")}


def test_the_lean_image_has_what_serving_imports(tiny_config):
    shown = subprocess.run(
        [sys.executable, "-c", LOADED, str(tiny_config)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = set(shown.stdout.split())
    assert {"deployments", "sqlalchemy", "onnxruntime"} <= modules
    assert not modules & {"torch", "pandas", "sklearn", "prefect", "evidently", "mlflow"}
    owners = importlib.metadata.packages_distributions()
    needed = {canonicalize_name(d) for module in modules for d in owners.get(module, [])}
    there = closure(listed())
    assert needed - there - {"everfit", "setuptools", "pip"} == set()
    assert not there & {"torch", "pandas", "scikit-learn", "prefect", "evidently", "mlflow"}


def test_every_package_of_the_images_is_pinned():
    known = pinned()
    assert {canonicalize_name(name) for name in listed()} <= known.keys()
    assert all(version.startswith("==") for version in known.values())
    assert "uv" in known
    commands = DOCKERFILE.replace("\\\n", " ").splitlines()
    installs = [line for line in commands if line.startswith("RUN") and "pip install" in line]
    assert len(installs) == 5
    for line in installs:
        assert "-c constraints.txt" in line or "--no-deps ." in line, line
    extras = re.findall(r"--extra (\w+)", DOCKERFILE)
    assert set(extras) <= PROJECT["optional-dependencies"].keys()
    assert {"postgres", "kubernetes"} <= set(extras)


def test_images_run_without_root_what_they_are_told():
    users = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert users == [("10001", "10001")]
    assert DOCKERFILE.index("USER 10001") < DOCKERFILE.index("AS serve\n")
    tag = re.search(r"^ARG PYTHON=(\S+)$", DOCKERFILE, re.MULTILINE)[1]
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+", tag)
    given = json.loads(re.search(r"^CMD (\[\"serve\".*\])$", DOCKERFILE, re.MULTILINE)[1])
    assert serve.command.make_context("serve", given[1:]).params["port"] == 8080
    variables = set(re.findall(r"^(?:ENV|   ) ?(?:ENV )?([A-Z_]+)=", DOCKERFILE, re.MULTILINE))
    assert {"PREFECT_HOME", "UV_NO_CACHE"} <= variables
    assert unknown_variables(variables) == set()


def test_what_is_copied_is_not_left_out():
    kept = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    for name in (*wheel["targets"]["wheel"]["packages"], "pyproject.toml", PROJECT["readme"]):
        assert f"!{name}" in kept
        assert (ROOT / name).exists()
    for name in re.findall(r"^COPY (?!--from|\. )(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert (ROOT / name).exists()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_healthy_on_loopback_and_holds_no_secret(name):
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    environment = service["environment"]
    for key, value in environment.items():
        if "PASSWORD" in key:
            assert value.startswith("${POSTGRES_PASSWORD:?")  # and nothing starts without it
        assert not re.search(r"://[^/\s]*:[^/\s]*@", value), key
    assert unknown_variables(set(environment)) == set()
    assert re.search(r":\d+[\d.]*[\w.-]*$", service["image"])
    if name != "postgres":
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert f"AS {service['build']['target']}\n" in DOCKERFILE
        for needed, how in service["depends_on"].items():
            assert how == {"condition": "service_healthy"}
            assert needed in SERVICES
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or source.startswith(("./", "${EVERFIT_MODELS"))
        if source.startswith("./"):
            assert (DOCKER / source).is_file()


def test_each_service_is_started_by_a_command_that_there_is():
    run = SERVICES["runner"]
    assert run["entrypoint"] == ["python", "-P", "-m", runner.__name__]
    assert runner._arguments().parse_args(run["command"]).config == [
        Path("/etc/everfit/model.yaml")
    ]
    scripts = {e.name for e in importlib.metadata.entry_points(group="console_scripts")}
    assert {SERVICES["prefect"]["entrypoint"][0], SERVICES["mlflow"]["entrypoint"][0]} <= scripts
    # the path of a check within a service is Python that compiles
    for service in SERVICES.values():
        test = service["healthcheck"]["test"]
        if test[1] == "python":
            compile(test[3], "healthcheck", "exec")
    assert shlex.split("everfit serve")[0] == PROJECT["name"]
