"""What the machine's drivers tell, and which model and torch follow from it."""

import pytest

from control import accelerator, model, torch_build


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put an nvidia-smi into the path that tells given lines and leaves with a code."""
    for name in ("MODEL", "DEVICE"):
        monkeypatch.delenv(f"IMAGE_GEN_{name}", raising=False)

    def put(text, code=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nprintf '{text}'\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return put


def test_every_card_is_read(nvidia_smi):
    """Each line is a card's memory; one that shares the machine's tells no number."""
    nvidia_smi("81559\\n[N/A]\\n")
    assert accelerator.nvidia_memory() == [81559, 0]


def test_a_driver_that_does_not_work_is_no_card(nvidia_smi, tmp_path):
    """A tool without a working driver, or none at all, leads to the CPU's torch."""
    nvidia_smi("No devices were found\\n", code=9)
    assert torch_build.guess_variant(tmp_path / "no-kfd") == "cpu"
    nvidia_smi("No devices were found\\n")
    assert torch_build.guess_variant(tmp_path / "no-kfd") == "cpu"
    (tmp_path / "nvidia-smi").unlink()
    assert torch_build.guess_variant(tmp_path / "no-kfd") == "cpu"


@pytest.mark.parametrize(
    ("memory", "variant", "device", "chosen"),
    [
        ("16376", "cuda", "", None),
        ("8188", "cuda", "", model.BUILTIN),
        ("81559", "cpu", "", model.BUILTIN),
        ("81559", "cuda", "cpu", model.BUILTIN),
    ],
)
def test_the_real_model_wants_a_card_that_is_used(
    nvidia_smi, monkeypatch, memory, variant, device, chosen
):
    """The default model is left to a card with memory, a torch for it, and a setting for it."""
    nvidia_smi(memory)
    monkeypatch.setenv("IMAGE_GEN_DEVICE", device)
    assert model.choose(variant) == chosen


def test_a_chosen_model_is_not_touched(nvidia_smi, monkeypatch):
    """IMAGE_GEN_MODEL wins, whatever the machine has."""
    nvidia_smi("", code=9)
    monkeypatch.setenv("IMAGE_GEN_MODEL", "somebody/something")
    assert model.choose("cpu") is None


def test_amd_cards_are_read_from_the_kernel(tmp_path):
    """Cards of AMD count with their own memory; other vendors' and connectors do not."""
    for name, vendor, size in (("card0", "0x1002", 2**34), ("card1", "0x8086", 2**33)):
        device = tmp_path / name / "device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "mem_info_vram_total").write_text(f"{size}\n")
    (tmp_path / "card0-DP-1").mkdir()
    assert accelerator.amd_memory(tmp_path) == [16384]
