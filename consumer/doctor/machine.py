"""The machine as it is found: Python, cards, device files, memory, folders and the port."""

import contextlib
import errno
import grp
import os
import pwd
import shutil
import socket
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Vendor = Literal["nvidia", "amd"]

_VENDORS: dict[str, Vendor] = {"0x10de": "nvidia", "0x1002": "amd"}
_DISPLAY, _ACCELERATOR = "0x03", "0x12"
"""PCI classes; AMD's Instinct cards are processing accelerators."""
_DEVICE_FILES: dict[Vendor, tuple[str, ...]] = {
    "nvidia": ("nvidiactl", "nvidia-uvm", "nvidia[0-9]*"),
    "amd": ("kfd", "dri/renderD*"),
}
ASK_S = 3.0


@dataclass(frozen=True, slots=True)
class DeviceFile:
    """A file under /dev by which a card is reached."""

    path: str
    usable: bool
    group: str
    """The group that may use it: its name, or its number where it has none here."""
    group_id: int


@dataclass(frozen=True, slots=True)
class Cards:
    """The cards of this machine and the files by which they are reached."""

    vendors: frozenset[Vendor]
    files: tuple[DeviceFile, ...]
    missing: tuple[str, ...]
    """Patterns under /dev that match nothing, though there is such a card."""
    user: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is written to."""

    path: str
    writable: bool
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Port:
    """Where the HTTP face is to listen."""

    address: str
    problem: int | None
    """The errno of the try to listen there; None where it worked."""
    ours: bool = False
    """It is a service of ours that answers there."""


def python_version() -> tuple[int, int, int]:
    """Return the version of the interpreter that runs."""
    return sys.version_info[:3]


def cards(devices: Path = Path("/sys/bus/pci/devices"), dev: Path = Path("/dev")) -> Cards:
    """Look for cards on the PCI bus and for their files."""
    vendors = frozenset(
        vendor for folder in _listed(devices, "*") if (vendor := _vendor(folder)) is not None
    )
    patterns = [pattern for vendor in sorted(vendors) for pattern in _DEVICE_FILES[vendor]]
    found = {pattern: _listed(dev, pattern) for pattern in patterns}
    return Cards(
        vendors,
        tuple(_device_file(path) for paths in found.values() for path in paths),
        tuple(str(dev / pattern) for pattern, paths in found.items() if not paths),
        _user(),
    )


def memory_bytes(
    proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return the memory that this process may use: the machine's, or its container's if less."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        line = (proc / "meminfo").read_text(encoding="ascii").split("MemTotal:")[1]
        found.append(int(line.split()[0]) * 1024)
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        found.append(int((cgroup / "memory.max").read_text(encoding="ascii")))
    return min(found, default=None)


def folder(path: Path) -> Folder:
    """Look at a folder that is there, or at that in which it would be made."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    usable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return Folder(str(path), usable, shutil.disk_usage(there).free)


def port(host: str, number: int) -> Port:
    """Try to listen where the service will."""
    address = f"{host}:{number}"
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        return Port(address, errno.EADDRNOTAVAIL)
    with socket.socket(family, kind) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(where)
            listener.listen()
        except OSError as error:
            ours = error.errno == errno.EADDRINUSE and _is_ours(host, number)
            return Port(address, error.errno or errno.EINVAL, ours)
    return Port(address, None)


def _is_ours(host: str, number: int) -> bool:
    """Whether a service of ours answers there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
    page = f"http://{f'[{host}]' if ':' in host else host}:{number}/health"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(page, timeout=ASK_S) as answer:
            return b'"worker"' in answer.read(65_536)
    except urllib.error.HTTPError as unwell:
        with unwell:
            return b'"worker"' in unwell.read(65_536)
    except (OSError, ValueError):
        return False


def _listed(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _vendor(device: Path) -> Vendor | None:
    try:
        kind = (device / "class").read_text(encoding="ascii")
        vendor = (device / "vendor").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return _VENDORS.get(vendor) if kind.startswith((_DISPLAY, _ACCELERATOR)) else None


def _device_file(path: Path) -> DeviceFile:
    group_id = path.stat().st_gid
    try:
        group = grp.getgrgid(group_id).gr_name
    except KeyError:
        group = str(group_id)
    return DeviceFile(str(path), os.access(path, os.R_OK | os.W_OK), group, group_id)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
