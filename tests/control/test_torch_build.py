"""Which build of torch is installed, and where from."""

import shutil

import pytest

from control import torch_build
from control.say import Failure

PINNED = "2.13.0"


class FakePip:
    """A pip whose own configuration offers versions, and whose index gives one."""

    def __init__(self, venv, offers=(), index_gives=PINNED, requires=()):
        self.venv = venv
        self.offers = list(offers)
        self.index_gives = index_gives
        self.requires = list(requires)
        self.calls = []

    def versions(self, package):
        self.calls.append(("versions", package))
        return self.offers

    def install(self, *arguments):
        self.calls.append(("install", *arguments))
        package, _, version = arguments[-1].partition("==")
        if package == "torch":
            put(self.venv, self.index_gives if "--index-url" in arguments else version[1:])

    def requirements(self, package):
        assert package == "torch"
        return self.requires


def put(venv, version):
    """Leave the trace that an installed torch leaves, and only that."""
    packages = venv / "lib" / "python3.11" / "site-packages"
    for old in packages.glob("torch-*"):
        shutil.rmtree(old)
    (packages / f"torch-{version}.dist-info").mkdir(parents=True)
    (packages / f"torch-{version}.dist-info" / "RECORD").touch()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """Keep the settings of whoever runs the tests out of them."""
    monkeypatch.delenv("IMAGE_GEN_TORCH_INDEX", raising=False)
    monkeypatch.delenv("IMAGE_GEN_VARIANT", raising=False)


@pytest.mark.parametrize(
    ("version", "system", "machine", "variant"),
    [
        ("2.13.0+cpu", "linux", "x86_64", "cpu"),
        ("2.13.0+cu130", "linux", "x86_64", "cuda"),
        ("2.13.0+rocm7.2", "linux", "x86_64", "rocm"),
        ("2.13.0+xpu", "linux", "x86_64", None),
        ("2.13.0", "linux", "x86_64", "cuda"),
        ("2.13.0", "linux", "aarch64", "cpu"),
        ("2.13.0", "darwin", "arm64", "cpu"),
    ],
)
def test_label_and_machine_tell_the_variant(version, system, machine, variant):
    """The label tells what a build is for; without one, the machine does."""
    assert torch_build.variant_of(version, system, machine) == variant


def test_a_fitting_torch_is_left_alone(tmp_path):
    """Pip is not even asked where the pinned torch with the right build is installed."""
    put(tmp_path, "2.13.0+cpu")
    pip = FakePip(tmp_path)
    torch_build.install(pip, tmp_path, "cpu", PINNED)
    assert pip.calls == []


def test_a_torch_that_was_cut_off_is_installed_again(tmp_path):
    """What an interrupted installation left does not count as there."""
    put(tmp_path, "2.13.0+cpu")
    (record,) = tmp_path.rglob("RECORD")
    record.unlink()
    assert torch_build.installed(tmp_path) is None


@pytest.mark.parametrize(("variant", "taken"), [("cpu", "2.13.0+cpu"), ("cuda", "2.13.0")])
def test_what_pip_is_configured_for_is_taken_exactly(tmp_path, monkeypatch, variant, taken):
    """Of what pip's own configuration offers, the build for the variant is installed, no other."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    pip = FakePip(tmp_path, offers=["2.14.0+cpu", "2.14.0", "2.13.0+cpu", "2.13.0"])
    torch_build.install(pip, tmp_path, variant, PINNED)
    assert pip.calls[1:] == [("install", "--force-reinstall", "--no-deps", f"torch==={taken}")]


def test_another_build_comes_from_the_index_of_its_variant(tmp_path):
    """Where pip would install another build, the variant's own index is the only source."""
    pip = FakePip(tmp_path, offers=["2.13.0+cpu"], index_gives="2.13.0+cu130")
    torch_build.install(pip, tmp_path, "cuda", PINNED)
    index = torch_build.DEFAULT_INDEX["cuda"]
    assert pip.calls[1:] == [
        ("install", "--force-reinstall", "--no-deps", "--index-url", index, "torch==2.13.0"),
    ]


def test_a_named_index_is_trusted(tmp_path, monkeypatch):
    """With IMAGE_GEN_TORCH_INDEX nobody else is asked, and what it gives is taken."""
    monkeypatch.setenv("IMAGE_GEN_TORCH_INDEX", "file:///wheels")
    pip = FakePip(tmp_path, offers=["2.13.0+cpu"], index_gives="2.13.0+xpu")
    torch_build.install(pip, tmp_path, "cpu", PINNED)
    assert [call[0] for call in pip.calls] == ["install"]
    assert "file:///wheels" in pip.calls[0]


def test_a_build_that_does_not_fit_is_told(tmp_path):
    """A configuration of pip that beats the index is reported with the way out."""
    pip = FakePip(tmp_path, index_gives="2.13.0+cpu")
    with pytest.raises(Failure) as failure:
        torch_build.install(pip, tmp_path, "rocm", PINNED)
    assert "IMAGE_GEN_TORCH_INDEX" in failure.value.remedy


def test_rocm_brings_its_triton(tmp_path):
    """ROCm's triton comes from torch's index too, as no other has it."""
    requires = ["sympy>=1.13.3", 'triton-rocm==3.7.0; platform_system == "Linux"']
    pip = FakePip(tmp_path, index_gives="2.13.0+rocm7.2", requires=requires)
    torch_build.install(pip, tmp_path, "rocm", PINNED)
    index = torch_build.DEFAULT_INDEX["rocm"]
    assert pip.calls[-1] == ("install", "--no-deps", "--index-url", index, requires[1])


def test_an_unknown_variant_is_refused(monkeypatch):
    """IMAGE_GEN_VARIANT is one of three words."""
    monkeypatch.setenv("IMAGE_GEN_VARIANT", "gpu")
    with pytest.raises(Failure) as failure:
        torch_build.wanted_variant()
    assert "cpu, cuda or rocm" in failure.value.remedy


def test_amds_device_node_means_rocm(tmp_path):
    """A machine with /dev/kfd gets ROCm without asking for NVIDIA's tools."""
    (tmp_path / "kfd").touch()
    assert torch_build.guess_variant(tmp_path / "kfd") == "rocm"
