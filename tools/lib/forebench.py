# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that does a fixed piece of work when told: what tools/bench plugin and the phase recording measure with.

The image is that of tools/guest-image with another /init, tests/bench/guest/guest-work.c and real programs of this
Debian.  It boots once, is saved to a file, and every measurement continues from there: the same memory, caches and
free pages for all, and no boot to pay for.  What QEMU's clocks show between a command and its answer is the work's.
"""

import gzip
import importlib.machinery
import importlib.util
import pathlib
import shutil
import subprocess
import time

import forelab
from cpio import Cpio

ROOT = forelab.ROOT
OUT = ROOT / "build/bench-guest"
WORK = ROOT / "tests/bench/guest/guest-work.c"
PROGRAMS = ("gzip", "xz", "sqlite3", "openssl", "perl", "mawk", "sort")
CMDLINE = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable rootfstype=ramfs"
INIT = """#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
export PATH=/real:/sbin:/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs -o size=128m tmpfs /tmp
exec /bin/guest-work
"""


def _guest_image():
    """tools/guest-image as a module: it knows which libraries a program needs."""
    loader = importlib.machinery.SourceFileLoader("guest_image", str(ROOT / "tools/guest-image"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("guest_image", loader))
    loader.exec_module(module)
    return module


def _run(*argv):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise forelab.LabError(f"{' '.join(map(str, argv))} failed: {done.stderr.strip()}")


def build_image():
    """Writes OUT/vmlinuz and OUT/work.cpio.gz.  Returns both paths."""
    OUT.mkdir(parents=True, exist_ok=True)
    _run(ROOT / "tools/guest-image", "--no-sea", "--out", OUT)
    _run("gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-static", "-o", OUT / "guest-work", WORK)
    image, cpio, libraries = _guest_image(), Cpio(), {}
    cpio.file("init", INIT.encode(), 0o755)
    cpio.file("bin/guest-work", (OUT / "guest-work").read_bytes(), 0o755)
    for name in PROGRAMS:
        path = shutil.which(name)
        if path is None:
            raise forelab.LabError(f"'{name}' is not installed; run tools/setup")
        cpio.file(f"real/{name}", pathlib.Path(path).resolve().read_bytes(), 0o755)
        libraries.update(image.libraries(path))
    for name, path in sorted(libraries.items()):
        cpio.file(name.lstrip("/"), path.read_bytes(), 0o755)
    base = (OUT / "initramfs.cpio.gz").read_bytes()
    # The kernel skips zeros between archives; the next one starts on a multiple of four.
    out = OUT / "work.cpio.gz"
    out.write_bytes(base + bytes(-len(base) % 4) + gzip.compress(cpio.bytes(), 1, mtime=0))
    return OUT / "vmlinuz", out


class Port(forelab.LineSocket):
    """The guest's second serial port: lines of text."""

    def __init__(self, path):
        super().__init__(path)
        self.lines = forelab.Waiter(f"serial port {path}")
        self.start()

    def on_line(self, line, stamp):
        self.lines.add((line.decode(errors="replace").strip(), stamp))

    def on_close(self, reason):
        self.lines.close(reason)


class WorkGuest:
    """One QEMU.  Use it in a "with" statement; @lab: a forelab.Lab; @plugins: values of -plugin."""

    def __init__(self, lab, name, image, plugins=(), incoming=None, qemu=forelab.QEMU, memory_mib=384,
                 smp=1):
        self.lab = lab
        self.directory = lab.directory / name
        self.directory.mkdir(exist_ok=True)
        self.image, self.plugins, self.incoming, self.qemu = image, plugins, incoming, qemu
        self.memory_mib, self.smp = memory_mib, smp
        self.process = self.port = self.qmp = None

    def argv(self):
        kernel, initrd = self.image
        argv = [self.qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35",
                "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(self.smp), "-m", f"{self.memory_mib}M",
                "-kernel", kernel, "-initrd", initrd, "-append", CMDLINE,
                "-serial", f"file:{self.directory}/console.log"]
        for ident, use in (("port", "-serial"), ("qmp", "-mon")):
            path = self.directory / ident
            path.unlink(missing_ok=True)
            argv += ["-chardev", f"socket,id={ident},path={path},server=on,wait=off",
                     use, f"chardev:{ident}" if use == "-serial" else f"chardev={ident},mode=control"]
        argv += ["-d", "plugin", "-D", self.directory / "plugin.log"] if self.plugins else []
        for plugin in self.plugins:
            argv += ["-plugin", plugin]
        return argv + (["-incoming", f"file:{self.incoming}"] if self.incoming else [])

    def __enter__(self):
        log = self.directory / "qemu.log"
        log.unlink(missing_ok=True)
        self.process = self.lab.spawn(self.argv(), log)
        for ident in ("port", "qmp"):
            forelab.wait_socket(self.directory / ident, self.process, 60)
        self.port = Port(self.directory / "port")
        self.qmp = forelab.Qmp(self.directory / "qmp")
        if self.incoming:
            forelab.wait_status(self.qmp, ("paused", "postmigrate", "running"), 60.0)
            self.qmp.execute("cont")
        else:
            self.port.lines.wait(lambda item: item[0] == "ready", 120.0, why="'ready' of the guest")
        return self

    def __exit__(self, *_):
        self.quit()

    def quit(self, timeout_s=30.0):
        """Ends QEMU in order, so that plugins print what they counted."""
        if self.process is None:
            return
        try:
            self.qmp.execute("quit")
            self.process.wait(timeout_s)
        except forelab.LabError:
            pass
        for connection in (self.port, self.qmp):
            connection.close()
        self.lab.reap(self.process)
        self.process = None

    def save(self, path):
        """Writes the machine to a file; the guest stays paused."""
        self.qmp.execute("stop")
        self.qmp.execute("migrate", uri=f"file:{path}")
        while (status := self.qmp.execute("query-migrate")["status"]) not in ("completed", "failed"):
            time.sleep(0.02)
        if status == "failed":
            raise forelab.LabError(f"cannot save the guest to {path}: {self.qmp.execute('query-migrate')}")

    def tell(self, command):
        """Starts @command in the guest.  Returns the mark for finish()."""
        mark = self.port.lines.mark()
        self.port.send(command.encode() + b"\n")
        return mark

    def finish(self, command, mark, timeout_s=600.0):
        """Waits for the end of what tell() started.  Returns the answer's check, and when it came (CLOCK_MONOTONIC)."""
        word = command.split()[0]
        line, stamp = self.port.lines.wait(lambda item: item[0].startswith(("done ", "unknown ")), timeout_s, mark,
                                           f"end of '{command}'")
        if not line.startswith(f"done {word} "):
            raise forelab.LabError(f"the guest answers '{line}' to '{command}'")
        return line.split()[2], stamp

    def cpu_s(self):
        """CPU seconds of all of QEMU's threads, user and system."""
        return time.clock_gettime((~self.process.pid << 3) | 2)  # as clock_getcpuclockid(3) makes it

    def measure(self, command):
        """CPU seconds of QEMU while the guest does @command, and the answer's check."""
        before = self.cpu_s()
        check, _ = self.finish(command, self.tell(command))
        return self.cpu_s() - before, check


def snapshot(lab, image, prepare=("text 1",), memory_mib=384, smp=1):
    """Boots the guest, has it prepare, and saves it.  Returns the file."""
    path = lab.directory / "guest.state"
    with WorkGuest(lab, "boot", image, memory_mib=memory_mib, smp=smp) as guest:
        for command in prepare:
            guest.finish(command, guest.tell(command))
        guest.save(path)
    return path
