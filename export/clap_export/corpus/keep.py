"""Questions for classes that have none yet: drawn by lot and written down, `kept.json`.

In:  the phrases of all classes, the questions that are there.
Out: questions for the other classes; `python -m clap_export.corpus.keep` writes them down as well.
Knows nothing about sounds or captions. Questions that are there never change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from clap_export.corpus import lexicon, lot
from clap_export.corpus.stems import content_words

Questions = dict[str, dict[str, list[str]]]
REPORT = 2  # of the phrases that are drawn for a class; one more is for development
LEAST = 15  # phrases that a class keeps for training


def missing(
    tables: Mapping[str, Mapping[str, Sequence[str]]], kept: Mapping[str, Mapping[str, list[str]]]
) -> Questions:
    """Questions for the classes of `tables` ({class: {"plain", "wide"}}) that `kept` lacks.

    Wide phrases are drawn where no plain one can be spared. No word of a plain phrase of another
    class or of the templates is drawn; wide phrases of other classes that share a word fall out
    of training when the lexicon is loaded.
    """
    asked = {w for t in kept.values() for ps in t.values() for p in ps for w in content_words(p)}

    def free(phrases: Sequence[str]) -> list[str]:
        return [phrase for phrase in phrases if asked.isdisjoint(content_words(phrase))]

    fixed = list(lexicon.attribute_words())
    for name in kept.keys() & tables.keys():
        fixed += free(tables[name]["plain"])
    new = [name for name in tables if name not in kept]
    drawn = lot.draw(
        {name: free(tables[name]["plain"]) for name in new},
        {name: free(tables[name]["wide"]) for name in new},
        fixed=fixed,
        least=LEAST,
    )
    return {
        name: {"report": list(phrases[:REPORT]), "development": list(phrases[REPORT:])}
        for name, phrases in drawn.unseen.items()
    }


def main() -> None:
    """Add what is missing to the file of this package."""
    path = Path(__file__).with_name("words") / "kept.json"
    kept: Questions = json.loads(path.read_text(encoding="utf-8"))
    kept |= missing(lexicon.training_phrases(), kept)
    rows = (
        f" {json.dumps(name)}: {json.dumps(table, ensure_ascii=False)}"
        for name, table in kept.items()
    )
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
