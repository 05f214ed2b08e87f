"""The verdicts on the card: torch's build fits it, its files may be used, the model fits into it. Pure."""

from typing import Literal

from consumer.doctor.machine import Cards, DeviceFile
from consumer.doctor.torch_build import Device, NoTorch, TorchBuild
from consumer.doctor.verdict import Verdict, fail, ok, warn

GIB = 1 << 30
ROOM_BYTES = 4 << 30
"""For activations at 1024x1024, as the pipeline reckons (gpu/diffusion.py)."""
KNOWN_COMPONENTS = {
    "Tongyi-MAI/Z-Image-Turbo": {
        "transformer": round(11.46 * GIB),
        "text_encoder": round(7.49 * GIB),
        "vae": round(0.16 * GIB),
    }
}
"""Bytes in bf16, which the files on disk do not tell."""

_VARIANTS = {"nvidia": "cuda", "amd": "rocm"}
Memory = Literal["auto", "fast", "balanced", "low"]


def judge_torch(
    torch: TorchBuild | NoTorch, cards: Cards, device: str, python: tuple[int, int, int]
) -> Verdict:
    """Torch is there, was built for the card's vendor, and sees the card."""
    under = f"Python {'.'.join(map(str, python))}"
    if isinstance(torch, NoTorch):
        remedy = "./control.sh setup service, or pip install 'imagegen[service]'"
        return fail("torch", f"It cannot be imported: {torch.problem}.", remedy)
    built = f"torch {torch.version} for {torch.variant}, {under}"
    wanted = sorted(_VARIANTS[vendor] for vendor in cards.vendors)
    if device == "cpu" or (not wanted and not torch.devices):
        return _on_cpu(built, device)
    if not torch.devices:
        return _blind(built, torch.variant, wanted)
    index = int(device.partition(":")[2] or 0)
    if index >= len(torch.devices):
        remedy = f"IMAGE_GEN_DEVICE=cuda:{len(torch.devices) - 1} or less"
        return fail(
            "torch", f"{built} sees {len(torch.devices)} card(s), not {device}.", remedy
        )
    return _seen(built, torch, torch.devices[index])


def _on_cpu(built: str, device: str) -> Verdict:
    if device == "cpu":
        return ok("torch", f"{built}; the CPU is asked for.")
    remedy = "on a machine with a card, check that the system sees it: lspci"
    if device.startswith("cuda"):
        return fail("torch", f"{built}; {device} is asked for, and there is no card.", remedy)
    return warn("torch", f"{built}; there is no card: pictures are drawn by the CPU.", remedy)


def _blind(built: str, variant: str, wanted: list[str]) -> Verdict:
    """There is a card, and torch does not see it."""
    if wanted and variant not in wanted:
        remedy = f"IMAGE_GEN_VARIANT={wanted[0]} ./control.sh setup service"
        return fail("torch", f"{built}; the card needs the build for {wanted[0]}.", remedy)
    tool = "rocminfo" if variant == "rocm" else "nvidia-smi"
    return fail("torch", f"{built} sees no card.", f"check the driver: {tool}; then `devices`")


def _seen(built: str, torch: TorchBuild, device: Device) -> Verdict:
    told = f"{built}; {device.name} ({device.arch}, {device.memory_bytes / GIB:.1f} GiB)."
    if torch.archs and not any(_runs(device.arch, arch) for arch in torch.archs):
        remedy = "install a build of torch that has kernels for it (IMAGE_GEN_TORCH_INDEX)"
        return fail("torch", f"{told} It has no kernels for {device.arch}.", remedy)
    return ok("torch", told)


def _runs(card: str, built: str) -> bool:
    """Whether what was built for one architecture runs on a card of another.

    CUDA: kernels run on later minor versions of the same major, and PTX on all later ones. ROCm: the
    same name only.
    """
    if not card.startswith("sm_"):
        return card == built.partition(":")[0]
    kind, _, number = built.rpartition("_")
    digits = "".join(filter(str.isdigit, number))
    if not digits:
        return False
    there, here = int(card.removeprefix("sm_")), int(digits)
    return here <= there and (kind == "compute" or here // 10 == there // 10)


def judge_devices(cards: Cards, device: str) -> Verdict:
    """The files by which the card is reached are there, and ours to use."""
    if device == "cpu" or not cards.vendors:
        return ok("devices", "No card is to be used.")
    if cards.missing:
        remedy = "load the driver; in a container pass them on: --device, or --gpus all"
        return fail("devices", f"Missing: {', '.join(cards.missing)}.", remedy)
    locked = [file for file in cards.files if not file.usable]
    if not locked:
        return ok("devices", f"{', '.join(file.path for file in cards.files)} may be used.")
    return _judge_locked(locked, cards)


def _judge_locked(locked: list[DeviceFile], cards: Cards) -> Verdict:
    names = ", ".join(file.path for file in locked)
    group = locked[0]
    return fail(
        "devices",
        f"{names} may not be read and written by {cards.user}.",
        f"sudo usermod -aG {group.group} {cards.user}, then log in again; in a container "
        f"group_add: {group.group_id}",
    )


def judge_memory(
    torch: TorchBuild | NoTorch,
    components: dict[str, int] | None,
    main_memory: int | None,
    device: str,
    memory: Memory,
) -> Verdict:
    """The model's parts fit where they are to be: on the card, or beside it."""
    if components == {}:
        return ok("memory", "The built-in model needs little.")
    if components is None:
        remedy = "once it is downloaded, run this again"
        return warn("memory", "What the model needs is not known.", remedy)
    needed = sum(components.values())
    told = f"The model has {needed / GIB:.1f} GiB"
    if main_memory is not None and main_memory < needed:
        remedy = "more memory, a higher limit of the container, or a smaller model"
        return fail(
            "memory", f"{told}, and there are {main_memory / GIB:.1f} GiB to load it.", remedy
        )
    index = int(device.partition(":")[2] or 0)
    seen = torch.devices if isinstance(torch, TorchBuild) else ()
    if device == "cpu" or index >= len(seen):
        return ok("memory", f"{told}, and the CPU draws.")
    return _judge_card(told, components, seen[index].memory_bytes, memory)


def _judge_card(told: str, components: dict[str, int], card: int, memory: Memory) -> Verdict:
    fits = _placement(components, card)
    told = f"{told}, the card {card / GIB:.1f} GiB: {fits}"
    order = ("fast", "balanced", "low")
    if memory != "auto" and order.index(memory) < order.index(fits):
        remedy = f"IMAGE_GEN_MEMORY={fits}, or auto"
        return fail("memory", f"{told}, and {memory} is asked for.", remedy)
    if fits == "low":
        return warn(
            "memory", f"{told}, many times slower.", "a card with 16 GB, or a smaller model"
        )
    return ok("memory", f"{told}.")


def _placement(components: dict[str, int], card: int) -> Memory:
    """Return what `auto` would choose; see `placement` in gpu/diffusion.py, which needs torch."""
    if sum(components.values()) + ROOM_BYTES <= card:
        return "fast"
    return "balanced" if max(components.values()) + ROOM_BYTES <= card else "low"
