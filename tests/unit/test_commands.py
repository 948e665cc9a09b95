"""The `heedloop` command: each sub-command names the extra that it needs, and none ends in a traceback."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from heedloop_cli.main import main

COMMANDS = sorted(e.name for e in entry_points(group="heedloop.commands"))
ARGUMENTS = {
    "keys": ["list"],
    "backup": ["create", "x"],
    "import": ["missing.jsonl"],
    "dataset": ["list"],
    "review": ["list"],
    "outbox": ["list"],
    "train": ["sft", "--snapshot", "x", "--model", "y", "--out", "z"],
}
ALONE = "opentelemetry requests urllib3 google certifi idna charset_normalizer typing_extensions importlib_metadata zipp"
WITHOUT_EXTRAS = f"""
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

KNOWN = {{*sys.stdlib_module_names, "heedloop", "heedloop_cli", "heedloop_server", "heedloop_dashboard", "heedloop_trainer"}}

class OnlyTheSdk(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in KNOWN or top in {ALONE.split()!r} or top.startswith("_"):
            return None
        raise ModuleNotFoundError(f"No module named {{top!r}}", name=top)

sys.meta_path.insert(0, OnlyTheSdk())
from heedloop_cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_its_extra_names_it(command, tmp_path):
    environment = {
        "HEEDLOOP_URL": "http://127.0.0.1:1",
        "HEEDLOOP_OUTBOX": str(tmp_path),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, command, *ARGUMENTS.get(command, [])],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1, 2)
    if command in ("serve", "keys", "doctor", "backup", "dashboard", "demo", "train", "quickstart", "mcp"):
        assert done.returncode == 2
        assert "pip install 'heedloop[" in done.stderr


def test_quickstart_does_not_guess_the_key_of_a_store_that_is_there(tmp_path):
    from heedloop_cli.commands.quickstart import _key

    with pytest.raises(RuntimeError, match="HEEDLOOP_API_KEY"):
        _key(tmp_path / "first-key")


@pytest.mark.parametrize(
    "arguments",
    [
        ["outbox", "drop", "--yes", "nofile"],
        ["outbox", "drop", "nofile", "--yes"],
        ["outbox", "--yes", "drop", "nofile"],
        ["keys", "revoke", "--url", "http://127.0.0.1:1", "nokey"],
        ["experiment", "show", "--url", "http://127.0.0.1:1", "none"],
        ["review", "progress", "--url", "http://127.0.0.1:1", "noqueue"],
        ["prompt", "diff", "noprompt", "1", "--url", "http://127.0.0.1:1", "2"],
    ],
)
def test_options_may_stand_before_optional_arguments(arguments, capsys, monkeypatch):
    monkeypatch.setenv("HEEDLOOP_API_KEY", "hl_0123456789ab_" + "k" * 43)
    assert main(arguments) != 0
    assert "usage:" not in capsys.readouterr().err
