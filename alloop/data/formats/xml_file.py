"""XML of annotation files: parsed without entities, and checked numbers."""

from pathlib import Path
from xml.etree import ElementTree as ET

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from alloop.errors import DataError


def parse_xml(data: bytes, path: Path, kind: str) -> ET.Element:
    """Parse a file and return its root element.

    Args:
        data: the bytes of the file.
        path: how messages call it.
        kind: the format, for messages.

    Raises:
        DataError: not XML, or XML that declares entities, in whatever encoding.
    """
    try:
        root: ET.Element = defusedxml.ElementTree.fromstring(data, forbid_dtd=False)
    except DefusedXmlException as error:
        msg = f"{path}: holds an XML entity, which a {kind} file has no use for; remove it ({error})"
        raise DataError(msg) from error
    except (ET.ParseError, ValueError, LookupError, RecursionError) as error:
        raise unreadable(path, kind, error) from error
    return root


def unreadable(path: Path, kind: str, error: Exception) -> DataError:
    """Return the error for a file that is not XML or cannot be opened."""
    return DataError(f"{path}: expected a {kind} XML file, but it cannot be read ({error})")


def finite_number(text: str, where: str) -> float:
    """Return the number of a text.

    Raises:
        DataError: anything but a finite number; `where` names the file and the key.
    """
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise DataError(f"{where}: expected a finite number, found {text[:40]!r}")
    return number


def whole_number(text: str, where: str) -> int:
    """Return the whole number of a text, which may be written as `5.0`.

    Raises:
        DataError: anything else; `where` names the file and the key.
    """
    number = finite_number(text, where)
    if not number.is_integer():
        raise DataError(f"{where}: expected a whole number, found {number:g}")
    return int(number)


def xml_bytes(root: ET.Element) -> bytes:
    """Write an element tree, indented, in UTF-8."""
    ET.indent(root)
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return data
