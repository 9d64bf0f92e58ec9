"""The gate in front of daisy: who knows the token is let through, nobody else is, and nobody keeps others waiting."""

import contextlib
import socket
import threading
import time

import pytest

from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.pipeline import gate


@pytest.fixture
def behind():
    """A port of this machine that answers in capitals, as daisy would be, and what came to it."""
    heard, listener = [], socket.create_server(("127.0.0.1", 0))

    def answer():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    while said := connection.recv(100):
                        heard.append(said)
                        connection.sendall(said.upper())

    threading.Thread(target=answer, daemon=True).start()
    with listener:
        yield listener.getsockname()[1], heard


def test_a_worker_with_the_token_gets_through_and_its_port_serves_it_alone(behind):
    port, heard = behind
    with (
        gate.guarded("127.0.0.1") as given,
        gate.passage(gate.read_pass(given.text), port) as own,
        socket.create_connection(("127.0.0.1", own), 5) as client,
    ):
        client.sendall(b"block?")
        assert client.recv(100) == b"BLOCK?"
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", own), 5)
    assert heard == [b"block?"]


def test_a_stranger_is_not_let_in_and_keeps_nobody_waiting(behind):
    port, heard = behind
    with gate.guarded("127.0.0.1") as given:
        refused = pytest.raises(CannotGoOn, match=r"127\.0\.0\.1 port .* another token")
        with refused, gate.passage(given._replace(token="0" * 64), port):
            pass
        with socket.create_connection(given[:2], 5) as silent, socket.create_connection(given[:2], 5) as rude:
            assert len(silent.recv(100)) == 32
            first = rude.recv(100)
            rude.sendall(b"\0" * 34)
            assert rude.recv(100) == b"" and len(first) == 32
            with gate.passage(given, port):
                pass
    assert heard == []


def test_a_run_that_is_over_lets_nobody_in():
    with gate.guarded("127.0.0.1") as given:
        with socket.create_connection(given[:2], 5) as one:
            assert one.recv(100)
        time.sleep(0.1)  # it waits for the next one
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(given[:2], 5)
    with pytest.raises(CannotGoOn, match=r"--config.worker_host"), gate.passage(given, 1):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.77", "no.such.host.invalid"])
def test_a_host_that_is_none_of_this_machine_is_refused(host):
    with pytest.raises(BadInput, match=f"worker_host={host}"), gate.guarded(host):
        pass
