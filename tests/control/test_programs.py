"""Which RabbitMQ a node of ours is started with."""

from control import node


def test_the_programs_of_another_release_go_before_those_installed(tmp_path, monkeypatch):
    """RABBITMQ_PROGRAMS names a folder; where it has no server there is none, not another one."""
    monkeypatch.setenv(node.PROGRAMS, str(tmp_path))
    assert node.server() is None
    program = tmp_path / "rabbitmq-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert node.server() == str(program)
    monkeypatch.setenv(node.PROGRAMS, "")
    assert node.server() != str(program)
