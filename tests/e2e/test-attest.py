#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Attestation of a whole pathway: host, switch, storage and guest; then what an attacker or a failure does to it.

How it works.  The PAM, foreseed and the hypervisor's attester run on this machine, the attesters of switch and storage
in network namespaces of their own behind a veth pair each; each node has a software TPM of its own.  The guest is
started by `foresee-vtpm launch` on a vTPM that `foresee-vtpm create` made, and it is booted once.  The PAM's signing
key is in a SoftHSM token.  Policy lists the guest's PCRs, the files that may run in it (IMA) and what its host may
launch it with.  The guest always has more to do than its vCPUs can, and it is max-vcpus that holds it at two.  Each
claim breaks one thing, lets the guest want a third vCPU, sees why it does not get it, that the two stay, and mends
what it broke.  The last claims break the guest itself for good.
"""

import glob
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import e2e  # noqa: E402
import forelab  # noqa: E402
import forestack  # noqa: E402
import replayer  # noqa: E402
import sea_host  # noqa: E402
from e2e import check, claim  # noqa: E402
from forelab import LabError  # noqa: E402

NAME = "hornwort"
POLICY = dict(mode="observe", forecaster="reactive", max_vcpus=1, max_memory="512MiB", utilisation_vcpu="1.0",
              shrink_hold="20s", cooldown="1s", denial_hold="1s")
HOGS, HOG_S = 4, 60
PORT = 7701
YEARS_30 = 30 * 365


class VtpmAuthority(forestack.Authority):
    """The authority that foresee-vtpm makes in its ca-dir, and the certificates that the PAM gets of it."""

    def __init__(self, directory):
        super().__init__(directory)
        self.ca = self.directory / "vtpm-ca"
        self.ca.mkdir(mode=0o700)
        # The very files that foresee-vtpm uses: so they are there before its first vTPM is.
        (self.directory / "localca.conf").write_text(
            f"statedir = {self.ca}\nsigningkey = {self.ca}/signkey.pem\nissuercert = {self.ca}/issuercert.pem\n"
            f"certserial = {self.ca}/certserial\n", encoding="utf-8")

    def bundle(self):
        texts = [p.read_text(encoding="utf-8") for p in sorted(self.ca.glob("*.pem"))]
        out = self.directory / "bundle.pem"
        out.write_text("".join(t for t in texts if "BEGIN CERTIFICATE" in t), encoding="utf-8")
        return out


class HostedVtpm:
    """A vTPM in the care of foresee-vtpm; what forelab.Guest asks of a TPM."""

    def __init__(self, stack, ident):
        self.stack = stack
        self.uuid = ident
        self.home = stack.path("vtpms", ident)
        self.directory = self.home / "state"

    def vtpm(self, *words, check_exit=True):
        argv = [self.stack.program("foresee-vtpm"), "--config", self.stack.path("vtpm.conf"), *words]
        return forestack.run(argv, 60, check=check_exit)

    def manufacture(self, _config=None):
        if not self.home.exists():
            self.vtpm("create", self.uuid)

    def start(self):
        """`launch` does it."""

    def argv(self):
        return self.vtpm("args", self.uuid).split()

    def stop(self):
        """Its supervisor ends with QEMU, or now."""
        self.vtpm("stop", self.uuid, check_exit=False)


class AttestStack(forestack.Stack):
    """A Stack whose switch and storage are across a network."""

    def __init__(self, lab):
        super().__init__(lab, build=e2e.BUILD, roles=forestack.ROLES,
                         foreseed_settings={"attest-timeout-ms": "6000"})
        self.sockets = tempfile.mkdtemp(prefix="fv-")  # a socket's address is short: not below the test's folder
        # An issuer that ends after ten years; swtpm_localca would make one that never does.
        ca = self.hardware.directory / "ca"
        forestack.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ca / "key.pem", "-out",
                       ca / "issuer.pem", "-subj", "/CN=foresee-test-issuer", "-days", "3650", "-addext",
                       "keyUsage=critical,keyCertSign,cRLSign"])
        self.virtual = VtpmAuthority(self.directory / "vtpm")
        self.networks = {}
        self.rules = []  # lines of the manifest beside those that were learned
        self.pam_env = None

    def make_networks(self):
        """A namespace for each of switch and storage: 10.A.B.1 is here, 10.A.B.2 there."""
        pid = os.getpid()
        for i, role in enumerate(("switch", "storage")):
            name, net = f"fore{pid}{role[:2]}", f"10.{200 + pid % 50}.{pid // 50 * 2 % 256 + i}"
            ours, theirs = f"f{pid}{i}o", f"f{pid}{i}t"
            forestack.run(["ip", "netns", "add", name])
            self.networks[role] = (name, f"{net}.2")
            forestack.run(["ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name])
            forestack.run(["ip", "addr", "add", f"{net}.1/30", "dev", ours])
            forestack.run(["ip", "link", "set", ours, "up"])
            for words in (["addr", "add", f"{net}.2/30", "dev", theirs], ["link", "set", theirs, "up"],
                          ["link", "set", "lo", "up"]):
                forestack.run(["ip", "-n", name, *words])

    def remove_networks(self):
        for name, _ in self.networks.values():
            forestack.run(["ip", "netns", "del", name], check=False)

    def attester_address(self, role):
        return f"tcp:{self.networks[role][1]}:{PORT}" if role in self.networks else super().attester_address(role)

    def prepare(self):
        super().prepare()
        with open(self.path("hv1.conf"), "a", encoding="utf-8") as conf:
            conf.write(f"launch-log = {self.path('launch.log')}\n")
        self.path("vtpm.conf").write_text(
            f"[vtpm]\ntcti = {self.node_tpms['hypervisor'].tcti}\nstate-dir = {self.path('vtpms')}\n"
            f"run-dir = {self.sockets}\nca-dir = {self.virtual.ca}\nlaunch-log = {self.path('launch.log')}\n"
            f"libvirt-dir = {self.path('no-libvirt')}\n", encoding="utf-8")
        return self

    def start_pam(self):
        process = self.lab.spawn([self.program("foresee-pam"), "--config", self.path("pam.conf")],
                                 self.path("pam.log"), env=self.pam_env)
        forelab.wait_socket(self.path("pam.sock"), process, 20)
        self.processes["pam"] = process

    def start_attester(self, role, conf=None):
        if role not in self.networks:
            return super().start_attester(role)
        node = self.node_id(role)
        namespace, address = self.networks[role]
        argv = ["ip", "netns", "exec", namespace, self.program("foresee-attester"), "--config",
                conf or self.path(f"{node}.conf")]
        process = self.lab.spawn(argv, self.path(f"{node}.log"))
        self.processes[node] = process
        deadline, turn = time.monotonic() + 20, threading.Event()
        while True:
            try:
                socket.create_connection((address, PORT), 5).close()
                return process
            except OSError as e:
                if time.monotonic() > deadline or not process.running():
                    raise LabError(f"{node} does not listen: {e}; {process.log_tail()}") from e
                turn.wait(0.02)

    def set_reference(self):
        for line in self.rules:
            self.reference_lines.setdefault(line.split()[1], []).append(line)
        self.rules = []
        super().set_reference()

    def close(self):
        self.remove_networks()
        shutil.rmtree(self.sockets, ignore_errors=True)


def files_of(initrd):
    """{path: content} of the regular files in an initramfs of tools/guest-image: gzip, zeros, then plain cpio."""
    first, found = zlib.decompressobj(31), {}  # 31: a gzip member
    base = first.decompress(initrd.read_bytes())
    for archive in (base, first.unused_data.lstrip(b"\0")):
        at = 0
        while archive[at:at + 6] == b"070701":
            field = [int(archive[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
            name = archive[at + 110:at + 110 + field[11] - 1].decode()
            at += (110 + field[11] + 3) & ~3
            if field[1] & 0o170000 == 0o100000:
                found["/" + name] = archive[at:at + field[6]]
            at += (field[6] + 3) & ~3
    return found


class Pathway:
    """The stack, its guest, and what claims ask of them."""

    def __init__(self, lab):
        self.lab = lab
        self.stack = AttestStack(lab)
        self.guest = self.events = None
        self._hogs = []

    def end_guest(self):
        """For run_claim(): the guest outlives the claims."""

    def start(self):
        stack = self.stack
        stack.make_networks()
        stack.start()
        ident = str(uuid.uuid4())
        vtpm = HostedVtpm(stack, ident)
        vtpm.manufacture()
        self.first_state = stack.path("state-before-the-first-boot")
        shutil.copytree(vtpm.home, self.first_state)
        launcher = [stack.program("foresee-vtpm"), "--config", stack.path("vtpm.conf"), "launch", ident, "--"]
        self.guest = stack.guest(NAME, ident, tpm=vtpm, launcher=launcher)
        boot_s = self.guest.wait_boot(e2e.BOOT_LIMIT_S)
        stack.add(self.guest, **POLICY)
        self.events = forestack.Events(stack)
        stack.wait_state(self.guest, "ok", 60)
        return boot_s

    def close(self):
        if self.events:
            self.events.close()

    def set(self, **policy):
        self.stack.set(self.guest, **policy)

    def online(self):
        """vCPUs online in the guest, from the next three reports."""
        reports = self.guest.truth.reports
        first = reports.mark()
        self.guest.truth.wait(lambda r: reports.mark() >= first + 3, 30, "3 reports", after=first)
        return {r["online"] for r in reports.items[first:first + 3]}

    def load(self, seconds=30):
        """More busy processes than vCPUs that it may have, for the next @seconds at least."""
        self._hogs = [end for end in self._hogs if end > time.monotonic() + seconds]
        while len(self._hogs) < HOGS:
            self._hogs.append(time.monotonic() + HOG_S)
            self.guest.truth.command(f"hog {HOG_S}")

    def attest(self):
        """(exit code, verdict, {node: verdict}, reasons) of `foresee attest --json`."""
        done = self.stack.foresee("attest", NAME, check=False)
        answer = json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr}
        nodes = {n["id"]: n["verdict"] for n in answer.get("nodes", ())}
        return done.returncode, answer, nodes, {r for n in answer.get("nodes", ()) for r in n["reasons"]}

    def affirmed(self):
        until = time.monotonic() + 20  # foreseed connects anew to a PAM that was started anew
        code, answer, _, _ = self.attest()
        while "pam:unreachable" in answer.get("error", "") and time.monotonic() < until:
            time.sleep(0.5)
            code, answer, _, _ = self.attest()
        check(code == 0 and answer["verdict"] == "affirming", f"exit {code}: {answer}")
        return answer

    def denied(self, reason):
        """Wanting a third vCPU is denied for @reason and the two that are online stay; the event's reason."""
        self.load()
        mark = self.events.mark()
        self.set(max_vcpus=3)
        try:
            event = self.events.wait("DENIED", 40, mark)["data"]["reason"]
            print(f"# {event}")
            check(reason in event, f"denied, but not for {reason}: {event}")
            check(self.online() == {2}, "the guest did not keep what it had")
            check(not self.events.of("GRANT", mark), "there was a grant all the same")
        finally:
            self.set(max_vcpus=2)
        return event

    def expect(self, verdict, node, reason):
        """What `foresee attest` says: @node alone is at fault, for @reason."""
        code, answer, nodes, found = self.attest()
        print(f"# {answer['verdict']}: {sorted(found)}")
        check(code != 0 and answer["verdict"] == verdict, f"exit {code}, verdict {answer['verdict']}")
        check(nodes[node] == verdict, f"{node} is {nodes[node]}")
        check({n for n, v in nodes.items() if v != "affirming"} == {node}, f"nodes {nodes}")
        check(any(r.endswith(f":{reason}") for r in found), f"not for {reason}: {found}")
        check(not answer.get("grant"), "a grant all the same")

    def details(self):
        """What the newest verdict says beside its reasons."""
        return str([d for n in self.attest()[1]["nodes"] for d in n["details"]])

    def diagnose(self):
        for event in self.events.waiter.items[-60:] if self.events else ():
            if event["event"] not in ("FORECAST",):
                print(f"# {event['host_ns'] / 1e9:.2f} {event['event']} {event['data']}")
        for log in sorted(self.stack.directory.glob("*.log")):
            for line in log.read_text(errors="replace").splitlines()[-8:]:
                print(f"# {log.name}: {line}")


@claim("pathway-across-a-network-is-granted-and-the-guest-grows")
def _(path):
    stack, ident = path.stack, path.guest.uuid
    code, before, _, _ = path.attest()
    check(code != 0 and before.get("verdict") != "affirming", f"affirmed before the enrolment: {before}")
    listed = {hashlib.sha256(data).hexdigest() for data in files_of(path.guest.options["initrd"]).values()}
    stack.rules = [f"vm {ident} ima file sha256:{digest} *" for digest in sorted(listed)]
    measured = forestack.run([stack.program("foresee-vtpm"), "--config", stack.path("vtpm.conf"), "measure", ident, "--",
                              *path.guest.process.argv[len(path.guest.launcher):]])
    stack.rules += [line for line in measured.splitlines() if line.startswith(f"vm {ident} launch ")]
    check(any(" launch cmdline " in line for line in stack.rules), f"measure says: {measured}")
    stack.enrol(path.guest)
    answer = path.affirmed()
    nodes = {n["id"]: n["verdict"] for n in answer["nodes"]}
    check(nodes == {n: "affirming" for n in ("hv1", "sw1", "st1", ident)}, f"nodes {nodes}")
    path.load()
    mark = path.events.mark()
    path.set(mode="enforce", max_vcpus=2)
    path.events.wait("GRANT", 40, mark)
    path.guest.truth.wait(lambda r: r["online"] == 2, 40, "a second vCPU online")


@claim("killed-attester-is-none-and-nothing-grows")
def _(path):
    os.kill(path.stack.processes["st1"].pid, 9)
    path.stack.stop_daemon("st1")
    try:
        path.denied("st1:unreachable")
        path.expect("none", "st1", "unreachable")
    finally:
        path.stack.start_attester("storage")
    path.affirmed()


@claim("attester-with-another-hosts-tpm-is-refused")
def _(path):
    stack = path.stack
    other = forelab.Swtpm(path.lab, "tpm-other", str(uuid.uuid4()))
    other.manufacture(stack.hardware.config)  # as good a TPM, of the same maker
    other.start(serve=True)
    conf = stack.path("sw1.conf")
    moved = stack.path("sw1-moved.conf")
    moved.write_text(conf.read_text(encoding="utf-8").replace(stack.node_tpms["switch"].tcti, other.tcti),
                     encoding="utf-8")
    stack.stop_daemon("sw1")
    stack.start_attester("switch", moved)
    try:
        path.denied("sw1:bad-signature")
        path.expect("contraindicated", "sw1", "bad-signature")
    finally:
        stack.stop_daemon("sw1")
        stack.start_attester("switch")
        other.stop()
    _, _, _, found = path.attest()
    check("sw1:sticky-failure" in found, f"it does not stick: {found}")
    stack.pam("release", "sw1")
    path.affirmed()


@claim("evidence-kept-from-an-earlier-question-is-refused")
def _(path):
    stack = path.stack
    namespace, address = stack.networks["switch"]
    key = sea_host.new_key(stack.path("replayer.pem"))
    stack.stop_daemon("sw1")
    # The attester behind it: same TPM, and takes the replayer for the PAM.
    conf = stack.path("sw1-behind.conf")
    pin = hashlib.sha256(subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-outform", "DER"], check=True,
                                        capture_output=True).stdout).hexdigest()
    conf.write_text(f"[attester]\nid = sw1\nrole = switch\nlisten = unix:{stack.path('behind.sock')}\n"
                    f"tcti = {stack.node_tpms['switch'].tcti}\npam-pin = {pin}\n"
                    f"state-dir = {stack.path('attester-behind')}\n", encoding="utf-8")
    stack.start_daemon("behind", [stack.program("foresee-attester"), "--config", conf], stack.path("behind.sock"))
    node = replayer.Replayer(namespace, address, PORT, stack.path("attester-switch", "attester-key.pem"),
                             stack.path("behind.sock"), key, path.lab.directory)
    try:
        path.affirmed()  # the first answer is to the question that was asked
        check(node.kept is not None and not node.replayed, "the first quote did not come through")
        path.denied("sw1:nonce-mismatch")
        path.expect("contraindicated", "sw1", "nonce-mismatch")
        check(node.replayed >= 2, f"{node.replayed} answers were replayed")
    finally:
        node.close()
        stack.stop_daemon("behind")
        stack.start_attester("switch")
    stack.pam("release", "sw1")
    path.affirmed()


@claim("without-the-pams-token-there-is-an-alarm-and-no-grant")
def _(path):
    stack = path.stack
    tokens, away = stack.path("token", "tokens"), stack.path("token", "pulled-out")
    operator = sea_host.Host(stack.path("pam.sock"), stack.path("operator.pem"), path.lab.directory)
    tokens.rename(away)
    tokens.mkdir(mode=0o700)
    try:
        path.denied("pam:")
        alarm = operator.wait_event("ALARM")
        print(f"# {alarm}")
        check(alarm["what"] == "signing-key", f"alarm {alarm}")
        code, answer, _, _ = path.attest()
        check(code != 0 and answer.get("verdict") != "affirming" and not answer.get("grant"), f"exit {code}: {answer}")
    finally:
        tokens.rmdir()
        away.rename(tokens)
        operator.close()
    path.affirmed()


@claim("expired-certificate-is-not-enrolled")
def _(path):
    library = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not library:
        raise e2e.Skip("libfaketime is not installed; run tools/setup")
    stack = path.stack
    stack.stop_daemon("pam")
    stack.pam_env = {**os.environ, "LD_PRELOAD": library[0], "FAKETIME": f"+{YEARS_30}d",
                     "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    stack.start_pam()
    try:
        done = stack.pam("enroll-node", "st1", "--role", "storage", "--address", stack.attester_address("storage"),
                         "--pin", stack.attester_pins["storage"], check=False)
        print(f"# {done.stderr.strip()}")
        check(done.returncode != 0 and "ekcert-expired" in done.stderr, f"exit {done.returncode}: {done.stderr}")
        check(path.online() == {2}, "the guest did not keep what it had")
    finally:
        stack.stop_daemon("pam")
        stack.pam_env = None
        stack.start_pam()
    stack.pam("enroll-node", "st1", "--role", "storage", "--address", stack.attester_address("storage"), "--pin",
              stack.attester_pins["storage"])
    path.affirmed()


@claim("vtpm-state-copied-to-a-second-vm-is-not-started")
def _(path):
    mine = path.guest.tpm
    second = HostedVtpm(path.stack, str(uuid.uuid4()))
    second.manufacture()
    kept = path.stack.path("second-own")
    for what in ("state alone", "state and key"):
        if not kept.exists():
            shutil.copytree(second.home, kept)
        shutil.rmtree(second.home)
        shutil.copytree(mine.home if what == "state and key" else kept, second.home)
        shutil.rmtree(second.directory)
        shutil.copytree(mine.directory, second.directory)
        done = second.vtpm("run", second.uuid, check_exit=False)
        print(f"# {what}: exit {done.returncode}: {done.stderr.strip()}")
        check(done.returncode == 3, f"{what}: exit {done.returncode}")
    check(path.online() == {2}, "the guest did not keep what it had")
    path.affirmed()


@claim("unlisted-program-in-the-guest-is-refused")
def _(path):
    path.guest.truth.command("tamper-ima")
    path.denied("guest:ima-")
    path.expect("contraindicated", path.guest.uuid, "sticky-failure")
    path.stack.pam("release", path.guest.uuid)
    path.expect("contraindicated", path.guest.uuid, "ima-unlisted")
    check("/tmp/evil" in path.details(), f"it is not named: {path.details()}")


@claim("extended-pcr-in-the-guest-is-refused")
def _(path):
    path.stack.pam("release", path.guest.uuid)
    path.guest.truth.command("tamper-pcr")
    path.denied("guest:evidence-pcr-value")
    path.stack.pam("release", path.guest.uuid)
    path.expect("contraindicated", path.guest.uuid, "evidence-pcr-value")
    check("PCR 8" in path.details(), f"the PCR is not named: {path.details()}")


@claim("rolled-back-vtpm-state-is-not-started")
def _(path):
    vtpm = path.guest.tpm
    path.guest.stop()
    newest = path.stack.path("state-newest")
    shutil.copytree(vtpm.home, newest)
    shutil.rmtree(vtpm.home)
    shutil.copytree(path.first_state, vtpm.home)
    done = vtpm.vtpm("run", vtpm.uuid, check_exit=False)
    print(f"# exit {done.returncode}: {done.stderr.strip()}")
    check(done.returncode == 3, f"exit {done.returncode}")
    listed = json.loads(vtpm.vtpm("--json", "list"))
    check([v["state"] for v in listed if v["uuid"] == vtpm.uuid] == ["refused"], f"list says {listed}")
    shutil.rmtree(vtpm.home)
    shutil.copytree(newest, vtpm.home)
    vtpm.vtpm("start", vtpm.uuid)  # the newest is taken: it was its age that was refused
    vtpm.vtpm("stop", vtpm.uuid)


def build_image(directory):
    """The guest image of the programs on test, in place of build/guest."""
    subprocess.run([e2e.ROOT / "tools/guest-image", "--sea", e2e.BUILD / "foresee-sea", "--workload",
                    e2e.BUILD / "guest-image/fore-workload", "--out", directory], check=True, stdout=sys.stderr)
    forelab.GUEST = pathlib.Path(directory)


def run(directory):
    with forelab.Lab(directory) as lab:
        path = Pathway(lab)
        try:
            try:
                boot_s = path.start()
            except LabError as e:
                path.diagnose()
                return e2e.bail_out("the stack does not come up", e)
            print(f"# booted in {boot_s:.1f} s", flush=True)
            status = e2e.run_claims(path, "attest")
            if status:
                path.diagnose()
        finally:
            path.close()
            lab.close()
            path.stack.close()
    return status


def main():
    for program in ("qemu-system-x86_64", "swtpm", "openssl", "busybox", "softhsm2-util", "ip"):
        if not shutil.which(program):
            return e2e.skip_all(f"{program} is not installed; run tools/setup")
    if not (e2e.ROOT / "build/deps/kernel/vmlinuz").exists():
        return e2e.skip_all("no guest kernel in build/deps/kernel; run tools/setup")
    probe = f"fore-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode != 0:
        return e2e.skip_all("network namespaces cannot be made here")
    forestack.run(["ip", "netns", "del", probe])
    e2e.plan()
    with tempfile.TemporaryDirectory(prefix="fore-image-") as image, \
            tempfile.TemporaryDirectory(prefix="fore-e2e-") as directory:
        build_image(image)
        return run(directory)


if __name__ == "__main__":
    sys.exit(main())
