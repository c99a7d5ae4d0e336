"""Synonyms from WordNet's files for METEOR, read as NLTK 3.6.6 reads them.

The files are Princeton's (``index.noun``, ``data.noun``, ``noun.exc`` ..., format wndb(5WN)).
NLTK's reader is not used, for two reasons: since 3.7 it looks a word up differently (it strips one
ending, 3.6.6 strips until something is found), which gives other scores than SloBench's; and it
refuses Debian's folder, which has no ``lexnames``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

from paretune.errors import DataError, MissingDependencyError

SUFFIXES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
DETACHMENT_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "n": (
        ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"),
        ("shes", "sh"), ("men", "man"), ("ies", "y"),
    ),
    "v": (
        ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""),
        ("ing", "e"), ("ing", ""),
    ),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}  # fmt: skip
"""Rules of detachment by part of speech: morphy(7WN), and ``ves`` as NLTK has it."""

DEBIAN_FOLDER = Path("/usr/share/wordnet")
INSTALL_WORDNET = (
    "Get WordNet 3.0 yourself, nothing is fetched: `apt install wordnet-base` on Debian or Ubuntu, "
    "or `python -m nltk.downloader wordnet`, or name a folder with its files (option wordnet)."
)


class WordNet:
    """WordNet's files in a folder or an archive.

    Raises:
        DataError: a file of it is missing or not WordNet's.
    """

    def __init__(self, where: Path) -> None:
        self.where = where
        self._synonyms: dict[str, frozenset[str]] = {}

    def synonyms(self, word: str) -> frozenset[str]:
        """All single words that share a meaning with ``word`` or what it is a form of."""
        word = word.lower()
        if word not in self._synonyms:
            self._synonyms[word] = frozenset(
                name
                for pos in SUFFIXES
                for base in self._base_forms(word, pos)
                for offset in _parse_offsets(self._index[pos][base])
                for name in self._lemmas(pos, offset)
                if "_" not in name
            )
        return self._synonyms[word]

    @cached_property
    def version(self) -> str:
        """``WordNet 3.0``, as the head of its files says; empty where they have none."""
        head = self._data["n"][:4096].decode("utf-8", "replace")
        version = head.partition("WordNet ")[2][:3]
        return f"WordNet {version}" if version[:1].isdigit() else ""

    @cached_property
    def _index(self) -> dict[str, dict[str, bytes]]:
        return {
            pos: {
                line.split(b" ", 1)[0].decode(): line
                for line in self._read(f"index.{suffix}").splitlines()
                if line and not line.startswith(b" ")
            }
            for pos, suffix in SUFFIXES.items()
        }

    @cached_property
    def _data(self) -> dict[str, bytes]:
        return {pos: self._read(f"data.{suffix}") for pos, suffix in SUFFIXES.items()}

    @cached_property
    def _exceptions(self) -> dict[str, dict[str, list[str]]]:
        return {
            pos: {
                line.split()[0]: line.split()[1:]
                for line in self._read(f"{suffix}.exc").decode().splitlines()
                if line.strip()
            }
            for pos, suffix in SUFFIXES.items()
        }

    def _read(self, name: str) -> bytes:
        try:
            is_zip = self.where.suffix == ".zip"
            folder = zipfile.Path(self.where, "wordnet/") if is_zip else self.where
            return (folder / name).read_bytes()
        except (KeyError, OSError, zipfile.BadZipFile) as error:
            raise DataError(
                f"cannot be read ({error}).", where=f"{self.where}/{name}", remedy=INSTALL_WORDNET
            ) from None

    def _base_forms(self, word: str, pos: str) -> list[str]:
        index = self._index[pos]
        if word in self._exceptions[pos]:
            return [form for form in [word, *self._exceptions[pos][word]] if form in index]
        forms = list(_strip_endings([word], pos))
        bases = [form for form in dict.fromkeys([word, *forms]) if form in index]
        while forms and not bases:
            forms = list(dict.fromkeys(_strip_endings(forms, pos)))
            bases = [form for form in forms if form in index]
        return bases

    def _lemmas(self, pos: str, offset: int) -> Iterator[str]:
        data = self._data[pos]
        fields = data[offset : data.find(b"\n", offset)].decode().split()
        if len(fields) < 5 or not fields[0].isdigit() or int(fields[0]) != offset:
            raise DataError(
                f"holds no synset at byte {offset}.",
                where=f"{self.where}/data.{SUFFIXES[pos]}",
                remedy="The files are damaged or of different versions. " + INSTALL_WORDNET,
            )
        for position in range(int(fields[3], 16)):
            # An adjective may carry where it stands: `galore(ip)`.
            yield fields[4 + 2 * position].partition("(")[0]


def find_wordnet(folder: Path | None = None) -> WordNet:
    """WordNet in ``folder``, or where NLTK's downloader or Debian's package put it.

    Raises:
        MissingDependencyError: it is nowhere.
    """
    places = [folder] if folder is not None else [*_nltk_folders(), DEBIAN_FOLDER]
    for place in places:
        if (place / "data.noun").is_file() or (place.suffix == ".zip" and place.is_file()):
            return WordNet(place)
    where = f" in {folder}" if folder is not None else ""
    raise MissingDependencyError(
        f"METEOR needs WordNet's files, which are not{where or ' here'}.", remedy=INSTALL_WORDNET
    )


open_wordnet = cache(find_wordnet)
"""WordNet, read once: its index takes longer than METEOR."""


def _nltk_folders() -> Iterator[Path]:
    try:
        from nltk.data import path
    except ImportError:
        return
    for folder in path:
        yield Path(folder) / "corpora" / "wordnet"
        yield Path(folder) / "corpora" / "wordnet.zip"


def _strip_endings(forms: list[str], pos: str) -> Iterator[str]:
    for form in forms:
        for old, new in DETACHMENT_RULES[pos]:
            if form.endswith(old):
                yield form[: -len(old)] + new


def _parse_offsets(line: bytes) -> list[int]:
    """Read the offsets at the end of an index line, behind lemma, pos, synsets and pointers."""
    fields = line.split()
    return [int(field) for field in fields[-int(fields[2]) :]]
