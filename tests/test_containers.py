"""The container files, read only: what they publish, who they run as, what they hand through."""

import hashlib
import json
import re
import tomllib
from base64 import b64decode
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from consumer.service import GIVE_BACK_S
from consumer.settings import PREFIX, Settings
from control import compose_files, torch_build

ROOT = Path(__file__).resolve().parent.parent
MAIN, OVERRIDES = "docker-compose.yml", ("docker-compose.cuda.yml", "docker-compose.cpu.yml")
MONITORING = "docker-compose.monitoring.yml"
COMPOSE = (MAIN, MONITORING, *OVERRIDES)
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


class Reset:
    """A value that compose's own tag `!reset` takes away."""


class Loader(yaml.SafeLoader):
    """Reads compose's own tag."""


Loader.add_constructor("!reset", lambda *_: Reset)


def compose(name):
    # A subclass of the safe loader, which ruff does not see.
    return yaml.load((ROOT / name).read_text(), Loader)  # noqa: S506


SERVICES = compose(MAIN)["services"] | compose(MONITORING)["services"]
"""Every service of every profile, before an override."""
CONSUMERS = ("image-service", "image-service-1", "image-service-2")
BROKERS = ("rabbitmq-1", "rabbitmq-2", "rabbitmq-3")


def without_resets(value):
    """Return a document as its schema is to see it: what is taken away is not there."""
    if isinstance(value, dict):
        return {key: without_resets(part) for key, part in value.items() if part is not Reset}
    return value


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)([smh])", duration).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def instructions():
    """Return the Dockerfile's lines as (instruction, arguments), continued lines as one."""
    text = re.sub(
        r"<<EOF\n.*?\nEOF\n", "a script\n", (ROOT / "Dockerfile").read_text(), flags=re.DOTALL
    )
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def stage(name):
    """Return the instructions of one stage."""
    lines = instructions()
    starts = [number for number, (word, _) in enumerate(lines) if word == "FROM"]
    for begin, end in pairwise([*starts, len(lines)]):
        if lines[begin][1].endswith(f" AS {name}"):
            return lines[begin + 1 : end]
    raise LookupError(name)


@pytest.fixture(params=SERVICES)
def service(request):
    return SERVICES[request.param]


# ---------------------------------------------------------------- compose


@pytest.mark.parametrize("name", COMPOSE)
def test_a_compose_file_is_one(name):
    """Every name and type is the specification's (github.com/compose-spec, Apache 2.0).

    Whether a real compose reads the files, with every override and profile, `make image-check`
    tells: there is none everywhere where this runs.
    """
    schema = json.loads((ROOT / "tests" / "compose_spec" / "compose-spec.json").read_text())
    jsonschema.validate(without_resets(compose(name)), schema)


def test_the_specification_finds_a_misspelt_name():
    """The check above can fail."""
    schema = json.loads((ROOT / "tests" / "compose_spec" / "compose-spec.json").read_text())
    broken = {"services": {"x": {"image": "x", "cap_dropp": ["ALL"]}}}
    with pytest.raises(jsonschema.ValidationError, match="cap_dropp"):
        jsonschema.validate(broken, schema)


def test_whatever_is_named_is_there():
    """Volumes, secrets and the services that others wait for exist, the latter in the profile."""
    documents = [compose(MAIN), compose(MONITORING)]
    volumes = {name for document in documents for name in document["volumes"]}
    for service in SERVICES.values():
        mounted = {mount.split(":")[0] for mount in service["volumes"]}
        assert {mount for mount in mounted if not mount.startswith(".")} <= volumes
        for other in service.get("depends_on", {}):
            assert SERVICES[other]["profiles"] == service["profiles"]
    used = {name for service in SERVICES.values() for name in secrets_of(service)}
    assert used == set(compose(MAIN)["secrets"])


def secrets_of(service):
    """Return the secrets that a service reads."""
    return {
        secret if isinstance(secret, str) else secret["source"]
        for secret in service.get("secrets", [])
    }


@pytest.mark.parametrize("profiles", [{"image-gen", "monitoring"}, {"cluster", "monitoring"}])
def test_no_two_services_want_one_port(profiles):
    """Profiles that run beside each other have ports of their own."""
    ports = [
        re.search(r":-(\d+)", port)[1]
        for service in SERVICES.values()
        if profiles & set(service["profiles"])
        for port in service.get("ports", [])
    ]
    assert len(ports) == len(set(ports)) > 3


@pytest.mark.parametrize("name", COMPOSE)
def test_ports_are_published_on_loopback_only(name):
    """No other machine reaches a container, whatever the host's firewall lets through."""
    for service in compose(name)["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        assert service.get("network_mode") != "host"


def test_nobody_runs_as_root(service):
    """Users are numbers above 0, so that the host and Kubernetes can tell them from root."""
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_a_container_can_do_little(service):
    """No capability, no way to more rights, nothing to write but volumes and /tmp."""
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert set(service["tmpfs"]) <= {"/tmp", "/var/run/postgresql"}  # noqa: S108
    assert not {"privileged", "cap_add", "pid", "ipc", "userns_mode"} & set(service)
    assert "docker.sock" not in str(service["volumes"])
    mounts = [volume for volume in service["volumes"] if volume.startswith(".")]
    assert all(mount.endswith(":ro") for mount in mounts)


def test_every_service_has_a_healthcheck_without_a_shell(service):
    """What is not ready is seen, and the image needs no shell for it."""
    assert service["healthcheck"]["test"][0] == "CMD"


def test_the_service_starts_after_what_it_needs():
    """One command brings all of a profile up, in order."""
    healthy = {"condition": "service_healthy"}
    assert SERVICES["image-service"]["depends_on"] == {"rabbitmq": healthy}
    for name in CONSUMERS[1:]:
        assert SERVICES[name]["depends_on"] == dict.fromkeys((*BROKERS, "postgres"), healthy)


def test_profiles_are_told_apart():
    """One broker and service, three brokers and two services on a store, or what watches them."""
    profiles = {}
    for name, service in SERVICES.items():
        (profile,) = service["profiles"]
        profiles.setdefault(profile, set()).add(name)
    assert profiles == {
        "image-gen": {"rabbitmq", "image-service"},
        "cluster": {*BROKERS, "postgres", *CONSUMERS[1:]},
        "monitoring": {"prometheus", "grafana"},
    }
    assert compose(MAIN)["include"] == [MONITORING]


# ---------------------------------------------------------------- the cluster


def test_the_brokers_know_each_other_by_name():
    """Each is a host that the list names, with a folder of its own and the common cookie."""
    text = (ROOT / "rabbitmq" / "cluster.conf").read_text()
    nodes = re.findall(r"classic_config\.nodes\.\d = rabbit@(\S+)", text)
    assert tuple(nodes) == BROKERS
    for name in BROKERS:
        service = SERVICES[name]
        assert service["hostname"] == name
        assert f"{name}-data:/var/lib/rabbitmq" in service["volumes"]
        assert secrets_of(service) == {"rabbitmq_users", "erlang_cookie"}
        mounts = " ".join(service["volumes"])
        assert "definitions.cluster.json:/etc/rabbitmq/definitions.d/" in mounts
        assert "cluster.conf:/etc/rabbitmq/conf.d/" in mounts


def test_who_is_cut_off_finds_a_broker_that_lives():
    """All brokers answer to the name in the URLs, and both services to the one of one."""
    for name in BROKERS:
        assert SERVICES[name]["networks"]["default"]["aliases"] == ["rabbitmq"]
    for name in CONSUMERS[1:]:
        assert SERVICES[name]["networks"]["default"]["aliases"] == ["image-service"]


def test_the_services_of_the_cluster_share_a_store_and_nothing_else_is_different():
    """What holds for the one service holds for each of two."""
    one = SERVICES["image-service"]
    for number, name in enumerate(CONSUMERS[1:], 1):
        service = SERVICES[name]
        ours = service["environment"]
        assert secrets_of(service) == secrets_of(one) | {"image_gen_store_url"}
        assert ours["IMAGE_GEN_WORKER_NAME"] == name
        assert ours["IMAGE_GEN_DEVICE"] == f"${{CLUSTER_DEVICE_{number}:-cuda:{number - 1}}}"
        own = {"IMAGE_GEN_WORKER_NAME", "IMAGE_GEN_DEVICE"}
        assert {key: ours[key] for key in ours if key not in own} == {
            key: value for key, value in one["environment"].items() if key not in own
        }
        differing = {key for key in service if service[key] != one.get(key)}
        assert differing <= {
            "profiles", "environment", "networks", "secrets", "depends_on", "ports"
        }  # fmt: skip


# ---------------------------------------------------------------- the services of ours


def test_a_stop_waits_longer_than_the_drain():
    """The engine does not kill what is still finishing its work."""
    grace = seconds(SERVICES["image-service"]["stop_grace_period"])
    assert grace > Settings().drain_s + GIVE_BACK_S


@pytest.mark.parametrize("name", COMPOSE)
def test_images_have_a_version(name):
    """Nothing is taken as `latest`, and ours carry the version of pyproject.toml."""
    for service in compose(name)["services"].values():
        image, _, tag = service["image"].partition(":")
        assert tag
        assert not tag.startswith("latest")
        if "build" in service:
            assert image == "imagegen"
            assert tag == f"{VERSION}-{service['build']['args']['VARIANT']}"


@pytest.mark.parametrize("name", COMPOSE)
def test_no_secret_stands_in_a_file_of_the_repository(name):
    """Secrets are files in the ignored folder; no variable carries a URL or a password."""
    document = compose(name)
    for secret in document.get("secrets", {}).values():
        assert set(secret) == {"file"}
        assert secret["file"].startswith("./.imagegen/secrets/")
    for service in document["services"].values():
        for variable, value in service.get("environment", {}).items():
            assert not re.search("URL|PASS|SECRET|TOKEN|KEY", variable) or (
                variable.endswith("_FILE") and value.startswith("/run/secrets/")
            )
            assert "://" not in str(value)


def test_every_setting_reaches_the_service():
    """What `IMAGE_GEN_` can say is handed through, or decided by the image or a secret."""
    handed = set(compose("docker-compose.yml")["services"]["image-service"]["environment"])
    secrets = {
        name.upper()
        for name in compose("docker-compose.yml")["secrets"]
        if name.startswith(PREFIX.lower())
    }
    decided = {f"{PREFIX}{name}" for name in ("HOST", "PORT", "DATA_DIR", "PIPELINE")}
    names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    ours = {name for name in handed if name.startswith(PREFIX)}
    assert ours | secrets | decided == names


@pytest.mark.parametrize("variant", ["cuda", "cpu"])
def test_without_an_amd_card_its_devices_are_taken_away(variant):
    """Devices that are not there would keep the container from starting."""
    override = compose(f"docker-compose.{variant}.yml")["services"]
    assert tuple(override) == CONSUMERS
    for service in override.values():
        assert service["devices"] is Reset
        assert service["group_add"] is Reset


@pytest.mark.parametrize("name", OVERRIDES)
def test_what_is_taken_away_is_written_out(name):
    """Compose does not follow an alias to a `!reset`: the devices would stay, without a word."""
    text = (ROOT / name).read_text()
    assert text.count("devices: !reset []") == text.count("group_add: !reset []") == 3


def test_nvidia_gets_what_draws_and_what_reads():
    """The driver is given these capabilities and no others: `utility` alone would not draw."""
    cards = []
    for service in compose("docker-compose.cuda.yml")["services"].values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert set(device["capabilities"]) == {"gpu", "compute", "utility"}
        cards.append(device.get("device_ids", device.get("count")))
    assert cards == [1, ["${CLUSTER_CARD_1:-0}"], ["${CLUSTER_CARD_2:-1}"]]


# ---------------------------------------------------------------- the files that compose mounts


def test_every_mounted_file_is_there_or_made(tmp_path):
    """Compose would make a folder in the place of a file that is missing."""
    document = compose("docker-compose.yml")
    compose_files.write(tmp_path)
    for secret in document["secrets"].values():
        assert (tmp_path / Path(secret["file"]).name).is_file()
    for service in SERVICES.values():
        for mount in service["volumes"]:
            if mount.startswith("."):
                assert (ROOT / mount.split(":")[0]).exists()


def test_secrets_are_made_once_and_fit_each_other(tmp_path):
    """A second run changes no password, and the broker knows the hash of each."""
    folder = tmp_path / "secrets"
    compose_files.write(folder)
    passwords = json.loads((folder / "passwords.json").read_text())
    url = urlsplit((folder / "image_gen_amqp_url").read_text().strip())
    made = {path.name: path.read_text() for path in folder.iterdir()}
    compose_files.write(folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made
    assert (url.hostname, url.path) == ("rabbitmq", "/imagegen")
    users = json.loads((folder / "rabbitmq_users.json").read_text())["users"]
    for user in users:
        known = b64decode(user["password_hash"])
        salted = known[:4] + passwords[user["name"]].encode()
        assert hashlib.sha256(salted).digest() == known[4:]
    assert url.password == passwords["imagegen-consumer"]
    token = (folder / "image_gen_api_token").read_text().strip()
    assert token == passwords[compose_files.API_TOKEN]
    store = urlsplit((folder / "image_gen_store_url").read_text().strip())
    assert store.password == (folder / "postgres_password").read_text().strip()
    assert not (folder / "erlang_cookie").read_text().endswith("\n")
    assert (
        len({*passwords.values()}) == len(passwords) == len(users) + len(compose_files.OTHERS)
    )


def test_only_the_owner_comes_to_the_secrets(tmp_path):
    """Containers read through a mount as users of their own; on the host the folder is closed."""
    folder = tmp_path / "secrets"
    compose_files.write(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    mounted = {
        Path(secret["file"]).name
        for secret in compose("docker-compose.yml")["secrets"].values()
    }
    assert {name for name, mode in modes.items() if mode == 0o644} == mounted
    assert {mode for name, mode in modes.items() if name not in mounted} == {0o600}


def test_env_is_completed_and_never_changed(tmp_path):
    """What a person wrote into .env stays; what compose needs is added once."""
    env = tmp_path / ".env"
    env.write_text("IMAGE_GEN_MODEL=builtin\nVIDEO_GID=7")
    devices = tmp_path / "dev"
    (devices / "dri").mkdir(parents=True)
    for name in ("kfd", "dri/card0", "dri/renderD128"):
        (devices / name).touch()
    group = (devices / "kfd").stat().st_gid
    for _ in range(2):
        compose_files.complete(env, "rocm", devices)
    assert env.read_text() == f"IMAGE_GEN_MODEL=builtin\nVIDEO_GID=7\nRENDER_GID={group}\n"


@pytest.mark.parametrize("variant", ["cuda", "cpu"])
def test_env_names_the_override_of_the_variant(tmp_path, variant):
    """The same command brings the service up on any machine."""
    compose_files.complete(tmp_path / ".env", variant)
    name, files = (tmp_path / ".env").read_text().strip().split("=")
    assert name == "COMPOSE_FILE"
    assert files.split(":") == ["docker-compose.yml", f"docker-compose.{variant}.yml"]


# ---------------------------------------------------------------- the image


def test_base_images_have_a_version():
    """No stage stands on an image without a tag, or on `latest`."""
    own = {
        "scratch",
        *(target.split()[-1] for word, target in instructions() if word == "FROM"),
    }
    for word, target in instructions():
        image = target.split()[0]
        if word == "FROM" and image not in own and not image.startswith("torch-"):
            assert ":" in image
            assert "latest" not in image


@pytest.mark.parametrize("name", ["tools", "service"])
def test_an_image_runs_as_a_number(name):
    """The last user is no root, and is told by number."""
    users = [value for word, value in stage(name) if word == "USER"]
    assert users == ["1000:1000"]


def test_the_service_is_started_stopped_and_probed_without_a_shell():
    """Signals reach the service itself, and its own command tells whether it is ready."""
    lines = stage("service")
    assert ("STOPSIGNAL", "SIGTERM") in lines
    assert ("CMD", '["imagegen", "serve"]') in lines
    (probe,) = [value for word, value in lines if word == "HEALTHCHECK"]
    assert probe.endswith('CMD ["imagegen", "healthcheck"]')


def test_whatever_is_written_goes_to_the_volume():
    """Models, kernels and jobs outlive the container, whose own file system is read-only."""
    variables = dict(
        pair.split("=")
        for word, value in stage("service")
        if word == "ENV"
        for pair in value.split()
    )
    assert variables.pop("IMAGE_GEN_HOST") == "0.0.0.0"  # noqa: S104
    assert {"HF_HOME", "MIOPEN_USER_DB_PATH", "TRITON_CACHE_DIR", "IMAGE_GEN_DATA_DIR"} <= set(
        variables
    )
    assert all(Path(value).is_relative_to("/cache") for value in variables.values())
    volumes = compose("docker-compose.yml")["services"]["image-service"]["volumes"]
    assert volumes == ["image-gen-cache:/cache"]


def test_torch_comes_from_one_index_and_no_other_host_is_named():
    """The image asks the same indexes as control.sh, and never two at a time."""
    text = (ROOT / "Dockerfile").read_text()
    for variant, index in torch_build.DEFAULT_INDEX.items():
        assert stage(f"torch-{variant}") == [("ARG", f"DEFAULT_INDEX={index}")]
    assert "--extra-index-url" not in text
    assert set(re.findall(r"https?://([^/\s\"]+)", text)) == {"download.pytorch.org"}
    assert "syntax=" not in text


def test_the_labels_tell_the_version():
    """An image can be traced to what it was made of."""
    for name in ("tools", "service"):
        lines = stage(name)
        assert ("ARG", f"VERSION={VERSION}") in lines
        assert ("ARG", "REVISION") in lines
        (labels,) = [value for word, value in lines if word == "LABEL"]
        told = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels))
        assert told == {"title", "description", "version", "revision", "licenses"}
    assert compose(MAIN)["services"]["image-service"]["build"]["args"]["REVISION"]


def test_the_engine_is_given_nothing_but_what_it_installs():
    """Secrets, models and pictures in the clone never reach an image or a remote engine."""
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert allowed == {
        "constraints.txt",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "clients",
        "schemas",
        "consumer",
    }
