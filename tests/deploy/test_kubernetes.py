"""The manifests: right by Kubernetes' own schema, and in step with what the server is."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from atelier_server.config import ServerConfig
from atelier_server.frontend.serving import HEALTH_SERVICE
from atelier_server.telemetry.metrics import GenerationMetrics

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
SCHEMA = json.loads((Path(__file__).parent / "kubernetes-schema.json").read_text())


def resources() -> list[dict[str, Any]]:
    """What the kustomization applies."""
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [resource for name in listed for resource in yaml.safe_load_all((FOLDER / name).read_text())]


def only(kind: str) -> dict[str, Any]:
    """The one resource of a kind."""
    (found,) = [resource for resource in resources() if resource["kind"] == kind]
    return found


def faults(resource: dict[str, Any]) -> list[str]:
    """What the schema says against a resource."""
    schema = {"definitions": SCHEMA["definitions"], "$ref": f"#/definitions/{SCHEMA['kinds'][resource['kind']]}"}
    validator = jsonschema.Draft7Validator(schema)
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(resource)]


def container() -> dict[str, Any]:
    (one,) = only("Deployment")["spec"]["template"]["spec"]["containers"]
    return one


def test_every_file_is_applied() -> None:
    listed = set(yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"])
    assert listed == {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}


@pytest.mark.parametrize("resource", resources(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_a_resource_is_as_the_schema_wants_it(resource: dict[str, Any]) -> None:
    assert faults(resource) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("replicas",), "two"),
        (("template", "spec", "containers", 0, "livenessProbe", "grpc", "prot"), 8001),
        (("template", "spec", "containers", 0, "lifecycle", "preStop", "exec", "command"), "sleep 5"),
        (("template", "spec", "terminationGracePeriod"), 150),
    ],
)
def test_the_schema_finds_what_is_wrong(path: tuple[Any, ...], value: object) -> None:
    deployment = only("Deployment")
    place = deployment["spec"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert faults(deployment) != []


def test_probes_ask_by_grpc_for_what_the_server_answers() -> None:
    probes = {name: container()[name]["grpc"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {probe["port"] for probe in probes.values()} == {8001}
    assert probes["readinessProbe"].get("service", "") == ""  # pictures can be made
    assert {probes[name]["service"] for name in ("startupProbe", "livenessProbe")} == {HEALTH_SERVICE}


def test_a_pod_gets_the_time_that_its_drain_may_take() -> None:
    pod = only("Deployment")["spec"]["template"]["spec"]
    before = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    defaults = ServerConfig()
    assert pod["terminationGracePeriodSeconds"] > before + defaults.drain_delay_seconds + defaults.drain_timeout_seconds


def test_it_asks_for_a_gpu_and_for_no_rights() -> None:
    assert container()["resources"]["limits"]["nvidia.com/gpu"] == "1"
    context = container()["securityContext"]
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert only("Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] is True


def test_ports_and_folders_are_those_of_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert {port["containerPort"] for port in container()["ports"]} == {8001, 8002}
    assert "EXPOSE 8001 8002" in dockerfile
    mounted = {mount["mountPath"] for mount in container()["volumeMounts"]} - {"/tmp"}
    assert mounted == {"/models", "/var/lib/atelier"}
    assert all(f"={folder}" in dockerfile for folder in mounted)


def test_variables_come_after_those_that_they_use() -> None:
    names: list[str] = []
    for variable in container()["env"]:
        used = str(variable.get("value", "")).split("$(")[1:]
        assert [one.partition(")")[0] for one in used if one.partition(")")[0] not in names] == []
        names.append(variable["name"])


def test_selectors_select_the_pods() -> None:
    labels = only("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [one["spec"]["selector"] for one in resources() if one["kind"] == "Service"]
    selectors.append(only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
    selectors.append(only("NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert only("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == only("Deployment")["metadata"]["name"]


def test_a_disruption_leaves_a_pod_and_the_autoscaler_more_than_it() -> None:
    least = only("PodDisruptionBudget")["spec"]["minAvailable"]
    assert least >= 1
    assert only("HorizontalPodAutoscaler")["spec"]["minReplicas"] > least


def test_the_autoscaler_follows_a_metric_that_the_server_has() -> None:
    (metric,) = only("HorizontalPodAutoscaler")["spec"]["metrics"]
    exposed = {family.name for family in GenerationMetrics().registry.collect()}
    assert metric["pods"]["metric"]["name"] in exposed
