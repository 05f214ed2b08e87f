"""The doctor: what it says of machines, models and brokers, well and not, and that it does no harm."""

import asyncio
import contextlib
import errno
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import aio_pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import topology
from consumer.doctor import broker as broker_look
from consumer.doctor import (
    broker_verdicts,
    gpu_verdicts,
    machine,
    management,
    model,
    model_verdicts,
    place_verdicts,
    store,
    torch_build,
    versions,
)
from consumer.doctor.asking import Asked, NoAnswerError
from consumer.doctor.broker import BrokerFound
from consumer.doctor.machine import Cards, DeviceFile, Folder, Port
from consumer.doctor.management import Managed
from consumer.doctor.model import ModelFound
from consumer.doctor.store import StoreFound
from consumer.doctor.torch_build import Device, NoTorch, TorchBuild
from consumer.doctor.verdict import Level
from consumer.doctor.versions import Installed

ROOT = Path(__file__).resolve().parent.parent
MOST = 12 << 20
GIB = 1 << 30
CHECKS = [
    "settings",
    "versions",
    "torch",
    "devices",
    "memory",
    "model",
    "cache",
    "store",
    "port",
    "broker",
    "rights",
    "http_user",
    "topology",
    "alarms",
    "message_size",
    "sharing",
    "clock",
]


def doctor(*arguments, cwd, **given):
    """Run `imagegen doctor`; returns exit code, what it said, and its lines as verdicts."""
    ran = subprocess.run(
        [sys.executable, "-m", "consumer", "doctor", *arguments],
        env={
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python")]),
            "PATH": os.environ["PATH"],
            "HF_HUB_OFFLINE": "1",
            **{f"IMAGE_GEN_{name}": str(value) for name, value in given.items()},
        },
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    return ran.returncode, ran.stdout + ran.stderr, {line["check"]: line for line in lines}


# ---------------------------------------------------------------- as it is run


def test_all_is_well_beside_a_running_service(service, broker, tmp_path):
    """Every check has its line; only what this machine lacks is worth a look; exit code 0."""
    code, said, told = doctor(
        "--json",
        cwd=tmp_path,
        AMQP_URL=broker.url("imagegen-consumer"),
        HTTP_AMQP_URL=broker.url("imagegen-http"),
        MANAGEMENT_URL=broker.node.management_url("monitoring"),
        MODEL="builtin",
        DEVICE="cpu",
        PORT=service.port,
    )
    assert list(told) == CHECKS, said
    assert {line["check"] for line in told.values() if line["level"] != "ok"} == set(), said
    assert code == 0
    assert "A service listens" in told["port"]["finding"]
    assert told["sharing"]["finding"] == "1 consumer of the queue."


def test_with_nothing_up_it_says_what_to_do_and_no_secret(tmp_path):
    """No broker, no model, no database: each is told with a remedy, without its password."""
    secrets = {"AMQP": "hunter-two", "STORE": "hunter-three", "MANAGEMENT": "hunter-four"}
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken and not listened on: whoever dials is refused
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        code, said, _ = doctor(
            cwd=tmp_path,
            AMQP_URL=f"amqp://me:{secrets['AMQP']}@{address}/imagegen",
            STORE_URL=f"postgresql://me:{secrets['STORE']}@{address}/jobs",
            MANAGEMENT_URL=f"http://me:{secrets['MANAGEMENT']}@{address}",
            MODEL=str(tmp_path),
        )
    assert code == 1
    failed = {line.split()[1] for line in said.splitlines() if line.startswith("fail")}
    assert failed == {"model", "store", "broker"}, said
    assert said.count("->") == len(
        [line for line in said.splitlines() if line[:4] in {"fail", "warn"}]
    )
    assert not any(secret in said for secret in secrets.values())


def test_settings_that_cannot_be_read_are_told_first(tmp_path):
    """Each mistake with its suggestion, then what needs no settings; exit code 78."""
    code, said, told = doctor("--json", cwd=tmp_path, PROT=1, AMQP_URL="http://u:hunter-two@h")
    assert code == 78
    assert "Did you mean IMAGE_GEN_PORT?" in said
    assert "hunter-two" not in said
    assert list(told) == ["settings", "versions", "torch", "devices"]


# ---------------------------------------------------------------- what hangs


def test_what_hangs_is_given_up():
    """A look that does not come back, as a driver's, is a failure of its check and no more."""
    reading, writing = os.pipe()
    hanging = Asked(lambda: os.read(reading, 1), 0.05)
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.05 s"):
        hanging.answer()
    os.close(writing)
    hanging._thread.join()
    os.close(reading)


def test_what_breaks_is_told():
    """A look that raises is told by what it raised, each time that it is asked for."""
    broken = Asked(lambda: 1 / 0, 60)
    for _ in range(2):
        with pytest.raises(NoAnswerError, match="ZeroDivisionError"):
            broken.answer()


def test_a_torch_that_hangs_is_killed():
    """It is asked in a process of its own, which does not outlive its time."""
    with pytest.raises(TimeoutError, match="torch did not answer"):
        torch_build.ask("import time; time.sleep(3600)", limit_s=0.1)


def test_a_torch_that_cannot_be_imported_says_why():
    """The last line of its complaint is told."""
    told = torch_build.ask(
        "raise ImportError('libcudart.so.13: cannot open shared object file')"
    )
    assert told == NoTorch("ImportError: libcudart.so.13: cannot open shared object file")


def test_a_broker_that_says_nothing_is_given_up(monkeypatch):
    """It takes the connection and is silent: told as such, in bounded time."""
    monkeypatch.setattr(broker_look, "DIAL_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = broker_look.look(f"amqp://u:p@127.0.0.1:{port}/v", "consumer", MOST)
    assert found.lock == "silent"
    assert broker_verdicts.judge_broker(found).level is Level.FAIL


# ---------------------------------------------------------------- the broker


def test_a_broker_as_it_should_be(broker):
    """Our users may do all that they have to, and a reply of the largest size is taken."""
    for user, role in (("imagegen-consumer", "consumer"), ("imagegen-http", "http")):
        found = broker_look.look(broker.url(user), role, MOST)
        assert set(found.rights.values()) == {"yes"}
        assert (found.lock, found.largest) == (None, None)
        assert broker_verdicts.judge_broker(found).level is Level.OK
        assert broker_verdicts.judge_rights(found).level is Level.OK


def test_rights_that_are_missing_are_named(broker):
    """The chat backend cannot do the service's work; the remedy is the command that lets it."""
    found = broker_look.look(broker.url("chat-backend"), "consumer", MOST)
    verdict = broker_verdicts.judge_rights(found)
    assert verdict.level is Level.FAIL
    assert verdict.finding == (
        "chat-backend may not read imagegen.requests, read imagegen.expired, "
        "read imagegen.control by a queue of our own, write imagegen.events."
    )
    assert verdict.remedy.startswith("rabbitmqctl set_permissions -p imagegen chat-backend '")


@pytest.mark.parametrize(
    ("wrong", "right", "lock"),
    [(r":[^:@]+@", ":wrong@", "no_user"), (r"/imagegen$", "/nowhere", "no_vhost")],
)
def test_why_we_are_not_let_in(broker, wrong, right, lock):
    """A wrong password and a missing vhost have remedies of their own."""
    url = re.sub(wrong, right, broker.url("imagegen-consumer"))
    found = broker_look.look(url, "consumer", MOST)
    assert found.lock == lock
    verdict = broker_verdicts.judge_broker(found)
    assert (verdict.level, "wrong" in verdict.finding) == (Level.FAIL, False)


def test_a_reply_that_is_too_large_is_told(broker):
    """The broker's own limit is met, not looked up; the remedy has its number."""
    found = broker_look.look(broker.url("imagegen-consumer"), "consumer", (16 << 20) + 1)
    verdict = broker_verdicts.judge_message_size(found, (16 << 20) + 1)
    assert verdict.level is Level.FAIL
    assert "IMAGE_GEN_MAX_REPLY_BYTES=16777216" in verdict.remedy


async def test_nothing_is_published_or_taken(broker, channel):
    """What waits in the queue is untouched, and who listens to everything hears nothing."""
    broker.purge()
    exchange = await channel.get_exchange("imagegen", ensure=False)
    await exchange.publish(aio_pika.Message(b"waiting"), topology.REQUESTS)
    listener = await channel.declare_queue("", exclusive=True)
    await listener.bind(topology.EVENTS, "#")
    before = {queue["name"] for queue in broker.api("queues/imagegen")}
    for user, role in (("imagegen-consumer", "consumer"), ("imagegen-http", "http")):
        await asyncio.to_thread(broker_look.look, broker.url(user), role, MOST)
    assert {queue["name"] for queue in broker.api("queues/imagegen")} == before
    waiting = await aio_pika.connect(broker.url("imagegen-consumer"))
    async with waiting:
        ours = await waiting.channel()
        queue = await ours.get_queue(topology.REQUESTS, ensure=False)
        message = await queue.get()
        assert (message.body, message.redelivered) == (b"waiting", False)
        await message.ack()
    heard = await channel.declare_queue(listener.name, passive=True)
    assert heard.declaration_result.message_count == 0
    assert broker.api(f"queues/imagegen/{topology.PARKING}").get("messages", 0) == 0


def managed(broker):
    return management.look(broker.node.management_url("monitoring"), "imagegen")


def test_a_topology_as_it_should_be(broker):
    """What our definitions load is what the doctor wants to see."""
    verdict = judge(managed(broker))
    assert (verdict.level, verdict.finding) == (
        Level.OK,
        "It is as the table says, limits included.",
    )


def judge(managed, mode="auto", bound=20):
    return broker_verdicts.judge_topology(WELL, managed, topology.queues(bound), mode)


WELL = BrokerFound(
    "h:5672", "me", "imagegen", version="4.1.0", rights={"write x": "yes"}, consumers=1
)


def test_a_limit_that_differs_is_told(broker):
    """Worth a look where we take what is there, in the way where the mode says so."""
    verdict = judge(managed(broker), bound=7)
    assert verdict.level is Level.WARN
    assert "max-length is 20, the table says 7" in verdict.finding
    assert judge(managed(broker), "check", 7).level is Level.FAIL


def changed(managed, kind, name, **changes):
    """What the management API would tell if one thing were otherwise; None takes it away."""
    there = [
        {**live, **changes} if live["name"] == name else live
        for live in getattr(managed, kind)
        if changes or live["name"] != name
    ]
    return replace(managed, **{kind: tuple(there)})


TROUBLES = [
    ("queues", topology.REQUESTS, {"type": "stream"}, "is of type stream", Level.WARN),
    ("queues", topology.REQUESTS, {"durable": False}, "is not durable", Level.WARN),
    ("queues", topology.EXPIRED, {}, "imagegen.expired is missing", Level.WARN),
    ("exchanges", topology.EVENTS, {"type": "fanout"}, "the table says topic", Level.WARN),
    ("exchanges", topology.DLX, {}, "imagegen.dlx is missing", Level.WARN),
    (
        "queues",
        topology.REQUESTS,
        {"effective_policy_definition": {"max-length": 20, "overflow": "drop-head"}},
        "overflow is drop-head",
        Level.FAIL,
    ),
    (
        "queues",
        topology.PARKING,
        {"type": "quorum"},
        "delivery-limit is not set, the table says 1000000",
        Level.WARN,
    ),
]


@pytest.mark.parametrize(("kind", "name", "changes", "told", "level"), TROUBLES)
def test_what_differs_from_the_table_is_told(broker, kind, name, changes, told, level):
    """Types, durability, what is missing, limits; what would lose requests is a failure."""
    verdict = judge(changed(managed(broker), kind, name, **changes))
    assert told in verdict.finding
    assert verdict.level is level


def test_a_binding_that_is_missing_is_told(broker):
    """Without it nothing published to our exchange arrives."""
    bare = replace(managed(broker), bindings=())
    assert "imagegen.requests is not bound to imagegen." in judge(bare).finding


def test_without_the_management_api_limits_are_not_known():
    """It is worth a look, and the remedy says how they can be compared."""
    unseen = judge(None)
    assert (unseen.level, unseen.remedy) == (Level.WARN, "set IMAGE_GEN_MANAGEMENT_URL")
    missing = replace(WELL, rights={"read imagegen.requests": "missing"})
    verdict = broker_verdicts.judge_topology(missing, None, topology.queues(20), "auto")
    assert "Missing: imagegen.requests." in verdict.finding


def test_a_management_api_that_does_not_let_us_in(broker):
    """Its answer is told, and what cannot be compared is worth a look."""
    url = re.sub(r":[^:@/]+@", ":wrong@", broker.node.management_url("monitoring"))
    found = management.look(url, "imagegen")
    assert found.problem == "it answers 401 Unauthorized"
    assert judge(found).level is Level.WARN
    assert broker_verdicts.judge_alarms(found).level is Level.WARN


def test_alarms_are_in_the_way(broker):
    """A broker short of memory takes no answers."""
    assert broker_verdicts.judge_alarms(managed(broker)).level is Level.OK
    short = Managed(alarms=("rabbit@a is short of memory",))
    assert broker_verdicts.judge_alarms(short).level is Level.FAIL


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("3.9.29", Level.FAIL),
        ("3.10.8", Level.OK),
        ("4.3.6", Level.OK),
        ("4.4.0", Level.WARN),
        ("", Level.OK),
    ],
)
def test_releases_of_the_broker(version, level):
    """Too old fails, what was never tried is worth a look, no version tells nothing."""
    assert broker_verdicts.judge_broker(replace(WELL, version=version)).level is level


def test_a_file_for_several_consumers_is_told():
    """With a store each, a job that one began is drawn again by another."""
    two = replace(WELL, consumers=2)
    assert broker_verdicts.judge_sharing(two, "sqlite:///x").level is Level.WARN
    assert broker_verdicts.judge_sharing(two, "postgresql://h/x").level is Level.OK
    assert broker_verdicts.judge_sharing(WELL, "sqlite:///x").level is Level.OK


# ---------------------------------------------------------------- the card

CPU = TorchBuild("2.13.0+cpu", None, None, (), ())
CUDA = TorchBuild("2.13.0+cu130", "13.0", None, (), ("sm_80", "sm_90", "compute_90"))
ROCM = TorchBuild("2.13.0+rocm7.2", None, "7.2", (), ("gfx1100", "gfx942"))
NONE = Cards(frozenset(), (), (), "me")
NVIDIA, AMD = (
    replace(NONE, vendors=frozenset({"nvidia"})),
    replace(NONE, vendors=frozenset({"amd"})),
)


def card(arch, memory=24 * GIB):
    return Device("Card", memory, arch)


TORCHES = [
    (NoTorch("ImportError: x"), NVIDIA, "auto", Level.FAIL, "setup service"),
    (CPU, NONE, "auto", Level.WARN, "lspci"),
    (CPU, NONE, "cpu", Level.OK, ""),
    (CPU, NVIDIA, "cpu", Level.OK, ""),
    (CPU, NONE, "cuda", Level.FAIL, "lspci"),
    (CPU, NVIDIA, "auto", Level.FAIL, "IMAGE_GEN_VARIANT=cuda"),
    (CUDA, AMD, "auto", Level.FAIL, "IMAGE_GEN_VARIANT=rocm"),
    (ROCM, NVIDIA, "auto", Level.FAIL, "IMAGE_GEN_VARIANT=cuda"),
    (CUDA, NVIDIA, "auto", Level.FAIL, "nvidia-smi"),
    (ROCM, AMD, "auto", Level.FAIL, "rocminfo"),
    (replace(CUDA, devices=(card("sm_89"),)), NVIDIA, "auto", Level.OK, ""),
    (replace(CUDA, devices=(card("sm_90"),)), NVIDIA, "cuda:0", Level.OK, ""),
    (replace(CUDA, devices=(card("sm_120"),)), NVIDIA, "auto", Level.OK, ""),
    (replace(CUDA, devices=(card("sm_75"),)), NVIDIA, "auto", Level.FAIL, "TORCH_INDEX"),
    (replace(CUDA, devices=(card("sm_90"),)), NVIDIA, "cuda:1", Level.FAIL, "cuda:0"),
    (replace(ROCM, devices=(card("gfx1100"),)), AMD, "auto", Level.OK, ""),
    (replace(ROCM, devices=(card("gfx1031"),)), AMD, "auto", Level.FAIL, "TORCH_INDEX"),
]


@pytest.mark.parametrize(("torch", "cards", "device", "level", "remedy"), TORCHES)
def test_torch_against_the_vendor_of_the_card(torch, cards, device, level, remedy):
    """The build fits the card's vendor, sees the card, and has kernels for it."""
    verdict = gpu_verdicts.judge_torch(torch, cards, device, (3, 11, 7))
    assert (verdict.level, remedy in verdict.remedy) == (level, True), verdict


def pci(folder, slot, vendor, kind):
    device = folder / "pci" / slot
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")


def test_cards_are_found_on_the_bus(tmp_path):
    """A Radeon's display, an Instinct's accelerator and no AMD bridge; their files by their names."""
    pci(tmp_path, "0000:03:00.0", "0x1002", "0x120000")
    pci(tmp_path, "0000:00:01.0", "0x1002", "0x060400")
    (tmp_path / "dev" / "dri").mkdir(parents=True)
    (tmp_path / "dev" / "dri" / "renderD128").touch()
    found = machine.cards(tmp_path / "pci", tmp_path / "dev")
    assert found.vendors == {"amd"}
    assert [file.path for file in found.files] == [str(tmp_path / "dev" / "dri" / "renderD128")]
    assert found.missing == (str(tmp_path / "dev" / "kfd"),)
    verdict = gpu_verdicts.judge_devices(found, "auto")
    assert (verdict.level, "kfd" in verdict.finding) == (Level.FAIL, True)
    assert gpu_verdicts.judge_devices(found, "cpu").level is Level.OK


def test_a_device_file_that_is_not_ours_names_the_group():
    """The remedy is the command for the group, and its number for a container."""
    render = DeviceFile("/dev/dri/renderD128", usable=False, group="render", group_id=104)
    verdict = gpu_verdicts.judge_devices(replace(AMD, files=(render,)), "auto")
    assert verdict.level is Level.FAIL
    assert "usermod -aG render me" in verdict.remedy
    assert "group_add: 104" in verdict.remedy
    usable = replace(AMD, files=(replace(render, usable=True),))
    assert gpu_verdicts.judge_devices(usable, "auto").level is Level.OK


Z_IMAGE = gpu_verdicts.KNOWN_COMPONENTS["Tongyi-MAI/Z-Image-Turbo"]
MEMORIES = [
    (24, 64, "auto", Level.OK, "fast"),
    (16, 64, "auto", Level.OK, "balanced"),
    (8, 64, "auto", Level.WARN, "low"),
    (16, 64, "fast", Level.FAIL, "fast is asked for"),
    (24, 64, "low", Level.OK, "fast"),
    (24, 8, "auto", Level.FAIL, "8.0 GiB to load it"),
]


@pytest.mark.parametrize(("on_card", "main", "memory", "level", "told"), MEMORIES)
def test_memory_against_the_model(on_card, main, memory, level, told):
    """A card of 24, 16 and 8 GB, a memory that is asked for and too much, a small machine."""
    torch = replace(CUDA, devices=(card("sm_90", on_card * GIB),))
    verdict = gpu_verdicts.judge_memory(torch, Z_IMAGE, main * GIB, "auto", memory)
    assert (verdict.level, told in verdict.finding) == (level, True), verdict


def test_memory_of_other_models():
    """The built-in one needs little, and of one that is not here nothing is known."""
    assert gpu_verdicts.judge_memory(CPU, {}, GIB, "auto", "auto").level is Level.OK
    assert gpu_verdicts.judge_memory(CPU, None, GIB, "auto", "auto").level is Level.WARN


@given(
    st.dictionaries(st.text(min_size=1), st.integers(1, 40 * GIB), min_size=1),
    st.integers(1, 64 * GIB),
)
def test_the_placement_is_the_pipelines(components, room):
    """What the doctor foretells is what `auto` does, which needs torch to be asked."""
    from consumer.gpu.diffusion import placement

    assert gpu_verdicts._placement(components, room) == placement(components, room)


def test_memory_is_what_the_container_leaves(tmp_path):
    """The lower of the machine's and the cgroup's; `max` is no limit."""
    (tmp_path / "meminfo").write_text("MemTotal:       16384 kB\nMemFree: 1 kB\n")
    assert machine.memory_bytes(tmp_path, tmp_path) == 16384 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_bytes(tmp_path, tmp_path) == 16384 * 1024
    (tmp_path / "memory.max").write_text("1048576\n")
    assert machine.memory_bytes(tmp_path, tmp_path) == 1 << 20


# ---------------------------------------------------------------- model, store, place


@pytest.fixture
def pipeline_folder(tmp_path):
    """A folder of a pipeline with a sharded model, a whole one and a tokenizer."""
    kinds = {
        "_class_name": "ZImagePipeline",
        "transformer": ["diffusers", "X"],
        "vae": ["diffusers", "X"],
        "tokenizer": ["transformers", "X"],
        "safety_checker": [None, None],
    }
    for part in ("transformer", "vae", "tokenizer"):
        (tmp_path / part).mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps(kinds))
    shards = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}}
    (tmp_path / "transformer" / "x.safetensors.index.json").write_text(json.dumps(shards))
    (tmp_path / "vae" / "config.json").write_text("{}")
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text("{}")
    for name in ("transformer/1", "transformer/2", "vae/x"):
        (tmp_path / f"{name}.safetensors").write_bytes(bytes(10))
    return tmp_path


def test_a_folder_with_everything(pipeline_folder):
    """It is complete, and its weights are counted by component."""
    found = model.look(str(pipeline_folder), None)
    assert (found.missing, found.weights) == ((), {"transformer": 20, "vae": 10})
    assert model_verdicts.judge_model(found, "m").level is Level.OK


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("transformer/2.safetensors", "transformer/2.safetensors"),
        ("vae/x.safetensors", "vae/*.safetensors"),
        ("model_index.json", "model_index.json"),
    ],
)
def test_what_a_folder_lacks_is_named(pipeline_folder, gone, told):
    """A shard that was not copied, a model without weights, a folder of something else."""
    (pipeline_folder / gone).unlink()
    verdict = model_verdicts.judge_model(model.look(str(pipeline_folder), None), "m")
    assert (verdict.level, f"lacks {told}" in verdict.finding) == (Level.FAIL, True), verdict


def test_a_model_that_has_to_be_fetched():
    """Where the hub has it the first start takes long; else, or without room, it fails."""
    here = Folder("/cache", writable=True, free_bytes=100 * GIB)
    fetched = ModelFound("hub", "", cache=here)
    assert model_verdicts.judge_model(fetched, "m").level is Level.WARN
    away = replace(fetched, hub_problem="the hub answers 404 for it")
    assert model_verdicts.judge_model(away, "m").level is Level.FAIL
    levels = [
        model_verdicts.judge_cache(replace(fetched, cache=cache)).level
        for cache in (here, replace(here, free_bytes=GIB), replace(here, writable=False))
    ]
    assert levels == [Level.OK, Level.FAIL, Level.FAIL]
    whole = replace(fetched, place="/cache/m", cache=replace(here, free_bytes=0))
    assert model_verdicts.judge_cache(whole).level is Level.OK


def test_a_store_that_is_no_database(tmp_path):
    """It is asked without being written to; one that is not there yet is none the worse."""
    path = tmp_path / "jobs.sqlite"
    assert store.look(f"sqlite:///{path}").problem is None
    assert not path.exists()
    path.write_text("this is no database, and long enough to be looked at" * 100)
    broken = store.look(f"sqlite:///{path}")
    assert "not a database" in broken.problem
    assert model_verdicts.judge_store(broken, 1).level is Level.FAIL


def test_where_results_are_kept():
    """A folder that cannot be written fails, a disk smaller than the results is worth a look."""
    roomy = Folder("/data", writable=True, free_bytes=10 * GIB)
    levels = [
        model_verdicts.judge_store(StoreFound("sqlite", place), 2 * GIB).level
        for place in (roomy, replace(roomy, free_bytes=GIB), replace(roomy, writable=False))
    ]
    assert levels == [Level.OK, Level.WARN, Level.FAIL]


def test_a_folder_that_is_not_there_yet(tmp_path):
    """It counts as that in which it would be made; a file in its place cannot be written into."""
    assert machine.folder(tmp_path / "a" / "b").writable
    (tmp_path / "a").touch()
    assert not machine.folder(tmp_path / "a" / "b").writable


def test_what_is_installed_is_compared():
    """What is here fits; what is missing or of another version is named with what is wanted."""
    installed = versions.look()
    assert {"torch", "diffusers", "imagegen-client"} <= {package.name for package in installed}
    assert model_verdicts.judge_versions(installed).level is Level.OK
    wrong = (
        Installed("diffusers", "0.38.0", "<0.43,>=0.42", fits=False),
        Installed("isal", None, "", fits=False),
    )
    assert model_verdicts.judge_versions(wrong).finding == (
        "diffusers 0.38.0 (wanted <0.43,>=0.42), isal is missing (wanted any)."
    )


def test_a_port_that_another_program_has():
    """It is told from one of ours, and from one that is free."""
    with socket.create_server(("127.0.0.1", 0)) as other, contextlib.ExitStack() as stack:
        number = other.getsockname()[1]
        stack.callback(setattr, machine, "ASK_S", machine.ASK_S)
        machine.ASK_S = 0.1
        taken = machine.port("127.0.0.1", number)
    assert (taken.problem, taken.ours) == (errno.EADDRINUSE, False)
    assert place_verdicts.judge_port(taken).level is Level.FAIL
    assert place_verdicts.judge_port(machine.port("127.0.0.1", number)).level is Level.OK


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [
        (errno.EACCES, "1024 or above"),
        (errno.EADDRNOTAVAIL, "IMAGE_GEN_HOST"),
        (errno.EADDRINUSE, "IMAGE_GEN_PORT"),
    ],
)
def test_why_a_port_cannot_be_had(problem, remedy):
    """Each reason has a remedy of its own."""
    verdict = place_verdicts.judge_port(Port("h:1", problem))
    assert (verdict.level, remedy in verdict.remedy) == (Level.FAIL, True)


@pytest.mark.parametrize(
    ("ahead", "level"),
    [
        ({}, Level.WARN),
        ({"broker": 0.9, "store": -0.2}, Level.OK),
        ({"broker": 0.9, "store": -7.0}, Level.WARN),
        ({"broker": 61.0}, Level.FAIL),
    ],
)
def test_clocks(ahead, level):
    """Seconds do no harm, a minute does; the worst clock is named."""
    verdict = place_verdicts.judge_clock(ahead)
    assert verdict.level is level
    if level is Level.WARN and ahead:
        assert verdict.finding.startswith("The clock of the store is 7 s behind ours")


def test_names_that_are_nearly_ours():
    """A prefix without its underscore, or in small letters, would be silently without effect."""
    known = ["port", "amqp_url"]
    names = ["IMAGEGEN_PORT", "image_gen_amqp_url", "IMAGE_GEN_PORT", "PORT", "IMAGEGEN_HOME"]
    verdict = place_verdicts.judge_names(names, known)
    assert verdict.level is Level.WARN
    assert verdict.finding == (
        "Without effect: IMAGEGEN_PORT (did you mean IMAGE_GEN_PORT?), "
        "image_gen_amqp_url (did you mean IMAGE_GEN_AMQP_URL?)."
    )
    assert place_verdicts.judge_names(["IMAGE_GEN_PORT", "HOME"], known).level is Level.OK
