"""AMD's driver as files: amdgpu's sysfs and hwmon of the card at a PCI address.

Which files there are depends on the chip: drivers/gpu/drm/amd/pm/amdgpu_pm.c of the kernel, and
docs.kernel.org/gpu/amdgpu/thermal.html. A Radeon has three temperatures; Instinct cards from the
MI300 on have no `temp1` (edge); an APU has the edge alone, and `in1` (the northbridge's voltage).
Not run on hardware: the tests read trees that were built from that layout.
"""

from pathlib import Path

from consumer.gpu.reading import Reading

ROOT = Path("/sys")
NORTHBRIDGE = "vddnb"
"""The label of a voltage that only APUs have."""
TEMPERATURES = (1, 2, 3)


def read(pci: str, root: Path = ROOT) -> Reading:
    """Return the reading of the card at a PCI address such as `0000:03:00.0`."""
    card = root / "bus" / "pci" / "devices" / pci
    monitor = _monitor(card)
    return Reading(
        source="sysfs",
        name=_text(card / "product_name"),
        unique_id=_text(card / "unique_id"),
        driver=_text(root / "module" / "amdgpu" / "version"),
        memory_used=_number(card / "mem_info_vram_used"),
        memory_total=_number(card / "mem_info_vram_total"),
        shared_used=_number(card / "mem_info_gtt_used"),
        shared_total=_number(card / "mem_info_gtt_total"),
        integrated=_text(monitor / "in1_label") == NORTHBRIDGE,
        busy_percent=_number(card / "gpu_busy_percent"),
        temperatures=_temperatures(monitor),
        power_watts=_power(monitor),
    )


def _monitor(card: Path) -> Path:
    """Return the card's hwmon folder; its number changes from boot to boot."""
    try:
        return min((card / "hwmon").iterdir())
    except (OSError, ValueError):
        return card / "hwmon"


def _temperatures(monitor: Path) -> dict[str, float]:
    """Return degrees by label; the driver tells thousandths."""
    told = {}
    for number in TEMPERATURES:
        thousandths = _number(monitor / f"temp{number}_input")
        if thousandths is not None:
            label = _text(monitor / f"temp{number}_label") or f"temp{number}"
            told[label] = thousandths / 1000
    return told


def _power(monitor: Path) -> float | None:
    """Return watts: the average where it is told, else that of the moment. The driver tells millionths."""
    for name in ("power1_average", "power1_input"):
        millionths = _number(monitor / name)
        if millionths is not None:
            return millionths / 1_000_000
    return None


def _number(path: Path) -> int | None:
    text = _text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    """Return a file's text. A card that is reset or sleeps answers EPERM or EBUSY: None, too."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
