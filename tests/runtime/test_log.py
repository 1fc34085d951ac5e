from __future__ import annotations

import logging

import pytest

from webui.runtime.log import PlainFormatter, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb ก้ำ 🐱", "a\tb ก้ำ 🐱"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("over\rwritten", "over\\rwritten"),
        ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
        ("\x9b2J\u2028x", "\\x9b2J\\u2028x"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_only_a_message_begins_at_the_margin() -> None:
    try:
        raise ValueError("x\nERROR webui: forged by an exception")
    except ValueError as error:
        found = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("webui", logging.ERROR, "", 1, "read %s", ("a\nERROR webui: forged.png\x1b[2J",), found)
    first, *others = PlainFormatter().format(record).split("\n")
    assert first == "ERROR webui: read a"
    assert len(others) > 4
    assert all(line.startswith("    ") for line in others)
    assert "\x1b" not in "".join(others)
