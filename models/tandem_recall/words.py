"""Names and values made of random syllables, characters and numbers, in two disjoint splits."""

import string
from collections.abc import Callable
from enum import StrEnum
from random import Random
from zlib import crc32

from tandem_recall import ordinary

Maker = Callable[[Random], str]
Makers = tuple[tuple[Maker, float], ...]

_STARTS = "b bl br c ch cl cr d dr f fl g gr h j k l m n p pl pr qu r s sh sl sp st sw t th tr v w y z"
_ENDINGS = "b ck d g l ll m n nd ng nt p r rd rn s sh ss st t th x"
_ONSETS = ("", *_STARTS.split())
_VOWELS = (*"aaeeiiouy", "ai", "ea", "ee", "oo", "ou")
_CODAS = ("", "", "", *_ENDINGS.split())
_SCRIPTS = (
    (0xC0, 0x17F),  # Latin with diacritics
    (0x3B1, 0x3C9),  # Greek
    (0x410, 0x44F),  # Cyrillic
    (0x5D0, 0x5EA),  # Hebrew
    (0x627, 0x63A),  # Arabic
    (0x905, 0x939),  # Devanagari
    (0x3041, 0x3096),  # Hiragana
    (0x4E00, 0x9FBF),  # Chinese
    (0xAC00, 0xD7A3),  # Korean
    (0x1F300, 0x1F64F),  # Emoji
    (0x1F680, 0x1F9FF),
)
_PRINTABLE = "".join(chr(code) for code in range(33, 127))
_ALPHABETS = (
    string.ascii_lowercase,
    string.ascii_lowercase + string.digits,
    string.ascii_uppercase + string.digits,
    string.ascii_letters + string.digits,
    string.hexdigits[:16],
    _PRINTABLE,
)
_HELD_OUT_SHARE = 16


class Split(StrEnum):
    """A text's hash puts it into one of the two: what HELD_OUT asks was never a fact in TRAIN."""

    TRAIN = "train"
    HELD_OUT = "held-out"


def belongs(text: str, split: Split) -> bool:
    """Whether `text` may be a name or a value in `split`. What people ordinarily type is in neither."""
    if text in ordinary.ALL:
        return False
    return (crc32(text.encode()) % _HELD_OUT_SHARE == 0) is (split is Split.HELD_OUT)


def word(rng: Random) -> str:
    """A pronounceable word of one to three syllables."""
    num_syllables = rng.choice((1, 1, 2, 2, 2, 3))
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(num_syllables)
    )


def characters(rng: Random, alphabet: str, low: int, high: int) -> str:
    """`low` to `high` characters of `alphabet`, each drawn by itself."""
    return "".join(rng.choices(alphabet, k=rng.randint(low, high)))


def number(rng: Random) -> str:
    """An integer of up to eight digits, now and then with a sign, a fraction or a unit."""
    digits = str(rng.randrange(10 ** rng.randint(1, 8)))
    shape = rng.random()
    if shape < 0.7:
        return digits
    if shape < 0.85:
        return f"{digits}.{rng.randrange(1000)}"
    return f"-{digits}" if shape < 0.9 else digits + rng.choice(("%", "s", "ms", " kg", " GB", "k", "px"))


def code(rng: Random) -> str:
    """A key, a ticket, a password: random characters of one alphabet, in one to three groups."""
    alphabet = rng.choice(_ALPHABETS)
    if rng.random() < 0.6:
        return characters(rng, alphabet, 1, 14)
    return rng.choice("-_.:/").join(characters(rng, alphabet, 1, 5) for _ in range(rng.randint(2, 3)))


def address(rng: Random) -> str:
    """Something with inner punctuation: an IP address, a version, a time, a date, an e-mail, a URL."""
    shape = rng.randrange(6)
    if shape == 0:
        return ".".join(str(rng.randrange(256)) for _ in range(4))
    if shape == 1:
        return f"v{rng.randrange(20)}.{rng.randrange(20)}.{rng.randrange(20)}"
    if shape == 2:
        return f"{rng.randrange(24)}:{rng.randrange(60):02}"
    if shape == 3:
        return f"{rng.randrange(1900, 2100)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return f"{word(rng)}@{word(rng)}.com" if shape == 4 else f"https://{word(rng)}.org/{word(rng)}"


def phrase(rng: Random) -> str:
    """Two to four words, each perhaps capitalised."""
    words = [word(rng) for _ in range(rng.randint(2, 4))]
    return " ".join(text.capitalize() if rng.random() < 0.3 else text for text in words)


def compound(rng: Random) -> str:
    """Words and short numbers joined as in `db_port`, `web-host`, `rate.limit`, `maxRetries`, `door code`."""
    first, second = word(rng), word(rng) if rng.random() < 0.8 else str(rng.randrange(100))
    joiner = rng.choice(("_", "_", "-", ".", " ", ""))
    return first + joiner + (second if joiner else second.capitalize())


def _cased(rng: Random) -> str:
    text = word(rng) if rng.random() < 0.5 else f"{word(rng)}_{word(rng)}"
    return text.upper() if rng.random() < 0.5 else text.capitalize()


def _letters(rng: Random) -> str:
    return characters(rng, rng.choice((string.ascii_lowercase, string.ascii_letters + string.digits)), 1, 10)


def _foreign(rng: Random) -> str:
    low, high = rng.choice(_SCRIPTS)
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6)))


def _repetitive(rng: Random) -> str:
    unit = characters(rng, rng.choice(_ALPHABETS), 1, 3)
    ends = [characters(rng, string.digits, 0, 2) for _ in range(2)]
    return unit.join((ends[0], *[""] * rng.randint(2, 10), ends[1]))


def _numbered(rng: Random) -> str:
    return word(rng) + str(rng.randrange(20))


_NAME_MAKERS: Makers = (
    (word, 0.4),
    (compound, 0.22),
    (_letters, 0.22),
    (_cased, 0.07),
    (_numbered, 0.05),
    (_foreign, 0.04),
)
VALUES: Makers = (
    (word, 0.24),
    (code, 0.24),
    (number, 0.2),
    (phrase, 0.1),
    (address, 0.07),
    (compound, 0.05),
    (_foreign, 0.04),
    (_cased, 0.03),
    (_repetitive, 0.03),
)

NUMBERS: Makers = ((number, 1.0),)


def draw(rng: Random, makers: Makers, split: Split) -> str:
    """A text of `split`, made by one of `makers` (with weights); draws again until one belongs there."""
    functions, weights = zip(*makers, strict=True)
    while True:
        (make,) = rng.choices(functions, weights)
        text: str = make(rng)
        if belongs(text, split):
            return text


def draw_name(rng: Random, split: Split) -> str:
    """A name: no `=`, `:`, `?` or line break in it."""
    return draw(rng, _NAME_MAKERS, split)


def draw_value(rng: Random, split: Split) -> str:
    """A value: one line of 1 to about 40 bytes without spaces at its ends."""
    return draw(rng, VALUES, split)
