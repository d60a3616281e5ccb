"""What has happened to the files of one folder, as the kernel tells it (inotify): nobody looks at each of them."""

import ctypes
import os
import struct
import weakref
from pathlib import Path

# From <sys/inotify.h>. Not IN_ATTRIB: a heartbeat only sets a time, and a thousand runs have one each few seconds.
_MODIFY, _CLOSE_WRITE, _MOVED, _CREATE, _DELETE = 0x2, 0x8, 0xC0, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _ONLY_FOLDER = 0x400, 0x800, 0x0100_0000
_UNMOUNTED, _OVERFLOW, _IGNORED = 0x2000, 0x4000, 0x8000
_WANTED = _MODIFY | _CLOSE_WRITE | _MOVED | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLY_FOLDER
_OVER = _DELETE_SELF | _MOVE_SELF | _UNMOUNTED | _OVERFLOW | _IGNORED
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_ROOM = 1 << 16  # bytes, of events at once
# File systems whose every write goes through this machine's kernel. Of a shared one it tells only our own writes.
OWN = frozenset({"ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})


class Notices:
    """A folder that is watched: names in it that were made, removed, renamed or written to."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the kernel has no watch to give, or can't tell of all that happens there."""
        facts = os.stat(folder)
        if _kind(facts.st_dev) not in OWN:
            raise OSError(f"{folder} may change without this machine's kernel: it is not watched")
        self._folder = folder
        self._which = (facts.st_dev, facts.st_ino)
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = _checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        weakref.finalize(self, os.close, self._handle)
        _checked(libc.inotify_add_watch(self._handle, os.fsencode(folder), _WANTED))

    def taken(self) -> frozenset[str] | None:
        """The names since the last call. None: not all are known, or it is another folder by now; watch it anew."""
        names: set[str] = set()
        over = False
        while data := self._read():
            place = 0
            while place < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, place)
                place += _EVENT.size + length
                over = over or bool(mask & _OVER)
                names.add(os.fsdecode(data[place - length : place].rstrip(b"\0")))
        return None if over or not self._same_folder() else frozenset(names)

    def _read(self) -> bytes:
        try:
            return os.read(self._handle, _ROOM)
        except BlockingIOError:
            return b""

    def _same_folder(self) -> bool:
        try:
            facts = os.stat(self._folder)
        except OSError:
            return False
        return (facts.st_dev, facts.st_ino) == self._which


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _kind(device: int) -> str:
    """What kind of file system has that device number; "" where no mount says so (as for btrfs)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        words = line.split()
        if words[2] == wanted:
            return words[words.index("-") + 1]
    return ""
