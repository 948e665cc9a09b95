"""What mkdocs runs when the site is built: reference pages made from the code, and the repository's own pages taken in.

`make docs` builds the site; nothing here is imported by the product.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
REPOSITORY_PAGES = ("README.md", "BENCHMARKS.md", "CHANGELOG.md", "CONTRIBUTING.md")
REPOSITORY_FILES = re.compile(r"\]\((?:\.\./)*((?:LICENSE|docker-compose\.yml|deploy|benchmarks)[^)]*)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie beside `docs/` and those that are made from the code."""
    for name in REPOSITORY_PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    made = {"rest": rest(), "settings": settings(), "commands": commands(), "python": python_api()}
    for name, lines in made.items():
        files.append(File.generated(config, f"reference/{name}.md", content="\n".join(lines) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links between the repository's pages, as the site has them."""
    if page.file.src_uri in REPOSITORY_PAGES:
        markdown = re.sub(r"(\]\(|src=\")docs/", r"\1", markdown)
    markdown = re.sub(
        r"\]\((?:\.\./)+(" + "|".join(REPOSITORY_PAGES) + r")", r"](" + _up(page) + r"\1", markdown
    )
    return REPOSITORY_FILES.sub(r"](#)", markdown)


def _up(page: Any) -> str:
    return "../" * page.file.src_uri.count("/")


def rest() -> Iterator[str]:
    """Every route with its scope, parameters, body and response, then every record with its fields."""
    from heedloop_server.app import all_routes, create_app, scopes_of

    yield "# REST routes"
    yield "\nMade from `/openapi.json`. The [records](#records) follow the routes. [REST in words](../api.md) has examples."
    app = create_app()
    described = app.openapi()
    scopes = {
        (method, route.path): sorted(scopes_of(route)) or _checked_inside(route.endpoint)
        for route in all_routes(app.state.routes)
        for method in route.methods
    }
    for path, methods in sorted(described["paths"].items()):
        for method, route in methods.items():
            yield from _route(method.upper(), path, route, scopes.get((method.upper(), path), []))
    yield "\n## Records\n"
    for name, schema in sorted(described["components"]["schemas"].items()):
        yield from _record(name, schema)


def _checked_inside(endpoint: Any) -> list[str]:
    """The scope that a route checks by itself; empty where any key will do, or none is needed."""
    scope = getattr(endpoint, "heedloop_checks", "")
    return [scope] if isinstance(scope, str) and scope else []


def _route(method: str, path: str, route: dict[str, Any], scopes: list[str]) -> Iterator[str]:
    yield f"\n## `{method} {path}`\n"
    yield str(route.get("description") or route.get("summary") or "")
    if scopes:
        yield f"\nScope: {' or '.join(f'`{s}`' for s in scopes)}"
    else:
        yield "\nAny key will do." if "security" in route else "\nNo key is needed."
    parameters = route.get("parameters", [])
    if parameters:
        yield "\n| parameter | in | type | |\n|---|---|---|---|"
    for p in parameters:
        yield f"| `{p['name']}` | {p['in']} | {_type(p.get('schema', {}))} | {'required' if p.get('required') else ''} |"
    if body := route.get("requestBody"):
        yield f"\nBody: {_contents(body)}"
    responses = route.get("responses", {})
    for status, response in responses.items():
        if status.startswith("2"):
            yield f"\n{status}: {_contents(response) or response.get('description', '')}"
    if refused := [status for status in responses if not status.startswith("2")]:
        yield f"\nErrors: {', '.join(refused)}"


def _record(name: str, schema: dict[str, Any]) -> Iterator[str]:
    """One record: what its docstring says, and its fields."""
    yield f"\n### {name}\n"
    text, _, attributes = schema.get("description", "").partition("\n\nAttributes:\n")
    yield text
    meanings = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", attributes, re.M))
    if "properties" in schema:
        yield "\n| field | type | |\n|---|---|---|"
    for field, kind in schema.get("properties", {}).items():
        what = " ".join((meanings.get(field) or kind.get("description", "")).split()).replace("|", "\\|")
        yield f"| `{field}` | {_type(kind)} | {what} |"


def _contents(described: dict[str, Any]) -> str:
    return ", ".join(
        f"`{media}` {_type(c.get('schema', {}))}" for media, c in described.get("content", {}).items()
    )


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(s) for s in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{v}`" for v in schema["enum"])
    return f"list of {_type(schema['items'])}" if "items" in schema else str(schema.get("type", ""))


def settings() -> Iterator[str]:
    """The server's settings, one a row."""
    from heedloop_server.settings import Settings

    yield "# Settings of the server\n"
    yield "From the environment, a `.env` file, or a file named by `--settings`; flags win.\n"
    yield "| variable | default | what |\n|---|---|---|"
    for name, field in Settings.model_fields.items():
        what = (field.description or "").replace("|", "\\|")
        yield f"| `HEEDLOOP_{name.upper()}` | `{field.get_default()}` | {what} |"


def commands() -> Iterator[str]:
    """Every sub-command with its options, as `--help` prints them."""
    yield "# Commands"
    for entry in sorted(entry_points(group="heedloop.commands"), key=lambda e: e.name):
        command: Any = entry.load()
        parser = argparse.ArgumentParser(prog=f"heedloop {entry.name}", description=command.HELP)
        command.add_arguments(parser)
        yield f"\n## heedloop {entry.name}\n\n```\n{parser.format_help().rstrip()}\n```"


def python_api() -> Iterator[str]:
    """The public names of `heedloop`, their signatures and docstrings."""
    import heedloop

    yield "# Python API\n\nWhat `import heedloop` offers; everything else is private."
    for name in sorted(heedloop.__all__):
        thing = getattr(heedloop, name)
        yield f"\n## heedloop.{name}\n"
        if callable(thing):
            yield f"```python\n{name}{_signature(thing)}\n```\n"
        yield inspect.getdoc(thing) or ""


def _signature(thing: Any) -> str:
    try:
        return str(inspect.signature(thing))
    except (TypeError, ValueError):
        return "(…)"
