"""The build of torch that fits this machine: which one, where from, and whether it is there.

The builds for CUDA and ROCm were not run on hardware.
"""

import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from control import accelerator
from control.pip import Pip
from control.say import Failure, note
from control.settings import PREFIX, setting

Variant = Literal["cpu", "cuda", "rocm"]

# PyTorch's own index of wheels; a mirror's address goes into IMAGE_GEN_TORCH_INDEX.
DEFAULT_INDEX: Mapping[Variant, str] = {
    "cpu": "https://download.pytorch.org/whl/cpu",
    "cuda": "https://download.pytorch.org/whl/cu130",
    "rocm": "https://download.pytorch.org/whl/rocm7.2",
}


def wanted_variant() -> Variant | None:
    """Return the variant that IMAGE_GEN_VARIANT asks for; None where it is left to us."""
    value = setting("VARIANT")
    for variant in get_args(Variant):
        if value == variant:
            return variant  # type: ignore[no-any-return]
    if value is None:
        return None
    raise Failure(
        f"{PREFIX}VARIANT is {value!r}.",
        "Give cpu, cuda or rocm, or unset it to have it guessed.",
    )


def guess_variant(kfd: Path = Path("/dev/kfd")) -> Variant:
    """Return the variant for what is in this machine; AMD's compute device node comes first."""
    if kfd.exists():
        return "rocm"
    return "cuda" if accelerator.nvidia_memory() else "cpu"


def variant_of(version: str, system: str = "", machine: str = "") -> Variant | None:
    """Return the variant that a version such as 2.13.0+cu130 is built for; None if unknown.

    Without a label it comes from the general package index, whose builds for Linux on x86-64
    bring CUDA and whose others do not.
    """
    label = version.partition("+")[2]
    if not label:
        system, machine = system or sys.platform, machine or platform.machine()
        return "cuda" if system == "linux" and machine in {"x86_64", "AMD64"} else "cpu"
    if label.startswith("cu"):
        return "cuda"
    if label.startswith("rocm"):
        return "rocm"
    return "cpu" if label.startswith("cpu") else None


def pinned(constraints: Path) -> str:
    """Return torch's version in constraints.txt."""
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if line.startswith("torch=="):
            return line.removeprefix("torch==").strip()
    raise Failure(
        f"{constraints} pins no torch.", "Restore the file: git checkout constraints.txt"
    )


def installed(venv: Path) -> str | None:
    """Return the version of torch in a virtual environment, label and all; None if there is none.

    pip writes RECORD last: without it, an installation was interrupted.
    """
    found = sorted(venv.glob("lib/python3.*/site-packages/torch-*.dist-info/RECORD"))
    return found[-1].parent.stem.removeprefix("torch-") if found else None


def install(pip: Pip, venv: Path, variant: Variant, version: str) -> None:
    """Install torch in this version for this variant, unless it is there.

    pip's own configuration is asked first, so that a mirror or a folder of wheels that the machine
    was given is used; of what it offers, only a build for the variant is taken. An index that
    IMAGE_GEN_TORCH_INDEX names is trusted to hold what it should. Indexes are never added to each
    other: among several, pip takes the highest version, and labels sort by their letters.
    """
    index = setting("TORCH_INDEX")
    present = installed(venv)
    if present and _is(present, version, variant):
        return
    if present:
        note(
            f"torch {present} is replaced by {version} for {variant}, as pinned in constraints.txt."
        )
    offered = [] if index else pip.versions("torch")
    own = next((found for found in offered if _is(found, version, variant)), None)
    if own is not None:
        # Three equal signs: with two, a version without a label means one with a label, too.
        _install(pip, f"torch==={own}", ())
        return
    source = ("--index-url", index or DEFAULT_INDEX[variant])
    _install(pip, f"torch=={version}", source)
    present = installed(venv) or ""
    if not index and not _is(present, version, variant):
        raise Failure(
            f"pip installed torch {present}, which is not for {variant}: its configuration names"
            " other sources, which it prefers.",
            f"Name the one that holds the build for {variant}: {PREFIX}TORCH_INDEX=URL.",
        )


def _is(candidate: str, version: str, variant: Variant) -> bool:
    return candidate.partition("+")[0] == version and variant_of(candidate) == variant


def _install(pip: Pip, requirement: str, source: tuple[str, ...]) -> None:
    """Install torch alone: what it requires comes with everything else, under the constraints.

    ROCm's triton is the exception, as only torch's own index has it. It comes from the same
    source at the version that torch asks for. (Not run on hardware.)
    """
    alone = ("--no-deps", *source)
    pip.install("--force-reinstall", *alone, requirement)
    for companion in companions(pip.requirements("torch")):
        pip.install(*alone, companion)


def companions(requirements: list[str]) -> list[str]:
    """Return those of torch's requirements that only torch's own index has."""
    names = ("triton-rocm", "pytorch-triton-rocm")
    return [requirement for requirement in requirements if requirement.startswith(names)]
