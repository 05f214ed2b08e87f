"""Debian packages: installed where we may, without letting them start services of their own."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from control.program import Judgement, run_logged
from control.say import Failure, Progress
from control.state import Clone

_LISTS = Path("/var/lib/apt/lists")
_LISTS_ARE_OLD_S = 86_400
_POLICY = Path("/usr/sbin/policy-rc.d")
_OUR_POLICY = "# made by imagegen's control.sh while it installs; remove it if you find it"
# Another apt at work, as after a machine's first start, is waited for this long, in seconds.
_OPTIONS = ("-o", "DPkg::Lock::Timeout=300")


def install(package: str, clone: Clone, remedy: str) -> None:
    """Install a package.

    Raises:
        Failure: we may not, or it did not succeed.
    """
    root = _become_root()
    if root is None or not shutil.which("apt-get"):
        raise Failure(f"{package} is missing, and control.sh may not install it here.", remedy)
    failing = Judgement(f"apt-get could not install {package}.", remedy)
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *_OPTIONS]
    with Progress(f"Installing {package}") as progress, _no_service_starts(root):
        log = clone.log("apt")
        if _lists_are_old():
            run_logged([*apt, "update"], log, progress.tell, failing)
        wanted = [*apt, "install", "--yes", "--no-install-recommends", package]
        run_logged(wanted, log, progress.tell, failing)


def disable_unit(unit: str) -> None:
    """Keep a service that a package brought from starting with the machine."""
    root = _become_root()
    if root is not None and shutil.which("systemctl"):
        subprocess.run([*root, "systemctl", "disable", unit], capture_output=True, check=False)


def _become_root() -> list[str] | None:
    """Return what stands before a command that root has to run; None where we cannot be root."""
    if os.geteuid() == 0:
        return []
    try:
        asked = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    except OSError:
        return None
    return ["sudo", "-n"] if asked.returncode == 0 else None


def _lists_are_old() -> bool:
    """Tell whether apt knows no packages, or those of a past day."""
    # Compressed or not, by the machine's configuration.
    known = [path.stat().st_mtime for path in _LISTS.glob("*_Packages*")]
    now = datetime.now(tz=UTC).timestamp()
    return not known or now - max(known) > _LISTS_ARE_OLD_S


@contextmanager
def _no_service_starts(root: Sequence[str]) -> Iterator[None]:
    """Deny packages to start services meanwhile; a policy of somebody else is left as it is.

    Without this, a broker of the system's own would appear on port 5672 of every address.
    """
    ours = not _POLICY.exists() or _OUR_POLICY in _POLICY.read_text(errors="replace")
    if ours:
        script = "printf '%s\\n' '#!/bin/sh' \"$2\" 'exit 101' > \"$1\" && chmod 755 \"$1\""
        make = ["sh", "-c", script, "sh", str(_POLICY), _OUR_POLICY]
        subprocess.run([*root, *make], check=True)
    try:
        yield
    finally:
        if ours:
            subprocess.run([*root, "rm", "-f", str(_POLICY)], check=False)
