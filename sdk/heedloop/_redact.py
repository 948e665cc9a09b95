"""Redaction: what must not leave the process is replaced before it touches the wire or the outbox.

Every pattern is linear in the text: no repetition inside a repetition, and every repetition has an upper bound. A rule
that fails takes the text with it, never the span: dropping content is safe, passing it on is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from heedloop._guard import report

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]
"""A pattern and the replacement of each match; giving the match back leaves it."""

DROPPED = "[dropped: a redaction rule failed]"
"""Replaces a text on which a rule failed."""

_IBAN_LENGTHS = range(15, 35)


def _mark(name: str) -> Callable[[re.Match[str]], str]:
    return lambda _match: f"[{name}]"


def _card(match: re.Match[str]) -> str:
    digits = re.sub(r"[ -]", "", match[0])
    return "[card]" if 13 <= len(digits) <= 19 and _luhn(digits) else match[0]


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _iban(match: re.Match[str]) -> str:
    text = match[0].replace(" ", "")
    if len(text) not in _IBAN_LENGTHS:
        return match[0]
    number = "".join(str(int(c, 36)) for c in text[4:] + text[:4])
    return "[iban]" if int(number) % 97 == 1 else match[0]


def _phone(match: re.Match[str]) -> str:
    if re.search(
        r"[A-Z]{2}\d{2}(?: [A-Z0-9]{4}){1,8} $|\d{4} $",
        match.string[max(match.start() - 45, 0) : match.start()],
    ):
        return match[0]  # the rest of a number in groups of four: an IBAN or card that failed its check
    num_digits = sum(c.isdigit() for c in match[0])
    return "[phone]" if 8 <= num_digits <= 15 else match[0]


_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}"
)

BUILT_IN_RULES: Mapping[str, Rule] = {
    "key": (
        re.compile(
            r"\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,200}"  # OpenAI, Anthropic, Stripe
            r"|\bhl_[0-9a-f]{12}_[A-Za-z0-9_-]{43}"
            r"|\bhlt1\.[A-Za-z0-9_-]{1,2000}\.[A-Za-z0-9_-]{43}"
            r"|\bgh[pousr]_[A-Za-z0-9]{30,100}|\bgithub_pat_[A-Za-z0-9_]{30,200}"
            r"|\bxox[abprs]-[A-Za-z0-9-]{10,200}"
            r"|\bA(?:KIA|SIA)[A-Z0-9]{16}\b"
            r"|\bAIza[A-Za-z0-9_-]{35}"
            r"|\bhf_[A-Za-z0-9]{30,100}"
            r"|\beyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,1000}"
            r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"
            r"|(?i:\bbearer )[A-Za-z0-9._~+/-]{16,2000}"
        ),
        _mark("key"),
    ),
    "email": (
        _EMAIL,
        _mark("email"),
    ),
    "iban": (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b"), _iban),
    "card": (re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])"), _card),
    "phone": (
        re.compile(
            r"(?<![\w.-])(?:\+\d|00\d|0\d|\(\+?\d)(?:[ ./()-]{0,2}\d){6,14}(?![\w-])"
            r"|(?<![\w.-])\d{3}[-. ]\d{3}[-. ]\d{4}(?![\w-])"
        ),
        _phone,
    ),
}
"""Name -> rule, in the order in which they are applied."""


class Redactor:
    """Applies rules to texts: `Options(redact=heedloop.Redactor())`.

    Args:
        rules: names of built-in rules; all of them where not given.
        extra: rules of your own, applied after those.
        hook: a function of your own, applied last; it gets a text and gives the text to keep.
    """

    def __init__(
        self,
        rules: Sequence[str] | None = None,
        *,
        extra: Sequence[Rule] = (),
        hook: Callable[[str], str] | None = None,
    ) -> None:
        chosen = list(BUILT_IN_RULES) if rules is None else list(rules)
        unknown = [name for name in chosen if name not in BUILT_IN_RULES]
        if unknown:
            raise ValueError(f"rules: {unknown[0]!r} is not one of {', '.join(BUILT_IN_RULES)}")
        self._rules: list[Rule] = [BUILT_IN_RULES[name] for name in chosen] + list(extra)
        self._hook = hook

    def __call__(self, text: str) -> str:
        """`text` without what the rules find; `DROPPED` where one of them fails."""
        try:
            for pattern, replace in self._rules:
                if pattern is not _EMAIL or "@" in text:
                    text = pattern.sub(replace, text)
            return text if self._hook is None else str(self._hook(text))
        except Exception as error:  # noqa: BLE001  an app's own rule may do anything; content must not slip through
            report(error, "redacting")
            return DROPPED
