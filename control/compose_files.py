"""What docker-compose.yml takes from files: passwords, addresses and users, made once.

`python -m control.compose_files` in the clone makes them, `./control.sh init` as well.
"""

import base64
import json
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from control import definitions
from control.node import RABBITMQ
from control.say import note
from control.state import Clone, read_record, write_private
from control.torch_build import Variant, guess_variant, wanted_variant

_PASSWORDS = "passwords.json"
API_TOKEN = "api-token"  # noqa: S105 - a name
COOKIE, DATABASE = "erlang-cookie", "postgres"
OTHERS = (API_TOKEN, COOKIE, DATABASE)
"""Not users of the broker: what callers of the HTTP job API show, what the nodes of a cluster know
each other by, and the password of the store that several services share."""
_DEVICES = {"VIDEO_GID": "dri/card*", "RENDER_GID": "kfd"}
"""Whose group a container has to be in, by the name that docker-compose.yml reads from .env."""


def write(folder: Path) -> None:
    """Write the secrets into a folder; passwords that are there stay.

    The folder is its owner's alone. What containers read is readable by all inside it, because
    they see it through a mount with a user of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    users = (RABBITMQ / "users.json").read_text(encoding="utf-8")
    names = definitions.user_names(users)
    passwords = _passwords(folder / _PASSWORDS, [*names, *OTHERS])
    hashes = _hashes(folder / "rabbitmq_users.json", {name: passwords[name] for name in names})
    backend = f"chat-backend:{passwords['chat-backend']}"
    write_private(folder / "chat_backend_url", f"amqp://{backend}@127.0.0.1:5672/imagegen\n")
    consumer = f"imagegen-consumer:{passwords['imagegen-consumer']}"
    monitoring = f"monitoring:{passwords['monitoring']}"
    http = f"imagegen-http:{passwords['imagegen-http']}"
    for name, text in {
        "rabbitmq_users.json": definitions.users(users, hashes),
        "image_gen_amqp_url": f"amqp://{consumer}@rabbitmq:5672/imagegen\n",
        "image_gen_http_amqp_url": f"amqp://{http}@rabbitmq:5672/imagegen\n",
        "image_gen_api_token": f"{passwords[API_TOKEN]}\n",
        "image_gen_management_url": f"http://{monitoring}@rabbitmq:15672\n",
        "image_gen_store_url": f"postgresql://imagegen:{passwords[DATABASE]}@postgres/imagegen\n",
        "postgres_password": f"{passwords[DATABASE]}\n",
        # Without an end of line, which Erlang would take for a part of it.
        "erlang_cookie": passwords[COOKIE],
    }.items():
        write_private(folder / name, text)
        (folder / name).chmod(0o644)


def made(clone: Clone) -> bool:
    """Tell whether a clone's secrets were written once."""
    return (clone.state / "secrets" / _PASSWORDS).is_file()


def of(variant: str) -> list[str]:
    """Return the compose files of a variant, the main one first."""
    main = "docker-compose.yml"
    return [main] if variant == "rocm" else [main, f"docker-compose.{variant}.yml"]


def complete(env: Path, variant: Variant, devices: Path = Path("/dev")) -> None:
    """Add to .env what compose has to know of this machine; what stands there stays."""
    text = env.read_text(encoding="utf-8") if env.exists() else ""
    present = {line.partition("=")[0].strip() for line in text.splitlines()}
    missing = {
        name: value for name, value in _facts(variant, devices).items() if name not in present
    }
    if missing:
        separator = "" if not text or text.endswith("\n") else "\n"
        lines = "".join(f"{name}={value}\n" for name, value in missing.items())
        env.write_text(f"{text}{separator}{lines}", encoding="utf-8")


def _passwords(path: Path, names: Iterable[str]) -> dict[str, str]:
    known: dict[str, str] = read_record(path)
    passwords = {name: known.get(name) or secrets.token_urlsafe(24) for name in names}
    if passwords != known:
        write_private(path, json.dumps(passwords, indent=1))
    return passwords


def _hashes(path: Path, passwords: Mapping[str, str]) -> dict[str, str]:
    """Return a hash for every user: the one that the file has, if it is of the password."""
    known = {user["name"]: user for user in read_record(path).get("users", [])}
    hashes = {}
    for name, password in passwords.items():
        old = str(known.get(name, {}).get("password_hash", ""))
        salt = base64.b64decode(old)[:4] or secrets.token_bytes(4)
        hashes[name] = definitions.password_hash(password, salt)
    return hashes


def _facts(variant: Variant, devices: Path) -> dict[str, str]:
    """Return the lines for .env: the override of the variant, or the groups of an AMD card."""
    if variant != "rocm":
        return {"COMPOSE_FILE": ":".join(of(variant))}
    groups: dict[str, str] = {}
    for name, pattern in _DEVICES.items():
        for device in devices.glob(pattern):
            groups[name] = str(device.stat().st_gid)
    return groups


def main() -> None:
    """Make what is missing in the clone that the caller stands in."""
    clone = Clone(Path.cwd())
    if not (clone.root / "docker-compose.yml").is_file():
        sys.exit("error: there is no docker-compose.yml here; run this in the clone.")
    folder = clone.state / "secrets"
    write(folder)
    complete(clone.root / ".env", wanted_variant() or guess_variant())
    note(
        f"{folder} holds what docker compose needs; chat_backend_url is for your chat backend."
    )


if __name__ == "__main__":
    main()
