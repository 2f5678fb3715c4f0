"""Numbers and names as the page prints them."""

from __future__ import annotations

import math
import textwrap
import unicodedata

MISSING = "–"
INFINITE = "∞"
_MINUS = "−"


def exists(value: float | None) -> bool:
    """Whether there is a number at all: neither None nor nan."""
    return value is not None and not math.isnan(value)


def fixed(value: float | None, decimals: int) -> str:
    """A number with so many decimals; an en dash where there is none.

    >>> fixed(-0.126, 2), fixed(None, 2)
    ('−0.13', '–')
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return INFINITE if value > 0 else _MINUS + INFINITE
    text = f"{value:.{decimals}f}"
    if not text.strip("-0."):
        text = text.removeprefix("-")
    return text.replace("-", _MINUS)


def decimals_for(value: float | None, error: float | None) -> int:
    """Decimals that show a standard error to two significant digits, or a value without error to three.

    >>> decimals_for(4.5678, 0.0996), decimals_for(45.678, None)
    (2, 1)
    """
    scale, digits = (error, 2) if _is_positive(error, beside=value) else (value, 3)
    if scale is None or not math.isfinite(scale) or scale == 0:
        return 2
    exponent = int(f"{abs(scale):.{digits - 1}e}".partition("e")[2])
    return min(max(digits - 1 - exponent, 0), 8)


def with_error(value: float | None, error: float | None) -> tuple[str, str | None]:
    """A value and its standard error, both to the decimals that the error deserves.

    The second text is None where there is no error to print: no value, no error, or an error that is not finite.

    >>> with_error(4.5678, 0.0123)
    ('4.568', '0.012')
    """
    decimals = decimals_for(value, error)
    if not exists(value) or error is None or not math.isfinite(error):
        return fixed(value, decimals), None
    return fixed(value, decimals), fixed(error, decimals) if _is_positive(error, beside=value) else "0"


def interval(low: float | None, high: float | None, *, decimals: int) -> str | None:
    """`[low, high]`, None where either end does not exist."""
    if not exists(low) or not exists(high):
        return None
    return f"[{fixed(low, decimals)}, {fixed(high, decimals)}]"


def p_value(p: float | None, *, draws: int) -> str:
    """A p-value to three decimals; the smallest one that so many draws can show is a bound.

    >>> p_value(0.0421, draws=1000), p_value(2 / 1001, draws=1000)
    ('0.042', '≤ 0.002')
    """
    if p is None or math.isnan(p):
        return MISSING
    smallest = 2 / (draws + 1)
    if p <= smallest * (1 + 1e-9):
        return f"≤ {max(smallest, 0.001):.3f}"
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def probability(p: float) -> str:
    """A probability to two decimals, below a tenth to three, below a hundredth to four.

    >>> probability(0.517), probability(0.0482), probability(0.0042), probability(1e-9)
    ('0.52', '0.048', '0.0042', '< 0.0001')
    """
    if 0 < p < 0.0001:
        return "< 0.0001"
    return f"{p:.{2 if p >= 0.0995 else 3 if p >= 0.00995 else 4}f}"


def count(number: int, noun: str) -> str:
    """A count with its noun, thousands apart: `1,234 workers`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def spelled(number: int, noun: str) -> str:
    """A count that begins a sentence: in words below ten."""
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
    counted = count(number, noun)
    return f"{words[number]} {counted.partition(' ')[2]}" if number < len(words) else counted


def listed(names: list[str]) -> str:
    """Names in a sentence: `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def plain(text: str) -> str:
    """Text in which all that XML cannot hold (control characters, lone surrogates, U+FFFE, U+FFFF) became U+FFFD."""
    return "".join(
        "\ufffd" if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t" else c for c in text
    ).translate({0xFFFE: "\ufffd", 0xFFFF: "\ufffd"})


def wrapped(text: str, width: int, *, lines: int) -> str:
    r"""Text in at most so many lines of so many characters, an ellipsis for what does not fit.

    >>> wrapped("Salesmen of no particular kind", 12, lines=2)
    'Salesmen of\nno …'
    """
    parts = textwrap.wrap(plain(text), width)
    if len(parts) > lines:
        last = textwrap.shorten(" ".join(parts[lines - 1 :]), width, placeholder=" …")
        parts[lines - 1 :] = [last if last.strip() != "…" else parts[lines - 1][: width - 1] + "…"]
    return "\n".join(parts)


def _is_positive(error: float | None, *, beside: float | None) -> bool:
    if error is None or not math.isfinite(error):
        return False
    return error > 1e-9 * max(abs(beside or 0.0), 1e-3)
