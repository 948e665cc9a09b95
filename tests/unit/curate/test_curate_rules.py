"""Rules: defaults, and errors that name the field."""

from __future__ import annotations

import pytest

from heedloop.schema import SchemaError, from_json, to_json
from heedloop_server.curate import Rules


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"forms": ["comparison"]}, "rules.forms"),
        ({"like_from": 1.5}, "rules.like_from"),
        ({"like_from": 0.2}, "rules.dislike_to"),
        ({"test_fraction": 0.6, "validation_fraction": 0.5}, "rules.test_fraction"),
        ({"consensus": "mean"}, "rules.consensus"),
        ({"seed": 1.5}, "rules.seed"),
        ({"max_author_share": 0}, "rules.max_author_share"),
        ({"propensity_clip": [5, 1]}, "rules.propensity_clip"),
        ({"propensity_clip": [5]}, "rules.propensity_clip"),
        ({"reliability": 1}, "rules.reliability"),
        ({"exclude_flags": "privacy"}, "rules.exclude_flags"),
        ({"near_duplicate": "0.8"}, "rules.near_duplicate"),
        ({"colour": 1}, "rules.colour"),
    ],
)
def test_a_wrong_rule_names_its_field(given, field):
    with pytest.raises(SchemaError) as caught:
        from_json(Rules, given, field="rules")
    assert caught.value.field == field


def test_rules_survive_json():
    rules = Rules(seed=7, forms=("comparisons",), propensity_clip=(0.2, 5.0))
    again = from_json(Rules, to_json(rules), field="rules")
    assert again == rules
