"""The name of a task's image, from the address that Label Studio shows it by.

| address | name |
|---|---|
| `/data/local-files/?d=sub/my%20photo.jpg` | `sub/my photo.jpg`, and with `+` as a blank where only that is an image |
| `/data/upload/3/0123abcd-a.jpg` | `0123abcd-a.jpg` where there is such an image, else `a.jpg` |
| `https://host/day/a%20b.jpg?v=1`, `s3://bucket/day/a.jpg` | `day/a b.jpg`, `day/a.jpg` |
| `/tasks/7/resolve/?fileuri=...` | the name of the address that stands there in base64 |
| anything else | itself, and without percent signs where only that is an image |
"""

import base64
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit

from alloop.data.formats.format import Hints
from alloop.data.image_index import LISTED
from alloop.data.images import SUFFIXES
from alloop.data.notes import Notes
from alloop.errors import DataError

_LOCAL = re.compile(r"/data/local-files/?\?(?:.*&)?d=(.*)$", re.DOTALL)
_RESOLVED = re.compile(r"[?&]fileuri=([^&]+)")
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a drive
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)", re.DOTALL)
_LOST_IN_UPLOADS = re.compile(r"[^-\w.]")
_RENAMED = "the server has changed characters of its name when it was uploaded"


def address_of(data: Mapping[str, Any], key: str = "") -> str:
    """Return the address of the image of a task.

    Args:
        data: the data of the task. Of several values that look like an image, `file_name` comes first in tasks of
            alloop, then that of `key`, then `image`, then the first.
        key: the key that the labeling page shows; empty where the page is not known.

    Raises:
        ValueError: no value names an image, or a value names several.
    """
    own = data.get("file_name")
    if "alloop_id" in data and isinstance(own, str) and own:
        return own
    texts = {name: value for name, value in data.items() if isinstance(value, str) and value.strip()}
    preferred = [name for name in (key, "file_name", "image") if name in texts]
    for name in (*preferred, *texts):
        if _looks_like_image(texts[name]):
            return texts[name]
    if preferred:
        return texts[preferred[0]]
    several = next((name for name, value in data.items() if _are_images(value)), None)
    if several is not None:
        msg = f"data.{several} names several images, and one image per task is expected; import one task per image"
        raise ValueError(msg)
    msg = f"no key of its data names an image ({', '.join(map(repr, data)) or 'there is none'}); add one, `image`"
    raise ValueError(msg)


def _looks_like_image(address: str) -> bool:
    if address.startswith("data:"):
        return False
    return any(PurePosixPath(name).suffix.lower() in SUFFIXES for name in names_of(address)) or _has_place(address)


def _has_place(address: str) -> bool:
    return bool(_LOCAL.search(address) or "/data/upload/" in address)


def _are_images(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, str) and _looks_like_image(item) for item in value)


def names_of(address: str) -> tuple[str, ...]:
    """Return the names that an address may mean, the one that the server wrote first."""
    return tuple(dict.fromkeys(name for name in _names(address.strip()) if name))


def _names(address: str) -> Iterator[str]:
    if local := _LOCAL.search(address):
        yield from _decoded(local[1].lstrip("/"))
        yield unquote_plus(local[1]).lstrip("/")
    elif (resolved := _RESOLVED.search(address)) and (hidden := _from_base64(unquote(resolved[1]))):
        yield from _names(hidden)
    elif _URL.match(address) or "/data/upload/" in address:
        path = _path(address)
        if _is_upload(path):
            last = path.rpartition("/")[2]
            yield from _decoded(last)
            yield from _decoded(_UPLOADED.sub("", last))
        else:
            yield from _decoded(path.lstrip("/"))
    else:
        yield address
        yield unquote(address)


def _decoded(text: str) -> tuple[str, str]:
    return unquote(text), text


def _path(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:  # a host that is none
        return address
    if parts.scheme in ("", "http", "https", "file"):
        return parts.path
    return address.partition("://")[2].partition("/")[2]  # a key of a bucket may hold ? and #


def _is_upload(path: str) -> bool:
    return "/upload/" in path


def _from_base64(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_").decode()
    except ValueError:
        return ""


class ImageNames:
    """Finds the names of images among those that are known."""

    def __init__(self, hints: Hints, key: str, notes: Notes) -> None:
        """Remember what is known: the images, the key that the page shows, and where leniency is noted."""
        self._images, self._key, self._notes = hints.images, key, notes

    def name_in(self, data: Mapping[str, Any], where: str) -> str:
        """Return the name of a task's image; the first that may be meant where no image is found.

        Raises:
            ValueError: its data name no image.
            DataError: several images may be meant.
        """
        address = address_of(data, self._key)
        names = names_of(address) or (address,)
        if self._images is None:
            return _UPLOADED.sub("", names[0]) if _has_place(address) and _is_upload(address) else names[0]
        for name in names:
            if self._images.find(name) is not None:
                return name
        renamed = self._renamed(names[-1], address)
        if renamed:
            self._notes.add(f"the image was found although {_RENAMED}", f"{where}: {names[0]!r} is {renamed!r}")
        return renamed or names[0]

    def _renamed(self, name: str, address: str) -> str:
        """Return the one image whose name becomes `name` when it is uploaded; empty where there is none."""
        found = self._uploaded_as.get(_UPLOADED.sub("", name), []) if _is_upload(address) else []
        if len(found) > 1:
            listed = ", ".join(map(repr, found[:LISTED]))
            msg = f"{name!r} may mean {listed}, since {_RENAMED}; rename all but one of them"
            raise DataError(msg)
        return found[0] if found else ""

    @cached_property
    def _uploaded_as(self) -> dict[str, list[str]]:
        """The images by the names that an upload gives them: blanks become `_`, and marks are lost."""
        uploaded: dict[str, list[str]] = {}
        for name in self._images.names if self._images else ():
            last = name.rpartition("/")[2].strip().replace(" ", "_")
            uploaded.setdefault(_LOST_IN_UPLOADS.sub("", last), []).append(name)
        return uploaded
