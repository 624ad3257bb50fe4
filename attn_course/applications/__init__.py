"""Attention at work on real data: a module an application, each a user of `attn_course.fast`.

What is trained, measured and stored is listed by `all_studies`, and done by the command
``python -m attn_course.applications``.
"""

from attn_course.applications import (
    encoder,
    images,
    marian,
    needs,
    reading,
    sensitivity,
    sound,
    summaries,
    translation,
)
from attn_course.applications.studies import Study, load

__all__ = ["Study", "all_studies", "load", "study"]

APPLICATIONS = (
    encoder,
    images,
    marian,
    needs,
    reading,
    sensitivity,
    sound,
    summaries,
    translation,
)


def all_studies() -> dict[str, Study]:
    """Return every study of every application by its name."""
    return {study.name: study for module in APPLICATIONS for study in module.studies()}


def study(name: str) -> Study:
    """Return the study `name`.

    Raises:
        KeyError: there is none of this name; the message has those that there are.
    """
    known = all_studies()
    if name not in known:
        raise KeyError(f"no study is named {name!r}; there are: {', '.join(known)}")
    return known[name]
