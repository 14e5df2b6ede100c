"""How old a reader must be for a text, roughly: a check that a plan can be read by the person it is for.

Flesch-Kincaid grade (Kincaid et al. 1975) plus five years. It counts syllables by groups of vowels, which is right for
about nine English words in ten; it says nothing of whether the words are kind or true.
"""

import re

_WORDS = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
_SENTENCES = re.compile(r"[.!?:;]+(?:\s|$)|\n+")
TARGET = 11
"""Years; the NHS content guide aims at a reading age of 9 to 11."""

SHORTEST = 30
"""Words under which the formula says nothing."""


def reading_age(text: str) -> float | None:
    """Reading age in years, at least 5; None for a text of fewer than SHORTEST words."""
    words = _WORDS.findall(text)
    if len(words) < SHORTEST:
        return None
    sentences = sum(1 for part in _SENTENCES.split(text) if _WORDS.search(part))
    grade = 0.39 * len(words) / sentences + 11.8 * sum(map(syllables, words)) / len(words) - 15.59
    return max(5.0, round(grade + 5, 1))


def syllables(word: str) -> int:
    """Syllables of an English word, by its groups of vowels without a silent final e."""
    letters = word.lower()
    count = len(re.findall(r"[aeiouy]+", letters))
    if letters.endswith("e") and not letters.endswith(("le", "ee", "ye")) and count > 1:
        count -= 1
    return max(1, count)
