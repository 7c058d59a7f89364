"""Filler: lines of prose between the facts."""

from random import Random

from tandem_recall.words import word

_COMMON = """
    the a an and or but of to in on at by for with from as is was are were be been has have had it this
    that they we you he she not all some many more most other new old good small great first last next
    over under after before while when where because then there here now never often said made went came
    saw found took gave told people house water road book work life world hand part place week case
    group problem fact note list page story letter question idea
"""
_WORDS = tuple(_COMMON.split())
_ENDS = (".", ".", ".", "!", ":", "")


def sentence(rng: Random, names: list[str]) -> str:
    """Three to fourteen words; one sentence in five mentions one of `names` without giving its value."""
    words = [rng.choice(_WORDS) if rng.random() < 0.75 else word(rng) for _ in range(rng.randint(3, 14))]
    if names and rng.random() < 0.2:
        words.insert(rng.randint(1, len(words)), rng.choice(names))
    return words[0].capitalize() + " " + " ".join(words[1:]) + rng.choice(_ENDS)
