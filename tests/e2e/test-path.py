#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole path on one guest: enrolment, growth, release, what goes wrong on the way, tampering, and the end.

How it works.  One stack (host TPM, PAM, attester, foreseed) and one guest, booted once.  Unlike in test-guest.py no
claim restores a snapshot: the PAM, the vTPM's counters and the ledger remember, and a restored guest would be a
replayed one to them.  So the claims are ordered.  Each begins at rest: one vCPU online, no plan under way.  From the
fourth on there are always more busy processes in the guest than it may have vCPUs, and it is the policy's max-vcpus
that lets it grow and makes it shrink: no claim waits for a load to end.  The last three end something for good: the
guest's good name, QEMU, foreseed.  What the guest has is read from its own sysfs through the workload's channel, what
QEMU has from a monitor of ours.
"""

import base64
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import e2e  # noqa: E402
import forelab  # noqa: E402
import forestack  # noqa: E402
import sea_host  # noqa: E402
from e2e import check, claim  # noqa: E402
from forelab import MIB, LabError  # noqa: E402

NAME = "quillwort"  # found nowhere else, so that its absence from a file says something
POLICY = dict(mode="observe", forecaster="reactive", max_vcpus=2, max_memory="1024MiB", utilisation_vcpu="1.0",
              utilisation_memory="0.9", shrink_hold="2s", cooldown="1s", denial_hold="1s")
SEED = 628  # one of those whose burst comes soon
HOGS, HOG_S = 3, 60
FINAL = ("online", "released", "failed")


class Path:
    """The stack, its guest, and what claims ask of them."""

    def __init__(self, lab):
        self.lab = lab
        # A signing key in a file: one claim forges grants with it.
        self.stack = forestack.Stack(lab, build=e2e.BUILD, foreseed_settings={"attest-timeout-ms": "4000"},
                                     software_key=True)
        self.guest = self.events = None
        self._hogs = []  # when each ends, by our clock

    def end_guest(self):
        """For run_claim(): the guest outlives the claims."""

    def start(self):
        self.stack.start()
        self.guest = self.stack.guest(NAME, reboot=True)
        boot_s = self.guest.wait_boot(e2e.BOOT_LIMIT_S)
        self.stack.add(self.guest, **POLICY)
        self.follow()
        self.wait_state("ok", 60)
        return boot_s

    def follow(self):
        """Listens to foreseed; returns once it hears something, so that no later event is missed."""
        if self.events:
            self.events.close()
        self.events = forestack.Events(self.stack)
        self.events.waiter.wait(lambda e: True, 20, why="an event of foreseed")

    def wait(self, good, timeout_s, why):
        """Until good() returns something true; asked at each event of foreseed, of which each second brings one."""
        deadline = time.monotonic() + timeout_s
        while True:
            mark = self.events.mark()
            value = good()
            if value:
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                raise LabError(f"not within {timeout_s} s: {why}; state {self.show()['state']}, "
                               f"decision {self.stack.foresee('explain', NAME)['decision']}")
            try:
                self.events.waiter.wait(lambda e: True, left, mark)
            except LabError:
                if self.events.waiter.closed:
                    raise

    def show(self):
        return self.stack.show(self.guest)

    def wait_state(self, state, timeout_s):
        return self.wait(lambda: self.show()["state"] == state and self.show(), timeout_s, f"state {state}")

    def set(self, **policy):
        self.stack.set(self.guest, **policy)

    def online(self):
        """vCPUs online, from a report that was made after the call."""
        return self.guest.truth.wait(lambda r: True, 10, "report")["online"]

    def wait_online(self, count, timeout_s=30):
        return self.guest.truth.wait(lambda r: r["online"] == count, timeout_s, f"{count} vCPUs online")

    def reports(self, count):
        """The next @count reports, 200 ms each by the guest's clock."""
        reports = self.guest.truth.reports
        first = reports.mark()
        self.guest.truth.wait(lambda r: reports.mark() >= first + count, 30, f"{count} reports", after=first)
        return reports.items[first:first + count]

    def load(self, seconds):
        """HOGS busy processes, for the next @seconds at least."""
        self._hogs = [end for end in self._hogs if end > time.monotonic() + seconds]
        while len(self._hogs) < HOGS:
            self._hogs.append(time.monotonic() + HOG_S)
            self.guest.truth.command(f"hog {HOG_S}")

    def ledger(self):
        return self.stack.foresee("ledger", NAME)

    def open_entries(self):
        return [e for e in self.ledger()["entries"] if e["state"] not in FINAL]

    def rest(self):
        """One vCPU online and no plan under way, whatever the load."""
        self.set(mode="enforce", max_vcpus=1)
        self.wait(lambda: not self.open_entries() and self.online() == 1, 60, "the guest at rest")

    def forget_load(self):
        self._hogs = []

    def grow(self, vcpus):
        """At rest, then to @vcpus."""
        self.rest()
        self.load(40)
        self.set(max_vcpus=vcpus)
        self.wait_online(vcpus)

    def attest(self):
        """(exit code, answer) of `foresee attest`."""
        done = self.stack.foresee("attest", NAME, check=False)
        return done.returncode, forestack.json.loads(done.stdout) if done.stdout.strip() else {}

    def restart_foreseed(self):
        self.stack.start_foreseed()
        self.follow()
        self.wait_state("ok", 30)

    def diagnose(self):
        """What somebody needs who reads that a claim failed."""
        for event in self.events.waiter.items[-400:] if self.events else ():
            if event["event"] not in ("FORECAST",):
                print(f"# {event['host_ns'] / 1e9:.2f} {event['event']} {event['data']}")
        for name in ("foreseed", "pam", "hv1"):
            log = self.stack.path(f"{name}.log")
            for line in log.read_text(errors="replace").splitlines()[-8:] if log.exists() else ():
                print(f"# {name}: {line}")


def reasons(verdict):
    return [r for node in verdict.get("nodes", ()) for r in node["reasons"]]


@claim("enrolled-pathway-is-affirmed-node-by-node")
def _(path):
    code, unknown = path.attest()
    check(code != 0 and unknown.get("verdict") != "affirming", f"affirmed before the enrolment: {unknown}")
    path.stack.enrol(path.guest)
    code, verdict = path.attest()
    check(code == 0 and verdict["verdict"] == "affirming", f"exit {code}: {verdict}")
    nodes = {n["id"]: n["verdict"] for n in verdict["nodes"]}
    check(nodes == {"hv1": "affirming", path.guest.uuid: "affirming"}, f"nodes {nodes}")


@claim("burst-in-enforce-is-granted-then-online")
def _(path):
    path.set(mode="enforce")
    before = path.reports(1)[0]
    mark, first = path.events.mark(), path.guest.truth.reports.mark()
    path.guest.truth.command(f"start {SEED} 1 448")
    grant = path.events.wait("GRANT", 40, mark)
    path.guest.truth.wait(lambda r: r["online"] == 2, 30, "a second vCPU online", after=first)
    path.guest.truth.wait(lambda r: r["mem_total_bytes"] > before["mem_total_bytes"] + 100 * MIB, 30,
                          "more memory online", after=first)
    early = [r for r in path.guest.truth.reports.items[first:] if r["host_ns"] < grant["host_ns"]]
    check(all(r["online"] == 1 and r["mem_total_bytes"] <= before["mem_total_bytes"] for r in early),
          "something was online before the grant")
    check(path.guest.vcpus_plugged() == 2 and path.guest.memory_plugged() >= 128 * MIB,
          f"QEMU has {path.guest.vcpus_plugged()} vCPUs and {path.guest.memory_plugged()} bytes of virtio-mem")


@claim("capacity-goes-back-after-the-load")
def _(path):
    path.guest.truth.wait(lambda r: r["phase"] in ("done", "stopped"), 40, "the end of the burst")
    path.guest.truth.command("stop")
    path.wait_online(1, 60)
    path.wait(lambda: path.guest.memory_plugged() == 0, 60, "memory given back")
    path.wait(lambda: not path.open_entries(), 30, "no open entry in the ledger")
    report = path.reports(1)[0]
    check(report["mem_total_bytes"] <= 512 * MIB, f"MemTotal {report['mem_total_bytes']}")
    held = {"vcpu": path.guest.vcpus_plugged(), "mem": 512 * MIB + path.guest.memory_plugged()}
    check(path.ledger()["promised"] == held, f"promised {path.ledger()['promised']}, QEMU holds {held}")


@claim("foreseed-killed-in-a-plug-settles-and-plugs-nothing-twice")
def _(path):
    path.rest()
    path.load(40)
    events = path.guest.qmp.events.mark()
    plugged = path.guest.vcpus_plugged()
    check(plugged < 3, f"{plugged} vCPUs are plugged already")
    path.set(max_vcpus=3)
    deadline, turn = time.monotonic() + 30, threading.Event()
    while path.guest.vcpus_plugged() == plugged:
        check(time.monotonic() < deadline, "nothing was plugged within 30 s")
        turn.wait(0.005)
    os.kill(path.stack.processes["foreseed"].pid, signal.SIGKILL)
    path.stack.stop_daemon("foreseed")
    path.restart_foreseed()
    path.wait(lambda: not path.open_entries(), 30, "the ledger settled")
    found = [e for e in path.ledger()["entries"] if e["reason"].startswith("found ")]
    print(f"# found by the new foreseed: {found}")
    check(len(found) == 1 and found[0]["to"] == 3, "the kill did not come in the middle of the plug")
    path.wait_online(3)
    check(path.guest.vcpus_plugged() == 3, f"{path.guest.vcpus_plugged()} vCPUs plugged for 3 that were wanted")
    check(not [e for e in path.guest.qmp.events.items[events:] if e["event"] == "STOP"], "the guest was paused")
    path.rest()
    check(path.guest.vcpus_plugged() == 3, "a vCPU was plugged or taken while the guest shrank")
    check(path.ledger()["promised"]["vcpu"] == 3, f"promised {path.ledger()['promised']}")


@claim("vcpu-plugged-by-hand-stays-offline-and-is-told")
def _(path):
    path.rest()
    mark = path.events.mark()
    path.guest.add_vcpu()
    plugged = path.guest.vcpus_plugged()
    path.guest.truth.wait(lambda r: r["present"] == plugged, 20, "the guest's kernel to see the vCPU")
    path.events.wait("UNGRANTED", 20, mark, lambda d: d["vcpus"] >= 1)
    online = {r["online"] for r in path.reports(10)}
    check(online == {1}, f"online counts {online} while nobody granted anything")
    path.wait(lambda: path.ledger()["promised"]["vcpu"] == plugged, 20, f"{plugged} vCPUs in the ledger")


@claim("old-foreign-and-forged-grants-are-refused")
def _(path):
    path.rest()
    present = path.guest.vcpus_plugged()
    check(present > 1, "no vCPU is there that a grant could bring online")
    path.stack.stop_daemon("foreseed")
    own, stranger = path.stack.path("foreseed", "identity.pem"), sea_host.new_key(path.stack.path("stranger.pem"))
    signing = path.stack.path("pam", "signing-key.pem")
    try:  # twice: the first try may meet the end of foreseed's session
        sea_host.Host(path.guest.paths["sea"], stranger, path.lab.directory, timeout_s=3).close()
    except LabError as e:
        print(f"# a host with another key: {e}")
    else:
        raise AssertionError("the SEA talks to a host whose key is not pinned")
    sea = sea_host.Host(path.guest.paths["sea"], own, path.lab.directory)
    pam = sea_host.Host(path.stack.path("pam.sock"), own, path.lab.directory)

    def ask(vcpus):
        return sea_host.ask_grant(sea, pam, path.guest.uuid, vcpus, 512 * MIB)

    def forge(key=signing, **changes):
        return sea_host.sign_grant(newer, key, **{"vcpus": present, "seq": taken["seq"] + 1, **changes})

    older, newer = ask(present), ask(1)
    taken = sea.execute("sea-grant", grant=newer)
    check(taken.get("vcpus") == 1, f"a good grant for what is there: {taken}")
    for what, grant, reason in (
            ("one that was kept back", older, "old-sequence"),
            ("the same again", newer, "old-sequence"),
            ("a used number", forge(seq=taken["seq"]), "old-sequence"),
            ("another VM's", forge(sub=str(uuid.uuid4())), "other-vm"),
            ("another vTPM's", forge(ak="000b" + "5a" * 32), "other-ak"),
            ("an expired one", forge(iat=1, exp=61), "expired"),
            ("more than the machine can have", forge(vcpus=1000), "bad-amount"),
            ("a flipped bit in the signature", sea_host.flip_signature(forge()), "bad-signature"),
            ("a stranger's signature", forge(stranger), "bad-signature")):
        error = sea.execute("sea-grant", grant=grant).get("error", {})
        check(error.get("class") == "Untrusted" and f"refused: {reason}:" in error["desc"], f"{what}: {error}")
        print(f"# {what}: {error['desc']}")
    check({r["online"] for r in path.reports(5)} == {1}, "a refused grant brought a vCPU online")
    # One more with nothing wrong is taken: what was wrong is why the others were not.
    taken = sea.execute("sea-grant", grant=ask(present))
    check(taken.get("vcpus") == present, f"a good grant: {taken}")
    path.wait_online(present)
    sea.execute("sea-release", vcpus=1, memory_bytes=512 * MIB)
    path.wait_online(1)
    sea.close()
    pam.close()
    path.restart_foreseed()
    path.grow(2)


def denied_then_granted(path, stop, start, reason):
    """With 2 vCPUs online @stop something and ask for 3: denied for @reason, 2 stay; @start it again: 3."""
    path.grow(2)
    mark = path.events.mark()
    stop()
    try:
        path.set(max_vcpus=3)
        denied = path.events.wait("DENIED", 30, mark)["data"]["reason"]
        print(f"# {denied}")
        check(reason in denied, f"denied, but not for {reason}: {denied}")
        check({r["online"] for r in path.reports(3)} == {2}, "the guest did not keep what it had")
        check(not path.events.of("GRANT", mark), "there was a grant all the same")
    finally:
        start()
    path.events.wait("GRANT", 30, mark)
    path.wait_online(3)


@claim("no-growth-without-the-pam-and-growth-with-it-again")
def _(path):
    denied_then_granted(path, lambda: path.stack.stop_daemon("pam"), path.stack.start_pam, "pam:unreachable")


@claim("no-growth-while-the-pam-is-frozen")
def _(path):
    pid = path.stack.processes["pam"].pid
    denied_then_granted(path, lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT), "pam:timeout")


@claim("no-growth-without-the-attester-nor-on-its-last-word")
def _(path):
    def stopped():
        code, verdict = path.attest()
        check(code == 0, f"not affirmed before: {verdict}")
        path.stack.stop_daemon("hv1")

    def started():
        _, verdict = path.attest()
        nodes = {n["id"]: n["verdict"] for n in verdict["nodes"]}
        check(verdict["verdict"] == "none" and nodes["hv1"] == "none", f"verdict without the attester: {verdict}")
        check(not verdict.get("grant"), "a grant without the attester")
        path.stack.start_attester("hypervisor")

    denied_then_granted(path, stopped, started, "hv1:unreachable")


@claim("stopped-qemu-is-seen-and-comes-back")
def _(path):
    path.rest()
    os.kill(path.guest.process.pid, signal.SIGSTOP)
    try:
        vm = path.wait(lambda: path.show()["state"] in ("unreachable", "blind") and path.show(), 15,
                       "state unreachable or blind")
        print(f"# {vm['state']}: {vm['sources']}")
    finally:
        os.kill(path.guest.process.pid, signal.SIGCONT)
    path.wait_state("ok", 30)
    check(path.online() == 1, "the pause changed what is online")
    path.grow(2)


@claim("reboot-is-no-way-round-the-grant")
def _(path):
    path.grow(3)
    plugged, before = path.guest.vcpus_plugged(), path.reports(1)[0]
    mark, first = path.events.mark(), path.guest.truth.reports.mark()
    path.guest.qmp.execute("system_reset")
    booted = path.guest.truth.wait(lambda r: r["t_ms"] < before["t_ms"], 40, "the guest to boot again", after=first)
    path.forget_load()
    check(booted["present"] == plugged and booted["online"] == 1,
          f"{booted['online']} of {booted['present']} vCPUs are online after the reboot")
    path.events.wait("UNGRANTED", 30, mark, lambda d: d["vcpus"] == plugged - 1)
    path.wait_state("ok", 30)
    check({r["online"] for r in path.reports(10)} == {1}, "a vCPU came online that nobody granted anew")
    check(not path.events.of("GRANT", mark), "a grant was asked for without a load")
    code, verdict = path.attest()
    check(code == 0, f"not affirmed after the reboot: {verdict}")
    mark = path.events.mark()
    path.grow(3)
    path.events.wait("GRANT", 5, mark)


@claim("tampered-guest-is-denied-and-keeps-what-it-has")
def _(path):
    path.grow(2)
    path.guest.truth.command("tamper-pcr")
    mark = path.events.mark()
    path.set(max_vcpus=3)
    denied = path.events.wait("DENIED", 30, mark)["data"]["reason"]
    print(f"# {denied}")
    check("guest:pcr" in denied, f"denied, but not for a PCR: {denied}")
    check({r["online"] for r in path.reports(5)} == {2}, "something was taken away, or given")
    code, verdict = path.attest()
    check(code == 4 and verdict["verdict"] == "contraindicated", f"exit {code}: {verdict}")
    nodes = {n["id"]: n["verdict"] for n in verdict["nodes"]}
    check(nodes == {"hv1": "affirming", path.guest.uuid: "contraindicated"}, f"nodes {nodes}")
    check("guest:sticky-failure" in reasons(verdict), f"it does not stick: {reasons(verdict)}")
    path.stack.pam("release", path.guest.uuid)
    code, verdict = path.attest()
    check(code == 4 and "guest:sticky-failure" not in reasons(verdict) and "guest:pcr-8" in reasons(verdict),
          f"after the release, exit {code}: {reasons(verdict)}")
    path.rest()


@claim("killed-qemu-gives-its-promise-back")
def _(path):
    promised = path.ledger()["promised"]
    check(promised["vcpu"] >= 1 and promised["mem"] >= 512 * MIB, f"promised {promised}")
    os.kill(path.guest.process.pid, signal.SIGKILL)
    path.wait_state("unreachable", 10)
    path.wait(lambda: path.ledger()["promised"] == {"vcpu": 0, "mem": 0}, 15, "nothing promised to a VM that is gone")
    check(path.stack.processes["foreseed"].running(), "foreseed ended with QEMU")


@claim("store-is-unreadable-without-this-host")
def _(path):
    stack = path.stack
    stack.stop_daemon("foreseed")
    files = sorted(stack.path("foreseed").glob("store.db*"))
    data = b"".join(f.read_bytes() for f in files)
    check(len(data) > 20000, f"{len(data)} bytes in {[f.name for f in files]}")
    check(not data.startswith(b"SQLite format 3"), "the store begins as any SQLite file")
    for word in (NAME, path.guest.uuid, "demand_vcpu", "cpu_busy", "mem_used", "vcpu", "CREATE TABLE", "ledger"):
        for form in (word.encode(), word.encode("utf-16-le"), base64.b64encode(word.encode())):
            check(form not in data, f"'{word}' can be read in the store")
    other = forelab.Swtpm(path.lab, "tpm-other", str(uuid.uuid4()))
    other.manufacture(stack.hardware.config)
    other.start(serve=True)
    conf = stack.path("foreseed.conf")
    moved = stack.path("moved.conf")
    moved.write_text(conf.read_text(encoding="utf-8").replace(stack.node_tpms["hypervisor"].tcti, other.tcti),
                     encoding="utf-8")
    done = forestack.run([stack.program("foreseed"), "--config", moved], 30, check=False)
    print(f"# {done.stderr.strip()}")
    check(done.returncode == 6, f"exit {done.returncode}")
    check("another TPM" in done.stderr and "store.key.sealed" in done.stderr, f"unclear: {done.stderr}")
    stack.start_foreseed()
    check([vm["name"] for vm in stack.foresee("vm", "list")["vms"]] == [NAME], "the host's own TPM does not open it")


def build_image(directory):
    """The guest image of the programs on test, in place of build/guest."""
    subprocess.run([e2e.ROOT / "tools/guest-image", "--sea", e2e.BUILD / "foresee-sea", "--workload",
                    e2e.BUILD / "guest-image/fore-workload", "--out", directory], check=True, stdout=sys.stderr)
    forelab.GUEST = pathlib.Path(directory)


def run(directory):
    with forelab.Lab(directory) as lab:
        path = Path(lab)
        try:
            boot_s = path.start()
        except LabError as e:
            path.diagnose()
            return e2e.bail_out("the stack does not come up", e)
        print(f"# booted in {boot_s:.1f} s", flush=True)
        status = e2e.run_claims(path, "path")
        if status:
            path.diagnose()
        path.events.close()
    return status


def main():
    for program in ("qemu-system-x86_64", "swtpm", "openssl", "busybox"):
        if not shutil.which(program):
            return e2e.skip_all(f"{program} is not installed; run tools/setup")
    if not (e2e.ROOT / "build/deps/kernel/vmlinuz").exists():
        return e2e.skip_all("no guest kernel in build/deps/kernel; run tools/setup")
    e2e.plan()
    with tempfile.TemporaryDirectory(prefix="fore-image-") as image, \
            tempfile.TemporaryDirectory(prefix="fore-e2e-") as directory:
        build_image(image)
        return run(directory)


if __name__ == "__main__":
    sys.exit(main())
