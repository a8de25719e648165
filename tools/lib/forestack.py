# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole of Foresee around one guest: host TPM, PAM, attester, foreseed, and the operator's commands.

Used by tools/demo and tests/e2e.  Every program is the built one, run as an operator would run it; this file
only writes their configuration and calls `foresee`.
"""

import json
import os
import pathlib
import subprocess
import threading
import time
import uuid as uuid_module

import forelab

ROOT = forelab.ROOT
ROLES = ("hypervisor", "switch", "storage")


class StackError(forelab.LabError):
    """A command of the operator failed; the message has what it printed."""


def run(argv, timeout_s=90, check=True, stdin=None):
    """Runs a command to its end; stdout.  Fails with what it printed."""
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, input=stdin, check=False)
    except subprocess.TimeoutExpired as e:
        raise StackError(f"{' '.join(argv)}: no end within {timeout_s} s") from e
    if check and done.returncode != 0:
        raise StackError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout if check else done


class Events:
    """`foresee --json events -f`, collected: items are {"event", "data", "host_ns"}."""

    def __init__(self, stack):
        self.waiter = forelab.Waiter("foreseed's events")
        argv = [stack.program("foresee"), "--socket", stack.control, "--json", "events", "-f"]
        self._popen = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                       text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._popen.stdout:
            item = json.loads(line)
            item["host_ns"] = forelab.now_ns()
            self.waiter.add(item)
        self.waiter.close("foresee events ended")

    def wait(self, name, timeout_s, after=0, predicate=lambda d: True):
        return self.waiter.wait(lambda e: e["event"] == name and predicate(e["data"]), timeout_s, after,
                                f"event {name}")

    def of(self, name, after=0):
        return [e for e in self.waiter.items[after:] if e["event"] == name]

    def mark(self):
        return self.waiter.mark()

    def close(self):
        self._popen.kill()
        self._popen.wait()
        self._thread.join(5)
        self._popen.stdout.close()


class Authority:
    """A certificate authority for TPMs of its own: hardware and virtual ones must not share an anchor."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        state = self.directory / "ca"
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / "localca.conf").write_text(
            f"statedir = {state}\nsigningkey = {state}/key.pem\nissuercert = {state}/issuer.pem\n"
            f"certserial = {state}/serial\n", encoding="utf-8")
        (self.directory / "localca.options").write_text(
            "--platform-manufacturer Foresee\n--platform-version 1\n--platform-model Lab\n", encoding="utf-8")
        self.config = self.directory / "setup.conf"
        self.config.write_text(
            "create_certs_tool = /usr/bin/swtpm_localca\n"
            f"create_certs_tool_config = {self.directory}/localca.conf\n"
            f"create_certs_tool_options = {self.directory}/localca.options\nactive_pcr_banks = sha256\n",
            encoding="utf-8")

    def bundle(self):
        """PEM with issuer and root; there once a TPM was manufactured."""
        state = self.directory / "ca"
        out = self.directory / "bundle.pem"
        out.write_text("".join(p.read_text(encoding="utf-8") for p in sorted(state.glob("*.pem"))
                               if "BEGIN CERTIFICATE" in p.read_text(encoding="utf-8")), encoding="utf-8")
        return out


class Stack:
    """PAM, attesters, foreseed and the guests of one host, in the Lab's directory."""

    def __init__(self, lab, build=None, roles=("hypervisor",), foreseed_settings=None, software_key=False):
        self.lab = lab
        self.directory = lab.directory
        self.build = pathlib.Path(build) if build else ROOT / "build"
        self.roles = roles
        self.settings = foreseed_settings or {}
        self.software_key = software_key  # the PAM signs with a file: for who wants to forge
        self.control = f"unix:{self.directory}/foreseed.sock"
        self.pam_address = f"unix:{self.directory}/pam.sock"
        self.pages = self.directory / "page"
        self.pages.mkdir(mode=0o700, exist_ok=True)
        self.hardware = Authority(self.directory / "hardware")
        self.virtual = Authority(self.directory / "virtual")
        self.processes = {}
        self.node_tpms = {}
        self.reference_version = 0
        self.reference_lines = {}

    def program(self, name):
        path = self.build / name
        if not path.exists():
            raise StackError(f"{path} is not built: run tools/dev build")
        return path

    def path(self, *parts):
        return self.directory.joinpath(*parts)

    # --- bringing it up ---

    def _make_token(self):
        """A PKCS#11 token in a folder with the PAM's signing key; lines for its configuration."""
        directory = self.path("token")
        uri = f"pkcs11:token=foresee;object=grant?pin-source=file:{directory}/pin"
        lines = f"signing-key = {uri}\npkcs11-module = /usr/lib/softhsm/libsofthsm2.so\n"
        os.environ["SOFTHSM2_CONF"] = str(directory / "softhsm2.conf")  # the PAM inherits it
        if directory.exists():
            return lines
        (directory / "tokens").mkdir(mode=0o700, parents=True)
        (directory / "pin").write_text("1234", encoding="utf-8")
        (directory / "softhsm2.conf").write_text(
            f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n",
            encoding="utf-8")
        key = directory / "key.pem"
        run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key])
        run(["softhsm2-util", "--init-token", "--free", "--label", "foresee", "--pin", "1234", "--so-pin", "12345678"])
        run(["softhsm2-util", "--import", key, "--token", "foresee", "--label", "grant", "--id", "01", "--pin", "1234"])
        key.unlink()
        return lines

    def _write_pam(self, agent_pins, operator_pins):
        self.path("pam.conf").write_text(
            "[pam]\n"
            f"listen = {self.pam_address}\nstate-dir = {self.path('pam')}\nname = demo-pam\n"
            f"agent-pins = {';'.join(agent_pins)}\noperator-pins = {';'.join(operator_pins)}\n"
            f"hardware-ca = {self.hardware.bundle()}\nvtpm-ca = {self.virtual.bundle()}\n"
            f"policy-key = {self.path('policy.pem.pub')}\n"
            f"allow-software-tpm = true\nrequire-crl = false\n{self.signing_key}", encoding="utf-8")

    def _write_foreseed(self, pam_pin):
        settings = {"control": self.control, "state-dir": self.path("foreseed"),
                    "tcti": self.node_tpms["hypervisor"].tcti, "pam-address": self.pam_address, "pam-pin": pam_pin,
                    "overcommit": "4", **self.settings}
        self.path("foreseed.conf").write_text(
            "[foreseed]\n" + "".join(f"{k} = {v}\n" for k, v in settings.items()), encoding="utf-8")

    def node_id(self, role):
        return {"hypervisor": "hv1", "switch": "sw1", "storage": "st1"}[role]

    def attester_address(self, role):
        return f"unix:{self.path(self.node_id(role) + '.sock')}"

    def prepare(self):
        """Keys, certificates and configuration files; nothing runs yet but the nodes' TPMs."""
        for role in self.roles:
            tpm = forelab.Swtpm(self.lab, f"tpm-{role}", str(uuid_module.uuid4()))
            if not (tpm.directory / "tpm2-00.permall").exists():
                tpm.manufacture(self.hardware.config)
            self.node_tpms[role] = tpm.start(serve=True)
        throwaway = forelab.Swtpm(self.lab, "tpm-ca-only", str(uuid_module.uuid4()))
        throwaway.manufacture(self.virtual.config)  # makes the virtual authority's certificates
        if not self.path("policy.pem").exists():
            run([self.program("foresee-pam"), "--new-policy-key", self.path("policy.pem")])
        self.signing_key = "insecure-software-key = true\n" if self.software_key else self._make_token()
        self._write_pam([], [])
        self.pam_pin = run([self.program("foresee-pam"), "--config", self.path("pam.conf"), "--print-pin"]).strip()
        self._write_foreseed(self.pam_pin)
        self.host_pin = run([self.program("foreseed"), "--config", self.path("foreseed.conf"),
                             "--print-pin"]).strip()
        self.operator_pin = run([self.program("foresee"), "--identity", self.path("operator.pem"), "pam",
                                 "pin"]).strip()
        self._write_pam([self.host_pin], [self.operator_pin])
        self.attester_pins = {}
        for role in self.roles:
            conf = self.path(f"{self.node_id(role)}.conf")
            conf.write_text(
                "[attester]\n"
                f"id = {self.node_id(role)}\nrole = {role}\nlisten = {self.attester_address(role)}\n"
                f"tcti = {self.node_tpms[role].tcti}\npam-pin = {self.pam_pin}\n"
                f"state-dir = {self.path('attester-' + role)}\n", encoding="utf-8")
            self.attester_pins[role] = run([self.program("foresee-attester"), "--config", conf,
                                            "--print-pin"]).strip()
        self.grant_key = self.path("pam-grant.pem")
        run([self.program("foresee-pam"), "--config", self.path("pam.conf"), "--export-key", self.grant_key])
        return self

    def start_daemon(self, name, argv, socket_path, timeout_s=20):
        process = self.lab.spawn(argv, self.path(f"{name}.log"))
        forelab.wait_socket(socket_path, process, timeout_s)
        self.processes[name] = process
        return process

    def start_pam(self):
        return self.start_daemon("pam", [self.program("foresee-pam"), "--config", self.path("pam.conf")],
                                 self.path("pam.sock"))

    def start_attester(self, role):
        node = self.node_id(role)
        return self.start_daemon(node, [self.program("foresee-attester"), "--config", self.path(f"{node}.conf")],
                                 self.path(f"{node}.sock"))

    def start_foreseed(self):
        return self.start_daemon("foreseed", [self.program("foreseed"), "--config", self.path("foreseed.conf")],
                                 self.path("foreseed.sock"))

    def stop_daemon(self, name):
        self.lab.reap(self.processes.pop(name))

    def start(self):
        self.prepare()
        self.start_pam()
        for role in self.roles:
            self.start_attester(role)
        self.start_foreseed()
        for role in self.roles:
            self.pam("enroll-node", self.node_id(role), "--role", role, "--address", self.attester_address(role),
                     "--pin", self.attester_pins[role])
        return self

    # --- the operator ---

    def foresee(self, *args, check=True, timeout_s=90):
        argv = [self.program("foresee"), "--socket", self.control, "--json", *args]
        done = run(argv, timeout_s, check=False)
        if check and done.returncode != 0:
            raise StackError(f"foresee {' '.join(str(a) for a in args)}: exit {done.returncode}: {done.stderr.strip()}")
        if not check:
            return done
        return json.loads(done.stdout) if done.stdout.strip() else None

    def pam(self, *args, check=True):
        argv = [self.program("foresee"), "--pam", self.pam_address, "--pam-pin", self.pam_pin, "--identity",
                self.path("operator.pem"), "--json", "pam", *args]
        done = run(argv, 90, check=False)
        if check and done.returncode != 0:
            raise StackError(f"foresee pam {' '.join(str(a) for a in args)}: exit {done.returncode}: "
                             f"{done.stderr.strip()}")
        if not check:
            return done
        return json.loads(done.stdout) if done.stdout.strip() else None

    def learn(self, kind, ident):
        """Take over what a node or VM measures now into the reference values (not yet in force)."""
        text = self.pam("learn", kind, ident)["reference"]
        self.reference_lines[ident] = [line for line in text.splitlines() if line.startswith(f"{kind} ")]

    def set_reference(self):
        """Sign all that was learned, and put it in force."""
        self.reference_version += 1
        lines = [line for ident in self.reference_lines for line in self.reference_lines[ident]]
        text = self.path(f"reference-{self.reference_version}.txt")
        text.write_text(f"foresee-reference 1\nversion {self.reference_version}\n" + "\n".join(lines) + "\n",
                        encoding="utf-8")
        signed = text.with_suffix(".jws")
        run([self.program("foresee-pam"), "--sign-reference", text, "--key", self.path("policy.pem"), "--out", signed])
        self.pam("set-reference", signed)

    # --- guests ---

    def guest(self, name="guest", uuid=None, plugin=True, **options):
        """A guest whose image pins this PAM and this host agent; started, not waited for."""
        ident = uuid or str(uuid_module.uuid4())
        directory = self.path(name)
        directory.mkdir(mode=0o700, exist_ok=True)
        initrd = directory / "initramfs.cpio.gz"
        run([ROOT / "tools/guest-image", "--personalise", "--pam-key", self.grant_key, "--host-pin", self.host_pin,
             "--uuid", ident, "--out", initrd, "--base", forelab.GUEST / "initramfs.cpio.gz"])
        page = self.pages / name
        option = forelab.plugin_option(page, ident, self.build / "qemu-plugin/libforesee-profiler.so") if plugin else None
        guest = self.lab.guest(name, uuid=ident, initrd=initrd, plugin=option, **options)
        guest.page = page
        guest.tpm.manufacture(self.virtual.config)
        return guest.start()

    def add(self, guest, **policy):
        settings = [f"{k.replace('_', '-')}={v}" for k, v in policy.items()]
        self.foresee("vm", "add", guest.name, "--uuid", guest.uuid, "--qmp", guest.paths["qmp"], "--page", guest.page,
                     "--sea", guest.paths["sea"], *settings)

    def set(self, guest, **policy):
        self.foresee("vm", "set", guest.name, *[f"{k.replace('_', '-')}={v}" for k, v in policy.items()])

    def show(self, guest):
        return self.foresee("vm", "show", guest.name)

    def wait_state(self, guest, state, timeout_s=60):
        """Until foreseed says so of the VM; it is asked when an event comes, so nothing is polled by the clock."""
        deadline = time.monotonic() + timeout_s
        events = Events(self)
        try:
            mark = 0
            while True:
                vm = self.show(guest)
                if vm["state"] == state and vm["capacity"]["vcpus-online"] > 0:
                    return vm
                left = deadline - time.monotonic()
                if left <= 0:
                    raise StackError(f"{guest.name} is '{vm['state']}', not '{state}', after {timeout_s} s: "
                                     f"{json.dumps(vm['sources'])}")
                events.waiter.wait(lambda e: True, left, mark, "any event")
                mark = events.mark()
        finally:
            events.close()

    def enrol(self, guest):
        """vTPM and pathway enrolled, present state learned, signed and in force."""
        self.foresee("vm", "enroll", guest.name, *[self.node_id(r) for r in self.roles])
        for role in self.roles:
            if self.node_id(role) not in self.reference_lines:
                self.learn("node", self.node_id(role))
        # A VM is learned from evidence that the PAM has just verified; without reference values it is not affirmed.
        self.foresee("attest", guest.name, check=False)
        self.learn("vm", guest.uuid)
        self.set_reference()
