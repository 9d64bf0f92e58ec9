"""training/parallel.py: one device, eight devices and two processes give the same numbers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from test_state import batch, line

from maeref_jax.errors import BadInput
from maeref_jax.training.parallel import own_share, parallel_sums

RUN = """
import json, sys
sys.path[:0] = ["tests", "tests/training"]
steps, coordinator, processes, process_id, *folders = int(sys.argv[1]), *sys.argv[2:]
from maeref_jax.training import checkpoint, loop, parallel
if coordinator != "none":
    parallel.HEARTBEAT_SECONDS = 10
    parallel.connect(coordinator, int(processes), int(process_id))
import jax, numpy as np
from test_state import SETTINGS, batch, line
from test_loop import settings_of
from maeref_jax.training.optimizer import build_optimizer
indices = parallel.own_share(16)

def batches(step, members=None):
    data = batch(np.random.default_rng(step), 16, members)
    data["known"][:9] = False  # the first devices of eight see no valid sample at all
    return {name: value if name == "shared" else value[indices] for name, value in data.items()}

for folder in folders:
    settings = settings_of(steps, every=5)
    settings["batch"] = 16
    validation = [batch(np.random.default_rng(100), 13)]
    summary = loop.train(line(), build_optimizer(settings["optimizer"]), batches, validation, settings, folder)
    params = checkpoint.load_best(folder).params
    found = [jax.device_count(), len(indices), float(params["w"]), float(params["b"]), summary["validation"]]
    settings["evaluate_every"] = 1
    built, folder = build_optimizer({**settings["optimizer"], "rate": 0.5}, 2), folder + "/members"
    validation = [batch(np.random.default_rng(100), 13, 2)]
    summary = loop.train(line(2), built, lambda step: batches(step, 2), validation, settings, folder)
    params = checkpoint.load_best(folder).params
    print("found", json.dumps([*found, summary["member_steps"], params["w"].tolist()]))
"""

# Goes on where RUN has ended: what takes longest is to start.
BATCH_NORM = """
sys.path.append("tests/segmenters")
from functools import partial
import test_state
from test_ensemble import SETTINGS
from maeref_jax.segmenters import ensemble
from maeref_jax.training.state import initial_state, update
ACCUMULATE = 2
rng = np.random.default_rng(0)
images = rng.normal(100, 1, (16, 1, 8, 8)) + 5 * np.arange(16)[:, None, None, None]  # no share of a batch is like it
batch = {
    "image": images.astype(np.float32),
    "labels": rng.integers(-1, 3, (16, 1, 8, 8)).astype(np.int16),
    "index": np.arange(16, dtype=np.int32),
    "shared": {"intensity_range": np.array([90, 190], np.float32), "members": np.arange(1, dtype=np.int32)},
}
optimizer, key = build_optimizer(test_state.SETTINGS, 1), jax.random.key(0)
method = ensemble.method({**SETTINGS, "members": 1})
start = jax.device_get(jax.jit(partial(initial_state, method, optimizer))(key, batch))
step = partial(update, method, optimizer, accumulate=ACCUMULATE, sum_over_devices=parallel.sum_over_devices)
devices = jax.local_device_count()
split = parallel.split_batch(batch, devices)
after, _ = parallel.parallel(step, batch)(start, split, key, np.zeros((devices, 1), np.int32))
# After a first step the optimiser's moments are the gradient and its square, but for factors.
found = [[leaf.ravel() for leaf in jax.tree.leaves(jax.device_get(t))] for t in (after.state, after.optimizer)]
print("found", json.dumps([jax.device_count(), *(np.concatenate(leaves).tolist() for leaves in found)]))
"""


def start(root, folders, steps, devices=1, processes=("none", 1, 0), script=RUN):
    for folder in folders:
        folder.mkdir(exist_ok=True)
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags}
    command = [sys.executable, "-c", script, *map(str, (steps, *processes, *folders))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=root, env=environment, **pipes)


def results(process):
    """What it printed, one after another."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return [json.loads(text.removeprefix("found")) for text in out.splitlines() if text.startswith("found")]


def free_address():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(scope="module")
def by_devices(root, tmp_path_factory):
    """The folder of two runs, of one device and of eight; what RUN says of each, and what BATCH_NORM says."""
    folder = tmp_path_factory.mktemp("devices")
    runs = [start(root, [folder / str(n)], 10, n, script=RUN + BATCH_NORM) for n in (1, 8)]
    return folder, *zip(*map(results, runs), strict=True)


def test_one_device_eight_devices_and_two_processes_give_the_same_numbers(root, by_devices, tmp_path):
    address, (folder, (one, eight), _) = free_address(), by_devices
    (first,), (second,) = map(
        results, [start(root, [tmp_path / "two"], 10, processes=(address, 2, i)) for i in range(2)]
    )
    assert [found[:2] for found in (one, eight, first, second)] == [[1, 16], [8, 16], [2, 8], [2, 8]]
    for found in (eight, first, second):
        np.testing.assert_allclose(found[2:4], one[2:4], rtol=1e-6)
    assert abs(eight[4]["validation_loss"] / one[4]["validation_loss"] - 1) < 1e-5, "13 samples over 8 devices"
    assert first[4] == pytest.approx(one[4], rel=1e-5) and second[4] == {}, "the primary writes the logs"
    for found in (eight, first, second):
        assert found[5] == one[5], "all agree on the best step of every member"
        np.testing.assert_allclose(found[6], one[6], rtol=1e-5)
    assert len(set(one[5])) == 2 and min(one[5]) < 10
    # What was saved on eight devices goes on on one.
    continued, whole = results(start(root, [folder / "8", tmp_path / "twenty"], 20))
    np.testing.assert_allclose(continued[2:4], whole[2:4], rtol=1e-6)


def test_batch_normalisation_is_by_the_whole_micro_batch_however_many_devices_share_it(by_devices):
    _, _, (one, eight) = by_devices
    assert [one[0], eight[0]] == [1, 8]
    for here, there in zip(eight[1:], one[1:], strict=True):  # statistics, gradient
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)


def wait_until_training(folder):
    deadline = time.monotonic() + 60
    while not (folder / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.2)


def test_a_signal_to_one_process_stops_all_of_them_after_the_same_step(root, tmp_path):
    address = free_address()
    both = [start(root, [tmp_path / "run"], 10**6, processes=(address, 2, i)) for i in range(2)]
    wait_until_training(tmp_path / "run")
    both[1].send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [143, 143], errors
    assert "saved at step" in errors[0] and "SIGTERM" in errors[1]


def test_a_lost_process_ends_the_other_one_with_an_error(root, tmp_path):
    address = free_address()
    first, second = (start(root, [tmp_path / "run"], 10**6, processes=(address, 2, i)) for i in range(2))
    wait_until_training(tmp_path / "run")
    second.send_signal(signal.SIGKILL)
    _, error = first.communicate(timeout=60)
    second.communicate()
    assert first.returncode not in (0, None) and error


def test_a_batch_that_does_not_divide_is_refused_with_the_numbers_to_use():
    np.testing.assert_array_equal(own_share(10), np.arange(10))
    with pytest.raises(BadInput, match="set batch to 8 or 12"):
        own_share(10, accumulate=4)
    with pytest.raises(BadInput, match=r"set batch to 4$"):
        own_share(3, accumulate=4)


def test_samples_of_an_evaluation_are_counted_once():
    data = batch(np.random.default_rng(0), 13)
    params = {"w": np.float32(1), "b": np.float32(0)}
    total, count = parallel_sums(line().evaluate)(params, {}, data)["loss"]
    assert count == 13 and np.isclose(total, ((data["x"] - data["y"]) ** 2).sum(), rtol=1e-5)
