"""HTML that holds other people's words: every value is escaped here, once."""

from __future__ import annotations

from html import escape


def element(tag: str, *children: str, **attributes: str | bool) -> str:
    """An element of markup made by this package; `children` are markup already, attribute values are plain text.

    A trailing underscore is dropped from attribute names and others become hyphens (`class_`, `aria_live`); True
    writes the bare name, False leaves it out.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    return f"<{tag}{written}>{''.join(children)}</{tag}>"


def text(words: str) -> str:
    """Plain text as markup."""
    return escape(words, quote=False)


def clamped(words: str) -> str:
    """Words of any length in a few lines; all of them appear under the pointer, and stay in the page for readers."""
    return element("span", text(words), class_="clamped", dir="auto", title=words)


def _attribute(name: str, value: str | bool) -> str:
    if value is False:
        return ""
    written = name.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{escape(str(value))}"'
