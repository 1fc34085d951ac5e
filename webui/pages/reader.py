"""Which language each open page reads, for events that outlast a change of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import gradio as gr

from webui.i18n import LANGUAGES, Language, Messages, Translator


@dataclass(frozen=True, slots=True)
class Readers:
    """The language of every open session; made once with the page, a session is forgotten when its page closes.

    Single reads and writes of a dict are atomic, so that no lock is needed.
    """

    messages: Messages
    default: Language
    languages: dict[str, Language] = field(default_factory=dict)

    def translator(self, request: gr.Request) -> Translator:
        """What speaks to this session now."""
        return self.messages.translator(self.languages.get(session_of(request), self.default))

    def choose(self, request: gr.Request, language: object) -> Translator:
        """Remember the session's language; one that there is not leaves the default."""
        chosen = next((known for known in LANGUAGES if known == language), self.default)
        self.languages[session_of(request)] = chosen
        return self.messages.translator(chosen)

    def forget(self, request: gr.Request) -> None:
        """The session's page has closed."""
        self.languages.pop(session_of(request), None)


def session_of(request: gr.Request) -> str:
    """The open page behind an event; "" for a caller without one."""
    return request.session_hash or ""


def owner_of(request: gr.Request) -> str:
    """Who owns the jobs that this session starts: the session, together with the user's name under a login."""
    return f"{request.username or ''}/{session_of(request)}"
