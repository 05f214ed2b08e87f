"""Readings of the GPU: trees as AMD's driver lays them out, a library in NVIDIA's place, and hangs."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from consumer.gpu import accelerator, nvml, sysfs
from consumer.gpu.devices import EVERY_S, HANGS_AFTER_S, STALE_AFTER_S, Address, Devices, Seen
from consumer.gpu.reading import Reading

TREES = Path(__file__).parent / "devices"
GIB = 1 << 30
CARD = Address("rocm 7.2", "0000:03:00.0")
BUSY = Reading("sysfs", busy_percent=97)


@pytest.fixture
def lay(tmp_path):
    """Lay out a recorded tree, a file a line, as a folder in the place of /sys; returns it."""

    def lay(name):
        for line in (TREES / f"{name}.txt").read_text().splitlines():
            if not line.startswith("#"):
                path, _, value = line.partition(" = ")
                file = tmp_path / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{value}\n")
        return tmp_path

    return lay


# ---------------------------------------------------------------- AMD


def test_a_radeon_card(lay):
    """An RX 7900 XTX tells all that we ask for but its name."""
    assert sysfs.read("0000:03:00.0", lay("radeon-rx-7900-xtx")) == Reading(
        source="sysfs",
        unique_id="a1b2c3d4e5f60718",
        memory_used=20 * GIB,
        memory_total=25_753_026_560,
        shared_used=104_857_600,
        shared_total=33_554_432_000,
        busy_percent=97,
        temperatures={"edge": 61.0, "junction": 84.0, "mem": 78.0},
        power_watts=327.0,
    )


def test_an_instinct_card(lay):
    """An MI300X has no edge temperature, and tells the power of the moment instead of the average."""
    reading = sysfs.read("0000:c1:00.0", lay("instinct-mi300x"))
    assert (reading.name, reading.driver) == ("AMD Instinct MI300X OAM", "6.12.12")
    assert reading.temperatures == {"junction": 71.0, "mem": 55.0}
    assert (reading.temperature, reading.power_watts) == (71.0, 612.0)
    assert (reading.used, reading.total) == (29 * GIB, 205_822_885_888)


def test_an_apu_draws_with_the_machines_memory(lay):
    """On a Strix Halo what the firmware set apart and what is shared are one memory."""
    reading = sysfs.read("0000:c5:00.0", lay("apu-strix-halo"))
    assert reading.integrated
    assert reading.used == 402_653_184 + 22_548_578_304
    assert reading.total == 536_870_912 + 66_571_993_088
    assert (reading.temperatures, reading.power_watts) == ({"edge": 66.5}, 74.031)


def test_a_card_is_found_by_its_address_alone(lay):
    """Of two GPUs of a machine that one is read which the child draws on."""
    root = lay("radeon-rx-7900-xtx")
    assert sysfs.read("0000:1a:00.0", root).memory_total == 536_870_912
    assert sysfs.read("0000:7f:00.0", root) == Reading("sysfs")


@pytest.mark.parametrize(
    "name", ["gpu_busy_percent", "mem_info_vram_used", "hwmon/hwmon4/temp2_input"]
)
@pytest.mark.parametrize("spoil", ["missing", "no number", "a folder"])
def test_what_cannot_be_read_is_none_and_the_rest_is_there(lay, name, spoil):
    """A file that a kernel or a state of the card does not offer costs its own value only."""
    root = lay("radeon-rx-7900-xtx")
    file = root / "bus/pci/devices/0000:03:00.0" / name
    file.unlink()
    if spoil == "no number":
        file.write_text("busy\n")
    elif spoil == "a folder":
        file.mkdir()
    reading = sysfs.read("0000:03:00.0", root)
    found = (reading.busy_percent, reading.memory_used, reading.temperatures.get("junction"))
    assert found.count(None) == 1
    assert reading.power_watts == 327.0


# ---------------------------------------------------------------- NVIDIA


class NVMLError(Exception):
    pass


class Library:
    """Stands for `pynvml` and the driver behind it: one card, and what it will not tell."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *silent):
        self.silent = set(silent)
        self.opened = 0

    def _tell(self, question, value):
        if question in self.silent:
            raise NVMLError(f"{question} is not supported")
        return value

    def nvmlInit(self):  # noqa: N802 - the library's own names
        self.opened += 1
        return self._tell("init", None)

    def nvmlDeviceGetHandleByPciBusId(self, address):  # noqa: N802
        if address != b"0000:c1:00.0":
            raise NVMLError("not found")
        return self._tell("card", "card")

    def nvmlDeviceGetMemoryInfo(self, _):  # noqa: N802
        return self._tell("memory", SimpleNamespace(used=30 * GIB, total=80 * GIB))

    def nvmlDeviceGetTemperature(self, *_):  # noqa: N802
        return self._tell("temperature", 66)

    def nvmlDeviceGetPowerUsage(self, _):  # noqa: N802
        return self._tell("power", 412_500)

    def nvmlDeviceGetUtilizationRates(self, _):  # noqa: N802
        return self._tell("busy", SimpleNamespace(gpu=99, memory=40))

    def nvmlDeviceGetName(self, _):  # noqa: N802
        return self._tell("name", "NVIDIA H100 80GB HBM3")

    def nvmlDeviceGetUUID(self, _):  # noqa: N802
        return self._tell("uuid", "GPU-1")

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return self._tell("driver", "580.65")


@pytest.fixture
def library(monkeypatch):
    """Put a library in the place of NVIDIA's."""

    def library(*silent):
        made = Library(*silent)
        monkeypatch.setitem(__import__("sys").modules, "pynvml", made)
        return made

    return library


WHOLE = Reading(
    source="nvml",
    name="NVIDIA H100 80GB HBM3",
    unique_id="GPU-1",
    driver="580.65",
    memory_used=30 * GIB,
    memory_total=80 * GIB,
    busy_percent=99,
    temperatures={"gpu": 66.0},
    power_watts=412.5,
)


def test_an_nvidia_card(library):
    """NVML is opened once, and the card is found by its PCI address."""
    made = library()
    assert nvml.read("0000:c1:00.0") == WHOLE
    assert nvml.read("0000:c1:00.0") == WHOLE
    assert nvml.read("0000:03:00.0") == Reading("nvml")
    assert made.opened == 1


@pytest.mark.parametrize(
    ("silent", "field"),
    [
        ("memory", "memory_total"),
        ("temperature", "temperature"),
        ("power", "power_watts"),
        ("busy", "busy_percent"),
        ("name", "name"),
        ("uuid", "unique_id"),
        ("driver", "driver"),
    ],
)
def test_what_nvml_does_not_tell_is_none_and_the_rest_is_there(library, silent, field):
    """A card cut in slices tells no utilisation, a board with shared memory no memory."""
    library(silent)
    fields = (
        "name",
        "unique_id",
        "driver",
        "memory_total",
        "temperature",
        "power_watts",
        "busy_percent",
    )
    reading = nvml.read("0000:c1:00.0")
    assert [name for name in fields if getattr(reading, name) is None] == [field]


def test_without_nvidias_driver_there_is_no_reading(library):
    """On another maker's machine, or in a container without it, nothing is told and nothing raised."""
    library("init")
    assert nvml.read("0000:c1:00.0") == Reading("nvml")


# ---------------------------------------------------------------- where it is


def test_the_child_tells_the_address_as_the_kernel_writes_it():
    """Domain, bus and slot in hexadecimal, the first function: the name of its folder in sysfs."""
    properties = SimpleNamespace(pci_domain_id=0, pci_bus_id=0xC1, pci_device_id=0)
    assert accelerator.pci_address(properties) == "0000:c1:00.0"
    assert accelerator.pci_address(SimpleNamespace()) == ""


@pytest.mark.parametrize(
    ("hip", "properties", "name"),
    [
        ("7.2", SimpleNamespace(gcnArchName="gfx942:sramecc+:xnack-"), "gfx942"),
        (None, SimpleNamespace(major=9, minor=0), "sm_90"),
    ],
)
def test_the_architecture_is_told_by_its_makers_name(monkeypatch, hip, properties, name):
    """What a build of torch has to support, without the features that are switched on."""
    monkeypatch.setattr(accelerator.torch.version, "hip", hip)
    assert accelerator.architecture(properties) == name


# ---------------------------------------------------------------- in a thread


class Driver:
    """Answers, raises, or hangs until it is released; counts how often it was asked."""

    def __init__(self):
        self.asked = 0
        self.answer = BUSY
        self.released = threading.Event()
        self.released.set()

    def __call__(self, _):
        self.asked += 1
        self.released.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Bench:
    """Devices with a driver and a clock of the test's own."""

    def __init__(self):
        self.driver = Driver()
        self.now = 1000.0
        self.devices = Devices(self.driver, lambda: self.now)

    def look(self):
        return self.devices.look(CARD)

    def read(self):
        """Have a reading taken, and see it through."""
        self.look()
        self.devices._thread.join()
        return self.look()


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.driver.released.set()
    if made.devices._thread is not None:
        made.devices._thread.join()


def test_a_look_is_answered_from_the_last_reading(bench):
    """The driver is asked at most once in five seconds, however often somebody looks."""
    assert bench.read() == Seen(BUSY, 0.0)
    bench.now += EVERY_S - 1
    assert [bench.look() for _ in range(9)] == [Seen(BUSY, EVERY_S - 1)] * 9
    assert bench.driver.asked == 1
    bench.now += 1
    assert bench.read() == Seen(BUSY, 0.0)
    assert bench.driver.asked == 2


def test_a_driver_that_hangs_holds_up_nobody(bench):
    """The last reading stays, with its age, then there is none; no second thread goes after the first."""
    bench.read()
    bench.driver.released.clear()
    bench.now += EVERY_S
    assert bench.look() == Seen(BUSY, EVERY_S)
    bench.now += HANGS_AFTER_S
    assert bench.look() == Seen(BUSY, EVERY_S + HANGS_AFTER_S, hangs_s=HANGS_AFTER_S)
    bench.now = 1000 + STALE_AFTER_S
    assert bench.look() == Seen(hangs_s=STALE_AFTER_S - EVERY_S)
    assert bench.driver.asked == 2
    bench.driver.released.set()
    bench.devices._thread.join()
    bench.now += EVERY_S
    assert bench.read() == Seen(BUSY, 0.0)


def test_a_driver_that_hangs_from_the_start_is_told(bench):
    """Where nothing was ever read, there is nothing but the hang."""
    bench.driver.released.clear()
    assert bench.look() == Seen()
    bench.now += HANGS_AFTER_S
    assert bench.look() == Seen(hangs_s=HANGS_AFTER_S)


def test_a_driver_that_raises_is_one_without_readings(bench):
    """Whatever a library throws, a look returns, and the next reading is tried."""
    bench.driver.answer = OSError("the card fell off the bus")
    assert bench.read() == Seen()
    bench.driver.answer = BUSY
    bench.now += EVERY_S
    assert bench.read() == Seen(BUSY, 0.0)


def test_without_an_address_nobody_is_asked(bench):
    """On a CPU there is no thread and no reading."""
    assert bench.devices.look(Address("cpu", "")) == Seen()
    assert (bench.driver.asked, bench.devices._thread) == (0, None)
