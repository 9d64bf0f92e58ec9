"""The way from a worker to the run that it works for: nobody is let in without the run's token.

daisy asks nobody who he is: whoever reaches its port may take blocks. So it listens on this machine alone (127.0.0.1),
and workers, wherever they are, come through a gate in front of it:

    worker's daisy client -> passage, 127.0.0.1 there -> gate, at a host that the user names -> daisy, 127.0.0.1 here

The gate sends random bytes, and the worker answers with their HMAC by the token, which no one on the way learns. The
token is new in every run and lies in the environment of the workers, which only their user can read. What is sent
afterwards (numbers of blocks, no voxels) is not encrypted. Other users of this very machine reach daisy's port without
the gate; that a block was reported as done is therefore believed only with its mark (workers.py).
"""

import contextlib
import hmac
import ipaddress
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

from maeref_jax.errors import BadInput, CannotGoOn

LOOPBACK = "127.0.0.1"
_PATIENCE_S = 20.0  # for the other side to say something, before it is let in
_RANDOM, _PROOF, _PORT = 32, 32, 2  # bytes
_LET_IN = b"+"


class Pass(NamedTuple):
    """What a worker needs to be let in: where the gate is, and the token."""

    host: str
    port: int
    token: str

    @property
    def text(self) -> str:
        return f"{self.token}@{self.host}@{self.port}"


def read_pass(text: str) -> Pass:
    """The inverse of Pass.text."""
    token, host, port = text.split("@")
    return Pass(host, int(port), token)


@contextlib.contextmanager
def guarded(host: str) -> Iterator[Pass]:
    """A gate at a free port of `host`, a name or address of this machine, while inside.

    Raises:
        BadInput: this machine cannot listen there.
    """
    with _listening(host) as listener:
        made = Pass(host, listener.getsockname()[1], secrets.token_hex(32))
        threading.Thread(target=_admit_all, args=(listener, made.token), name="gate", daemon=True).start()
        try:
            yield made
        finally:
            _end(listener)


@contextlib.contextmanager
def passage(given: Pass, port: int) -> Iterator[int]:
    """A port of this machine that leads, once, through the gate to `port` of the machine behind it.

    Raises:
        CannotGoOn: there is no gate, or it lets nobody in with this token.
    """
    with contextlib.ExitStack() as opened:
        try:
            outer = opened.enter_context(socket.create_connection((given.host, given.port), _PATIENCE_S))
            asked = _exactly(outer, _RANDOM)
            outer.sendall(_proof(given.token, asked, port) + port.to_bytes(_PORT, "big"))
            _exactly(outer, len(_LET_IN))
        except OSError as error:
            raise CannotGoOn(
                f"this worker does not get to its run at {given.host} port {given.port} ({error}); if the run goes on, "
                "name a host of its machine that this one can reach: --config.worker_host=NAME"
            ) from error
        listener = opened.enter_context(_listening(LOOPBACK))

        def lead():
            with contextlib.suppress(OSError):
                inner, _ = listener.accept()  # one, and no other
                listener.close()
                _join(outer, inner)

        threading.Thread(target=lead, name="passage", daemon=True).start()
        opened.callback(_end, listener)
        yield listener.getsockname()[1]


def _listening(host: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(address[0]).is_unspecified:
                raise OSError("that is every address of this machine, and none that a worker could go to")
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise BadInput(
            f"--config.worker_host={host}: no gate for workers can be opened there ({error}); expected a name or an "
            "address of this machine that the workers' machines can reach"
        ) from error


def _end(listener: socket.socket) -> None:
    """Wakes whoever waits at it: closing alone would leave it open for as long as he waits."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)


def _admit_all(listener: socket.socket, token: str) -> None:
    with contextlib.suppress(OSError):  # closed: the run is over
        while True:
            outer, _ = listener.accept()
            threading.Thread(target=_admit, args=(outer, token), name="worker", daemon=True).start()


def _admit(outer: socket.socket, token: str) -> None:
    """Joins a worker that knows the token with the port that it asks for, and closes to anybody else."""
    with outer, contextlib.suppress(OSError):
        outer.settimeout(_PATIENCE_S)
        asked = secrets.token_bytes(_RANDOM)
        outer.sendall(asked)
        answer = _exactly(outer, _PROOF + _PORT)
        port = int.from_bytes(answer[_PROOF:], "big")
        if hmac.compare_digest(answer[:_PROOF], _proof(token, asked, port)):
            inner = socket.create_connection((LOOPBACK, port), _PATIENCE_S)
            outer.sendall(_LET_IN)
            _join(outer, inner)


def _proof(token: str, asked: bytes, port: int) -> bytes:
    return hmac.digest(token.encode(), asked + port.to_bytes(_PORT, "big"), "sha256")


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise ConnectionError("the other side has closed: another run, or another token")
        found += more
    return found


def _join(one: socket.socket, other: socket.socket) -> None:
    """Hands on what either side sends, until both have ended."""
    for side in (one, other):
        side.settimeout(None)
        side.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine that is gone is noticed

    def hand_on(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=hand_on, args=(other, one), daemon=True)
    with one, other:
        back.start()
        hand_on(one, other)
        back.join()
