"""What the tests of the command line share."""

from __future__ import annotations

import pytest
from hypothesis import settings

from laborllm import cli

settings.register_profile("busy machines", deadline=None)
settings.load_profile("busy machines")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; gives exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["laborllm", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call
