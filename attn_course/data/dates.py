"""Dates as they are written in many languages, and what they mean in ISO 8601.

"5. September 2021", "5 września 2021" and "2021年9月5日" are one date, 2021-09-05. The texts are
made by the package babel (BSD-3-Clause) from the patterns and names of the Unicode Common Locale
Data Repository, CLDR (Unicode-3.0), https://cldr.unicode.org, which people who speak the languages
collect and review. There is no limit to the texts but the dates themselves: all days of 200 years.

Three of CLDR's four styles are used. The style "short" is left out: it abbreviates the year, and
the text "9/5/21" is of September in English and of May in Greek.
"""

import datetime
import functools
import re
import zlib

import numpy as np

from attn_course.data.packages import damaged, library, package_file, pinned

LANGUAGES = {
    "ar": "Arabic",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hi": "Hindi",
    "hu": "Hungarian",
    "ja": "Japanese",
    "ko": "Korean",
    "pl": "Polish",
    "ru": "Russian",
    "th": "Thai",
    "tr": "Turkish",
    "zh": "Chinese",
}
UNSEEN = {"nl": "Dutch", "it": "Italian", "cs": "Czech", "uk": "Ukrainian", "ka": "Georgian"}
STYLES = ("medium", "long", "full")
EVERY_STYLE = ("short", *STYLES)
FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
FIELDS = {
    "y": "year",
    "M": "month",
    "L": "month",
    "d": "day",
    "E": "weekday",
    "c": "weekday",
    "G": "era",
}
HELD = 400  # dates for validation, and as many for testing

# Of the dates of `_checked`, by language: another version of CLDR may write them in another way.
CHECKSUMS = {
    "ar": 0x5C8FB48D,
    "de": 0x36B59814,
    "el": 0xBD5B64E7,
    "en": 0x6BABEFCA,
    "es": 0x9F5E5209,
    "fi": 0xA7F125AA,
    "fr": 0x7101E963,
    "hi": 0x5BBA9A0F,
    "hu": 0x1F4902D2,
    "ja": 0x0F946E35,
    "ko": 0x08D61A75,
    "pl": 0x68FDF4F9,
    "ru": 0x46DC3DE7,
    "th": 0x5F6AFFD1,
    "tr": 0x86F81863,
    "zh": 0x187458F6,
    "nl": 0x2CD7F89B,
    "it": 0x5CC422B9,
    "cs": 0xB42705D2,
    "uk": 0x9F2E2DFD,
    "ka": 0x4A3CE010,
}


def dates() -> tuple[list[datetime.date], list[datetime.date], list[datetime.date]]:
    """Return the dates for training, for validation and for testing.

    The days of the years 1900 to 2099 are shuffled; the last 400 are for testing, the 400 before
    them for validation. A date is in one part only, in whatever language it is written.
    """
    days = np.arange(FIRST.toordinal(), LAST.toordinal() + 1)
    shuffled = np.random.default_rng(0).permutation(days).tolist()
    found = [datetime.date.fromordinal(day) for day in shuffled]
    return found[: -2 * HELD], found[-2 * HELD : -HELD], found[-HELD:]


def fields(date: datetime.date, language: str, style: str) -> list[tuple[str, str]]:
    """Return the parts of `date` as it is written, each with what it says.

    A part says the "year", "month", "day", "weekday" or "era" (in Thai), or stands between: "".

    >>> fields(datetime.date(2021, 9, 5), "de", "long")
    [('day', '5'), ('', '. '), ('month', 'September'), ('', ' '), ('year', '2021')]

    Raises:
        TypeError: `date` is no date.
        KeyError: `language` is neither in `LANGUAGES` nor in `UNSEEN`, or there is no such style.
        ModuleNotFoundError: babel is not installed; the message is the command that installs it.
        FileNotFoundError: babel has not the data of `language`.
        ValueError: babel's data of `language` are damaged, or of another version.
    """
    if not isinstance(date, datetime.date):
        raise TypeError(f"date is {date!r}, expected a datetime.date")
    if style not in EVERY_STYLE:
        raise KeyError(f"style is {style!r}, expected one of {', '.join(EVERY_STYLE)}")
    _check(language)
    return _fields(date, language, style)


def written(date: datetime.date, language: str, style: str) -> str:
    """Return `date` as it is written: what `fields` returns, joined.

    >>> written(datetime.date(2021, 9, 5), "hu", "full")
    '2021. szeptember 5., vasárnap'
    """
    return "".join(text for _, text in fields(date, language, style))


@functools.cache
def _check(language: str) -> None:
    """Raise what `fields` promises unless babel writes `language` as its pinned version does."""
    if language not in CHECKSUMS:
        raise KeyError(f"language is {language!r}, expected one of {', '.join(CHECKSUMS)}")
    path = package_file("babel", "locale-data", f"{language}.dat")
    expected = f"the dates of {pinned()['babel']}"
    library("babel.dates")  # says what to do if it cannot be imported
    try:
        checksum = _checksum(language)
    except Exception as error:  # the file is a pickle: damaged, it can raise anything
        raise damaged(path, expected) from error
    if checksum != CHECKSUMS[language]:
        raise damaged(path, expected)


def _checksum(language: str) -> int:
    """Return a checksum of texts with every day, month and weekday in every style."""
    days = range(FIRST.toordinal(), FIRST.toordinal() + 3 * 366, 5)
    texts = [
        "".join(text for _, text in _fields(datetime.date.fromordinal(day), language, style))
        for day in days
        for style in STYLES
    ]
    return zlib.crc32("\n".join(texts).encode())


def _fields(date: datetime.date, language: str, style: str) -> list[tuple[str, str]]:
    values = library("babel.dates").DateTimeFormat(date, language)
    return [
        (FIELDS[part[0]], values[part]) if is_field else ("", part)
        for part, is_field in _pattern(language, style)
    ]


@functools.cache
def _pattern(language: str, style: str) -> list[tuple[str, bool]]:
    """Return the parts of the pattern of a style, each with whether it is the name of a field."""
    template = library("babel.dates").get_date_format(style, language).format
    parts = re.split(r"%\((\w+)\)s", template)  # the odd ones are what stood in parentheses
    found = [(part.replace("%%", "%"), n % 2 == 1) for n, part in enumerate(parts)]
    return [(part, is_field) for part, is_field in found if part]
