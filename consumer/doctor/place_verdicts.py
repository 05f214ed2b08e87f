"""The verdicts on the place: the settings, the port, the clock. Pure."""

import difflib
import errno
from collections.abc import Iterable, Mapping

from consumer.doctor.machine import Port
from consumer.doctor.verdict import Verdict, fail, ok, warn

PREFIX = "IMAGE_GEN_"
SKEW_WARN_S = 5.0
SKEW_FAIL_S = 60.0
"""Beyond it the service does not believe the time of a request (admission.CLOCK_SKEW)."""


def judge_settings(sentences: Iterable[str]) -> list[Verdict]:
    """Each sentence of the settings' own check is a failure, with its remedy in it."""
    return [
        fail("settings", sentence, "correct it; docs/configuration.md has all settings")
        for sentence in sentences
    ]


def judge_names(names: Iterable[str], known: Iterable[str]) -> Verdict:
    """No variable is nearly ours: with another prefix it would be silently without effect."""
    ours = [f"{PREFIX}{name.upper()}" for name in known]
    meant = {
        name: close[0]
        for name in names
        if not name.startswith(PREFIX)
        and _looks_ours(name)
        and (close := difflib.get_close_matches(name.upper(), ours, n=1, cutoff=0.85))
    }
    if not meant:
        return ok("settings", "They are understood.")
    named = ", ".join(f"{name} (did you mean {right}?)" for name, right in meant.items())
    return warn("settings", f"Without effect: {named}.", "rename or remove it")


def _looks_ours(name: str) -> bool:
    return (
        name.upper()
        .replace("-", "_")
        .startswith(("IMAGE_GEN", "IMAGEGEN", "IMG_GEN", "IMAGES_GEN"))
    )


def judge_port(port: Port) -> Verdict:
    """The HTTP face can listen, or does already."""
    if port.problem is None:
        return ok("port", f"{port.address} is free.")
    if port.ours:
        return ok("port", f"A service listens on {port.address}.")
    if port.problem == errno.EADDRINUSE:
        remedy = "end that program, or set IMAGE_GEN_PORT to another port"
        return fail("port", f"Another program has {port.address}.", remedy)
    if port.problem == errno.EACCES:
        remedy = "set IMAGE_GEN_PORT to 1024 or above"
        return fail("port", f"We may not listen on {port.address}.", remedy)
    remedy = "set IMAGE_GEN_HOST to an address of this machine"
    problem = errno.errorcode.get(port.problem, str(port.problem))
    return fail("port", f"{port.address} cannot be listened on ({problem}).", remedy)


def judge_clock(ahead_s: Mapping[str, float]) -> Verdict:
    """The clocks of the broker and the store agree with ours; seconds that they are ahead."""
    if not ahead_s:
        return warn(
            "clock",
            "Nobody tells the time: it was not compared.",
            "set IMAGE_GEN_MANAGEMENT_URL, or see to NTP",
        )
    name, worst = max(ahead_s.items(), key=lambda item: abs(item[1]))
    told = f"The clock of the {name} is {abs(worst):.0f} s {'ahead of' if worst > 0 else 'behind'} ours"
    remedy = "have both machines keep time by NTP: timedatectl set-ntp true"
    if abs(worst) > SKEW_FAIL_S:
        return fail("clock", f"{told}: deadlines are not met.", remedy)
    if abs(worst) > SKEW_WARN_S:
        return warn("clock", f"{told}.", remedy)
    return ok("clock", f"It agrees with the {' and the '.join(ahead_s)}.")
