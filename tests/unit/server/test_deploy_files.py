"""docker-compose.yml and the Dockerfiles name only settings, commands, extras and paths that exist. (Docker itself is not run here.)"""

import argparse
import importlib
import re
import tomllib
from pathlib import Path

import pytest

from heedloop_server.settings import Settings
from heedloop_server.store.connection import parse_dsn

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
CLIENT = {"HEEDLOOP_URL", "HEEDLOOP_API_KEY"}


def _known_setting(name: str) -> bool:
    return name in CLIENT or name.removeprefix("HEEDLOOP_").lower() in Settings.model_fields


def _names_of(text: str) -> set[str]:
    return set(re.findall(r"\b(HEEDLOOP_[A-Z_]+)\b", text))


def test_every_environment_variable_is_a_setting() -> None:
    texts = [
        (ROOT / "docker-compose.yml").read_text(),
        *(p.read_text() for p in DOCKERFILES),
        (ROOT / "deploy/collector.yaml").read_text(),
    ]
    names = set().union(*map(_names_of, texts))
    assert {"HEEDLOOP_STORE", "HEEDLOOP_DATA", "HEEDLOOP_HOST"} <= names
    assert [n for n in names if not _known_setting(n)] == []


def test_the_store_address_is_one() -> None:
    dsn = COMPOSE["services"]["server"]["environment"]["HEEDLOOP_STORE"].replace(
        "${CLICKHOUSE_PASSWORD}", "pw"
    )
    address = parse_dsn(dsn)
    assert (address.kind, address.host, address.user, address.database) == (
        "http",
        "clickhouse",
        "heedloop",
        "heedloop",
    )
    assert address.host in COMPOSE["services"]


def test_builds_and_mounts_exist() -> None:
    for name, service in COMPOSE["services"].items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], mount
        for needed in service.get("depends_on", {}):
            assert needed in COMPOSE["services"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_a_dockerfile_copies_what_exists_and_installs_extras_that_exist(path: Path) -> None:
    text = path.read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.M):
        *sources, _ = line.split()
        assert [s for s in sources if not (ROOT / s).exists()] == []
    extras = re.search(r"'\.\[([\w,]+)\]'", text)
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_commands_and_their_flags_exist() -> None:
    entries = PROJECT["entry-points"]["heedloop.commands"]
    commands = [
        COMPOSE["services"]["dashboard"]["command"],
        re.search(r"^CMD (\[.+\])$", DOCKERFILES[0].read_text(), re.M)[1],
    ]
    for command in commands:
        words = command if isinstance(command, list) else yaml.safe_load(command)
        assert words[0] == "heedloop"
        module = importlib.import_module(entries[words[1]].split()[0])
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        parser.parse_args(words[2:])


def test_no_password_is_written_down() -> None:
    for path in (ROOT / "docker-compose.yml", *DOCKERFILES):
        for value in re.findall(r"PASSWORD\w*:\s*(\S+)", path.read_text()):
            assert value.startswith("${"), value


def test_the_collector_exports_every_signal_that_the_server_takes() -> None:
    config = yaml.safe_load((ROOT / "deploy/collector.yaml").read_text())
    assert set(config["service"]["pipelines"]) == {"traces", "logs"}
    exporter = config["exporters"]["otlphttp/heedloop"]
    assert exporter["endpoint"] == "http://server:8321"
    assert exporter["headers"]["authorization"] == "Bearer ${env:HEEDLOOP_API_KEY}"
