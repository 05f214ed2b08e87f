"""The command line `imagegen`. Imports what a command needs when it runs, so that help is quick."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from consumer.settings import Settings

app = typer.Typer(
    help="Text to image on your own GPUs, fed by RabbitMQ.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


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
    as_json: Annotated[bool, typer.Option("--json", help="Facts as JSON.")] = False,  # noqa: FBT002
    url: Annotated[str | None, typer.Option(help="Broker; default IMAGE_GEN_AMQP_URL.")] = None,
) -> None:
    """Send a prompt through the queue, show progress, and write the picture."""
    from consumer.cli import Order, draw  # noqa: PLC0415

    order = Order(
        prompt, size, seed, number, output, output_format, steps, deadline, as_json=as_json
    )
    raise typer.Exit(draw(order, url or _amqp_url()))


@app.command()
def cancel(
    job_id: Annotated[str, typer.Argument(help="The job to call off.")],
    url: Annotated[str | None, typer.Option(help="Broker; default IMAGE_GEN_AMQP_URL.")] = None,
) -> None:
    """Call a job off, wherever it is."""
    from consumer.cli import call_off  # noqa: PLC0415

    raise typer.Exit(call_off(job_id, url or _amqp_url()))


@app.command()
def healthcheck(
    live: Annotated[bool, typer.Option("--live", help="Ask /livez, not /readyz.")] = False,  # noqa: FBT002
) -> None:
    """Exit 0 if the service of this machine is ready (or alive); for containers."""
    from consumer.cli import probe  # noqa: PLC0415

    settings = _settings()
    raise typer.Exit(probe(settings.host, settings.port, "livez" if live else "readyz"))


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


def _amqp_url() -> str:
    return _settings().amqp_url.get_secret_value()


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
