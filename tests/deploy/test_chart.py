"""The chart renders what Kubernetes takes and a fleet needs: rights, CPUs, names, and no way to a worker."""

import re
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.deploy.chart import CHART, NAMESPACE, Helm, containers_of, pod_of
from tests.deploy.commands import assert_known

from quantfleet.cli.options import SYSTEM_STATE

ROOT = CHART.parents[2]
METADATA = yaml.safe_load((CHART / "Chart.yaml").read_text())
MINIMAL_POOL = {"image": {"repository": "worker"}, "cpus": 1, "memory": "4Gi", "storage": {"size": "20Gi"}}
FEW: dict[str, Any] = {
    "coordinator": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "pools": {"cpu": None, "gpu": None, "mini": MINIMAL_POOL},
}
MANY: dict[str, Any] = {
    "imagePullSecrets": ["registry"],
    "coordinator": {
        "advertise": "fleet.example.org",
        "service": {"type": "LoadBalancer", "annotations": {"example.org/lb": "internal"}},
        "storage": {"className": "fast"},
        "nodeSelector": {"role": "control"},
        "tolerations": [{"key": "control", "operator": "Exists"}],
    },
    "join": {"secretName": "tokens"},
    "pools": {
        "gpu": {
            "replicas": 3,
            "gpus": 2,
            "onePerHost": False,
            "runtimeClassName": "nvidia",
            "storage": {"className": "fast"},
            "extraArgs": ["--cores", "0-3"],
            "extraVolumes": [{"name": "phones", "configMap": {"name": "phones"}}],
            "extraVolumeMounts": [{"name": "phones", "mountPath": "/etc/quantfleet"}],
        },
        "mini": MINIMAL_POOL,
    },
}
VALUES = {"own": None, "few": FEW, "many": MANY}


def _of(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


@pytest.mark.parametrize("name", VALUES)
def test_helm_finds_nothing_to_complain_about(helm: Helm, name: str) -> None:
    done = helm.lint(VALUES[name])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", VALUES)
def test_every_object_is_one_of_the_oldest_and_of_the_newest_kubernetes(helm: Helm, name: str) -> None:
    oldest = re.findall(r"\d+\.\d+", METADATA["kubeVersion"])[0]
    objects = helm.render(VALUES[name])
    assert objects
    for version in (oldest, kubernetes_validate.latest_version()):
        for found in objects:
            kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("block", re.findall(r"(?ms)^```yaml\n(.*?)^```", (CHART / "README.md").read_text()))
def test_the_values_that_the_readme_shows_are_ones_that_work(helm: Helm, block: str) -> None:
    values = yaml.safe_load(block)
    done = helm.lint(values)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, pool in values["pools"].items():
        assert_known(f"README: {name}", ["worker", "run", *pool.get("extraArgs", ())])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"pools": {"cpu": {"cpus": 1.5}}}, "/pools/cpu/cpus"),
        ({"pools": {"cpu": {"cpu": 2}}}, "'cpu' not allowed"),
        ({"pools": {"cpu": {"memory": "much"}}}, "/pools/cpu/memory"),
        ({"pools": {"coordinator": MINIMAL_POOL}}, "invalid propertyName 'coordinator'"),
        ({"pools": {"Big": MINIMAL_POOL}}, "invalid propertyName 'Big'"),
        ({"pools": {"more": {"cpus": 1}}}, "missing properties 'image', 'memory', 'storage'"),
        ({"coordinator": {"advertise": "fleet.example.org:7443"}}, "/coordinator/advertise"),
        ({"coordinator": {"logLevel": "loud"}}, "/coordinator/logLevel"),
        ({"tokens": {"cpu-0": "secret"}}, "'tokens' not allowed"),
    ],
)
def test_a_value_that_cannot_work_is_told_by_lint(helm: Helm, wrong: dict[str, Any], told: str) -> None:
    done = helm.lint(wrong)
    assert done.returncode != 0
    assert told in done.stdout + done.stderr


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_runs_a_command_that_the_cli_has_on_a_volume_that_stays(helm: Helm, name: str) -> None:
    for title, found in _of(helm.render(VALUES[name]), "StatefulSet").items():
        (container,) = pod_of(found)["containers"]
        words = container["args"]
        assert_known(title, words)
        (mount,) = (mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "state")
        assert mount == str(SYSTEM_STATE)
        assert words[words.index("--state") + 1] == f"{mount}/{words[0]}"
        assert [claim["metadata"]["name"] for claim in found["spec"]["volumeClaimTemplates"]] == ["state"]


@pytest.mark.parametrize("name", VALUES)
def test_every_container_is_unprivileged_and_writes_only_to_volumes(helm: Helm, name: str) -> None:
    for title, found in _of(helm.render(VALUES[name]), "StatefulSet").items():
        pod = pod_of(found)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers_of(pod):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, title
            assert context["allowPrivilegeEscalation"] is False, title
            assert context["capabilities"] == {"drop": ["ALL"]}, title
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"], title


def test_the_user_of_every_pod_is_that_of_the_images(helm: Helm) -> None:
    for dockerfile in (ROOT / "deploy").glob("*.Dockerfile"):
        (user,) = re.findall(r"(?m)^USER (.*)$", dockerfile.read_text())
        for found in _of(helm.render(), "StatefulSet").values():
            context = pod_of(found)["securityContext"]
            assert f"{context['runAsUser']}:{context['runAsGroup']}" == user


def test_a_restart_leaves_the_modes_of_private_keys_alone(helm: Helm) -> None:
    for found in _of(helm.render(), "StatefulSet").values():
        assert pod_of(found)["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


@pytest.mark.parametrize("name", VALUES)
def test_a_workers_cpus_are_whole_and_guaranteed(helm: Helm, name: str) -> None:
    for title, found in _of(helm.render(VALUES[name]), "StatefulSet").items():
        if title.endswith("-coordinator"):
            continue
        for container in containers_of(pod_of(found)):
            resources = container["resources"]
            assert resources["requests"] == resources["limits"], title
            assert {"cpu", "memory"} <= set(resources["limits"]), title
            assert isinstance(resources["limits"]["cpu"], int), title


def test_gpus_are_asked_for_by_the_worker_of_a_pool_that_has_them(helm: Helm) -> None:
    sets = _of(helm.render(MANY), "StatefulSet")
    asked = {
        (title, container["name"]): container["resources"]["limits"].get("nvidia.com/gpu")
        for title, found in sets.items()
        for container in containers_of(pod_of(found))
    }
    assert {key: count for key, count in asked.items() if count} == {("quantfleet-gpu", "worker"): 2}
    assert pod_of(sets["quantfleet-gpu"])["runtimeClassName"] == "nvidia"
    assert pod_of(sets["quantfleet-gpu"])["nodeSelector"] == {"nvidia.com/gpu.present": "true"}


def test_ray_has_shared_memory_and_a_tmp_that_is_not_in_memory(helm: Helm) -> None:
    for title, found in _of(helm.render(FEW), "StatefulSet").items():
        pod = pod_of(found)
        volumes = {volume.pop("name"): volume for volume in pod["volumes"]}
        assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "512Mi"}, title
        assert volumes["tmp"] == {"emptyDir": {}}, title
        assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"], title


def test_nobody_reaches_a_worker_and_the_coordinator_only_on_its_ports(helm: Helm) -> None:
    objects = helm.render()
    policies = {
        name: (policy["spec"]["podSelector"]["matchLabels"], policy["spec"]["ingress"])
        for name, policy in _of(objects, "NetworkPolicy").items()
        if policy["spec"]["policyTypes"] == ["Ingress"]
    }
    assert policies["quantfleet-workers"][1] == []
    (rule,) = policies["quantfleet-coordinator"][1]
    assert [port["port"] for port in rule["ports"]] == ["nodes", "enrolment"]
    for title, found in _of(objects, "StatefulSet").items():
        labels = found["spec"]["template"]["metadata"]["labels"].items()
        matching = [name for name, (selector, _) in policies.items() if selector.items() <= labels]
        assert matching == ["quantfleet-coordinator" if title.endswith("-coordinator") else "quantfleet-workers"]


def test_the_service_leads_to_the_coordinator_and_is_what_tokens_say(helm: Helm) -> None:
    objects = helm.render()
    ((name, service),) = _of(objects, "Service").items()
    found = _of(objects, "StatefulSet")[name]
    (container,) = pod_of(found)["containers"]
    words = container["args"]
    assert words[words.index("--advertise") + 1] == f"{name}.{NAMESPACE}.svc"
    assert service["spec"]["selector"].items() <= found["spec"]["template"]["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for port, option in zip(service["spec"]["ports"], ("--listen", "--enrol-listen"), strict=True):
        assert words[words.index(option) + 1] == f"0.0.0.0:{port['port']}"
        assert ports[port["targetPort"]] == port["port"]


def test_no_secret_is_rendered_and_none_has_to_exist(helm: Helm) -> None:
    objects = helm.render(MANY)
    assert not _of(objects, "Secret")
    for title, found in _of(objects, "StatefulSet").items():
        for volume in pod_of(found)["volumes"]:
            if "secret" in volume:
                assert volume["secret"] == {"secretName": "tokens", "optional": True}, title
                (init,) = pod_of(found)["initContainers"]
                assert volume["name"] in {mount["name"] for mount in init["volumeMounts"]}
                worker = pod_of(found)["containers"][0]
                assert volume["name"] not in {mount["name"] for mount in worker["volumeMounts"]}


def test_the_scripts_that_pods_run_are_in_the_config_map(helm: Helm) -> None:
    objects = helm.render()
    ((name, scripts),) = _of(objects, "ConfigMap").items()
    assert scripts["data"] == {path.name: path.read_text() for path in CHART.glob("files/*.py")}
    for title, found in _of(objects, "StatefulSet").items():
        pod = pod_of(found)
        assert {"name": "scripts", "configMap": {"name": name}} in pod["volumes"], title
        text = yaml.safe_dump(pod)
        run = re.findall(r"/opt/scripts/([\w.]+)", text)
        assert run, title
        assert set(run) <= set(scripts["data"]), title


def test_the_pools_of_a_release_with_the_longest_names_fit_into_names_of_nodes(helm: Helm) -> None:
    pool = "p" * 20
    for found in helm.render({"pools": {pool: MINIMAL_POOL}}, release="r" * 53):
        name = found["metadata"]["name"]
        if found["kind"] == "StatefulSet":
            # A node's name is the pod's; a pod's label has the set's name and ten letters of a hash.
            assert len(f"{name}-{'0' * 10}") <= 63
        assert len(name) <= 63


def test_a_pool_that_is_null_is_left_out(helm: Helm) -> None:
    assert set(_of(helm.render(FEW), "StatefulSet")) == {"quantfleet-mini"}


def test_the_notes_name_the_secret_and_each_pool(helm: Helm) -> None:
    words = ("install", "quantfleet", str(CHART), "--dry-run=client", "--namespace", NAMESPACE)
    done = helm.run(*words)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    for name in ("quantfleet-join", "quantfleet-cpu-0", "quantfleet-gpu-0", f"--namespace {NAMESPACE}"):
        assert name in notes
    command = re.search(r"-- quantfleet (.*)", notes)
    assert command
    assert_known("NOTES.txt", command[1].split())


def test_the_chart_is_of_the_version_of_the_product() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (METADATA["version"], METADATA["appVersion"]) == (version, version)


def test_every_image_of_the_values_has_its_dockerfile() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    images = {pool["image"]["repository"] for pool in values["pools"].values()}
    images.add(values["coordinator"]["image"]["repository"])
    assert {f"quantfleet-{path.stem}" for path in (ROOT / "deploy").glob("*.Dockerfile")} == images
