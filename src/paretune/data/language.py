"""What a text shows of its language without a model: its script, and characteristic letters."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

_LANGUAGES_BY_SCRIPT = {
    "LATIN": "af bs ca cs cy da de en es et eu fi fr ga gl hr hu id is it lt lv ms mt nb nl nn no "
    "pl pt ro sk sl sq sr sv sw tl tr vi",
    "CYRILLIC": "be bg kk ky mk mn ru sr tg uk",
    "GREEK": "el",
    "HEBREW": "he",
    "ARABIC": "ar fa ur",
    "DEVANAGARI": "hi",
    "THAI": "th",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "CJK": "ja ko zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
}
SCRIPTS = {
    language: tuple(
        script for script, users in _LANGUAGES_BY_SCRIPT.items() if language in users.split()
    )
    for languages in _LANGUAGES_BY_SCRIPT.values()
    for language in languages.split()
}
"""Scripts of each language, as the first word of the Unicode names of their letters."""

CHARACTERISTIC_LETTERS = {"sl": "čšž"}
"""Letters that are frequent in a language and rare in most others."""


def language_code(language: str) -> str:
    """The language of a tag: ``sl`` of ``sl-SI``, ``SL`` and ``slv_Latn`` alike."""
    primary = language.casefold().replace("_", "-").partition("-")[0]
    return _ISO_639_3.get(primary, primary)


_ISO_639_3 = {
    **{"slv": "sl", "eng": "en", "deu": "de", "ger": "de", "fra": "fr", "ita": "it", "hrv": "hr"},
    **{"srp": "sr", "bos": "bs", "mkd": "mk", "rus": "ru", "ukr": "uk", "bul": "bg", "ell": "el"},
    **{"hun": "hu", "ces": "cs", "slk": "sk", "pol": "pl", "spa": "es", "por": "pt", "zho": "zh"},
    **{"jpn": "ja", "kor": "ko"},
}


_NAMES = {
    **{"sl": "Slovene", "en": "English", "de": "German", "fr": "French", "it": "Italian"},
    **{"hr": "Croatian", "sr": "Serbian", "bs": "Bosnian", "mk": "Macedonian", "bg": "Bulgarian"},
    **{"cs": "Czech", "sk": "Slovak", "pl": "Polish", "ru": "Russian", "uk": "Ukrainian"},
    **{"hu": "Hungarian", "ro": "Romanian", "sq": "Albanian", "el": "Greek", "tr": "Turkish"},
    **{"es": "Spanish", "pt": "Portuguese", "ca": "Catalan", "nl": "Dutch", "da": "Danish"},
    **{"sv": "Swedish", "no": "Norwegian", "nb": "Norwegian", "fi": "Finnish", "et": "Estonian"},
    **{"lt": "Lithuanian", "lv": "Latvian", "ga": "Irish", "ar": "Arabic", "he": "Hebrew"},
    **{"fa": "Persian", "hi": "Hindi", "zh": "Chinese", "ja": "Japanese", "ko": "Korean"},
    **{"vi": "Vietnamese", "th": "Thai", "id": "Indonesian"},
}


def language_name(language: str) -> str:
    """The English name of a language, for prompts; its code where it is not known here."""
    return _NAMES.get(language_code(language), language)


def detect_foreign_script(text: str, language: str) -> str | None:
    """The script of most letters of a text if the language does not use it, otherwise None."""
    own = SCRIPTS.get(language_code(language))
    if own is None or (text.isascii() and "LATIN" in own):
        return None
    counts = Counter(filter(None, map(_script, text)))
    if not counts:
        return None
    foreign = {script: n for script, n in counts.items() if script not in own}
    if sum(foreign.values()) * 2 <= counts.total():
        return None
    return max(foreign, key=lambda script: foreign[script])


def characteristic_letter_share(texts: list[str], language: str) -> float:
    """The share of all letters that are characteristic of the language; 0 if none are known."""
    own = CHARACTERISTIC_LETTERS.get(language_code(language), "")
    text = "".join(texts).casefold()
    letters = sum(map(str.isalpha, text))
    return sum(text.count(letter) for letter in own) / letters if letters else 0.0


@lru_cache(maxsize=4096)
def _script(character: str) -> str | None:
    if not character.isalpha():
        return None
    return unicodedata.name(character, "").split(" ", 1)[0] or None
