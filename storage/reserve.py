"""The reserve: a file that takes up room until the disk is full, and then makes way.

A full disk must not stop what frees it: acknowledgements are written too. So new messages are
refused while there is little room, and a write that still does not fit gets the room of the
reserve file. When there is room again, the file is made again and messages are taken again.

Rules:

- ``restore`` runs in a job, ``give_up`` in the writer's thread: neither touches the other's state.
- An existing reserve file of another size than configured is replaced.
"""

import errno

from .disk import Disk

__all__ = ["NO_ROOM", "Reserve"]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Reserve:
    """The file ``ballast`` and the limit of free space."""

    def __init__(self, disk: Disk, root: str, reserve_bytes: int, free_bytes_min: int) -> None:
        """Keep ``reserve_bytes`` (0: no file); take messages above ``free_bytes_min``."""
        self._disk = disk
        self._root = root
        self._path = f"{root}/ballast"
        self._reserve_bytes = reserve_bytes
        self._free_bytes_min = free_bytes_min

    def give_up(self) -> None:
        """Make room, if this was not done before."""
        try:
            self._disk.unlink(self._path)
        except FileNotFoundError:
            pass

    def make_way(self) -> None:
        """Before opening: recovery writes too, so give up the file when there is little room."""
        if self._disk.free_bytes(self._root) < self._free_bytes_min:
            self.give_up()

    def restore(self) -> bool:
        """Make the file again when there is room; return whether new messages may be taken."""
        disk = self._disk
        free = disk.free_bytes(self._root)
        there = "ballast" in disk.listdir(self._root)
        if there and disk.size(self._path) != self._reserve_bytes:
            # Of another configuration, or of an opening that died in the middle of making it.
            disk.unlink(self._path)
            there = False
            free = disk.free_bytes(self._root)
        if free < self._free_bytes_min:
            return False
        if there or not self._reserve_bytes:
            return True
        if free < self._free_bytes_min + self._reserve_bytes:
            return False
        handle = disk.create(self._path)
        try:
            disk.fallocate(handle, self._reserve_bytes)
        except OSError as error:
            disk.unlink(self._path)
            if error.errno in NO_ROOM:
                return False
            raise
        finally:
            disk.close(handle)
        return True
