# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes initramfs archives: cpio "newc", as the kernel's Documentation/driver-api/early-userspace/
buffer-format.rst describes it.  The same entries always give the same bytes."""

import stat


class Cpio:
    """Entries in the order added; parents are made when missing."""

    def __init__(self):
        self._parts = []
        self._names = set()
        self._inode = 0

    def _add(self, name, mode, data=b"", rdev=(0, 0)):
        name = name.strip("/")
        if name in self._names:
            raise ValueError(f"cpio: '{name}' was added before")
        if "/" in name:
            self.directory(name.rpartition("/")[0])
        self._names.add(name)
        self._entry(name, mode, data, rdev)

    def _entry(self, name, mode, data, rdev):
        self._inode += 1
        raw = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 2 if stat.S_ISDIR(mode) else 1, 0, len(data), 0, 0, rdev[0], rdev[1],
                  len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        self._parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def directory(self, name, mode=0o755):
        if name.strip("/") and name.strip("/") not in self._names:
            self._add(name, stat.S_IFDIR | mode)

    def file(self, name, data, mode=0o644):
        self._add(name, stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def char_device(self, name, major, minor, mode=0o600):
        self._add(name, stat.S_IFCHR | mode, rdev=(major, minor))

    def bytes(self):
        """The archive, closed by its trailer and padded to whole 512-byte blocks."""
        tail = Cpio()
        tail._inode = -1
        tail._entry("TRAILER!!!", 0, b"", (0, 0))
        body = b"".join(self._parts + tail._parts)
        return body + bytes(-len(body) % 512)
