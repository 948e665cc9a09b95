"""docker-compose.yml and the Dockerfiles name only settings, commands, extras and paths that exist. (Docker itself is not run here.)"""

import argparse
import importlib
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from heedloop_server.app import all_routes, create_app
from heedloop_server.settings import Settings, read_settings
from heedloop_server.store.connection import parse_dsn

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
MANIFESTS = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
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
        *(yaml.safe_dump_all(yaml.safe_load_all(p.read_text())) for p in MANIFESTS),  # without their comments
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
    for path in (ROOT / "docker-compose.yml", CLUSTER / "docker-compose.yml", *DOCKERFILES):
        for value in re.findall(r"PASSWORD\w*:\s*(\S+)", path.read_text()):
            assert value.startswith("${"), value


def test_the_collector_exports_every_signal_that_the_server_takes() -> None:
    config = yaml.safe_load((ROOT / "deploy/collector.yaml").read_text())
    assert set(config["service"]["pipelines"]) == {"traces", "logs"}
    exporter = config["exporters"]["otlphttp/heedloop"]
    assert exporter["endpoint"] == "http://server:8321"
    assert exporter["headers"]["authorization"] == "Bearer ${env:HEEDLOOP_API_KEY}"


# --------------------------------------------------------------------------------------------------------- cluster

CLUSTER = ROOT / "deploy/cluster"


def test_the_cluster_has_its_servers_shards_and_files() -> None:
    services = yaml.safe_load((CLUSTER / "docker-compose.yml").read_text())["services"]
    config = ElementTree.parse(CLUSTER / "clickhouse.xml").getroot()
    shards = [[h.text for h in s.iter("host")] for s in config.iter("shard") if s.find("replica") is not None]
    assert len(shards) == 2 and all(len(hosts) == 2 for hosts in shards)
    for number, hosts in enumerate(shards, start=1):
        for host in hosts:
            environment = services[host]["environment"]
            assert (environment["SHARD"], environment["REPLICA"]) == (str(number), host)
            assert services[host]["hostname"] == host
    keeper = ElementTree.parse(CLUSTER / "keeper.xml").getroot()
    assert config.findtext("zookeeper/node/host") in services
    assert config.findtext("zookeeper/node/port") == keeper.findtext("keeper_server/tcp_port")
    for name, service in services.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert not source.startswith(".") or (CLUSTER / source).is_file(), mount
        if "build" in service:
            assert (CLUSTER / service["build"]["context"] / service["build"]["dockerfile"]).is_file(), name
            settings = service["environment"]
            assert [n for n in settings if not _known_setting(n)] == []
            assert config.find(f"remote_servers/{settings['HEEDLOOP_CLUSTER']}") is not None
            address = parse_dsn(settings["HEEDLOOP_STORE"].replace("${CLICKHOUSE_PASSWORD}", "pw"))
            assert address.host in services
            balanced = (CLUSTER / "haproxy.cfg").read_text()
            assert f"server {name} {name}:8321 check" in balanced


# ------------------------------------------------------------------------------------------------------ Kubernetes

OBJECTS = [o for p in MANIFESTS for o in yaml.safe_load_all(p.read_text())]
WORKLOADS = {o["metadata"]["name"]: o for o in OBJECTS if o["kind"] in ("StatefulSet", "Deployment", "Job")}


def _container(name: str) -> dict:
    (container,) = WORKLOADS[name]["spec"]["template"]["spec"]["containers"]
    return container


def test_server_dashboard_and_trainer_have_manifests() -> None:
    assert set(WORKLOADS) == {"heedloop-server", "heedloop-dashboard", "heedloop-train-sft"}
    (listed,) = [o["resources"] for o in OBJECTS if o["kind"] == "Kustomization"]
    assert {*listed, "trainer.yaml", "kustomization.yaml"} == {p.name for p in MANIFESTS}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_has_no_right_that_it_does_not_need(name: str) -> None:
    pod, container = WORKLOADS[name]["spec"]["template"]["spec"], _container(name)
    dockerfile = (
        ROOT / "deploy" / f"{container['image'].split(':')[0].removeprefix('heedloop-')}.Dockerfile"
    ).read_text()
    user = pod["securityContext"]["runAsUser"]
    assert f"--uid {user} heedloop" in dockerfile and "USER heedloop" in dockerfile
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False  # its variables would be taken for settings
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["requests"]) and "memory" in container[
        "resources"
    ]["limits"]
    assert container["image"].split(":")[1] == PROJECT["version"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_a_pod_mounts_exists_and_is_where_it_writes(name: str) -> None:
    spec = WORKLOADS[name]["spec"]
    claims = {c["metadata"]["name"] for c in spec.get("volumeClaimTemplates", [])}
    volumes = {v["name"] for v in spec["template"]["spec"]["volumes"]} | claims
    mounts = {m["mountPath"]: m["name"] for m in _container(name)["volumeMounts"]}
    assert set(mounts.values()) == volumes
    environment = {e["name"]: e.get("value", "") for e in _container(name)["env"]}
    assert {environment.get("HEEDLOOP_DATA", "/tmp"), environment.get("HOME", "/tmp"), "/tmp"} <= set(mounts)


def test_services_and_probes_reach_the_port_that_is_listened_on() -> None:
    routes = {r.path for r in all_routes(create_app(Settings()).routes)}
    for service in (o for o in OBJECTS if o["kind"] == "Service"):
        name = service["metadata"]["name"]
        container = _container(name)
        labels = WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]
        assert labels == service["spec"]["selector"] == WORKLOADS[name]["spec"]["selector"]["matchLabels"]
        ports = {p["name"]: p["containerPort"] for p in container["ports"]}
        assert [(ports[p["targetPort"]], p["port"]) for p in service["spec"]["ports"]] == [
            (p, p) for p in ports.values()
        ]
        for probe in ("readinessProbe", "livenessProbe"):
            asked = container[probe].get("httpGet") or container[probe]["tcpSocket"]
            assert asked["port"] in ports and asked.get("path", "/healthz") in routes
    environment = {e["name"]: e.get("value") for e in _container("heedloop-server")["env"]}
    assert environment["HEEDLOOP_PORT"] == str(_container("heedloop-server")["ports"][0]["containerPort"])
    for name in ("heedloop-dashboard", "heedloop-train-sft"):
        environment = {e["name"]: e.get("value") for e in _container(name)["env"]}
        assert environment["HEEDLOOP_URL"] == "http://heedloop-server:8321"


def test_the_values_of_the_servers_settings_are_right(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for entry in _container("heedloop-server")["env"]:
        if "value" in entry:
            monkeypatch.setenv(entry["name"], entry["value"])
    assert read_settings({}, file=tmp_path / "none").access_log


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pods_command_and_its_flags_exist(name: str) -> None:
    words = _container(name)["args"]
    command, flags = (words[1], words[2:]) if words[0] == "heedloop" else ("train", words)
    module = importlib.import_module(PROJECT["entry-points"]["heedloop.commands"][command].split()[0])
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    parser.parse_args(flags)
