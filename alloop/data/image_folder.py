"""The files of images: a name must lead to a file inside its folder, and the bytes may have to be known ones.

A folder that holds a hundred thousand files is resolved once, and so is each folder inside it; then a name costs one
look at its file. Where something is unusual, such as a file that is a link, the whole path is resolved.
"""

import os
import stat
from pathlib import Path

from alloop.errors import DamagedFileError, DataError
from alloop.files import sha256_of
from alloop.values import ImageId


class ImageFolder:
    """The files of a folder, by names relative to it. It may be used from several threads."""

    def __init__(self, root: Path) -> None:
        """Touch nothing yet."""
        self.root = root
        self._parents: dict[str, str] = {}  # the folders of files, by name, after links were followed

    def found(self, file_name: str) -> tuple[str, os.stat_result]:
        """Return the path of an image file, after links are followed, and what its folder says about it.

        Raises:
            DataError: the name is absolute, holds a NUL or a backslash, or leads out of the folder.
            OSError: there is no such file.
        """
        parent, _, name = file_name.rpartition("/")
        is_plain = not file_name.startswith("/") and "\0" not in file_name and "\\" not in file_name
        if is_plain and (folder := self._resolved(parent)):
            path = f"{folder}/{name}"
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                raise FileNotFoundError(2, "no such file") from None
            if stat.S_ISREG(status.st_mode):
                return path, status
        resolved = image_path(self.root, file_name)
        if not resolved.is_file():
            raise FileNotFoundError(2, "no such file")
        return str(resolved), resolved.stat()

    def stored(self, image_id: ImageId, file_name: str) -> bytes:
        """Return the bytes of an image file.

        Raises:
            DataError: it is not there or cannot be read.
        """
        try:
            path, _ = self.found(file_name)
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123  a Path takes longer than the reading
                return file.readall()
        except OSError as error:
            where = image_path(self.root, file_name)
            msg = f"{where}: image {image_id} cannot be read ({error.strerror}); check the image folder"
            raise DataError(msg) from error

    def verified(self, image_id: ImageId, file_name: str, sha256: str) -> bytes:
        """Return the bytes of an image file whose hash was recorded.

        Raises:
            DamagedFileError: the file changed, or it is gone.
        """
        try:
            data = self.stored(image_id, file_name)
        except DataError as error:
            reason = f"was there when its hash was recorded and cannot be read now ({error}); restore it"
            msg = f"{self.root / file_name}: image {image_id} {reason}"
            raise DamagedFileError(msg) from error
        if sha256_of(data) != sha256:
            msg = f"{self.root / file_name}: image {image_id} changed after it was imported; restore it"
            raise DamagedFileError(msg)
        return data

    def _resolved(self, parent: str) -> str | None:
        """Return the folder of a file after links are followed; None where it lies outside or is not there."""
        known = self._parents.get(parent)
        if known is None:
            try:
                path = image_path(self.root, parent)
            except DataError:
                return None  # the whole name may still lead inside
            if not path.is_dir():
                return None
            known = self._parents[parent] = str(path)
        return known


def image_path(root: Path, file_name: str) -> Path:
    """Return the file of an image, which must lie inside `root` after links are followed.

    Raises:
        DataError: the name is absolute, holds a NUL or a backslash, or leads out of the folder.
    """
    if "\0" in file_name or "\\" in file_name or Path(file_name).is_absolute():
        msg = f"file_name {file_name!r}: expected a path relative to the image folder {root}, with '/' between parts"
        raise DataError(msg)
    try:
        path = (root / file_name).resolve()
    except (OSError, RuntimeError) as error:
        msg = f"file_name {file_name!r}: cannot be resolved inside {root} ({error})"
        raise DataError(msg) from error
    if not path.is_relative_to(root.resolve()):
        msg = f"file_name {file_name!r}: leads out of the image folder {root} to {path}; only files inside are read"
        raise DataError(msg)
    return path
