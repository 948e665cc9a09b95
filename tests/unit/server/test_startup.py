"""A server starts without what only some of its pages need."""

import subprocess
import sys

HEAVY = (
    "sklearn",
    "scipy.stats",
    "pandas",
    "torch",
    "transformers",
    "streamlit",
    "matplotlib",
    "grpc",
    "chdb",
)

PROGRAM = f"""
import sys
from heedloop_server.app import create_app
create_app()
print(*[m for m in {HEAVY!r} if m in sys.modules])
"""


def test_making_the_app_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
