"""What runs the service elsewhere gives it settings that it has: the image, and the files for Kubernetes."""

import re
from typing import Any

import pytest
import yaml

from serve import settings
from tests.project import ROOT


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


@pytest.mark.parametrize("name", ["serve.yaml", "serve-two.yaml"])
def test_kubernetes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings are ones; a pod has the time to answer what has begun; nothing is written but what is mounted."""
    deployment = next(iter(yaml.safe_load_all((ROOT / "cluster" / name).read_text())))["spec"]["template"]["spec"]
    (container,) = deployment["containers"]
    given = environment(container)
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    read = settings.read([])
    assert {variable.removeprefix("SERVE_").lower() for variable in given} <= set(
        settings.Settings.__dataclass_fields__
    )
    needed = read.drain_seconds + read.limits.receive_seconds + read.limits.answer_seconds
    assert deployment["terminationGracePeriodSeconds"] >= needed + 5
    assert container["ports"][0]["containerPort"] == read.port
    assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe")} == {"/ready"}
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    for one in [container, *deployment.get("initContainers", [])]:
        assert one["securityContext"]["readOnlyRootFilesystem"]
    assert deployment["securityContext"]["runAsNonRoot"]
    if name == "serve-two.yaml":
        assert (read.share, read.second_version) == (0.1, "v1.1")


def test_the_service_has_the_labels_of_its_pods() -> None:
    deployment, service = yaml.safe_load_all((ROOT / "cluster/serve.yaml").read_text())
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    (second,) = yaml.safe_load_all((ROOT / "cluster/serve-two.yaml").read_text())
    assert second["spec"]["selector"] == deployment["spec"]["selector"]


def test_dockerfile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variables are settings, and its health check asks at the port that the service has."""
    text = (ROOT / "serve/Dockerfile").read_text()
    variables = dict(re.findall(r"(SERVE_\w+)=(\S+)", text))
    monkeypatch.setenv("SERVE_HOST", variables["SERVE_HOST"])
    read = settings.read([])
    assert {name.removeprefix("SERVE_").lower() for name in variables} <= set(settings.Settings.__dataclass_fields__)
    assert read.host == "0.0.0.0"
    assert f"127.0.0.1:{read.port}/health" in text
    assert re.search(r"^USER 1000:1000$", text, re.M)
