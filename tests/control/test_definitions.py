"""What a private node is given."""

import json

from control import definitions
from control.node import RABBITMQ


def test_hash_is_the_one_of_rabbitmqs_documentation():
    """The worked example of RabbitMQ's guide on passwords comes out."""
    hashed = definitions.password_hash("test12", bytes.fromhex("908DC60A"))
    assert hashed == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_only_the_bound_of_the_requests_changes():
    """The setting replaces the length of the request queue and nothing else."""
    text = (RABBITMQ / "definitions.json").read_text()
    before, after = json.loads(text), json.loads(definitions.topology(text, 7))
    (policy,) = (p for p in before["policies"] if p["name"] == "imagegen.requests")
    assert policy["definition"]["max-length"] != 7
    policy["definition"]["max-length"] = 7
    assert after == before


def test_every_user_gets_its_hash_and_an_admin_is_added():
    """All users of the repository and the admin have a password, the rights stay as they are."""
    text = (RABBITMQ / "users.json").read_text()
    names = definitions.user_names(text)
    made = json.loads(definitions.users(text, {name: f"hash of {name}" for name in names}))
    assert {user["name"]: user["password_hash"] for user in made["users"]} == {
        name: f"hash of {name}" for name in names
    }
    assert made["permissions"][:-1] == json.loads(text)["permissions"]
    assert made["permissions"][-1]["user"] == definitions.ADMIN


def test_configuration_keeps_what_we_do_not_set():
    """Our lines take the place of their namesakes; comments and other lines stay."""
    text = "# why\nheartbeat = 30\nload_definitions = /etc/there\n"
    made = definitions.configuration(
        text, {"load_definitions": "/here", "log.console": "false"}
    )
    assert made == "# why\nheartbeat = 30\nload_definitions = /here\nlog.console = false\n"
