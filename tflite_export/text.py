"""Text that a terminal shows and does not obey."""

from __future__ import annotations

import re

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Write out control characters, which a terminal would obey, and marks that turn text round.

    So is what UTF-8 cannot write: `os.fsdecode` makes it of file names in other encodings. Line
    ends and tabs stay.

    Example:
        >>> visible("cat\x1b[31m")
        'cat\\x1b[31m'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    r"""Write a name on one line: as `visible` does, and line ends and tabs too.

    Example:
        >>> one_line("cat\n")
        'cat\\n'
    """
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")
