# SPDX-License-Identifier: GPL-2.0-or-later
"""A host agent in a few lines, for what foreseed itself would never send: old, foreign and forged grants.

It speaks docs/wire-format.md over TLS 1.3 to a guest's SEA and to the PAM, with any key.  Forgeries are signed with
openssl.
"""

import base64
import hashlib
import json
import pathlib
import socket
import ssl
import subprocess
import time

from forelab import LabError


def _openssl(*argv, stdin=None):
    done = subprocess.run(["openssl", *map(str, argv)], input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        raise LabError(f"openssl {argv[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def new_key(path):
    path = pathlib.Path(path)
    path.write_bytes(_openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))
    return path


def _b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims_of(grant):
    return json.loads(_unb64(grant.split(".")[1]))


def _raw_signature(der):
    """The two integers of an ECDSA signature in DER (short form: P-256), 32 bytes each."""
    at, out = 2, b""
    for _ in range(2):
        size = der[at + 1]
        out += der[at + 2:at + 2 + size].lstrip(b"\0").rjust(32, b"\0")
        at += 2 + size
    return out


def sign_grant(like, key, **changes):
    """A grant as @like but with other claims and new times, signed by @key.  @changes: claim=value"""
    now = int(time.time())
    claims = {**claims_of(like), "iat": now, "exp": now + 30, **changes}
    signed = like.split(".")[0] + "." + _b64(json.dumps(claims).encode())
    return signed + "." + _b64(_raw_signature(_openssl("dgst", "-sha256", "-sign", key, stdin=signed.encode())))


def flip_signature(grant):
    signed, signature = grant.rsplit(".", 1)
    raw = bytearray(_unb64(signature))
    raw[len(raw) // 2] ^= 1
    return signed + "." + _b64(bytes(raw))


def ask_grant(sea, pam, vm, vcpus, memory_bytes):
    """A grant as foreseed would get it: @sea and @pam are Hosts with foreseed's key, @vm is a UUID."""
    run = pam.execute("begin", vm=vm)
    evidence = sea.execute("sea-attest", nonce=run["nonce"], pcr_mask=run["pcr-mask"])
    answer = pam.execute("finish", session=run["session"], evidence=evidence, channel_pin=sea.peer_pin(),
                         vcpus=vcpus, memory_bytes=memory_bytes)
    if "grant" not in answer:
        raise LabError(f"the PAM grants nothing: {answer}")
    return answer["grant"]


class Host:
    """A connection to who listens on the socket @path, as the owner of the private key in file @key."""

    def __init__(self, path, key, directory, timeout_s=20.0):
        self._rest = b""
        self._socket = None
        self._events = []
        certificate = pathlib.Path(directory) / f"{pathlib.Path(key).stem}-host.crt"
        certificate.write_bytes(_openssl("req", "-x509", "-new", "-key", key, "-subj", "/CN=host", "-days", "2"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # here the other side is on test, not we
        context.load_cert_chain(certificate, key)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._connect(path, context)
                return
            except (OSError, LabError) as e:  # what is left of the host before us ends one attempt
                self.close()
                if time.monotonic() > deadline:
                    raise LabError(f"{path} does not take us within {timeout_s} s: {e}") from e

    def _connect(self, path, context):
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.settimeout(3)
        try:
            plain.connect(str(path))
            self._socket = context.wrap_socket(plain)
        except OSError:
            plain.close()
            raise
        self._rest = b""
        if "QMP" not in self._line():
            raise LabError("no greeting")
        self.execute("qmp_capabilities")

    def _line(self):
        while b"\n" not in self._rest:
            data = self._socket.recv(65536)
            if not data:
                raise LabError("the other side ended the connection")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line)

    def peer_pin(self):
        """SHA-256 of the other side's public key, as everywhere in Foresee."""
        certificate = self._socket.getpeercert(binary_form=True)
        public = _openssl("x509", "-inform", "DER", "-noout", "-pubkey", stdin=certificate)
        return hashlib.sha256(_openssl("pkey", "-pubin", "-outform", "DER", stdin=public)).hexdigest()

    def execute(self, command, **arguments):
        """What the command returned, or its error as {"error": ...}."""
        request = {"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._line()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                return answer
            self._events.append(answer)

    def wait_event(self, name, timeout_s=20.0):
        """The data of the next event of that name."""
        self._socket.settimeout(timeout_s)
        while True:
            event = self._events.pop(0) if self._events else self._line()
            if event.get("event") == name:
                return event["data"]

    def close(self):
        if self._socket:
            self._socket.close()
            self._socket = None
