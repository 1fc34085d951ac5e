"""The one error type for what a user can put right; everything else is a defect and keeps its own type."""

from __future__ import annotations


class UserError(Exception):
    """A mistake or a circumstance that the user can put right.

    It carries a message key and the values that fill it in, so that the page, the REST API and the command line can
    each say it in the reader's language (`webui.i18n.Messages.error`).

    `key` is an entry of `webui/i18n/en/*.json`, such as "error.steps_out_of_range"; `values` are its placeholders.
    """

    def __init__(self, key: str, /, **values: object) -> None:
        super().__init__(key, values)
        self.key = key
        self.values = values

    def __str__(self) -> str:
        details = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"{self.key}({details})"
