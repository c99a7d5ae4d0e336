"""Languages by their codes."""

from __future__ import annotations

NAMES = {
    "sl": "Slovene",
    "en": "English",
    "de": "German",
    "fr": "French",
    "it": "Italian",
    "hr": "Croatian",
    "sr": "Serbian",
    "bs": "Bosnian",
    "mk": "Macedonian",
    "bg": "Bulgarian",
    "cs": "Czech",
    "sk": "Slovak",
    "pl": "Polish",
    "ru": "Russian",
    "uk": "Ukrainian",
    "hu": "Hungarian",
    "ro": "Romanian",
    "sq": "Albanian",
    "el": "Greek",
    "tr": "Turkish",
    "es": "Spanish",
    "pt": "Portuguese",
    "ca": "Catalan",
    "nl": "Dutch",
    "da": "Danish",
    "sv": "Swedish",
    "no": "Norwegian",
    "nb": "Norwegian",
    "fi": "Finnish",
    "et": "Estonian",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "ga": "Irish",
    "ar": "Arabic",
    "he": "Hebrew",
    "fa": "Persian",
    "hi": "Hindi",
    "zh": "Chinese",
    "ja": "Japanese",
    "ko": "Korean",
    "vi": "Vietnamese",
    "th": "Thai",
    "id": "Indonesian",
}
"""English names by ISO 639-1 code."""
_UNNAMED = "af be cy eu gl hy is ka kk ky mn ms mt nn sw tg tl ur"
CODES = {*NAMES, *_UNNAMED.split()}
"""Codes that a file or column may be named after."""
ISO_639_3 = {
    "bg": "bul", "bs": "bos", "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "en": "eng",
    "es": "spa", "et": "est", "fi": "fin", "fr": "fra", "hr": "hrv", "hu": "hun", "it": "ita",
    "lt": "lit", "lv": "lav", "mk": "mkd", "nl": "nld", "pl": "pol", "pt": "por", "ro": "ron",
    "ru": "rus", "sk": "slk", "sl": "slv", "sq": "sqi", "sr": "srp", "sv": "swe", "tr": "tur",
    "uk": "ukr", "ar": "ara", "zh": "zho", "ja": "jpn", "ko": "kor", "hi": "hin", "vi": "vie",
}  # fmt: skip
"""ISO 639-1 to ISO 639-3, of the languages that are likely in data."""
_ISO_639_1 = {three: two for two, three in ISO_639_3.items()}
_ISO_639_1["ger"] = "de"  # its bibliographic code


def language_code(language: str) -> str:
    """The language of a tag: ``sl`` of ``sl-SI``, ``SL`` and ``slv_Latn`` alike."""
    primary = language.casefold().replace("_", "-").partition("-")[0]
    return _ISO_639_1.get(primary, primary)
