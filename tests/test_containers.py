"""The container files, read only: what they publish, who they run as, what they hand through."""

import hashlib
import json
import re
import tomllib
from base64 import b64decode
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from consumer.service import GIVE_BACK_S
from consumer.settings import PREFIX, Settings
from control import compose_files, torch_build

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ("docker-compose.yml", "docker-compose.cuda.yml", "docker-compose.cpu.yml")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


class Loader(yaml.SafeLoader):
    """Reads compose's own tag `!reset`, which takes a value of the main file away."""


Loader.add_constructor("!reset", lambda *_: None)


def compose(name):
    # A subclass of the safe loader, which ruff does not see.
    return yaml.load((ROOT / name).read_text(), Loader)  # noqa: S506


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


@pytest.fixture(params=["rabbitmq", "image-service"])
def service(request):
    return compose("docker-compose.yml")["services"][request.param]


# ---------------------------------------------------------------- compose


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
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108
    assert not service.get("privileged")
    mounts = [volume for volume in service["volumes"] if volume.startswith(".")]
    assert all(mount.endswith(":ro") for mount in mounts)


def test_every_service_has_a_healthcheck_without_a_shell(service):
    """What is not ready is seen, and the image needs no shell for it."""
    assert service["healthcheck"]["test"][0] == "CMD"


def test_the_service_starts_after_a_healthy_broker():
    """One command brings both up, in order."""
    services = compose("docker-compose.yml")["services"]
    assert services["image-service"]["depends_on"] == {
        "rabbitmq": {"condition": "service_healthy"}
    }
    assert all(service["profiles"] == ["image-gen"] for service in services.values())


def test_a_stop_waits_longer_than_the_drain():
    """The engine does not kill what is still finishing its work."""
    grace = seconds(
        compose("docker-compose.yml")["services"]["image-service"]["stop_grace_period"]
    )
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
            assert not re.search("URL|PASS|SECRET|TOKEN|KEY", variable)
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
    # A password belongs in it: it comes as a secret once several machines share a store.
    later = {f"{PREFIX}STORE_URL"}
    names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    ours = {name for name in handed if name.startswith(PREFIX)}
    assert ours | secrets | decided | later == names


@pytest.mark.parametrize("variant", ["cuda", "cpu"])
def test_without_an_amd_card_its_devices_are_taken_away(variant):
    """Devices that are not there would keep the container from starting."""
    override = compose(f"docker-compose.{variant}.yml")["services"]["image-service"]
    assert override["devices"] is None
    assert override["group_add"] is None


def test_nvidia_gets_what_draws_and_what_reads():
    """The driver is given these capabilities and no others: `utility` alone would not draw."""
    override = compose("docker-compose.cuda.yml")["services"]["image-service"]
    (device,) = override["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert set(device["capabilities"]) == {"gpu", "compute", "utility"}


# ---------------------------------------------------------------- the files that compose mounts


def test_every_mounted_file_is_there_or_made(tmp_path):
    """Compose would make a folder in the place of a file that is missing."""
    document = compose("docker-compose.yml")
    compose_files.write(tmp_path)
    for secret in document["secrets"].values():
        assert (tmp_path / Path(secret["file"]).name).is_file()
    for service in document["services"].values():
        for mount in service["volumes"]:
            if mount.startswith("."):
                assert (ROOT / mount.split(":")[0]).is_file()


def test_secrets_are_made_once_and_fit_each_other(tmp_path):
    """A second run changes no password, and the broker knows the hash of each."""
    folder = tmp_path / "secrets"
    compose_files.write(folder)
    passwords = json.loads((folder / "passwords.json").read_text())
    url = urlsplit((folder / "image_gen_amqp_url").read_text().strip())
    compose_files.write(folder)
    assert json.loads((folder / "passwords.json").read_text()) == passwords
    assert (folder / "image_gen_amqp_url").read_text().strip() == url.geturl()
    assert (url.hostname, url.path) == ("rabbitmq", "/imagegen")
    users = json.loads((folder / "rabbitmq_users.json").read_text())["users"]
    for user in users:
        known = b64decode(user["password_hash"])
        salted = known[:4] + passwords[user["name"]].encode()
        assert hashlib.sha256(salted).digest() == known[4:]
    assert url.password == passwords["imagegen-consumer"]
    token = (folder / "image_gen_api_token").read_text().strip()
    assert token == passwords[compose_files.API_TOKEN]
    assert len({*passwords.values()}) == len(passwords) == len(users) + 1


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
        assert ("ARG", f"VERSION={VERSION}") in stage(name)


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
