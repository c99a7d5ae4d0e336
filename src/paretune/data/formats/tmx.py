"""TMX (Translation Memory eXchange): units with one text for each language.

A unit that lacks one of the two languages is skipped. Inline formatting codes (``bpt``, ``ept``,
``ph``, ``it``, ``ut``) are not text; what stands between them is.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from xml.etree import ElementTree

from paretune.data.checks.language import language_code
from paretune.data.formats.read import read_bytes
from paretune.data.formats.row import Row
from paretune.errors import DataError

_CODES = ("bpt", "ept", "ph", "it", "ut")
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def read_units(path: str, languages: tuple[str, str], columns: tuple[str, str]) -> list[Row]:
    """Rows of the units that have both languages, counted from 1 over all units.

    ``sl`` finds ``sl-SI`` and ``SLV`` too. Raises:
        DataError: missing, not well-formed, with entity definitions, or without such units.
    """
    data, name = read_bytes(path)
    languages_seen: set[str] = set()
    rows = []
    try:
        for number, unit in enumerate(_iter_units(data), 1):
            texts = {
                language_code(variant.get(_LANG) or variant.get("lang") or ""): _segment_text(
                    variant
                )
                for variant in unit.iter("tuv")
            }
            languages_seen |= texts.keys()
            pair = [texts.get(language_code(language)) for language in languages]
            if None not in pair:
                values: dict[str, object] = dict(zip(columns, pair, strict=True))
                rows.append(Row(values, f"{name} unit {number}"))
            unit.clear()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(
            f"is not well-formed TMX ({error}).", where=name, remedy="Export or copy it again."
        ) from None
    if not rows:
        raise DataError(
            f"has no unit in {languages[0]} and {languages[1]}.",
            where=name,
            remedy=f"Its languages are {', '.join(sorted(languages_seen)) or 'none'}.",
        )
    return rows


def _iter_units(data: bytes) -> Iterator[ElementTree.Element]:
    # A document type may define entities that grow without bound when they are put in; without
    # them, and since outside files are never read, the standard library's parser is safe.
    if b"<!ENTITY" in data:
        raise ValueError("it defines entities, which are not read")
    for _, element in ElementTree.iterparse(io.BytesIO(data), events=("end",)):  # noqa: S314
        if element.tag == "tu":
            yield element


def _segment_text(variant: ElementTree.Element) -> str | None:
    segment = variant.find("seg")
    return None if segment is None else " ".join(_element_text(segment).split())


def _element_text(element: ElementTree.Element) -> str:
    own = "" if element.tag in _CODES else element.text or ""
    inside = "" if element.tag in _CODES else "".join(_element_text(child) for child in element)
    return own + inside + ((element.tail or "") if element.tag != "seg" else "")
