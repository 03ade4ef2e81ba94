"""Upload options: what a producer may say beside the document, and harmless names."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from schemas.events import ParseOptions
from streams.option_values import (
    READERS,
    read_parse_options,
    read_switch,
    refused_value,
)

KNOWN = (*READERS, "force", "name")

LONGEST_NAME = 255
"""Characters of a document's name."""

_LONGEST_SUFFIX = 20


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What was asked of one upload."""

    parse: ParseOptions
    force: bool
    name: str | None


_NOTHING_ASKED = UploadOptions(ParseOptions(), force=False, name=None)


class GivenOptions:
    """Options as they come in, each known and said once."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def add(self, name: str, text: str) -> None:
        """Take one option."""
        if name not in KNOWN:
            raise refused_value(f"there is no option {name[:40]!r}; known are: {', '.join(KNOWN)}")
        if name in self._texts:
            raise refused_value(f"the option {name} is given twice")
        self._texts[name] = text

    def read(self) -> UploadOptions:
        """Read them all; raise PermanentError for a value that cannot be."""
        if not self._texts:
            return _NOTHING_ASKED
        name = self._texts.get("name")
        return UploadOptions(
            parse=read_parse_options(self._texts),
            force=read_switch("force", self._texts.get("force", "false")),
            name=None if name is None else harmless_name(name),
        )


def given_among(pairs: Iterable[tuple[str, str]]) -> GivenOptions:
    """Begin with these options, of a query or of a record's headers."""
    given = GivenOptions()
    for name, text in pairs:
        given.add(name, text)
    return given


def harmless_name(text: str) -> str | None:
    """Make a document's name safe to store and to show; None where nothing is left.

    Directories and unprintable characters are dropped; the suffix survives the cut to 255.
    """
    base = text.replace("\\", "/").rpartition("/")[2]
    if not base.isprintable():
        base = "".join(character for character in base if character.isprintable())
    name = base.strip()
    if name in ("", ".", ".."):
        return None
    if len(name) <= LONGEST_NAME:
        return name
    suffix = PurePosixPath(name).suffix
    if len(suffix) > _LONGEST_SUFFIX:
        suffix = ""
    return name[: LONGEST_NAME - len(suffix)] + suffix
