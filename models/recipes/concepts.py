"""What can be drawn: the concepts of `concepts.toml`.

    python -m models.recipes.concepts --annotations node_modules/cldr-annotations-full

prints which names are CLDR annotations and which were written by hand.
"""

import argparse
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CONCEPTS_FILE = Path(__file__).with_name("concepts.toml")
LANGUAGES = ("en", "th")


@dataclass(frozen=True)
class Concept:
    """One drawable thing. `names[language]` lists what people call it, the usual name first."""

    id: str
    emoji: str
    group: str
    names: dict[str, tuple[str, ...]]
    article: str | None = None

    def name(self, language: str) -> str:
        """The usual name."""
        return self.names[language][0]

    def english_phrase(self, name: str) -> str:
        """The name with its article: "a cat", "an owl", "grapes"."""
        return f"{self.article_of(name)} {name}".strip()

    def article_of(self, following: str) -> str:
        """The article before `following`, which may be an adjective ("an owl", but "a small owl")."""
        if self.article == "":
            return ""
        if following in self.names["en"] and self.article is not None:
            return self.article
        return "an" if following[0].lower() in "aeiou" else "a"


def load_concepts(path: Path = CONCEPTS_FILE) -> tuple[Concept, ...]:
    """Read the concepts, in file order: a concept's index in this tuple is its class number everywhere.

    Raises ValueError when two concepts share a name, since no caption could then tell them apart.
    """
    with path.open("rb") as file:
        groups = tomllib.load(file)
    concepts = tuple(
        Concept(
            id=concept_id,
            emoji=entry["emoji"],
            group=group,
            names={language: tuple(entry[language]) for language in LANGUAGES},
            article=entry.get("article"),
        )
        for group, entries in groups.items()
        for concept_id, entry in entries.items()
    )
    _check_names_are_unique(concepts)
    return concepts


def _check_names_are_unique(concepts: Sequence[Concept]) -> None:
    owner: dict[str, str] = {}
    for concept in concepts:
        for name in (name.lower() for names in concept.names.values() for name in names):
            if owner.setdefault(name, concept.id) != concept.id:
                raise ValueError(f"{concept.id} and {owner[name]} are both called {name!r}")


def main() -> None:
    """Print where the names come from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--annotations",
        type=Path,
        required=True,
        help="the npm package cldr-annotations-full (`npm install cldr-annotations-full`)",
    )
    folder = parser.parse_args().annotations
    for language in LANGUAGES:
        file = folder / "annotations" / language / "annotations.json"
        known = json.loads(file.read_text("utf-8"))["annotations"]["annotations"]
        for concept in load_concepts():
            entry = known.get(concept.emoji) or known.get(concept.emoji.replace("\ufe0f", ""), {})
            from_cldr = {word.lower() for words in entry.values() for word in words}
            ours = [name for name in concept.names[language] if name.lower() not in from_cldr]
            print(f"{language} {concept.emoji} {concept.id}: {'all CLDR' if not ours else f'by hand: {ours}'}")


if __name__ == "__main__":
    main()
