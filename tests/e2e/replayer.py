# SPDX-License-Identifier: GPL-2.0-or-later
"""A node that was taken over: it has the attester's own channel key, and answers the PAM with evidence that it kept.

It stands where the attester stood and speaks docs/wire-format.md.  Behind it the real attester runs, which takes it
for the PAM, so what it keeps is true evidence of the node's own TPM; only the question was another one.
"""

import ctypes
import json
import os
import pathlib
import socket
import ssl
import subprocess
import threading

import forelab
import sea_host

_CLONE_NEWNET = 0x40000000
_GREETING = {"QMP": {"version": {"qemu": {"major": 0, "minor": 1, "micro": 0}, "package": "replayer"},
                     "capabilities": []}}


def _listen_in(namespace, address, port):
    """A listening socket that belongs to another network namespace; made by the calling thread, which stays there."""
    with open(f"/run/netns/{namespace}", "rb") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), _CLONE_NEWNET) != 0:
            raise forelab.LabError(f"cannot enter {namespace}: {os.strerror(ctypes.get_errno())}")
    return socket.create_server((address, port))


class Replayer:
    """Listens in @namespace with the private key in file @key; asks the attester at @behind with @own_key."""

    def __init__(self, namespace, address, port, key, behind, own_key, directory):
        self.kept = None  # the evidence that is told for ever
        self.replayed = 0
        self._attester = sea_host.Host(behind, own_key, directory)
        certificate = pathlib.Path(directory) / "replayer.crt"
        subprocess.run(["openssl", "req", "-x509", "-new", "-key", key, "-subj", "/CN=node", "-days", "2", "-out",
                        certificate], check=True, capture_output=True)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.load_cert_chain(certificate, key)
        self._where = (namespace, address, port)
        self._listener, self._ready, self._failure = None, threading.Event(), None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._ready.wait(10)
        if self._listener is None:
            raise forelab.LabError(f"the replayer does not listen: {self._failure}")

    def _serve(self):
        try:
            self._listener = _listen_in(*self._where)
        except (OSError, forelab.LabError) as e:
            self._failure = e
            return
        finally:
            self._ready.set()
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as peer:
                    self._talk(peer)
            except OSError:
                pass  # the PAM hangs up when it has heard enough

    def _talk(self, peer):
        peer.sendall(json.dumps(_GREETING).encode() + b"\n")
        with peer.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line)
                answer = self._answer(request["execute"], request.get("arguments", {}))
                peer.sendall(json.dumps({**answer, "id": request.get("id")}).encode() + b"\n")

    def _answer(self, command, arguments):
        if command == "qmp_capabilities":
            return {"return": {}}
        if command == "attester-quote" and self.kept is not None:
            self.replayed += 1
            return {"return": self.kept}
        answer = self._attester.execute(command, **arguments)
        if command == "attester-quote":
            self.kept = answer
        return {"return": answer}

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        self._attester.close()
