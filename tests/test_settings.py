"""The settings: defaults, where values come from, and how what is wrong is told."""

import subprocess
import sys
from pathlib import Path

import pytest

from consumer.settings import SettingsError, read_settings

SECRET = "hunter2"
URL = f"amqp://chat:{SECRET}@broker:5672/imagegen"

DESIGN = {
    "host": "127.0.0.1",
    "port": 8034,
    "model": "Tongyi-MAI/Z-Image-Turbo",
    "default_width": 1024,
    "default_height": 1024,
    "inference_steps": 9,
    "guidance_scale": 0.0,
    "max_queue_size": 20,
    "max_concurrent": 1,
    "job_timeout_s": 300,
    "drain_s": 60,
    "result_ttl_s": 86_400,
    "result_max_bytes": 2 * 1024**3,
    "default_deadline_s": 600,
    "embed_metadata": True,
    "log_prompts": False,
    "topology": "auto",
    "device": "auto",
    "memory": "auto",
}


@pytest.fixture
def read(tmp_path):
    """Read settings from names without their prefix, and no secrets folder."""

    def read(**given):
        environment = {f"IMAGE_GEN_{name}": str(value) for name, value in given.items()}
        return read_settings(environment, tmp_path / "no secrets")

    return read


def sentences(read, **given):
    with pytest.raises(SettingsError) as caught:
        read(**given)
    return caught.value.sentences


@pytest.mark.parametrize(("name", "value"), DESIGN.items())
def test_the_defaults_are_the_designs(read, name, value):
    """With nothing set the service runs as the design says."""
    assert getattr(read(), name) == value


def test_values_are_read_from_the_environment(read):
    """Numbers, words and switches come out as what they are."""
    settings = read(PORT="9000", EMBED_METADATA="false", MODEL="builtin", DRAIN_S="2.5")
    assert (settings.port, settings.embed_metadata) == (9000, False)
    assert (settings.model, settings.drain_s) == ("builtin", 2.5)


def test_other_programs_variables_do_not_matter(tmp_path):
    """Only names with our prefix are ours."""
    assert read_settings({"PORT": "x", "IMAGE_GENERATOR": "y"}, tmp_path) == read_settings(
        {}, tmp_path
    )


def test_what_control_sh_reads_is_no_mistake(read):
    """The names that only the scripts read are known and do nothing here."""
    assert read(VARIANT="cpu", TORCH_INDEX="https://example.org") == read()


def test_an_empty_value_counts_as_not_given(read):
    """A compose file that hands on an unset variable sets it to nothing."""
    assert read(PORT="", AMQP_URL="", WORKER_NAM="") == read()


def test_a_value_may_stand_in_a_file(read, tmp_path):
    """`IMAGE_GEN_<NAME>_FILE` names a file with the value; its last newline is not part of it."""
    (tmp_path / "url").write_text(f"{URL}\n")
    assert read(AMQP_URL_FILE=tmp_path / "url").amqp_url.get_secret_value() == URL


def test_a_value_may_stand_in_the_secrets_folder(tmp_path):
    """A secret that an engine mounts is found by its name."""
    (tmp_path / "image_gen_amqp_url").write_text(f"{URL}\n")
    assert read_settings({}, tmp_path).amqp_url.get_secret_value() == URL


def test_the_environment_goes_before_the_secrets_folder(tmp_path):
    """What is said last and nearest counts."""
    (tmp_path / "image_gen_amqp_url").write_text(URL)
    settings = read_settings({"IMAGE_GEN_AMQP_URL": "amqps://other/x"}, tmp_path)
    assert settings.amqp_url.get_secret_value() == "amqps://other/x"


def test_a_value_and_its_file_cannot_both_be_set(read, tmp_path):
    """Which of the two counts is not guessed."""
    (tmp_path / "url").write_text(URL)
    assert sentences(read, AMQP_URL=URL, AMQP_URL_FILE=tmp_path / "url") == [
        "IMAGE_GEN_AMQP_URL and IMAGE_GEN_AMQP_URL_FILE are both set. Keep one."
    ]


def test_a_file_that_cannot_be_read_is_told(read, tmp_path):
    """A missing file and one that is no text each have their sentence."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    told = sentences(read, AMQP_URL_FILE=tmp_path / "none", MODEL_FILE=tmp_path / "binary")
    assert [sentence.split(":")[0] for sentence in told] == [
        "IMAGE_GEN_AMQP_URL_FILE names a file that cannot be read",
        "IMAGE_GEN_MODEL_FILE names a file that cannot be read",
    ]


def test_a_secret_that_cannot_be_read_is_told(tmp_path):
    """A mounted secret that is no text is a sentence, not a traceback."""
    (tmp_path / "image_gen_amqp_url").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="image_gen_amqp_url"):
        read_settings({}, tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MAX_QUEUE_SIZ", "Did you mean IMAGE_GEN_MAX_QUEUE_SIZE?"),
        ("AMPQ_URL", "Did you mean IMAGE_GEN_AMQP_URL?"),
        ("INFERENCE_STEP", "Did you mean IMAGE_GEN_INFERENCE_STEPS?"),
        ("QQQQ", "Remove it."),
    ],
)
def test_a_misspelt_name_is_an_error_with_a_suggestion(read, name, hint):
    """Silence would run the service with a setting that its operator believes to have changed."""
    assert sentences(read, **{name: "1"}) == [
        f"IMAGE_GEN_{name} is no setting of this service. {hint}"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("PORT", "many"),
        ("PORT", "80.5"),
        ("DEFAULT_WIDTH", "100"),
        ("INFERENCE_STEPS", "1"),
        ("INFERENCE_STEPS", "52"),
        ("GUIDANCE_SCALE", "-1"),
        ("GUIDANCE_SCALE", "nan"),
        ("MAX_QUEUE_SIZE", "0"),
        ("MAX_CONCURRENT", "0"),
        ("DEVICE", "gpu"),
        ("DEVICE", "cuda:x"),
        ("TOPOLOGY", "maybe"),
        ("MEMORY", "much"),
        ("JOB_TIMEOUT_S", "0"),
        ("JOB_TIMEOUT_S", "inf"),
        ("EMBED_METADATA", "perhaps"),
        ("AMQP_URL", "http://broker"),
        ("AMQP_URL", "broker"),
        ("REPLY_TO_ALLOW", "("),
        ("WORKER_NAME", "a b"),
    ],
)
def test_a_wrong_value_is_told_with_the_name_of_its_variable(read, name, value):
    """One sentence that begins with the variable, for each wrong value."""
    (told,) = sentences(read, **{name: value})
    assert told.startswith(f"IMAGE_GEN_{name}")
    assert told.endswith(".")


def test_a_contradiction_is_told(read):
    """Settings that each are right may be wrong together; both are named, with the remedy."""
    (told,) = sentences(read, JOB_TIMEOUT_S=700)
    assert "IMAGE_GEN_JOB_TIMEOUT_S (700)" in told
    assert "IMAGE_GEN_DEFAULT_DEADLINE_S (600)" in told
    assert told.endswith("Lower the one or raise the other.")


def test_everything_wrong_is_told_at_once(read, tmp_path):
    """Misspelt, out of range, unreadable, contradictory: nobody has to start five times."""
    told = sentences(
        read,
        MAX_QUEUE_SIZ="5",
        PORT="70000",
        DEFAULT_WIDTH="100",
        MODEL_FILE=tmp_path / "none",
        JOB_TIMEOUT_S="700",
        AMQP_URL="http://broker",
        REPLY_TO_ALLOW="(",
    )
    for name in (
        "MAX_QUEUE_SIZ ",
        "PORT",
        "DEFAULT_WIDTH",
        "MODEL_FILE",
        "JOB_TIMEOUT_S",
        "AMQP_URL",
        "REPLY_TO_ALLOW",
    ):
        assert sum(sentence.startswith(f"IMAGE_GEN_{name}") for sentence in told) == 1, name
    assert len(told) == 7


def test_no_contradiction_is_made_up(read):
    """A value that is wrong by itself is not compared with others as if it were its default."""
    (told,) = sentences(read, JOB_TIMEOUT_S="700", DEFAULT_DEADLINE_S="soon")
    assert told.startswith("IMAGE_GEN_DEFAULT_DEADLINE_S")


@pytest.mark.parametrize(
    "given",
    [
        {"AMQP_URL": f"http://chat:{SECRET}@broker"},
        {"AMQP_URL": URL, "PORT": "x"},
        {"MANAGEMENT_URL": f"http://chat:{SECRET}@broker", "JOB_TIMEOUT_S": "700"},
        {"STORE_URL": f"postgresql://chat:{SECRET}@db/x", "AMQP_UR": f"amqp://{SECRET}@x"},
        {"AMQP_URL_FILE": URL},
    ],
    ids=" ".join,
)
def test_no_message_tells_a_secret(read, given):
    """Whatever is wrong, and even where a secret stands in the wrong variable, it is not shown."""
    assert SECRET not in "\n".join(sentences(read, **given))


def test_no_repr_tells_a_secret(read):
    """Settings may be logged as they are."""
    settings = read(AMQP_URL=URL, STORE_URL=f"postgresql://chat:{SECRET}@db/x")
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_the_settings_cannot_be_changed(read):
    """They are read once; nothing in the service has another opinion later."""
    with pytest.raises(ValueError, match="frozen"):
        read().port = 1


def test_the_store_lies_in_the_data_folder_unless_told(read, tmp_path):
    """By default SQLite in the data folder, wherever the service is started from."""
    assert read(DATA_DIR=tmp_path).store == f"sqlite:///{tmp_path}/jobs.sqlite"
    assert read(STORE_URL="postgresql://db/x").store == "postgresql://db/x"
    assert Path(read().store.removeprefix("sqlite:///")).is_absolute()


# ---------------------------------------------------------------- on the command line


def command(*arguments, **settings):
    """Run `imagegen` with these settings and no others."""
    return subprocess.run(
        [sys.executable, "-m", "consumer", *arguments],
        env={f"IMAGE_GEN_{name}": value for name, value in settings.items()},
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_config_shows_the_settings_without_secrets():
    """`imagegen config` prints every setting in the form it is given in, secrets as stars."""
    shown = command("config", AMQP_URL=URL, PORT="9000")
    assert shown.returncode == 0
    assert "IMAGE_GEN_PORT=9000\n" in shown.stdout
    assert "IMAGE_GEN_AMQP_URL=**********\n" in shown.stdout
    assert SECRET not in shown.stdout + shown.stderr


def test_serve_with_wrong_settings_says_all_and_exits_78():
    """Each thing wrong is a line on standard error; the exit code says: a restart will not help."""
    refused = command("serve", PORT="x", MAX_QUEUE_SIZ="5", JOB_TIMEOUT_S="700", AMQP_URL=URL)
    assert refused.returncode == 78
    told = refused.stderr.splitlines()
    assert sorted(line.split(" ")[0].rstrip(":") for line in told) == [
        "IMAGE_GEN_JOB_TIMEOUT_S",
        "IMAGE_GEN_MAX_QUEUE_SIZ",
        "IMAGE_GEN_PORT",
    ]
    assert SECRET not in refused.stderr
