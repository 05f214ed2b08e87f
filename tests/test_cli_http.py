"""The command line over both ways, AMQP and HTTP: the same words, files and exit codes."""

import json
import signal

import pytest
from PIL import Image

from tests.command_line import CommandLine
from tests.house import House

SMALL = ("--size", "256x256")
ENDLESS = "tests.test_gpu_process:Endless"


@pytest.fixture(scope="module")
def house(broker, tmp_path_factory):
    house = House(broker, tmp_path_factory.mktemp("house"))
    yield house
    house.stop()


@pytest.fixture
def service(house):
    return house.service()


class Ways:
    """The command line over one of the two ways."""

    def __init__(self, way, broker, folder):
        self.way = way
        self._run = CommandLine(folder, AMQP_URL=broker.url())

    def over(self, service):
        """The way to this service."""
        if self.way == "amqp":
            return ("--via", "amqp")
        return ("--via", "http", "--url", f"http://127.0.0.1:{service.port}")

    def __call__(self, service, command, *arguments):
        return self._run.here(command, *arguments, *self.over(service))

    def start(self, service, command, *arguments):
        return self._run.start(command, *arguments, *self.over(service))


@pytest.fixture(params=["amqp", "http"])
def imagegen(request, broker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Ways(request.param, broker, tmp_path)


def _lines(ran):
    """What was told to a program."""
    return [json.loads(line) for line in ran.stdout.splitlines()]


def _told(stdout):
    """What was told to people, as name and value."""
    return dict(line.split(maxsplit=1) for line in stdout.splitlines() if "  " in line)


def _kind(path):
    with Image.open(path) as image:
        return image.format, image.size


# ---------------------------------------------------------------- generate


def test_pictures_are_written_with_their_facts(service, imagegen, tmp_path):
    """Several at once, with seeds that count up, told as one object each."""
    drawn = imagegen(service, "generate", "A cat", "-n", "2", "--seed", "7", *SMALL, "--json")
    assert drawn.returncode == 0, drawn
    for line, seed in zip(_lines(drawn), (7, 8), strict=True):
        assert _kind(tmp_path / line["path"]) == ("PNG", (256, 256))
        assert (line["seed"], line["prompt"], line["model"]) == (seed, "A cat", "scripted")
        assert (line["forwards"], line["attempt"], line["replayed"]) == (8, 1, False)
        assert line["timings"].keys() >= {"queued", "denoise"}


def test_a_picture_is_told_to_people(service, imagegen, tmp_path):
    """Its path and its facts, after the progress."""
    drawn = imagegen(service, "generate", "A cat", "--seed", "7", *SMALL, "--format", "webp")
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert _kind(tmp_path / "pictures" / "a-cat-7.webp") == ("WEBP", (256, 256))
    assert "pictures/a-cat-7.webp" in drawn.stdout
    assert "256x256 webp, seed 7, 8 forwards in" in drawn.stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("", *SMALL), 2, "invalid_request"),
        (("x", "--size", "100x100"), 2, "invalid_request"),
        (("oom", *SMALL), 1, "out_of_memory"),
    ],
)
def test_what_goes_wrong_is_told_alike(service, imagegen, arguments, exit_code, code):
    """The code, a sentence and the fields; the exit code says whose turn it is."""
    failed = imagegen(service, "generate", *arguments, "--json")
    assert failed.returncode == exit_code, failed
    (told,) = _lines(failed)
    assert (told["error"], told["perhaps_taken"]) == (code, False)
    assert bool(told["details"]) is (exit_code == 2)


def test_a_deadline_that_passes_exits_75(house, imagegen):
    """What may be tried again is told so."""
    endless = house.service(PIPELINE=ENDLESS)
    failed = imagegen(endless, "generate", "x", "--deadline", "2", *SMALL, "--json")
    assert failed.returncode == 75, failed
    (told,) = _lines(failed)
    assert (told["error"], told["retryable"]) == ("deadline_exceeded", True)


def test_an_interrupt_calls_the_pictures_off(house, imagegen):
    """Ctrl-C: a sentence, exit code 130, and nobody draws on."""
    endless = house.restart(PIPELINE=ENDLESS)
    process = imagegen.start(endless, "generate", "x", "-n", "2", *SMALL)
    started = endless.wait("started")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Interrupted. What was not drawn yet is called off." in stdout
    assert "Traceback" not in stderr
    assert endless.wait("settled", job_id=started["job_id"])["outcome"] == "cancelled"
    endless.wait("settled", count=2)


# ---------------------------------------------------------------- async, status, jobs, cancel


def test_what_is_sent_is_found_by_its_id(service, imagegen):
    """`--async` prints ids and returns; `status --watch` sees each to its end."""
    sent = imagegen(service, "generate", "A cat", "-n", "2", "--seed", "7", *SMALL, "--async")
    assert (sent.returncode, sent.stderr) == (0, "")
    ids = sent.stdout.split()
    assert len(set(ids)) == 2
    for job_id in ids:
        service.wait("settled", job_id=job_id)
        watched = imagegen(service, "status", job_id, "--watch")
        assert (watched.returncode, watched.stderr) == (0, "")
        told = _told(watched.stdout)
        assert told["job_id"].strip() == job_id
        assert (told["status"].strip(), told["prompt"].strip()) == ("succeeded", "A cat")


def test_what_is_sent_is_told_to_programs(service, imagegen):
    """`--async --json`: one object a job."""
    sent = imagegen(service, "generate", "x", "--seed", "7", *SMALL, "--async", "--json")
    (told,) = _lines(sent)
    service.wait("settled", job_id=told["job_id"])
    assert told["seed"] == 7
    (status,) = _lines(imagegen(service, "status", told["job_id"], "--json"))
    assert (status["status"], status["seed"]) == ("succeeded", 7)
    assert status["image_url"] == f"/job/{told['job_id']}/image"


def test_jobs_are_a_table(service, imagegen):
    """Id, state, size, standing, age and the beginning of the prompt."""
    imagegen(service, "generate", "oom", *SMALL)
    imagegen(service, "generate", "A cat, " + "very " * 20 + "small", *SMALL)
    # Of one second, the order is that of the ids: the time of a message has no fractions.
    listed = imagegen(service, "jobs", "--limit", "2")
    assert (listed.returncode, listed.stderr) == (0, "")
    heads, *rows = (line.split() for line in listed.stdout.splitlines())
    assert heads == ["id", "status", "size", "standing", "age", "prompt"]
    by_state = {row[1]: row for row in rows}
    assert by_state.keys() == {"succeeded", "failed"}
    drawn, failed = by_state["succeeded"], by_state["failed"]
    assert (drawn[2], failed[2:4]) == ("256x256", ["256x256", "out_of_memory"])
    assert " ".join(drawn[6:]).startswith("A cat, very very")
    assert drawn[-1].endswith("…")
    told = _lines(imagegen(service, "jobs", "--json", "--limit", "2"))
    assert [status["job_id"] for status in told] == [row[0] for row in rows]


def test_a_job_is_called_off_by_its_id(house, imagegen):
    """`cancel` says what it did; a watch ends with the job, and with its exit code."""
    endless = house.service(PIPELINE=ENDLESS)
    (sent,) = _lines(imagegen(endless, "generate", "x", *SMALL, "--async", "--json"))
    job_id = sent["job_id"]
    endless.wait("started", job_id=job_id)
    watching = imagegen.start(endless, "status", job_id, "--watch")
    assert "step" in watching.stdout.readline()
    cancelled = imagegen(endless, "cancel", job_id)
    assert cancelled.returncode == 0
    # By the time of the answer it may have stopped.
    told = ("is called off: it stops at its next step.", "has ended: cancelled.")
    assert cancelled.stdout in {f"{job_id} {how}\n" for how in told}
    stdout, stderr = watching.communicate(timeout=60)
    assert (watching.returncode, stderr) == (1, "")
    told = _told(stdout)
    assert told["status"].strip() == "cancelled"
    assert told["error"].startswith("cancelled: ")


def test_a_watch_that_is_interrupted_leaves_the_job(house, imagegen):
    """Ctrl-C ends the looking, not the drawing."""
    endless = house.service(PIPELINE=ENDLESS)
    (sent,) = _lines(imagegen(endless, "generate", "x", *SMALL, "--async", "--json"))
    watching = imagegen.start(endless, "status", sent["job_id"], "--watch")
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, stderr = watching.communicate(timeout=60)
    assert (watching.returncode, stderr) == (130, "Interrupted. The job is left as it is.\n")
    (status,) = _lines(imagegen(endless, "status", sent["job_id"], "--json"))
    assert status["status"] == "running"
    imagegen(endless, "cancel", sent["job_id"])
    endless.wait("settled", job_id=sent["job_id"])


def test_a_job_that_nobody_knows_exits_1(service, imagegen):
    """A sentence with the code, and nothing on standard output."""
    unknown = imagegen(service, "status", "nobodys")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith("not_found: ")


def test_an_id_that_is_none_exits_2(service, imagegen):
    """Before anybody is asked."""
    for command in ("status", "cancel"):
        wrong = imagegen(service, command, "a b")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert wrong.stderr.startswith("invalid_request: A job id has")
