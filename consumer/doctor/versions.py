"""The versions: what is installed, against what this release says that it needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

PACKAGE = "imagegen"
EXTRAS = ("", "service")


@dataclass(frozen=True, slots=True)
class Installed:
    """One package that we need."""

    name: str
    version: str | None
    """None: it is missing."""
    wanted: str
    """The versions that do, as pip writes them."""
    fits: bool


def look(package: str = PACKAGE) -> tuple[Installed, ...]:
    """Compare every package that the service needs. Raises ImportError without `packaging`."""
    return tuple(_compared(package))


def _compared(package: str) -> Iterator[Installed]:
    # It comes with the service; a command line without it has nothing to compare.
    from packaging.requirements import Requirement  # noqa: PLC0415

    for line in metadata.requires(package) or ():
        wanted = Requirement(line)
        marker = wanted.marker
        if marker is not None and not any(marker.evaluate({"extra": name}) for name in EXTRAS):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield Installed(wanted.name, None, str(wanted.specifier), fits=False)
        else:
            fits = wanted.specifier.contains(version, prereleases=True)
            yield Installed(wanted.name, version, str(wanted.specifier), fits)
