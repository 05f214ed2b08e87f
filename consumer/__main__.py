"""The command line `imagegen`. Imports what a command needs when it runs, so that help is quick."""

import importlib.util
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

import typer

if TYPE_CHECKING:
    from consumer.carrier import Route
    from consumer.settings import Settings
    from consumer.topology_commands import Aim

app = typer.Typer(
    help="Text to image on your own GPUs, fed by RabbitMQ.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


parking = typer.Typer(
    help="Look into the parking queue, publish from it again, or throw away.",
    no_args_is_help=True,
)
app.add_typer(parking, name="parking")
topology = typer.Typer(
    help="Compare a live broker with the table of exchanges, queues, policies and rights.",
    no_args_is_help=True,
)
app.add_typer(topology, name="topology")

model = typer.Typer(
    help="Fetch the model ahead of the first start, or prove that it is whole.",
    no_args_is_help=True,
)
app.add_typer(model, name="model")


class Way(StrEnum):
    """How a command reaches the service."""

    AMQP = "amqp"
    HTTP = "http"


Via = Annotated[Way | None, typer.Option(help="The way to the service; default amqp.")]
Address = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Broker, or http://host:port; default IMAGE_GEN_AMQP_URL, "
        "or IMAGE_GEN_HOST and IMAGE_GEN_PORT.",
    ),
]
Leave = Annotated[bool, typer.Option("--async", help="Print the ids of the jobs at once.")]
Watch = Annotated[bool, typer.Option("--watch", help="Each change, until the job has ended.")]
JobId = Annotated[str, typer.Argument(help="The job, as --async or `jobs` shows it.")]
Url = Annotated[str | None, typer.Option(help="Broker; default IMAGE_GEN_AMQP_URL.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
ParkedIds = Annotated[
    list[str] | None, typer.Argument(help="Ids as `list` shows them: of the copy, or the job.")
]
ManagementUrl = Annotated[
    str | None,
    typer.Option(
        help="http://user:password@host:15672; default IMAGE_GEN_MANAGEMENT_URL, where no "
        "list of processes shows the password."
    ),
]
Vhost = Annotated[str | None, typer.Option(help="Default: that of IMAGE_GEN_AMQP_URL.")]
Bound = Annotated[
    int | None,
    typer.Option("--max-queue-size", min=1, help="Default IMAGE_GEN_MAX_QUEUE_SIZE."),
]
Cluster = Annotated[
    bool | None,
    typer.Option("--cluster/--single", help="Quorum or classic queues; default: as they are."),
]
Hardened = Annotated[
    bool | None,
    typer.Option(
        "--hardened/--no-hardened", help="Callers lose amq.default; default: as it is."
    ),
]
Compared = Annotated[bool, typer.Option("--rights/--no-rights", help="Compare users' rights.")]
SetRights = Annotated[bool, typer.Option("--rights", help="Set rights of users there, too.")]
Check = Annotated[
    bool, typer.Option("--check", help="Read what is here, and fetch again what is damaged.")
]
Everything = Annotated[bool, typer.Option("--all", help="Everything that is parked.")]


@app.command()
def serve() -> None:
    """Run the consumer. Settings come from IMAGE_GEN_* variables (see `imagegen config`)."""
    from consumer.service import serve as run  # noqa: PLC0415

    raise typer.Exit(run(_settings()))


@app.command()
def generate(  # noqa: PLR0913, PLR0917 - options of a command
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT, such as 1280x720.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same picture.")] = None,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, max=100, help="Pictures; seeds count up.")
    ] = 1,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder, or file for one picture.")
    ] = Path("pictures"),
    output_format: Annotated[str, typer.Option("--format", help="png, webp or jpeg.")] = "png",
    steps: Annotated[int | None, typer.Option(help="Steps, as on the model's card.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 300.0,
    leave: Leave = False,  # noqa: FBT002
    as_json: Annotated[bool, typer.Option("--json", help="Facts as JSON.")] = False,  # noqa: FBT002
    via: Via = None,
    url: Address = None,
) -> None:
    """Send a prompt through the queue, show progress, and write the picture."""
    from consumer.cli import Order, draw, send  # noqa: PLC0415

    order = Order(
        prompt, size, seed, number, output, output_format, steps, deadline, as_json=as_json
    )
    raise typer.Exit((send if leave else draw)(order, _route(via, url)))


@app.command()
def jobs(
    limit: Annotated[int, typer.Option(min=1, max=200, help="The most that are shown.")] = 50,
    as_json: AsJson = False,  # noqa: FBT002
    via: Via = None,
    url: Address = None,
) -> None:
    """Show the newest jobs: where they stand, how far they are, what they are of."""
    from consumer.job_commands import list_jobs  # noqa: PLC0415

    raise typer.Exit(list_jobs(_route(via, url), limit, as_json=as_json))


@app.command()
def status(
    job_id: JobId,
    watch: Watch = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
    via: Via = None,
    url: Address = None,
) -> None:
    """Show where a job stands."""
    from consumer.job_commands import show_status  # noqa: PLC0415
    from consumer.job_commands import watch as show_changes  # noqa: PLC0415

    show = show_changes if watch else show_status
    raise typer.Exit(show(_route(via, url), job_id, as_json=as_json))


@app.command()
def cancel(job_id: JobId, via: Via = None, url: Address = None) -> None:
    """Call a job off, wherever it is."""
    from consumer.job_commands import call_off  # noqa: PLC0415

    raise typer.Exit(call_off(_route(via, url), job_id))


@parking.command("list")
def list_parked(
    as_json: AsJson = False,  # noqa: FBT002
    prompts: Annotated[bool, typer.Option("--prompts", help="Show how they begin.")] = False,  # noqa: FBT002
    url: Url = None,
) -> None:
    """Show what is parked, the oldest first. Everything stays where it is."""
    from consumer.parking_commands import list_parked as run  # noqa: PLC0415

    raise typer.Exit(run(url or _amqp_url(), as_json=as_json, prompts=prompts))


@parking.command()
def replay(
    ids: ParkedIds = None,
    everything: Everything = False,  # noqa: FBT002
    deadline: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds from now; default as at first.")
    ] = None,
    new_id: Annotated[
        bool | None,
        typer.Option(
            "--new-id/--same-id",
            help="Job id: the copy's, or as it was; default new for poison.",
        ),
    ] = None,
    url: Url = None,
) -> None:
    """Publish parked requests again; what the broker takes is parked no more."""
    from consumer.parking import Again  # noqa: PLC0415
    from consumer.parking_commands import replay_parked  # noqa: PLC0415

    again = Again(deadline, new_id)
    raise typer.Exit(replay_parked(url or _amqp_url(), _chosen(ids, everything), again))


@parking.command()
def drop(
    ids: ParkedIds = None,
    everything: Everything = False,  # noqa: FBT002
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,  # noqa: FBT002
    url: Url = None,
) -> None:
    """Throw parked requests away, for good."""
    from consumer.parking_commands import drop_parked  # noqa: PLC0415

    chosen = _chosen(ids, everything)
    if not yes:
        what = "everything that is parked" if chosen is None else ", ".join(sorted(chosen))
        typer.confirm(f"Throw away {what}?", abort=True)
    raise typer.Exit(drop_parked(url or _amqp_url(), chosen))


@topology.command()
def diff(  # noqa: PLR0913, PLR0917 - options of a command
    management_url: ManagementUrl = None,
    vhost: Vhost = None,
    max_queue_size: Bound = None,
    cluster: Cluster = None,
    hardened: Hardened = None,
    rights: Compared = True,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show each difference on a line. Exits 0 whether there are any or not."""
    from consumer.topology_commands import show  # noqa: PLC0415

    aim = _aim(management_url, vhost, max_queue_size, cluster, hardened=hardened)
    raise typer.Exit(show(aim, rights=rights, as_json=as_json))


@topology.command()
def check(  # noqa: PLR0913, PLR0917 - options of a command
    management_url: ManagementUrl = None,
    vhost: Vhost = None,
    max_queue_size: Bound = None,
    cluster: Cluster = None,
    hardened: Hardened = None,
    rights: Compared = True,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """As `diff`, told by the exit code: 0 same, 1 differs, 69 unreachable, 77 not allowed."""
    from consumer.topology_commands import check as run  # noqa: PLC0415

    aim = _aim(management_url, vhost, max_queue_size, cluster, hardened=hardened)
    raise typer.Exit(run(aim, rights=rights, as_json=as_json))


@topology.command()
def apply(  # noqa: PLR0913, PLR0917 - options of a command
    management_url: ManagementUrl = None,
    vhost: Vhost = None,
    max_queue_size: Bound = None,
    cluster: Cluster = None,
    hardened: Hardened = None,
    rights: SetRights = False,  # noqa: FBT002
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, and do nothing.")] = False,  # noqa: FBT002
) -> None:
    """Set policies and declare what is missing; no message is touched, nothing is deleted."""
    from consumer.topology_commands import bring  # noqa: PLC0415

    aim = _aim(management_url, vhost, max_queue_size, cluster, hardened=hardened)
    raise typer.Exit(bring(aim, rights=rights, dry_run=dry_run))


def _aim(
    management_url: str | None,
    vhost: str | None,
    max_queue_size: int | None,
    cluster: bool | None,  # noqa: FBT001 - as the option has it
    *,
    hardened: bool | None,
) -> "Aim":
    """Return the broker that is meant and the table that is wanted there."""
    from consumer.topology_commands import Aim  # noqa: PLC0415
    from imagegen_client.nodes import nodes_in  # noqa: PLC0415

    settings = _settings()
    given = settings.management_url
    url = management_url or (None if given is None else given.get_secret_value())
    if url is None:
        raise typer.BadParameter("Give --management-url, or set IMAGE_GEN_MANAGEMENT_URL.")
    path = urlsplit(nodes_in(settings.amqp_url.get_secret_value())[0]).path
    bound = max_queue_size or settings.max_queue_size
    return Aim(url, vhost or unquote(path[1:]) or "/", bound, cluster, hardened)


def _chosen(ids: list[str] | None, everything: bool) -> set[str] | None:  # noqa: FBT001
    """Return the ids that were given; None for all."""
    if everything is bool(ids):
        raise typer.BadParameter("Give ids, or --all.")
    return set(ids) if ids else None


@model.command()
def pull(
    check: Check = False,  # noqa: FBT002
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Fetch the model of IMAGE_GEN_MODEL into the cache; goes on where it was interrupted."""
    _need_service()
    from consumer.model_commands import pull_model  # noqa: PLC0415

    raise typer.Exit(pull_model(_settings(), check=check, as_json=as_json))


@model.command()
def verify(as_json: AsJson = False) -> None:  # noqa: FBT002
    """Prove that every file of the model is here, unchanged and readable. Exits 1 if not."""
    _need_service()
    from consumer.model_commands import verify_model  # noqa: PLC0415

    raise typer.Exit(verify_model(_settings(), as_json=as_json))


def _need_service() -> None:
    """A caller's installation knows no models."""
    if importlib.util.find_spec("huggingface_hub") is None:
        typer.echo("The service is not installed: ./control.sh setup", err=True)
        raise typer.Exit(1)


@app.command()
def healthcheck(
    live: Annotated[bool, typer.Option("--live", help="Ask /livez, not /readyz.")] = False,  # noqa: FBT002
) -> None:
    """Exit 0 if the service of this machine is ready (or alive); for containers."""
    from consumer.cli import probe  # noqa: PLC0415

    settings = _settings()
    raise typer.Exit(probe(settings.host, settings.port, "livez" if live else "readyz"))


@app.command()
def doctor(as_json: AsJson = False) -> None:  # noqa: FBT002
    """Examine this machine, the model and the broker, and say what to do about what is wrong."""
    try:
        from consumer.doctor.report import run  # noqa: PLC0415
    except ImportError as error:
        typer.echo(f"{error}. The service is not installed: ./control.sh setup", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(run(as_json=as_json))


@app.command()
def config() -> None:
    """Check the settings and show them, without secrets."""
    for name, value in _settings().model_dump(mode="json").items():
        typer.echo(f"IMAGE_GEN_{name.upper()}={value if value is not None else ''}")


def _settings() -> "Settings":
    from consumer.settings import SettingsError, read_settings  # noqa: PLC0415

    try:
        return read_settings()
    except SettingsError as error:
        for sentence in error.sentences:
            typer.echo(sentence, err=True)
        raise typer.Exit(78) from None


def _route(via: Way | None, url: str | None) -> "Route":
    """Return the way to the service: as the URL says, or by the settings."""
    from consumer.carrier import Route, base_url  # noqa: PLC0415

    if url is not None and via is not None and not url.startswith(via):
        raise typer.BadParameter(
            f"--url {url} is no {via.upper()} address, as --via {via} wants."
        )
    if not (url or via or "").startswith(Way.HTTP):
        return Route(url or _amqp_url())
    settings = _settings()
    token = None if settings.api_token is None else settings.api_token.get_secret_value()
    return Route(url or base_url(settings.host, settings.port), token)


def _amqp_url() -> str:
    return _settings().amqp_url.get_secret_value()


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
