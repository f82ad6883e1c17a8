"""The manifests: valid by Kubernetes' own schemas, and by rules of ours that no schema has."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from deployments.commands import serve
from tests.deployments.places import ROOT, unknown_variables

K8S = ROOT / "deployments" / "k8s"
FOLDERS = ("base", "model", "mlflow")
VERSION = kubernetes_validate.latest_version()
IMAGE = re.compile(r"[a-z0-9./-]+:\d+\.\d+\.\d+")


def documents():
    for folder in FOLDERS:
        for path in sorted((K8S / folder).glob("*.yaml")):
            if path.name != "kustomization.yaml":
                for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                    yield f"{folder}/{path.name}:{document['kind']}", document


def job():
    """The job of one run, as the work pool makes it with the template's defaults."""
    template = json.loads((K8S / "base-job-template.json").read_text(encoding="utf-8"))
    properties = template["variables"]["properties"]

    def filled(value):
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [filled(inner) for inner in value]
        whole = re.fullmatch(r"\{\{ (\w+) \}\}", value) if isinstance(value, str) else None
        if whole is None:
            return re.sub(r"\{\{ \w+ \}\}", "x", value) if isinstance(value, str) else value
        name = whole[1]
        given = {"command": ["prefect", "flow-run", "execute"], "labels": {}, "annotations": {}}
        if name == "env":
            return [{"name": k, "value": v} for k, v in properties[name]["default"].items()]
        return given[name] if name in given else properties[name]["default"]

    return filled(template["job_configuration"]["job_manifest"])


ALL = dict(documents()) | {"base-job-template.json:Job": job()}
PODS = {
    name: document["spec"]["template"]
    for name, document in ALL.items()
    if document["kind"] in ("Deployment", "Job")
}


@pytest.mark.parametrize("name", ALL)
def test_a_manifest_is_valid(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        kubernetes_validate.validate(ALL[name], VERSION, strict=True)


def test_a_misspelt_field_would_be_told():
    broken = json.loads(json.dumps(ALL["model/inference.yaml:Deployment"]))
    broken["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSION, strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_is_told_of_every_file(folder):
    listed = yaml.safe_load((K8S / folder / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        path.name for path in (K8S / folder).glob("*.yaml") if path.name != "kustomization.yaml"
    )


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_bounded_and_has_no_rights(name):
    pod = PODS[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10_000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    if "worker" not in name:  # it alone speaks to Kubernetes
        assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert IMAGE.fullmatch(container["image"]), container["image"]
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][bound].keys()
        mounted = {mount["name"]: mount for mount in container["volumeMounts"]}
        for volume in pod["volumes"]:  # nothing is mounted that is not there, nor the other way
            assert volume["name"] in mounted
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"]
            if "configMap" in volume:
                assert mounted[volume["name"]]["readOnly"] is True
        assert {mount["mountPath"] for mount in mounted.values()} >= {"/tmp", "/var/lib/everfit"}


@pytest.mark.parametrize("name", [n for n in PODS if not n.endswith("Job")])
def test_a_server_has_all_three_probes_on_a_port_that_it_has(name):
    for container in PODS[name]["spec"]["containers"]:
        ports = {port["name"] for port in container["ports"]}
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            assert container[probe]["httpGet"]["port"] in ports
        start, live = container["startupProbe"], container["livenessProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] >= 120
        assert live["httpGet"] == start["httpGet"]


def test_the_server_is_probed_as_its_page_says():
    page = (ROOT / "deployments" / "docs" / "serving.md").read_text(encoding="utf-8")
    said = yaml.safe_load(re.search(r"```yaml\n(livenessProbe.*?)```", page, re.DOTALL)[1])
    deployment = ALL["model/inference.yaml:Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        given = json.loads(json.dumps(container[probe]))
        assert given["httpGet"]["port"] == "http"
        given["httpGet"]["port"] = container["ports"][0]["containerPort"]
        assert given == said[probe]
    assert pod["terminationGracePeriodSeconds"] == said["terminationGracePeriodSeconds"]


def test_the_server_is_started_by_a_command_that_there_is(tmp_path):
    args = ALL["model/inference.yaml:Deployment"]["spec"]["template"]["spec"]["containers"][0][
        "args"
    ]
    assert args[0] == "serve"
    parsed = serve.command.make_context("serve", args[1:]).params
    assert parsed["config"] == Path("/etc/everfit/model.yaml")
    assert (parsed["host"], parsed["port"]) == ("0.0.0.0", 8080)
    assert parsed["runs"] == Path("/var/lib/everfit/runs")


@pytest.mark.parametrize("name", PODS)
def test_every_variable_is_known_to_who_reads_it(name):
    given = set(ALL["base/places.yaml:ConfigMap"]["data"])
    for container in PODS[name]["spec"]["containers"]:
        given |= {variable["name"] for variable in container.get("env", [])}
        for variable in container.get("env", []):  # a secret is never written down
            assert ("valueFrom" in variable) == bool(
                re.search("PASSWORD|SECRET|KEY", variable["name"])
            )
    assert unknown_variables(given) == set()
    urls = " ".join(ALL["base/places.yaml:ConfigMap"]["data"].values())
    assert not re.search(r"://[^/\s]*:[^/\s]*@", urls)


def test_who_selects_finds_whom_it_means():
    labels = {
        document["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]: document
        for document in ALL.values()
        if document["kind"] in ("Deployment", "Job")
    }
    for name, document in ALL.items():
        spec = document.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        wanted = selector.get("matchLabels", selector).get("app.kubernetes.io/name")
        if wanted is not None:
            assert wanted in labels, name
        if document["kind"] == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]["name"]
            assert target in labels
            assert "replicas" not in labels[target]["spec"]  # each apply would undo the scaling
            metric = spec["metrics"][0]["pods"]["metric"]["name"]
            adapter = (K8S / "values" / "prometheus-adapter.yaml").read_text()
            assert f"as: {metric}" in adapter
        if document["kind"] == "PodDisruptionBudget":
            assert spec["maxUnavailable"] == 1
    closed = ALL["base/network.yaml:NetworkPolicy"]
    assert closed["spec"]["podSelector"] == {
        "matchLabels": {"app.kubernetes.io/name": "everfit-job"}
    }


def test_a_job_runs_what_prefect_tells_it_and_ends():
    made = ALL["base-job-template.json:Job"]
    container = made["spec"]["template"]["spec"]["containers"][0]
    # the image's entry point is everfit: the command must be run as it is
    assert container["command"] == ["/usr/bin/env"]
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert made["spec"]["activeDeadlineSeconds"] > 0
    assert made["spec"]["ttlSecondsAfterFinished"] > 0
    assert made["spec"]["backoffLimit"] == 0  # Prefect starts anew, not Kubernetes
    volumes = made["spec"]["template"]["spec"]["volumes"]
    claims = [
        v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
    ]
    assert claims == [ALL["base/storage.yaml:PersistentVolumeClaim"]["metadata"]["name"]]


def test_the_example_is_a_config_that_loads(monkeypatch):
    from tasks.config import load

    config = load(K8S / "example" / "churn.yaml")
    listed = yaml.safe_load((K8S / "example" / "kustomization.yaml").read_text())
    assert listed["configMapGenerator"][0]["files"] == [f"{config.name}.yaml"]
    assert config.name in listed["resources"]
    patch = yaml.safe_load((K8S / "example" / config.name / "kustomization.yaml").read_text())
    assert f"value: {config.name}.yaml" in patch["patches"][0]["patch"]
    used = {c["image"].split(":")[0] for p in PODS.values() for c in p["spec"]["containers"]}
    assert used == {image["name"] for image in listed["images"]}
