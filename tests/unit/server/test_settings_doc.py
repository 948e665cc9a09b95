"""Every setting is in docs/server.md, and every setting there exists."""

import re
from pathlib import Path

from heedloop_server.settings import Settings

DOC = (Path(__file__).parents[3] / "docs" / "server.md").read_text()


def test_the_settings_table_is_whole() -> None:
    rows = dict(re.findall(r"^\| `HEEDLOOP_([A-Z_]+)` \| [^|]* \| (.+) \|$", DOC, re.M))
    assert {n.upper() for n in Settings.model_fields} == set(rows)
    for name, field in Settings.model_fields.items():
        assert rows[name.upper()] == field.description
