# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest on the bench: vTPM, QEMU, QMP and the workload's truth channel, for tools/demo and tests/e2e.

How it works.  Everything lives in one directory.  A Lab owns the processes: each is the leader of a
session of its own, dies with this process (PR_SET_PDEATHSIG), and is killed with all its children when
the Lab closes.  The sockets that QEMU serves are bound here before it starts and handed over as file
descriptors, so a connection never comes too early.  Nothing waits by sleeping: a wait is for a line, an
event or the end of a process, has a deadline, and says on expiry what it waited for and what was last seen.
All times are CLOCK_MONOTONIC of this machine, in nanoseconds.
"""

import ctypes
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import uuid as uuid_module

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GUEST = ROOT / "build/guest"
QEMU = "qemu-system-x86_64"
SEA_PORT = "org.foresee.sea.0"
DEMO_PORT = "org.foresee.demo.0"
MIB = 1 << 20
GIB = 1 << 30
# Memory and hot-plugged CPUs arrive offline: only the SEA brings them online.  maxcpus=1: also those that are there
# already when the guest boots again; without it a reboot would be a way round the grant.  The TSC of QEMU is one clock
# for all CPUs, but the kernel does not know; without "reliable" each look at the clock leaves the guest.
CMDLINE = ("console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable rootfstype=ramfs ima_policy=tcb "
           "ima_template=ima-sig ima_hash=sha256 memhp_default_state=offline maxcpus=1")

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class LabError(Exception):
    """Something outside did not do as it should; the message names it."""


def now_ns():
    return time.monotonic_ns()


def _in_child(parent):
    """Between fork and exec: die with the thread that started us; gone already is also gone."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)


class Process:
    """A child process with its output in a log file."""

    def __init__(self, argv, log, pass_fds=(), env=None):
        self.argv = [str(a) for a in argv]
        self.log = pathlib.Path(log)
        parent = os.getpid()
        with open(self.log, "ab") as out:
            try:
                # A PDEATHSIG is sent when the *thread* ends that forked: start processes from a thread that lasts.
                self._popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                               start_new_session=True, pass_fds=pass_fds, env=env,
                                               preexec_fn=lambda: _in_child(parent))
            except OSError as e:
                raise LabError(f"cannot run {self.argv[0]}: {e}; see tools/setup") from e
        self.pid = self._popen.pid

    def running(self):
        return self._popen.poll() is None

    def wait(self, timeout_s):
        """The exit status; negative for a signal."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.argv[0]} (pid {self.pid}) still runs after {timeout_s} s") from None

    def log_tail(self, n_bytes=2000):
        return self.log.read_bytes()[-n_bytes:].decode(errors="replace")

    def stop(self, grace_s=3.0):
        """SIGTERM, then SIGKILL, to the process and all that it started."""
        for sig, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
            try:
                os.killpg(self.pid, sig)
            except ProcessLookupError:
                pass
            try:
                self._popen.wait(wait_s)
                if sig == signal.SIGKILL:
                    return
            except subprocess.TimeoutExpired:
                pass


class Waiter:
    """Things that a reader thread collected, and waits on them."""

    def __init__(self, what):
        self.what = what
        self.items = []
        self.closed = None
        self._condition = threading.Condition()

    def add(self, item):
        with self._condition:
            self.items.append(item)
            self._condition.notify_all()

    def close(self, reason):
        with self._condition:
            self.closed = self.closed or reason
            self._condition.notify_all()

    def mark(self):
        """Where the next item will be: for wait(after=...)."""
        with self._condition:
            return len(self.items)

    def wait(self, predicate, timeout_s, after=0, why="an item"):
        """The first item from index @after on for which predicate(item) holds."""
        deadline = time.monotonic() + timeout_s
        at = after
        with self._condition:
            while True:
                while at < len(self.items):
                    if predicate(self.items[at]):
                        return self.items[at]
                    at += 1
                left = deadline - time.monotonic()
                last = self.items[-1] if self.items else "nothing"
                if self.closed:
                    raise LabError(f"{self.what}: closed ({self.closed}) while waiting for {why}; last: {last}")
                if left <= 0:
                    raise LabError(f"{self.what}: no {why} within {timeout_s} s; last: {last}")
                self._condition.wait(left)


class LineSocket:
    """A Unix socket that speaks lines of JSON, read by a thread of its own."""

    def __init__(self, path, timeout_s=10.0):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(self.path)
        except OSError as e:
            self._socket.close()
            raise LabError(f"cannot connect to {self.path}: {e}") from e
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._read, name=f"read {self.path}", daemon=True)

    def start(self):
        self._thread.start()

    def _read(self):
        rest = b""
        reason = "end of stream"
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError as e:
                reason = str(e)
                break
            if not data:
                break
            stamp = now_ns()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.strip():
                    self.on_line(line, stamp)
            if len(rest) > 16 * MIB:
                reason = "a line above 16 MiB"
                break
        self.on_close(reason)

    def send(self, data):
        try:
            self._socket.sendall(data)
        except OSError as e:
            raise LabError(f"{self.path}: cannot send: {e}") from e

    def close(self):
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        if self._thread.is_alive():
            self._thread.join(5)
        self._socket.close()


class Qmp(LineSocket):
    """A QMP client.  `events.items` holds the events, each with "host_ns"."""

    def __init__(self, path, timeout_s=30.0):
        super().__init__(path)
        self.events = Waiter(f"QMP events of {path}")
        self._answers = Waiter(f"QMP answers of {path}")
        self._lock = threading.Lock()
        self._next_id = 0
        self.start()
        self._answers.wait(lambda a: "QMP" in a, timeout_s, why="greeting")
        self.execute("qmp_capabilities", timeout_s=timeout_s)

    def on_line(self, line, stamp):
        item = json.loads(line)
        item["host_ns"] = stamp
        (self.events if "event" in item else self._answers).add(item)

    def on_close(self, reason):
        self.events.close(reason)
        self._answers.close(reason)

    def execute(self, command, timeout_s=30.0, **arguments):
        """What the command returned.  Underscores in argument names stand for hyphens."""
        with self._lock:
            self._next_id += 1
            ident = self._next_id
        request = {"execute": command, "id": ident,
                   "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        after = self._answers.mark()
        self.send(json.dumps(request).encode() + b"\n")
        answer = self._answers.wait(lambda a: a.get("id") == ident, timeout_s, after, f"answer to {command}")
        if "error" in answer:
            raise LabError(f"QMP {command}: {answer['error'].get('desc', answer['error'])}")
        return answer["return"]

    def wait_event(self, name, timeout_s, after=0, predicate=lambda e: True):
        return self.events.wait(lambda e: e["event"] == name and predicate(e), timeout_s, after, f"event {name}")


class Truth(LineSocket):
    """The workload's report, one line each 200 ms: `reports.items` holds them, each with "host_ns"."""

    def __init__(self, path, record=None):
        super().__init__(path)
        self.reports = Waiter(f"truth channel {path}")
        self._replies = Waiter(f"truth channel {path}")
        self._record = open(record, "a", encoding="utf-8") if record else None
        self.start()

    def on_line(self, line, stamp):
        try:
            item = json.loads(line)
        except ValueError:
            return  # the first line after a connection may begin in its middle
        item["host_ns"] = stamp
        if self._record:
            self._record.write(json.dumps(item) + "\n")
            self._record.flush()
        (self._replies if "reply" in item else self.reports).add(item)

    def on_close(self, reason):
        self.reports.close(reason)
        self._replies.close(reason)

    def close(self):
        super().close()
        if self._record:
            self._record.close()

    def command(self, text, timeout_s=20.0):
        """Sends a command ("start SEED CYCLES [MIB]", "stop", "hog S", "tamper-ima", "tamper-pcr", "poweroff")
        and returns the text of its answer."""
        after = self._replies.mark()
        self.send(text.encode() + b"\n")
        word = text.split()[0]
        reply = self._replies.wait(lambda r: r["reply"] == word, timeout_s, after, f"reply to '{text}'")
        if not reply["ok"]:
            raise LabError(f"guest refuses '{text}': {reply['text']}")
        return reply["text"]

    def wait(self, predicate, timeout_s, why="such report", after=None):
        """The next report (from now on, or from index @after) for which predicate(report) holds."""
        return self.reports.wait(predicate, timeout_s, self.reports.mark() if after is None else after, why)

    def last(self):
        return self.reports.items[-1] if self.reports.items else None


class Swtpm:
    """A TPM 2.0 in software with a manufactured state: a guest's vTPM, or a host's TPM for tests."""

    def __init__(self, lab, name, uuid):
        self.lab = lab
        self.uuid = uuid
        self.directory = lab.directory / name
        self.socket = self.directory / "sock"
        self.process = None

    def manufacture(self, config=None):
        """New keys and certificates; what was there before is lost.  @config: of swtpm_setup, names the authority."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        log = self.directory / "setup.log"
        argv = ["swtpm_setup", "--tpm2", "--tpmstate", self.directory, "--create-ek-cert", "--create-platform-cert",
                "--lock-nvram", "--overwrite", "--pcr-banks", "sha256", "--vmid", self.uuid, "--logfile", log]
        if config:
            argv += ["--config", config]
        setup = Process(argv, log)
        if setup.wait(120) != 0:
            raise LabError(f"swtpm_setup failed: {setup.log_tail()}")

    def start(self, serve=False):
        """Starts it: for QEMU, or with @serve for a client of its own, whose TCTI is then in `tcti`."""
        control = f"{self.socket}.ctrl" if serve else self.socket
        argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.directory}", "--ctrl",
                f"type=unixio,path={control}", "--log", f"file={self.directory}/swtpm.log"]
        if serve:
            self.socket.unlink(missing_ok=True)
            argv += ["--server", f"type=unixio,path={self.socket}", "--flags", "not-need-init,startup-clear"]
        else:
            argv.append("--terminate")
        self.directory.mkdir(mode=0o700, exist_ok=True)
        pathlib.Path(control).unlink(missing_ok=True)
        self.process = self.lab.spawn(argv, self.directory / "out.log")
        wait_socket(control, self.process, 10)
        return self

    @property
    def tcti(self):
        return f"swtpm:path={self.socket}"

    def argv(self):
        """For QEMU."""
        return ["-chardev", f"socket,id=vtpm0c,path={self.socket}", "-tpmdev", "emulator,id=tpm0,chardev=vtpm0c",
                "-device", "tpm-crb,tpmdev=tpm0,ppi=off"]

    def stop(self):
        if self.process:
            self.lab.reap(self.process)
            self.process = None


def wait_socket(path, process, timeout_s):
    """Until @process listens on @path.  A program that makes its own socket tells nobody: look often."""
    deadline = time.monotonic() + timeout_s
    turn = threading.Event()
    while True:
        if is_listening(path):
            return
        if not process.running():
            raise LabError(f"{process.argv[0]} ended at once: {process.log_tail()}")
        if time.monotonic() > deadline:
            raise LabError(f"{process.argv[0]} does not listen on {path} within {timeout_s} s")
        turn.wait(0.01)


def is_listening(path):
    """Whether a Unix socket at @path is in the listening state; connecting would use up swtpm's one client."""
    want = str(path)
    with open("/proc/net/unix", encoding="utf-8") as table:
        return any(line.rstrip("\n").endswith(" " + want) and line.split()[3] == "00010000" for line in table)


def qemu_argv(*, name, uuid, sockets, kernel, initrd, tpm_argv=(), accel="tcg", plugin=None, maxcpus=64,
              memory=512 * MIB, maxmem=8 * GIB, slots=8, vmem=2 * GIB, serial="serial.log", cmdline=CMDLINE,
              incoming=None, reboot=False, extra=()):
    """The command line of the demonstration guest.

    @sockets: {"qmp": PATH-or-fd, "observer": ..., "sea": ..., "demo": ...}; an int is a listening descriptor
    @accel: "tcg" or "kvm"; @plugin: "PATH[,key=value...]" or None; @incoming: a migration URI or None
    @memory, @maxmem, @vmem: bytes; @reboot: a reset starts the guest again, else it ends QEMU
    """
    def chardev(ident):
        where = sockets[ident]
        place = f"fd={where}" if isinstance(where, int) else f"path={where}"
        return ["-chardev", f"socket,id={ident},{place},server=on,wait=off"]

    argv = [QEMU, "-name", f"{name},debug-threads=on", "-uuid", uuid, "-nodefaults", "-no-user-config",
            "-display", "none", *(() if reboot else ("-no-reboot",)), "-machine", "q35",
            "-accel", "tcg,thread=multi" if accel == "tcg" else "kvm", "-cpu", "max" if accel == "tcg" else "host",
            "-smp", f"1,maxcpus={maxcpus}", "-m", f"{memory // MIB}M,slots={slots},maxmem={maxmem // MIB}M",
            "-object", f"memory-backend-ram,id=vmem0-ram,size={vmem // MIB}M",
            "-device", "virtio-mem-pci,id=vmem0,memdev=vmem0-ram,requested-size=0",
            "-device", "virtio-serial-pci,id=vser0"]
    for ident, port in (("sea", SEA_PORT), ("demo", DEMO_PORT)):
        argv += chardev(ident) + ["-device", f"virtserialport,chardev={ident},name={port}"]
    for ident in ("qmp", "observer"):
        argv += chardev(ident) + ["-mon", f"chardev={ident},mode=control"]
    argv += ["-serial", f"file:{serial}", *tpm_argv]
    if plugin:
        argv += ["-plugin", plugin]
    argv += ["-kernel", str(kernel), "-initrd", str(initrd), "-append", cmdline]
    if incoming:
        argv += ["-incoming", incoming]
    return argv + list(extra)


class Guest:
    """One QEMU with its vTPM.  Sockets: qmp (for foreseed), observer, sea, demo, in the Lab's directory.

    @tpm: True for a Swtpm of its own, False for none, or what has the methods of one
    @launcher: words before QEMU's own command line, a program that becomes QEMU
    """

    def __init__(self, lab, name="guest", uuid=None, tpm=True, launcher=(), **options):
        self.lab = lab
        self.name = name
        self.uuid = uuid or str(uuid_module.uuid4())
        self.options = {"kernel": GUEST / "vmlinuz", "initrd": GUEST / "initramfs.cpio.gz", **options}
        self.directory = lab.directory / name
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.paths = {ident: self.directory / f"{ident}.sock" for ident in ("qmp", "observer", "sea", "demo")}
        self.serial = self.directory / "serial.log"
        self.tpm = Swtpm(lab, f"{name}/vtpm", self.uuid) if tpm is True else tpm or None
        self.launcher = [str(word) for word in launcher]
        self.process = self.qmp = self.truth = None
        self.started_ns = 0

    def start(self, incoming=None):
        """Starts vTPM and QEMU and connects the observer's QMP and the truth channel."""
        if self.tpm:
            # A restored machine brings its vTPM's state along.
            if incoming is None and not (self.tpm.directory / "tpm2-00.permall").exists():
                self.tpm.manufacture()
            self.tpm.start()
        listeners = {ident: _listen(path) for ident, path in self.paths.items()}
        try:
            argv = qemu_argv(name=self.name, uuid=self.uuid, sockets={i: s.fileno() for i, s in listeners.items()},
                             tpm_argv=self.tpm.argv() if self.tpm else (), serial=self.serial, incoming=incoming,
                             **self.options)
            self.started_ns = now_ns()
            self.process = self.lab.spawn([*self.launcher, *argv], self.directory / "qemu.log",
                                          [s.fileno() for s in listeners.values()])
        finally:
            for listener in listeners.values():
                listener.close()
        try:
            self.qmp = Qmp(self.paths["observer"])
            self.truth = Truth(self.paths["demo"], self.directory / "truth.jsonl")
        except LabError as e:
            raise LabError(f"{e}; QEMU says: {self.process.log_tail()}") from e
        return self

    def wait_boot(self, timeout_s=60.0):
        """Until the workload's first report; seconds since the start."""
        try:
            report = self.truth.wait(lambda r: "phase" in r, timeout_s, "first report of the workload", after=0)
        except LabError as e:
            serial = self.serial.read_text(errors="replace")[-1500:] if self.serial.exists() else ""
            raise LabError(f"{e}\nQEMU: {self.process.log_tail()}\nserial: {serial}") from e
        return (report["host_ns"] - self.started_ns) / 1e9

    def add_vcpu(self):
        """Plugs the next vCPU; its device id.  Being online is another matter."""
        slots = self.qmp.execute("query-hotpluggable-cpus")
        free = [s for s in reversed(slots) if "qom-path" not in s]
        if not free:
            raise LabError(f"{self.name}: no free vCPU slot")
        free.sort(key=lambda s: s["props"].get("core-id", 0))
        ident = f"cpu{free[0]['props'].get('core-id', 0)}"
        self.qmp.execute("device_add", driver=free[0]["type"], id=ident, **free[0]["props"])
        return ident

    def vcpus_plugged(self):
        return sum("qom-path" in s for s in self.qmp.execute("query-hotpluggable-cpus"))

    def request_memory(self, n_bytes):
        """Sets the wanted size of the virtio-mem device; the guest follows when it can."""
        self.qmp.execute("qom-set", path="/machine/peripheral/vmem0", property="requested-size", value=n_bytes)

    def memory_plugged(self):
        return self.qmp.execute("qom-get", path="/machine/peripheral/vmem0", property="size")

    def save(self, path, timeout_s=60.0):
        """Writes the machine to a file; QEMU stays, paused.  The vTPM's state is inside."""
        after = self.qmp.events.mark()
        self.qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.qmp.execute("stop")
        self.qmp.execute("migrate", uri=f"file:{path}")
        end = self.qmp.wait_event("MIGRATION", timeout_s, after,
                                  lambda e: e["data"]["status"] in ("completed", "failed", "cancelled"))
        if end["data"]["status"] != "completed":
            info = self.qmp.execute("query-migrate")
            raise LabError(f"cannot save {self.name} to {path}: {info.get('error-desc', end['data']['status'])}")

    def resume(self):
        self.qmp.execute("cont")

    def stop(self, grace_s=3.0):
        for connection in (self.truth, self.qmp):
            if connection:
                connection.close()
        if self.process:
            self.lab.reap(self.process, grace_s)
        if self.tpm:
            self.tpm.stop()
        self.process = self.qmp = self.truth = None


def wait_status(qmp, wanted, timeout_s):
    """Until query-status says one of @wanted; a restore ends in a state, not in an event."""
    deadline = time.monotonic() + timeout_s
    turn = threading.Event()
    while True:
        status = qmp.execute("query-status")["status"]
        if status in wanted:
            return status
        if time.monotonic() > deadline:
            raise LabError(f"QEMU is '{status}' after {timeout_s} s, not one of {', '.join(wanted)}")
        turn.wait(0.01)


def _listen(path):
    pathlib.Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(8)
    except OSError as e:
        listener.close()
        raise LabError(f"cannot listen on {path} ({len(str(path))} of at most 107 bytes): {e}") from e
    return listener


class Lab:
    """A directory and the processes that live in it.  Use it in a "with" statement."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._processes = []
        self._guests = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def spawn(self, argv, log, pass_fds=(), env=None):
        process = Process(argv, log, pass_fds, env)
        self._processes.append(process)
        return process

    def reap(self, process, grace_s=3.0):
        process.stop(grace_s)
        if process in self._processes:
            self._processes.remove(process)

    def guest(self, name="guest", **options):
        guest = Guest(self, name, **options)
        self._guests.append(guest)
        return guest

    def restore(self, snapshot, name, uuid, **options):
        """A guest that continues from a saved file; options as those that it was saved with."""
        guest = self.guest(name, uuid=uuid, **options)
        guest.start(incoming=f"file:{snapshot}")
        wait_status(guest.qmp, ("paused", "postmigrate", "running"), 60.0)
        guest.resume()
        return guest

    def close(self):
        """Ends everything, the youngest first."""
        for guest in reversed(self._guests):
            try:
                guest.stop()
            except LabError:
                pass
        for process in reversed(list(self._processes)):
            self.reap(process)


def plugin_option(page, uuid, library=None):
    """The value of -plugin for the profiler, or None when it is not built.  @page: path of its profile page."""
    library = pathlib.Path(library) if library else ROOT / "build/qemu-plugin/libforesee-profiler.so"
    if not library.exists():
        return None
    if not re.fullmatch(r"/[\w./-]+", str(page)):
        raise LabError(f"page path '{page}' must be absolute and have no comma or blank: -plugin cannot take it")
    return f"{library},page={page},uuid={uuid}"


# Offsets and sizes of common/fore-page.h; tests/unit/test-page.c pins them there.
_PAGE_BLOCKS_AT, _PAGE_BLOCK, _PAGE_MAX_VCPUS, _PAGE_VERSION = 5120, 1024, 255, 2
_PAGE_FIELDS = ("plugged_ns", "updated_ns", "idle_since_ns", "idle_ns", "resumes", "insns", "blocks", "loads", "stores",
                "syscalls")


def read_page(path):
    """The counters of each vCPU that was ever plugged: [{"vcpu", "state", "insns", ...}].  For observers only: it does
    not check as fore_page_open() does, but takes no block that is being written."""
    for _ in range(100):
        data = pathlib.Path(path).read_bytes()
        if data[:8] != b"FOREPAGE" or len(data) != _PAGE_BLOCKS_AT + _PAGE_MAX_VCPUS * _PAGE_BLOCK:
            raise LabError(f"{path} is not a profile page of version {_PAGE_VERSION}")
        found = []
        for i in range(_PAGE_MAX_VCPUS):
            seq, state, *counters = struct.unpack_from("<II10Q", data, _PAGE_BLOCKS_AT + i * _PAGE_BLOCK)
            if seq % 2:
                break
            if state:
                found.append({"vcpu": i, "state": state, **dict(zip(_PAGE_FIELDS, counters))})
        else:
            return found
    raise LabError(f"{path}: a block stays in mid-write")
