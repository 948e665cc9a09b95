"""A mutation sample: change single expressions of the product at random, and see whether a test fails.

    python tests/tools/mutation_sample.py --count 50 --seed 1

Each mutant is one change of one expression (a comparison turned, a bound moved by one, a call left out …) in a file of a room drawn
first, so that small rooms are looked at as often as large ones. The tests that are run are the files that import the changed module,
the nearest first. Prints one line a mutant, then the survivors; the exit status is 0 whatever survives, because some changes are
equivalent and a person decides that. Works in a copy of the tree, which is left alone.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOTS = ("sdk", "server", "dashboard", "trainer")
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the text of `path` (relative to the root) between two offsets is replaced by `new`."""

    path: Path
    line: int
    start: int
    end: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}  {self.old}  ->  {self.new}"


def changed(node: ast.AST) -> ast.AST | None:
    """The node with one thing different; None where nothing here is changed."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            return ast.Compare(node.left, [COMPARISONS[type(op)]()], node.comparators)
        case ast.BoolOp():
            return ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.BinOp() if type(node.op) in OPERATORS and not isinstance(
            node.left, ast.Constant | ast.JoinedStr
        ):
            return ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        case ast.UnaryOp(op=ast.Not()):
            return node.operand
        case ast.Constant(value=bool()):
            return ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            return ast.Constant(node.value + 1)
        case ast.Expr(value=ast.Call() | ast.Await()):
            return ast.Pass()
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            return ast.Return(ast.Constant(None))
    return None


def _code_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes inside function bodies: no annotations, defaults or decorators."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in function.body:
                yield from ast.walk(statement)


def mutants(path: Path) -> list[Mutant]:
    """All changes of one file that fit on one line."""
    text = (ROOT / path).read_text(encoding="utf-8")
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[tuple[int, int], Mutant] = {}
    for node in _code_nodes(ast.parse(text)):
        new = changed(node)
        if new is None or getattr(node, "lineno", 0) != getattr(node, "end_lineno", 0):
            continue
        start, end = starts[node.lineno - 1] + node.col_offset, starts[node.lineno - 1] + node.end_col_offset
        old = text.encode()[start:end].decode()
        new_text = ast.unparse(ast.fix_missing_locations(new))
        if isinstance(node, ast.expr) and not isinstance(new, ast.Constant):
            new_text = f"({new_text})"
        found[start, end] = Mutant(path, node.lineno, start, end, old, new_text)
    return list(found.values())


def draw(count: int, seed: int) -> list[Mutant]:
    """A room at random, then a line of it at random, `count` times."""
    rooms: defaultdict[Path, list[Path]] = defaultdict(list)
    for root in ROOTS:
        for path in sorted((ROOT / root).rglob("*.py")):
            rooms[path.parent].append(path.relative_to(ROOT))
    rng, chosen = random.Random(seed), []
    while len(chosen) < count:
        files = rooms[rng.choice(sorted(rooms))]
        by_file = [m for path in files for m in mutants(path)]
        if by_file and (one := rng.choice(by_file)) not in chosen:
            chosen.append(one)
    return chosen


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return names


class Tests:
    """Which test files reach a module, the nearest first."""

    def __init__(self) -> None:
        self._users: defaultdict[str, set[str]] = defaultdict(set)
        for root in ROOTS:
            for path in (ROOT / root).rglob("*.py"):
                for name in _imports(path):
                    self._users[name].add(module_name(path.relative_to(ROOT)))
        self._tests: defaultdict[str, set[Path]] = defaultdict(set)
        for folder in ("unit", "integration"):
            for path in (ROOT / "tests" / folder).rglob("test_*.py"):
                for name in _imports(path):
                    self._tests[name].add(path.relative_to(ROOT))

    def of(self, path: Path, limit: int) -> list[Path]:
        """At most `limit` files: those that import the module, then those that import what imports it, and so on."""
        module = module_name(path)
        chosen: list[Path] = []
        seen, queue = {module}, deque([module])
        while queue and len(chosen) < limit:
            name = queue.popleft()
            word = path.stem.strip("_")
            near = sorted(
                self._tests[name] - set(chosen), key=lambda p: (word not in p.stem, "unit" not in p.parts, p)
            )
            chosen += near
            for user in sorted(self._users[name] - seen):
                seen.add(user)
                queue.append(user)
        return chosen[:limit] or _named_alike(path)[:limit]


def _named_alike(path: Path) -> list[Path]:
    """Integration tests whose names share words with the path: routes are imported by name, so that no import leads to them."""
    words = {w for part in path.with_suffix("").parts[2:] for w in part.split("_")}
    shared = {
        p: len(words & set(p.stem.split("_"))) for p in (ROOT / "tests" / "integration").glob("test_*.py")
    }
    return [p.relative_to(ROOT) for p in sorted(shared, key=lambda p: (-shared[p], p)) if shared[p]]


def run(mutant: Mutant, tests: list[Path], copy: Path, timeout_s: float) -> str:
    """`killed`, `killed (too slow)` or `SURVIVED`; the copy is as before afterwards."""
    target = copy / mutant.path
    whole = target.read_bytes()
    target.write_bytes(whole[: mutant.start] + mutant.new.encode() + whole[mutant.end :])
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(copy / r) for r in ROOTS),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *map(str, tests)]
    try:
        done = subprocess.run(command, cwd=copy, env=env, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return "killed (too slow)"
    finally:
        target.write_bytes(whole)
    return "SURVIVED" if done.returncode == 0 else "killed"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=50, help="mutants to try (50)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    parser.add_argument("--files", type=int, default=4, help="test files to run for each at most (4)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for each (300)")
    args = parser.parse_args()
    tests, survivors = Tests(), []
    with tempfile.TemporaryDirectory(prefix="heedloop-mutants-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(
            ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "dist", "__pycache__", ".heedloop")
        )
        for number, mutant in enumerate(draw(args.count, args.seed), 1):
            files = tests.of(mutant.path, args.files)
            result = run(mutant, files, copy, args.timeout) if files else "SURVIVED (no test imports it)"
            print(f"{number:3} {result:18} {mutant}", flush=True)
            if result.startswith("SURVIVED"):
                survivors.append(mutant)
    print(f"\n{len(survivors)} of {args.count} survived (seed {args.seed}):")
    for mutant in survivors:
        print(f"- `{mutant}`")


if __name__ == "__main__":
    main()
