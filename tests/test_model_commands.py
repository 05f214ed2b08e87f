"""`imagegen model`: the model fetched ahead, from a hub on loopback, and proved to be whole."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.command_line import PATHS, CommandLine
from tests.diffusing import command, ignore, load
from tests.hub import MODEL, FakeHub

WEIGHTS = "text_encoder/model.safetensors"
DECOYS = {
    "README.md": "# A card",
    "assets/picture.png": "no picture",
    "text_encoder/pytorch_model.bin": "the same as a pickle",
    "text_encoder/model.fp16.safetensors": "the same, shorter",
    "text_encoder/model.onnx": "the same for another engine",
    "transformer/diffusion_pytorch_model.bin": "the same as a pickle",
}


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """The random model as a repository that also holds what no pipeline of ours loads."""
    from bench.random_model import write_random

    folder = write_random(tmp_path_factory.mktemp("repository") / "model")
    for name, text in DECOYS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def hub(repository):
    running = FakeHub(repository)
    yield running
    running.stop()


@pytest.fixture
def home(tmp_path, monkeypatch, hub):
    """The cache of this process and the hub that it asks, as HF_HOME and HF_ENDPOINT would say."""
    from huggingface_hub import constants, hf_api

    home = tmp_path / "huggingface"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    files = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
    return home


@pytest.fixture
def imagegen(tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    return CommandLine(tmp_path, MODEL=MODEL).here


def pulled(imagegen):
    """The folder of a model that was fetched just now."""
    ran = imagegen("model", "pull", "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def snapshot(home, hub):
    return home / "hub" / f"models--{MODEL.replace('/', '--')}" / "snapshots" / hub.commit


def loaded_files(repository):
    """What the pipeline loads: what its own `save_pretrained` wrote."""
    paths = {
        str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()
    }
    return paths - set(DECOYS)


def verified(imagegen, **settings):
    """Exit code, the files with a problem, and the last line of `verify`."""
    ran = imagegen("model", "verify", "--json", **settings)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    problems = {line["file"]: line["problem"] for line in lines if line.get("problem")}
    return ran.returncode, problems, lines[-1]


def offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


# ---------------------------------------------------------------- pull


def test_only_what_the_pipeline_loads_is_fetched(imagegen, hub, home, repository):
    """No second format, no other precision, no pictures; the pipeline misses nothing afterwards."""
    told = pulled(imagegen)
    wanted = loaded_files(repository)
    assert set(hub.asked) == wanted
    assert len(hub.asked) == len(wanted)
    place = snapshot(home, hub)
    assert {
        str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()
    } == wanted
    assert told["place"] == str(place)
    assert told["files"] == len(wanted)
    assert told["fetched"] == sum((repository / name).stat().st_size for name in wanted)


def test_it_is_told_what_came_and_how_to_keep_it(imagegen, hub):
    """The folder, files and bytes, and the commit as a setting."""
    ran = imagegen("model", "pull")
    assert ran.returncode == 0
    assert re.search(r"\d+ files, \d+\.\d MB, \d+\.\d MB of them fetched now", ran.stdout)
    assert f"IMAGE_GEN_MODEL_REVISION={hub.commit} keeps this one" in ran.stdout


def test_what_was_pulled_is_loaded_and_draws_without_a_network(
    imagegen, monkeypatch, new_pipeline, hub
):
    """The loader of the service finds everything in the cache while every way out is an error."""
    pulled(imagegen)
    offline(monkeypatch)
    asked = len(hub.requests)
    pipeline, ready = new_pipeline(load(model=MODEL))
    assert (ready.model, ready.revision) == (MODEL, hub.commit)
    assert pipeline.draw(command(forwards=1), ignore).forwards == 1
    assert len(hub.requests) == asked


def test_a_second_pull_fetches_nothing(imagegen, hub):
    """The hub is asked for what is newest, and no file is read again."""
    pulled(imagegen)
    read = len(hub.asked)
    assert pulled(imagegen)["fetched"] == 0
    assert len(hub.asked) == read


def test_a_pinned_model_that_is_here_asks_nobody(imagegen, hub, forbid_network_after):
    """A commit says for ever what is meant: a restart needs no hub."""
    assert imagegen("model", "pull", MODEL_REVISION=hub.commit).returncode == 0
    forbid_network_after()
    assert imagegen("model", "pull", MODEL_REVISION=hub.commit).returncode == 0


@pytest.fixture
def forbid_network_after(request):
    """Make every way out an error from the call on."""
    return lambda: request.getfixturevalue("forbid_network")


def test_a_broken_connection_is_taken_up_where_it_broke(imagegen, hub):
    """Each further answer begins with the byte after the last that came, and the whole is whole."""
    hub.faults.cut[WEIGHTS] = [1000, 500]
    pulled(imagegen)
    assert hub.ranges[WEIGHTS] == [0, 1000, 1500]
    assert verified(imagegen)[0] == 0


def test_a_hub_that_gives_no_parts_is_read_from_the_beginning(imagegen, hub):
    """A mirror that ignores Range sends the whole file again, and it is not added to the half."""
    hub.faults.cut[WEIGHTS] = [1000]
    hub.faults.parts = False
    pulled(imagegen)
    assert hub.ranges[WEIGHTS] == [0, 0]
    assert verified(imagegen)[0] == 0


def test_a_busy_hub_is_asked_again(imagegen, hub, quick):
    """Answers that may be others a little later end nothing."""
    hub.faults.busy = 3
    assert imagegen("model", "pull").returncode == 0


@pytest.fixture
def quick(monkeypatch):
    """Wait a tenth as long between two tries."""
    from consumer.models import download

    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.005)


def test_a_file_that_comes_changed_is_refused(imagegen, hub, home):
    """Nothing that is not what the hub records gets into the cache."""
    hub.faults.flip.add(WEIGHTS)
    ran = imagegen("model", "pull", "--json")
    assert (ran.returncode, json.loads(ran.stdout)["error"]) == (75, "corrupt")
    assert WEIGHTS in json.loads(ran.stdout)["message"]
    assert not snapshot(home, hub).exists()
    hub.faults.flip.clear()
    pulled(imagegen)
    assert verified(imagegen)[0] == 0


@pytest.mark.parametrize(
    "end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name
)
def test_a_pull_that_was_ended_goes_on_from_there(imagegen, hub, home, tmp_path, end):
    """By Ctrl-C, the end of its container or a kill: what had come of a file is not fetched again."""
    hub.faults.held = WEIGHTS
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer", "model", "pull"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PATHS,
            "HF_HOME": str(home),
            "HF_ENDPOINT": hub.url,
            "IMAGE_GEN_MODEL": MODEL,
        },
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert hub.halfway.wait(60)
    partial = grown(home, hub)
    process.send_signal(end)
    hub.faults.held = None
    hub.go_on.set()
    said = process.communicate(timeout=60)[1]
    if end is not signal.SIGKILL:
        assert process.returncode == 130
        assert "the next pull goes on from there" in said
    pulled(imagegen)
    first, *more = hub.ranges[WEIGHTS]
    # None, where the rest had come before the signal was heard.
    assert (first, len(more) <= 1) == (0, True)
    assert all(begun >= partial > 0 for begun in more)
    assert verified(imagegen)[0] == 0


def grown(home, hub):
    """Wait until the held file has grown to what was sent of it; returns its bytes."""
    sha256 = hub.record(WEIGHTS)[2]
    blobs = home / "hub" / f"models--{MODEL.replace('/', '--')}" / "blobs"
    path = blobs / f"{sha256}.incomplete"
    while not path.is_file() or path.stat().st_size < 1:
        time.sleep(0.01)
    return path.stat().st_size


def test_two_that_pull_at_once_fetch_a_file_once(hub, home, tmp_path):
    """The second waits for the first, and finds the file whole."""
    from consumer.models.download import Reader, download
    from consumer.models.hub import Hub
    from consumer.models.selection import Recorded

    hub.faults.held = WEIGHTS
    record = Recorded(WEIGHTS, *hub.record(WEIGHTS))
    asked = Hub(MODEL)
    reader = Reader(lambda _: None, threading.Event())
    arguments = (asked, asked.address(hub.commit, WEIGHTS), record, tmp_path, reader)
    both = [threading.Thread(target=download, args=arguments) for _ in range(2)]
    for thread in both:
        thread.start()
    assert hub.halfway.wait(60)
    hub.go_on.set()
    for thread in both:
        thread.join()
    asked.close()
    assert hub.asked == [WEIGHTS]
    assert {path.name for path in tmp_path.glob("*") if path.is_file()} == {record.blob}


def test_what_another_pull_has_brought_meanwhile_is_kept(imagegen, hub, home):
    """A file that came after this pull had looked is neither taken from its readers nor fetched again."""
    from rich.console import Console

    from consumer.models import pull
    from consumer.models.cache import shelf_of
    from consumer.models.hub import Hub
    from consumer.models.selection import Recorded
    from consumer.models.shown import Shown

    pulled(imagegen)
    blob = (snapshot(home, hub) / WEIGHTS).resolve()
    had = blob.stat().st_ino
    hub.asked.clear()
    record = Recorded(WEIGHTS, *hub.record(WEIGHTS))
    asked = Hub(MODEL)
    order = pull._Order(asked, shelf_of(MODEL), hub.commit)
    pull._bring_all(order, [record], Shown(Console(quiet=True), "fetched", 1, record.size))
    asked.close()
    assert hub.asked == []
    assert blob.stat().st_ino == had


def test_a_model_pulled_by_its_commit_is_found_by_its_branch(imagegen, hub, home):
    """What `pull` says is here, `verify` and a service without a network find by the same settings."""
    assert imagegen("model", "pull", MODEL_REVISION=hub.commit).returncode == 0
    hub.asked.clear()
    assert imagegen("model", "pull").returncode == 0
    assert hub.asked == []
    assert verified(imagegen)[0] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"blobId": "../../../../precious"},
        {"lfs": {"sha256": "../../../../precious", "size": 5}},
        {"rfilename": "../../../../../precious/model.safetensors"},
        {"rfilename": "/precious/model.safetensors"},
    ],
    ids=["blob", "large blob", "upwards", "root"],
)
def test_a_hub_names_no_place_outside_the_cache(imagegen, hub, tmp_path, wrong):
    """A hostile mirror has nothing removed or written but in the cache: its listing is refused."""
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    honest = hub.page

    def page(path):
        told = honest(path)
        if isinstance(told, dict):
            (config,) = (
                file
                for file in told["siblings"]
                if file["rfilename"] == "transformer/config.json"
            )
            config |= wrong
        return told

    hub.page = page
    ran = imagegen("model", "pull", "--json")
    assert precious.read_text() == "years of work"
    assert {path.name for path in tmp_path.glob("precious*")} == {"precious"}
    assert (ran.returncode, json.loads(ran.stdout)["error"]) == (75, "unreachable")


def test_a_commit_that_is_none_is_refused(imagegen, hub):
    """It becomes the name of a folder."""
    hub.commit = "../../elsewhere"
    honest = hub.page
    hub.page = lambda _: honest("main")
    ran = imagegen("model", "pull", "--json")
    assert (ran.returncode, json.loads(ran.stdout)["error"]) == (75, "unreachable")


def test_a_full_disk_is_told_before_anything_comes(imagegen, hub):
    """Bytes to come and bytes that are free, with the way out; no weights were asked for."""
    hub.faults.pretend[WEIGHTS] = 1 << 60
    ran = imagegen("model", "pull")
    assert ran.returncode == 73
    assert re.search(
        r"no_space: .* are to come, and .* free\. Make room, or set HF_HOME", ran.stderr
    )
    assert WEIGHTS not in hub.asked


def test_a_disk_that_fills_up_meanwhile_is_told_as_full(imagegen, monkeypatch):
    """Others write to it, too: the way out is room, not other rights."""

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("consumer.models.download.os.fsync", full)
    ran = imagegen("model", "pull")
    assert ran.returncode == 73
    assert re.search(r"no_space: .* is full; .* Make room", ran.stderr)


@pytest.mark.parametrize(
    ("error", "exit_code", "code", "remedy"),
    [
        ((401, "GatedRepo"), 77, "gated", "Set HF_TOKEN"),
        ((401, "RepoNotFound"), 2, "not_found", "Check IMAGE_GEN_MODEL"),
        ((404, "RevisionNotFound"), 2, "not_found", "IMAGE_GEN_MODEL_REVISION"),
        ((403, ""), 77, "unauthorized", "Set HF_TOKEN"),
        ((500, ""), 75, "unreachable", "Check the network, HF_ENDPOINT"),
    ],
)
def test_a_refusal_is_told_with_its_remedy(imagegen, hub, error, exit_code, code, remedy):
    """Gated, missing, not allowed, broken: each has a code, a sentence and an exit code."""
    hub.faults.error = error
    ran = imagegen("model", "pull", "--json")
    told = json.loads(ran.stdout)
    assert (ran.returncode, told["error"]) == (exit_code, code)
    assert remedy in told["message"]


def test_a_gated_model_comes_for_who_shows_the_token(imagegen, hub, monkeypatch):
    """HF_TOKEN is shown to the hub."""
    hub.faults.token = "hf_secret"
    assert imagegen("model", "pull").returncode == 77
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert imagegen("model", "pull").returncode == 0


def test_a_gated_model_that_is_here_is_loaded_without_the_token(
    imagegen, hub, monkeypatch, new_pipeline
):
    """The token is for the pull alone: a service that has none finds what it brought."""
    hub.faults.token = "hf_secret"
    with monkeypatch.context() as patched:
        patched.setenv("HF_TOKEN", "hf_secret")
        pulled(imagegen)
    _, ready = new_pipeline(load(model=MODEL))
    assert ready.revision == hub.commit


def test_offline_nothing_is_pulled_and_what_is_here_is_enough(imagegen, monkeypatch, hub):
    """HF_HUB_OFFLINE without the model says what to do; with it, it is what was wished."""
    with monkeypatch.context() as patch:
        offline(patch)
        ran = imagegen("model", "pull")
        assert (ran.returncode, hub.requests) == (69, [])
        assert "HF_HUB_OFFLINE is set. Unset it once." in ran.stderr
    pulled(imagegen)
    offline(monkeypatch)
    ran = imagegen("model", "pull")
    assert ran.returncode == 0
    assert "It is all here; whether there is a newer one could not be asked." in ran.stdout


def test_a_repository_without_safetensors_is_refused(imagegen, hub, tmp_path):
    """Pickles are not loaded, so they are not fetched either."""
    hub.folder = shutil.copytree(hub.folder, tmp_path / "pickles")
    (hub.folder / WEIGHTS).unlink()
    ran = imagegen("model", "pull")
    assert ran.returncode == 2
    assert "has no safetensors of text_encoder" in ran.stderr
    assert not any(path.endswith(".bin") for path in hub.asked)


def test_without_a_terminal_there_is_a_line_every_ten_seconds(capsys, monkeypatch):
    """Files, bytes and the rate of what had to be fetched."""
    from rich.console import Console

    from consumer.models import shown

    now = iter([0.0, 4.0, 10.0, 12.0, 20.0])
    monkeypatch.setattr(shown.time, "monotonic", lambda: next(now))
    with shown.Shown(Console(), "fetched", 3, 4_000_000_000) as told:
        told.had(1_000_000_000, 1)
        told.note(500_000_000)
        told.file()
        told.note(500_000_000)
    assert capsys.readouterr().out.splitlines() == [
        "fetched 1/3 files, 1.5 GB of 4.0 GB, 50.0 MB/s",
        "fetched 2/3 files, 2.0 GB of 4.0 GB, 50.0 MB/s",
    ]


@pytest.mark.parametrize("model", ["builtin", "folder", "missing"])
def test_there_is_nothing_to_pull_but_from_the_hub(imagegen, hub, repository, model):
    """The built-in model and folders need no hub; a folder that is not there is told."""
    named = {"builtin": "builtin", "folder": repository, "missing": "/nowhere/model"}[model]
    ran = imagegen("model", "pull", MODEL=named)
    assert ran.returncode == (2 if model == "missing" else 0)
    assert ("There is no folder" if model == "missing" else "Nothing to pull") in (
        ran.stdout + ran.stderr
    )
    assert hub.requests == []


# ---------------------------------------------------------------- verify


def test_a_whole_model_is_proved_offline(imagegen, monkeypatch, hub, repository):
    """Every file by the hub's checksum, from what the cache keeps of it."""
    pulled(imagegen)
    offline(monkeypatch)
    asked = len(hub.requests)
    ran = imagegen("model", "verify")
    count = len(loaded_files(repository))
    assert ran.returncode == 0, ran.stdout
    assert f"{count} files" in ran.stdout
    assert f"{count} by their checksums" in ran.stdout
    assert len(hub.requests) == asked


def flip(path):
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


DAMAGES = {
    "cut off": (lambda path: os.truncate(path, path.stat().st_size - 1), "bytes instead of"),
    "gone": (lambda path: path.unlink(), "is missing"),
    "one bit": (flip, "bytes have changed"),
}


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "by names alone"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(imagegen, monkeypatch, hub, home, damage, listed):
    """A byte too few, a bit turned, a file gone: each is named, with what is wrong.

    Also where nothing but the names of the blobs says what ought to be in them.
    """
    pulled(imagegen)
    place = snapshot(home, hub)
    if not listed:
        shutil.rmtree(place.parent.parent / "trees")
        offline(monkeypatch)
    harm, problem = DAMAGES[damage]
    harm((place / WEIGHTS).resolve())
    code, problems, last = verified(imagegen)
    assert (code, last["whole"], set(problems)) == (1, False, {WEIGHTS})
    assert problem in problems[WEIGHTS] or not listed


def test_what_is_damaged_is_fetched_again_and_nothing_else(imagegen, hub, home):
    """`pull --check` reads what is here and brings that one file; without it a bit stays turned."""
    pulled(imagegen)
    flip((snapshot(home, hub) / WEIGHTS).resolve())
    assert imagegen("model", "pull").returncode == 0
    ran = imagegen("model", "verify")
    assert ran.returncode == 1
    assert "-> imagegen model pull --check" in ran.stdout
    hub.asked.clear()
    assert imagegen("model", "pull", "--check").returncode == 0
    assert hub.asked == [WEIGHTS]
    assert imagegen("model", "verify").returncode == 0


@pytest.mark.parametrize(("harm", "asked"), [("empty", []), ("turned", ["--check"])])
def test_a_damaged_index_is_brought_again(imagegen, hub, home, harm, asked):
    """The file that says what belongs to the model is mended as the others are, not stumbled over."""
    pulled(imagegen)
    index = (snapshot(home, hub) / "model_index.json").resolve()
    index.write_bytes(b"" if harm == "empty" else b"?" * index.stat().st_size)
    assert imagegen("model", "pull", *asked).returncode == 0
    assert verified(imagegen)[0] == 0


def test_a_model_that_is_not_here_is_told(imagegen):
    """With the command that brings it."""
    ran = imagegen("model", "verify")
    assert ran.returncode == 2
    assert "is not here yet: imagegen model pull" in ran.stderr


def test_a_folder_is_held_against_itself(imagegen, repository, tmp_path):
    """Of a folder nothing is recorded: headers, shards and configurations have to fit."""
    folder = shutil.copytree(repository, tmp_path / "model")
    assert verified(imagegen, MODEL=folder)[0] == 0
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 1)
    (folder / "vae" / "config.json").write_text("{")
    (folder / "tokenizer").rename(folder / "lost")
    code, problems, _ = verified(imagegen, MODEL=folder)
    assert code == 1
    assert "its header says" in problems[WEIGHTS]
    assert problems["vae/config.json"] == "is no JSON"
    assert problems["tokenizer/"] == "is missing"


def test_shards_have_to_hold_what_their_index_says(imagegen, repository, tmp_path):
    """A shard that is missing, and one with other tensors than the index has in it."""
    folder = shutil.copytree(repository, tmp_path / "model")
    index = folder / "text_encoder" / "model.safetensors.index.json"
    index.write_text(
        json.dumps(
            {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
        )
    )
    code, problems, _ = verified(imagegen, MODEL=folder)
    assert code == 1
    assert problems[WEIGHTS] == "lacks 'a', which the index has in it"
    assert problems["text_encoder/model-00002-of-00002.safetensors"] == "is missing"


def test_classes_that_are_not_installed_are_told(imagegen, repository, tmp_path):
    """A pipeline or a part that this installation cannot build, before the service tries."""
    folder = shutil.copytree(repository, tmp_path / "model")
    index = folder / "model_index.json"
    told = json.loads(index.read_text())
    index.write_text(json.dumps({**told, "vae": ["diffusers", "AutoencoderOfNobody"]}))
    code, _, last = verified(imagegen, MODEL=folder)
    assert (code, last["problems"]) == (
        1,
        ["Its vae is a diffusers.AutoencoderOfNobody, which is not installed."],
    )


def test_the_built_in_model_is_proved_too(imagegen):
    """It is a folder like another."""
    code, problems, last = verified(imagegen, MODEL="builtin")
    assert (code, problems, last["whole"]) == (0, {}, True)


# ---------------------------------------------------------------- help

HEAVY = """
import sys
from consumer.__main__ import app
sys.argv = ["imagegen", *sys.argv[1:]]
for name in ("torch", "diffusers", "transformers", "huggingface_hub"):
    sys.modules[name] = None
app()
"""


@pytest.mark.parametrize("arguments", [["--help"], ["pull", "--help"]], ids=" ".join)
def test_help_needs_neither_torch_nor_the_hub(arguments):
    """It is quick, and there where neither is installed."""
    ran = subprocess.run(
        [sys.executable, "-c", HEAVY, "model", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert "model" in ran.stdout


def test_a_plain_pull_asks_the_hub_before_it_imports_the_loader(imagegen, hub):
    """A model that cannot be had is told in a second, not after the import of torch."""
    hub.faults.error = (401, "RepoNotFound")
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "consumer", "model", "pull"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PATHS,
            "HF_ENDPOINT": hub.url,
            "IMAGE_GEN_MODEL": MODEL,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 2
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert not {"torch", "diffusers", "transformers"} & imported
