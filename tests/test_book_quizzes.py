"""The choices under "Check yourself": each choice is a fold and says why it is right or wrong."""

from collections import Counter

import pytest
from book_text import parser, read
from execute import pages

ROOMS = ("background", "concepts", "algorithm", "outlook")
EXAMPLES = ("first_example", "second_example", "tuning", "gpu")
PAGES = [path for path in pages() if path.parent.name in ROOMS or path.stem in EXAMPLES]
VERDICTS = ("Right.", "No.")


def groups(markdown):
    """Return the folds of `markdown` that follow each other, as lists of (title, text)."""
    found = [[]]
    for token in parser().parse(markdown):
        kind, _, title = token.info.strip().partition(" ")
        if token.type == "fence" and kind == "{dropdown}":
            found[-1].append((title, token.content.strip()))
        elif found[-1]:
            found.append([])
    return [group for group in found if group]


def quizzes(markdown):
    """Return those groups of folds that are choices: more than the one fold of an answer."""
    chosen = [group for group in groups(markdown) if len(group) > 1]
    return [group for group in chosen if all(text.startswith(VERDICTS) for _, text in group)]


def faults(group):
    """Return what is wrong with the choices of `group`."""
    found = []
    titles, texts = zip(*group, strict=True)
    if len(group) not in (3, 4):
        found.append(f"{len(group)} choices")
    if sum(text.startswith("Right.") for text in texts) != 1:
        found.append("not exactly one is right")
    if len(set(titles)) < len(titles) or not all(titles):
        found.append("two choices of one name")
    found += [f"no reason: {text}" for text in texts if len(text.split()) - 1 < 8]
    return found


def checks(page):
    cells = [cell.source for cell in read(page).cells if cell.cell_type == "markdown"]
    return "\n\n".join(source for source in cells if source.startswith("## Check yourself"))


@pytest.mark.parametrize("path", PAGES, ids=[f"{p.parent.name}/{p.stem}" for p in PAGES])
def test_each_choice_explains_itself(path):
    markdown = checks(path)
    found = quizzes(markdown)
    assert found, "no choice under Check yourself"
    assert {group[0][0] for group in groups(markdown) if group not in found} <= {"Answer"}
    for group in found:
        assert faults(group) == []


def test_the_place_of_the_right_choice_says_nothing():
    places = Counter()
    for path in PAGES:
        for group in quizzes(checks(path)):
            places[[text.startswith("Right.") for _, text in group].index(True)] += 1
    assert len(places) >= 3
    assert max(places.values()) <= places.total() / 2


RIGHT = ("a", "Right. Because of this one and that one and another.")
WRONG = ("b", "No. Because of this one and that one and another.")


@pytest.mark.parametrize(
    "group",
    [
        [RIGHT, WRONG],
        [RIGHT, WRONG, ("c", RIGHT[1])],
        [WRONG, ("c", WRONG[1]), ("d", WRONG[1])],
        [RIGHT, WRONG, WRONG],
        [RIGHT, WRONG, ("c", "No. It is not.")],
        [RIGHT, *((title, WRONG[1]) for title in "bcde")],
    ],
)
def test_a_faulty_choice_is_found(group):
    assert faults(group)
    folds = "\n\n".join(f"```{{dropdown}} {title}\n{text}\n```" for title, text in group)
    assert quizzes(f"1. Which?\n\n{folds}\n\n2. Why?") == [group]
