"""The manifests for Kubernetes, read only: what runs, as whom, with which settings, and how many."""

import math
import re
from pathlib import Path

import pytest
import yaml

from consumer import topology
from consumer.http import probes
from consumer.service import GIVE_BACK_S
from consumer.settings import PREFIX, Settings, read_settings
from tests.test_containers import compose
from tools import kustomize

ROOT = Path(__file__).resolve().parent.parent
FLEETS = ["amd-fleet", "nvidia-fleet"]
VARIANTS = {"amd": "rocm", "nvidia": "cuda", "cpu": "cpu"}
SECRETS = {
    "image_gen_amqp_url": "amqp://imagegen-consumer:x@rabbitmq:5672/imagegen",
    "image_gen_http_amqp_url": "amqp://imagegen-http:x@rabbitmq:5672/imagegen",
    "image_gen_management_url": "http://monitoring:x@rabbitmq:15672",
    "image_gen_api_token": "sixteen characters",
    "image_gen_store_url": "postgresql://imagegen:x@postgresql:5432/imagegen",
}


@pytest.fixture(params=kustomize.overlays())
def overlay(request):
    return request.param


@pytest.fixture
def documents(overlay):
    return kustomize.render(kustomize.FOLDER / "overlays" / overlay)


@pytest.fixture
def fleet(request):
    return kustomize.render(kustomize.FOLDER / "overlays" / FLEETS[0])


def deployment(documents):
    return kustomize.find(documents, "Deployment", "imagegen")


def pod(documents):
    return deployment(documents)["spec"]["template"]["spec"]


def container(documents, name="imagegen"):
    (found,) = (
        one for one in kustomize.containers(deployment(documents)) if one["name"] == name
    )
    return found


def environment(documents, of):
    """What a container is given: the image's, the ConfigMap's and its own, the last one winning."""
    settings = kustomize.find(documents, "ConfigMap", "imagegen-settings")["data"]
    return {**settings, **{one["name"]: one["value"] for one in of["env"]}}


def mounts(of):
    return {mount["mountPath"]: mount for mount in of["volumeMounts"]}


def settings_of(documents, of, secrets):
    """The settings that the service reads in a container; `secrets` stands for /run/secrets."""
    given = {
        name: value.replace("/run/secrets", str(secrets))
        for name, value in environment(documents, of).items()
    }
    return read_settings(given, secrets)


@pytest.fixture
def secrets(tmp_path):
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value)
    return tmp_path


# ---------------------------------------------------------------- settings and secrets


def test_the_service_accepts_its_settings(documents, secrets):
    """Every variable is a setting, in range and in agreement; it listens where the probes ask."""
    settings = settings_of(documents, container(documents), secrets)
    assert settings.host == "0.0.0.0"  # noqa: S104 - in a pod
    assert [port["containerPort"] for port in container(documents)["ports"]] == [settings.port]
    assert settings.api_token is not None
    assert settings.data_dir == Settings().data_dir  # the image says where


def test_the_model_is_pulled_by_the_same_settings_without_a_secret(
    documents, tmp_path, secrets
):
    """The init container needs no password, and fetches what the service will load."""
    first = container(documents, "pull-model")
    pulled = settings_of(documents, first, tmp_path / "none")
    served = settings_of(documents, container(documents), secrets)
    assert (pulled.model, pulled.model_revision) == (served.model, served.model_revision)
    assert first["command"] == ["imagegen", "model", "pull"]
    assert "/run/secrets" not in mounts(first)
    assert mounts(first)["/cache"]["name"] == mounts(container(documents))["/cache"]["name"]
    assert environment(documents, container(documents))["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in environment(documents, first)


def test_secrets_come_as_files_by_the_names_that_the_service_reads(documents):
    """Mounted where the service looks, closed to others; no file of ours has one in it."""
    volumes = {volume["name"]: volume for volume in pod(documents)["volumes"]}
    mount = mounts(container(documents))["/run/secrets"]
    assert mount["readOnly"] is True
    assert volumes[mount["name"]]["secret"] == {
        "secretName": "imagegen-secrets",
        "defaultMode": 0o440,
    }
    assert not [document for document in documents if document["kind"] == "Secret"]
    for of in kustomize.containers(deployment(documents)):
        for name, value in environment(documents, of).items():
            assert name.endswith("_FILE") or not re.search("URL|PASS|SECRET|KEY$", name)
            assert "://" not in value


def test_the_documented_secrets_are_settings():
    """What docs/kubernetes.md has one create are files that the service looks for."""
    told = (ROOT / "docs" / "kubernetes.md").read_text()
    named = set(re.findall(r"\bimage_gen_[a-z_]+", told))
    assert named == set(SECRETS)
    assert {name.removeprefix(PREFIX.lower()) for name in named} <= set(Settings.model_fields)


# ---------------------------------------------------------------- what a pod may


def test_a_pod_can_do_little(documents):
    """No root, no capability, no way to more, nothing to write but volumes, no word to Kubernetes."""
    told = pod(documents)
    assert told["automountServiceAccountToken"] is False
    assert told["securityContext"]["runAsNonRoot"] is True
    assert told["securityContext"]["runAsUser"] == 1000
    assert told["securityContext"]["fsGroup"] == 1000
    assert told["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(told)
    assert not [volume for volume in told["volumes"] if "hostPath" in volume]
    for of in kustomize.containers(deployment(documents)):
        assert of["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"/cache", "/tmp"} <= set(mounts(of))  # noqa: S108


def test_the_network_lets_through_what_is_needed(documents):
    """In to the one port; out to names, the broker, the hub, and a fleet's database."""
    policy = kustomize.find(documents, "NetworkPolicy", "imagegen")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [port for rule in policy["ingress"] for port in rule["ports"]] == [{"port": "http"}]
    out = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    database = {5432} if kinds(documents) & {"ScaledObject"} else set()
    assert out == {53, 443, 5671, 5672, 15671, 15672} | database


def kinds(documents):
    return {document["kind"] for document in documents}


# ---------------------------------------------------------------- life of a pod


def test_probes_ask_pages_that_are_there(documents):
    """Each the page that was made for it, without a token; the start has half an hour."""
    told = container(documents)
    asked = {
        name: told[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")
    }
    assert {name: get["path"] for name, get in asked.items()} == {
        "startup": "/startupz",
        "liveness": "/livez",
        "readiness": "/readyz",
    }
    assert {get["path"] for get in asked.values()} <= set(probes.PAGES)
    assert {get["port"] for get in asked.values()} == {told["ports"][0]["name"]}
    start = told["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 1800


def test_a_stop_waits_longer_than_the_drain(documents, secrets):
    """The node does not kill what is still finishing its work."""
    drain_s = settings_of(documents, container(documents), secrets).drain_s
    assert pod(documents)["terminationGracePeriodSeconds"] > drain_s + GIVE_BACK_S


def test_images_are_those_of_compose(documents, overlay):
    """One version everywhere, in the variant of the card."""
    variant = VARIANTS[overlay.removesuffix("-fleet")]
    name = "docker-compose.yml" if variant == "rocm" else f"docker-compose.{variant}.yml"
    services = compose(name)["services"].values()
    images = {service["image"] for service in services if "image" in service}
    for of in kustomize.containers(deployment(documents)):
        assert of["image"] in images
        assert of["image"].endswith(f"-{variant}")


def test_one_pod_has_one_card(documents, overlay):
    """A consumer uses one GPU; without a card none is asked for."""
    limits = container(documents)["resources"]["limits"]
    cards = {name: number for name, number in limits.items() if name.endswith("/gpu")}
    vendor = overlay.removesuffix("-fleet")
    assert cards == ({} if vendor == "cpu" else {f"{vendor}.com/gpu": "1"})


def test_selectors_find_the_pods(documents):
    """Service, policy, budget and monitor name the label that the pods bear."""
    labels = deployment(documents)["spec"]["template"]["metadata"]["labels"]
    assert deployment(documents)["spec"]["selector"]["matchLabels"] == labels
    service = kustomize.find(documents, "Service", "imagegen")
    assert service["spec"]["selector"] == labels
    assert service["spec"]["ports"][0]["targetPort"] == container(documents)["ports"][0]["name"]
    policy = kustomize.find(documents, "NetworkPolicy", "imagegen")
    assert policy["spec"]["podSelector"] == {"matchLabels": labels}
    others = {"PodDisruptionBudget", "ServiceMonitor"}
    selectors = [one["spec"]["selector"] for one in documents if one["kind"] in others]
    assert selectors == [{"matchLabels": labels}] * len(others & kinds(documents))


def test_one_card_and_one_volume_are_never_waited_for_twice(documents):
    """A new pod begins when the old one has left."""
    strategy = deployment(documents)["spec"]["strategy"]
    if "ScaledObject" not in kinds(documents):
        assert strategy == {"type": "Recreate"}
        assert deployment(documents)["spec"]["replicas"] == 1
    else:
        assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        assert "replicas" not in deployment(documents)["spec"]


# ---------------------------------------------------------------- several


@pytest.mark.parametrize("overlay", FLEETS)
def test_a_fleet_shares_its_store_and_its_model(documents, secrets):
    """One PostgreSQL, without which none starts; a volume for all; kernels each for itself."""
    settings = settings_of(documents, container(documents), secrets)
    assert settings.store == SECRETS["image_gen_store_url"]
    claim = kustomize.find(documents, "PersistentVolumeClaim", "imagegen-cache")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    own = {
        name: value
        for name, value in environment(documents, container(documents)).items()
        if value.startswith("/kernels/")
    }
    assert "/kernels" in mounts(container(documents))
    ours = dict(re.findall(r"(\w+)=(/cache/(?:miopen|triton|inductor))", dockerfile()))
    assert set(own) == set(ours)
    assert {name: value.replace("/kernels", "/cache") for name, value in own.items()} == ours


def dockerfile():
    return (ROOT / "Dockerfile").read_text()


def test_the_queue_that_is_counted_is_ours(fleet):
    """Waiting and in hand, by the management API, as the user who may only look."""
    (trigger,) = kustomize.find(fleet, "ScaledObject", "imagegen")["spec"]["triggers"]
    assert trigger["metadata"]["queueName"] == topology.REQUESTS
    assert trigger["metadata"]["vhostName"] == topology.VHOST
    assert trigger["metadata"]["protocol"] == "http"
    assert trigger["metadata"]["excludeUnacknowledged"] == "false"
    name = trigger["authenticationRef"]["name"]
    (secret,) = kustomize.find(fleet, "TriggerAuthentication", name)["spec"]["secretTargetRef"]
    assert secret == {
        "parameter": "host",
        "name": "imagegen-secrets",
        "key": "image_gen_management_url",
    }


def test_consumers_stay_longer_than_a_job(fleet, secrets):
    """None is taken away in the lull between two requests, nor for a broker that is away."""
    told = kustomize.find(fleet, "ScaledObject", "imagegen")["spec"]
    job_s = settings_of(fleet, container(fleet), secrets).job_timeout_s
    down = told["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert told["cooldownPeriod"] > job_s
    assert down["stabilizationWindowSeconds"] > job_s
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]
    assert told["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_a_full_queue_asks_for_all_the_cards(fleet, secrets):
    """The bound of the queue does not keep a fleet smaller than it may be; the comment tells the most."""
    told = kustomize.find(fleet, "ScaledObject", "imagegen")["spec"]
    settings = settings_of(fleet, container(fleet), secrets)
    value = float(told["triggers"][0]["metadata"]["value"])
    consumers = asked = 1
    while (
        asked := math.ceil(
            (settings.max_queue_size + consumers * settings.max_concurrent) / value
        )
    ) > consumers:
        consumers = asked
    assert told["maxReplicaCount"] <= asked
    text = (kustomize.FOLDER / "components/fleet/scaledobject.yaml").read_text()
    assert (
        f"{settings.max_queue_size} / (value - those in hand: {settings.max_concurrent}) = {asked}"
        in text
    )


# ---------------------------------------------------------------- the reader


def test_what_the_reader_does_not_know_is_refused(tmp_path):
    """A feature of kustomize that is left out would be left out of every check here."""
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"replicas": []}))
    with pytest.raises(ValueError, match="replicas is unknown here"):
        kustomize.render(tmp_path)
