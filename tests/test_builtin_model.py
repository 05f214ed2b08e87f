"""The built-in model: made here, once, without a network, and the same everywhere."""

import stat

import pytest

from tests.diffusing import command, ignore, load


def test_the_built_in_model_needs_no_network(tmp_path, new_pipeline, forbid_network):
    """Made, loaded and drawn with while every way out is an error."""
    pipeline, ready = new_pipeline(load(data_dir=str(tmp_path)))
    assert pipeline.draw(command(forwards=1), ignore).forwards == 1
    assert (ready.model, ready.pipeline) == ("builtin", "ZImagePipeline")


def test_the_built_in_model_may_be_read_by_everybody(tmp_path):
    """A service of another user reads what this one made."""
    from consumer.gpu.builtin import ensure_builtin

    folder = ensure_builtin(tmp_path)
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        assert mode & wanted == wanted, path
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


class _HalfDone:
    """A model whose writing fails in the middle, or is overtaken by another process."""

    def __init__(self, others=None):
        self._others = others

    def save_pretrained(self, folder):
        (folder / "vae").mkdir()
        (folder / "model_index.json").write_text("half")
        if self._others is None:
            raise OSError("No space left on device")
        self._others.mkdir()
        (self._others / "model_index.json").write_text("theirs")


def test_the_built_in_model_is_made_once(tmp_path, monkeypatch):
    """A folder that is there is used as it is."""
    from consumer.gpu import builtin

    folder = builtin.ensure_builtin(tmp_path)
    monkeypatch.setattr(builtin, "make_builtin", lambda: pytest.fail("made again"))
    assert builtin.ensure_builtin(tmp_path) == folder


def test_a_built_in_model_that_could_not_be_written_leaves_nothing(tmp_path, monkeypatch):
    """A full disk half-way leaves no folder that a later start would take for the model."""
    from consumer.gpu import builtin

    monkeypatch.setattr(builtin, "make_builtin", _HalfDone)
    with pytest.raises(OSError, match="No space left"):
        builtin.ensure_builtin(tmp_path)
    assert list((tmp_path / "models").iterdir()) == []


def test_two_processes_may_make_the_built_in_model_at_once(tmp_path, monkeypatch):
    """The one that is second takes the first one's folder, and leaves nothing of its own."""
    from consumer.gpu import builtin

    theirs = tmp_path / "models" / f"builtin-{builtin.REVISION}"
    monkeypatch.setattr(builtin, "make_builtin", lambda: _HalfDone(theirs))
    assert builtin.ensure_builtin(tmp_path) == theirs
    assert (theirs / "model_index.json").read_text() == "theirs"
    assert list((tmp_path / "models").iterdir()) == [theirs]


def test_the_built_in_model_is_the_same_wherever_it_is_made(tmp_path, pipeline):
    """Two machines that make it draw the same pictures."""
    import torch

    from consumer.gpu.builtin import make_builtin

    torch.manual_seed(1)  # whatever happened before in the process
    made, loaded = make_builtin(), pipeline._pipe
    for part in ("transformer", "text_encoder", "vae"):
        ours = getattr(made, part).state_dict()
        for name, tensor in getattr(loaded, part).state_dict().items():
            assert torch.equal(tensor, ours[name]), name
