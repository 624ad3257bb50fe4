"""Formulas as one line of text, made of their MathML, for readers who listen."""

from bs4 import Tag


def said(math: Tag) -> str:
    """Return the formula `math`, an element of MathML, as one line.

    A fraction stands between brackets, an index after an underscore, an exponent after a caret,
    and the rows of a matrix are parted by semicolons.
    """
    return " ".join(_line(math).split())


def _group(element: Tag) -> str:
    line = _line(element).strip()
    return line if len(line) == 1 or line.isalnum() else f"({line})"


def _line(element: Tag) -> str:
    parts = element.find_all(True, recursive=False)
    match element.name:
        case "annotation":
            return ""
        case "mi" | "mn" | "mtext":
            return element.get_text()
        case "mo":
            # Not the signs that are not seen: function application and the like.
            return f" {element.get_text()} ".replace("\u2061", "").replace("\u200b", "")
        case "mfrac":
            return f"{_group(parts[0])} / {_group(parts[1])}"
        case "msqrt":
            return f"√({' '.join(map(_line, parts))})"
        case "msub" | "munder":
            return f"{_line(parts[0]).strip()}_{_group(parts[1])}"
        case "msup" | "mover":
            return f"{_line(parts[0]).strip()}^{_group(parts[1])}"
        case "msubsup" | "munderover":
            return f"{_line(parts[0]).strip()}_{_group(parts[1])}^{_group(parts[2])}"
        case "mtable":
            return "; ".join(map(_line, parts))
        case "mtr":
            aligned = element.parent.get("columnalign") == "right left"
            return (" " if aligned else ", ").join(map(_line, parts))
        case _:
            return " ".join(map(_line, parts))
