"""Debian packages: installed where we may, without letting them start services of their own."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from control.program import Judgement, run_logged
from control.say import Failure, Progress
from control.state import Clone

_ENABLED = Path("/etc/systemd/system")
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
        # Lists have the dates of their servers, so that nobody can tell whether they are old. One
        # server of many that does not answer is no reason to give up.
        with suppress(Failure):
            run_logged([*apt, "update"], log, progress.tell, failing)
        before = _enabled_units()
        wanted = [*apt, "install", "--yes", "--no-install-recommends", package]
        run_logged(wanted, log, progress.tell, failing)
        brought = _enabled_units() - before
        if brought and shutil.which("systemctl"):
            # Or they would start with the machine.
            disable = [*root, "systemctl", "disable", *sorted(brought)]
            subprocess.run(disable, capture_output=True, check=False)


def _become_root() -> list[str] | None:
    """Return what stands before a command that root has to run; None where we cannot be root."""
    if os.geteuid() == 0:
        return []
    try:
        asked = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    except OSError:
        return None
    return ["sudo", "-n"] if asked.returncode == 0 else None


def _enabled_units() -> set[str]:
    links = _ENABLED.glob("*.wants/*")
    return {link.name for link in links if link.suffix in {".service", ".socket"}}


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
