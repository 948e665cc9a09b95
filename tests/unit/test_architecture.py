"""Who may import whom: the rooms of docs/design.md, checked by reading every import."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STDLIB = sys.stdlib_module_names | {"__future__"}

# room -> (folder, our modules it may import, outside packages it may import)
ROOMS = {
    "sdk": (
        "sdk/heedloop",
        {"heedloop"},
        {"opentelemetry", "requests", "urllib3"},
    ),
    "cli": (
        "sdk/heedloop_cli",
        {"heedloop", "heedloop_cli"},
        {"opentelemetry", "requests", "pyarrow", "tqdm"},
    ),
    "server": (
        "server/heedloop_server",
        {"heedloop.schema", "heedloop.attributes", "heedloop.words", "heedloop_server"},
        {
            "fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings", "clickhouse_connect", "opentelemetry", "google",
            "numpy", "scipy", "sklearn", "pyarrow", "chdb", "prometheus_client", "grpc",
            "typing_extensions",  # pydantic's own; its TypedDict is what pydantic reads on Python 3.11
        },
    ),
    "dashboard": (
        "dashboard/heedloop_dashboard",
        {"heedloop.client", "heedloop.schema", "heedloop_dashboard"},
        {"streamlit", "starlette", "tornado", "uvicorn", "pyarrow", "authlib", "httpx", "joserfc"},
    ),
    "trainer": (
        "trainer/heedloop_trainer",
        {"heedloop.client", "heedloop.schema", "heedloop.words", "heedloop_trainer"},
        {"torch", "transformers", "safetensors", "numpy", "scipy", "sklearn", "pyarrow", "tqdm", "peft", "accelerate", "tokenizers", "requests", "jinja2", "yaml"},
    ),
}  # fmt: skip
DEMO = "trainer/heedloop_trainer/demo"  # the demo is an app too: it uses the SDK's public surface
COMMANDS = "server/heedloop_server/commands"  # doctor and keys ask a running server as everyone does
DASHBOARD_FORBIDDEN = {"numpy", "pandas", "scipy"}


def _imports(path: Path) -> set[str]:
    """Absolute names of everything a file imports, at any depth of the code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _inside(name: str, allowed: set[str]) -> bool:
    return any(name == a or name.startswith(a + ".") for a in allowed)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_the_design_allows(room: str) -> None:
    folder, ours, outside = ROOMS[room]
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"{folder} holds no Python"
    wrong = []
    for path in files:
        rel = path.relative_to(ROOT).as_posix()
        allowed = ours | ({"heedloop"} if rel.startswith(DEMO) else set())
        allowed = allowed | ({"heedloop.client"} if rel.startswith(COMMANDS) else set())
        for name in sorted(_imports(path)):
            top = name.split(".")[0]
            if top in STDLIB or top in outside or _inside(name, allowed):
                continue
            if name.rsplit(".", 1)[0] in allowed:
                continue
            wrong.append(f"{rel} imports {name}")
    assert wrong == []


def test_sql_and_clickhouse_live_in_one_room() -> None:
    wrong = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "server/heedloop_server").rglob("*.py")
        if "store" not in path.parts
        and any(n.split(".")[0] in ("clickhouse_connect", "chdb") for n in _imports(path))
    ]
    assert wrong == []


def test_importing_the_sdk_loads_nothing_heavy() -> None:
    code = "import sys, json, heedloop; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(out.stdout.splitlines()[-1]))
    heavy = {
        "torch",
        "transformers",
        "numpy",
        "pandas",
        "fastapi",
        "streamlit",
        "pydantic",
        "chdb",
        "clickhouse_connect",
        "sklearn",
    }
    assert loaded & heavy == set()
    assert "heedloop" in loaded


def test_the_command_names_a_missing_extra() -> None:
    """A sub-command whose part cannot be imported says which extra to install, and ends with status 2."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "from heedloop_cli.main import main\n"
        "sys.exit(main(['train', 'sft', '--snapshot', 'x', '--model', 'y', '--out', 'z']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "heedloop[trainer]" in done.stderr


def test_an_unknown_command_is_refused_with_the_list() -> None:
    done = subprocess.run([sys.executable, "-m", "heedloop_cli.main", "serv"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "'serv'" in done.stderr
    assert "serve" in done.stderr
