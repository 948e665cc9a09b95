"""Who may import whom: the rooms of docs/design.md, checked by reading every import."""

import ast
import json
import re
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
        {"opentelemetry", "requests", "urllib3", "pytest"},
    ),
    "cli": (
        "sdk/heedloop_cli",
        {"heedloop", "heedloop_cli"},
        {"opentelemetry", "requests", "pyarrow", "tqdm", "mcp"},
    ),
    "server": (
        "server/heedloop_server",
        {"heedloop.schema", "heedloop.responses", "heedloop.attributes", "heedloop.words", "heedloop.scores", "heedloop_server"},
        {
            "fastapi", "starlette", "uvicorn", "pydantic", "pydantic_core", "pydantic_settings", "clickhouse_connect", "opentelemetry", "google",
            "numpy", "scipy", "sklearn", "pyarrow", "chdb", "prometheus_client", "grpc",
            "typing_extensions",  # pydantic's own; its TypedDict is what pydantic reads on Python 3.11
        },
    ),
    "dashboard": (
        "dashboard/heedloop_dashboard",
        {"heedloop.changes", "heedloop.client", "heedloop.responses", "heedloop.schema", "heedloop_dashboard"},
        {"streamlit", "starlette", "tornado", "uvicorn", "pyarrow", "authlib", "httpx", "joserfc"},
    ),
    "trainer": (
        "trainer/heedloop_trainer",
        {"heedloop.client", "heedloop.responses", "heedloop.schema", "heedloop.words", "heedloop_trainer"},
        {"torch", "transformers", "safetensors", "numpy", "scipy", "sklearn", "pyarrow", "tqdm", "peft", "accelerate", "tokenizers", "requests", "jinja2", "yaml", "wandb", "mlflow"},
    ),
}  # fmt: skip
DEMO = "trainer/heedloop_trainer/demo"  # the demo is an app too: it uses the SDK, and evaluates as the command does
USED_BY_DEMO = {"heedloop", "heedloop_cli.processes", "heedloop_cli.evaluate", "heedloop_cli.judges"}
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
        allowed = ours | (USED_BY_DEMO if rel.startswith(DEMO) else set())
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


# ---------------------------------------------------------------------------------- the code as a whole

PACKAGES = {"heedloop": "sdk", "heedloop_cli": "sdk", "heedloop_server": "server", "heedloop_dashboard": "dashboard", "heedloop_trainer": "trainer"}  # fmt: skip
OPTIONAL = {
    "authlib", "httpx", "joserfc",  # extra oidc
    "grpc",  # extra grpc
    "peft",  # extra lora
    "pytest",  # heedloop.testing.cases, in the tests of an app
    "pyarrow", "yaml", "tqdm", "icu4py",  # commands of the SDK alone
    "wandb", "mlflow",  # trackers of training runs
    "msvcrt", "fcntl",  # of one operating system each
}  # fmt: skip
"""What may be imported inside a function: extras that an installation need not have."""
LATE = {
    "sklearn": "takes a second and 60 MB; a server that is asked for no clusters never needs it",
    "scipy.sparse": "comes with sklearn",
    "scipy.stats": "two seconds of the server's start",
    "difflib": "read by those who wrote a wrong name",
    "heedloop._provider": "`import heedloop` stays light: the OpenTelemetry SDK is loaded by configure()",
    "heedloop._instrument": "loaded by those who instrument a client",
    "heedloop._call_spans": "protobuf is loaded by those who send calls",
    "opentelemetry.proto": "protobuf is loaded by those who send calls",
    "heedloop_trainer.commands.train_job": "`heedloop train --help` answers without torch",
    "heedloop_trainer.demo.run": "`heedloop demo --help` answers without torch",
    "requests": "half of the time that `import heedloop` takes",
    "torch": "`heedloop train --help` answers without it",
    "transformers": "`heedloop train --help` answers without it",
}
"""What may be imported inside a function because of what it costs, and why."""
REFUSED_WORDS = {
    "desk", "caretaker", "duty", "road", "roads", "door", "doors", "said", "told", "gone", "come", "asked", "taken", "settle",
    "settled", "prints", "aside", "bury", "buried", "dead", "whoever", "who", "nobody", "somebody", "people", "anew",
    "data", "info", "manager", "helper", "helpers", "utils", "misc", "common",
}  # fmt: skip
"""Words that are no name of a file, class or function: docs/contributing says what to write instead."""


def _modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for package, top in PACKAGES.items():
        for path in (ROOT / top / package).rglob("*.py"):
            parts = path.relative_to(ROOT / top).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _targets(node: ast.AST, modules: dict[str, Path]) -> set[str]:
    """Our modules, or outside packages, that an import statement names."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        deep = {f"{node.module}.{alias.name}" for alias in node.names}
        return {name if name in modules else node.module for name in deep}
    return set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = _modules()
    imports = {
        name: {t for node in ast.walk(ast.parse(path.read_text("utf-8"))) for t in _targets(node, modules)}
        & modules.keys() - {name}
        for name, path in modules.items()
    }
    while leaves := {name for name, targets in imports.items() if not targets & imports.keys()}:
        imports = {name: targets for name, targets in imports.items() if name not in leaves}
    while roots := imports.keys() - {t for targets in imports.values() for t in targets}:
        imports = {name: targets for name, targets in imports.items() if name not in roots}
    assert sorted(imports) == []


def test_functions_import_optional_extras_only() -> None:
    modules, wrong = _modules(), []
    for path in modules.values():
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                for name in _targets(node, modules):
                    late = any(name == late_one or name.startswith(late_one + ".") for late_one in LATE)
                    if not late and name.split(".")[0] not in OPTIONAL:
                        wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {name}")
    assert sorted(set(wrong)) == []


def _words(name: str) -> set[str]:
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))


def test_names_of_files_classes_and_functions_are_plain() -> None:
    wrong = []
    for path in _modules().values():
        rel = path.relative_to(ROOT)
        if _words(path.stem) & REFUSED_WORDS:
            wrong.append(str(rel))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if named and _words(node.name) & REFUSED_WORDS:
                wrong.append(f"{rel}:{node.lineno} {node.name}")
    assert wrong == []


def test_documents_that_code_names_exist() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in _modules().values()
        for name in re.findall(r"docs/[\w/-]+\.md", path.read_text("utf-8"))
        if not (ROOT / name).is_file()
    ]
    assert wrong == []


def test_routes_return_records() -> None:
    """A response has one definition, in heedloop.responses: no route returns a dictionary that it makes up."""
    untyped = set()
    for path in (ROOT / "server/heedloop_server/routes").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            is_route = any("router." in ast.unparse(d) for d in function.decorator_list)
            returned = ast.unparse(function.returns) if function.returns else "Json"
            if is_route and re.search(r"\bJson\b|\bdict\b|\bAny\b", returned):
                untyped.add(path.relative_to(ROOT / "server/heedloop_server/routes").as_posix())
    assert untyped == set()


CALLED_LATER = {
    "prediction_powered.py": "judges call most of it; strata and the difference of versions wait for experiments"
}
"""Files of statistics whose functions no product code calls yet, and who will."""


def _names(node: ast.AST) -> set[str]:
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return used | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def test_statistics_have_callers() -> None:
    """Every public function of the statistics is called from elsewhere in the product, if only by one that is."""
    folder = ROOT / "server/heedloop_server/statistics"
    defined: dict[str, ast.FunctionDef] = {}
    called: set[str] = set()
    for path in _modules().values():
        tree = ast.parse(path.read_text("utf-8"))
        if path.parent != folder:
            called |= _names(tree)
        elif path.name not in CALLED_LATER:
            defined |= {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    used: set[str] = set()
    while new := (called & defined.keys()) - used:
        used |= new
        called |= {name for function in new for name in _names(defined[function])}
    # a method or a module's table of functions counts as well as a function
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                used |= _names(node) & defined.keys()
    assert sorted(name for name in defined.keys() - used if not name.startswith("_")) == []
