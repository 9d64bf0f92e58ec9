"""benchmarks/gpu.py is run where a GPU is lent for minutes; that all of it still runs is seen here, with --tiny."""

import importlib
import json

import jax
import numpy as np
import pytest
from conftest import ROOT

from maeref_jax.commands.command_line import load_config

NOT_HERE = ("jax.nn, cuDNN", "Pallas", "tokamax")  # forms of attention that want a GPU


@pytest.fixture
def modules(monkeypatch):
    """import(name) of a file in benchmarks/."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_every_part_has_its_table_nothing_is_done_twice_and_a_kill_loses_one_part(modules, tmp_path, monkeypatch):
    gpu = modules("gpu")
    folder = tmp_path / "gpu"
    command = ["--tiny", "--folder", str(folder), "--scratch", str(tmp_path / "scratch")]

    def there():
        return {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.json") if path.stem in gpu.PARTS}

    def killed(setup):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(gpu.PARTS, "refine", gpu.Part(killed, 0))
        gpu.main(command)
    before = there()
    assert set(gpu.PARTS) - set(before) == {"refine", "train"}

    assert gpu.main(command) == 0
    assert set(there()) == set(gpu.PARTS) and before.items() <= there().items()
    found = {name: json.loads((folder / f"{name}.json").read_text()) for name in gpu.PARTS}
    page = (folder / "tables.md").read_text()
    for name, part in found.items():
        for table in part["tables"]:
            assert table["rows"] and table["title"] in page
            for row in table["rows"]:
                assert len(row) == len(table["header"])
                failed = any(str(cell).startswith(("failed", "out of memory")) for cell in row)
                assert failed == row[0].endswith(NOT_HERE), f"{name}: {row}"
    assert [row[-1] for row in found["parity"]["tables"][0]["rows"]] == ["yes", "yes"]
    assert not (tmp_path / "scratch" / "segment").exists()

    after = there()

    def refused(setup):
        raise AssertionError("done again")

    def without_memory(setup):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes")

    def too_long(setup):
        setup.check_time()

    for name in gpu.PARTS:
        monkeypatch.setitem(gpu.PARTS, name, gpu.Part(refused, 0))
    monkeypatch.setitem(gpu.PARTS, "speed", gpu.Part(without_memory, 0))
    monkeypatch.setitem(gpu.PARTS, "batches", gpu.Part(too_long, 0))
    assert gpu.main(command) == 0 and there() == after
    assert gpu.main([*command, "--again", "speed", "batches", "--minutes", "0"]) == 3
    assert set(there()) == set(gpu.PARTS) - {"batches"}
    assert json.loads((folder / "speed.json").read_text())["tables"][0]["rows"] == [["failed", "out of memory"]]


def test_batches_double_until_memory_ends(modules, tmp_path, monkeypatch):
    gpu, networks, steps = modules("gpu"), modules("gpu_networks"), modules("gpu_steps")

    def timed(settings, batch, how, number):
        if len(batch["index"]) > (128 if settings["method"] == "mae" else 2):
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return steps.Timed(0.1, 1.0, 2.0**20)

    monkeypatch.setattr(networks, "timed_step", timed)
    found = networks.batches(gpu.setup_of(gpu.flags().parse_args(["--folder", str(tmp_path)])))
    mae = [row for row in found.tables[0].rows if row[0].startswith("masked autoencoder, float32")]
    assert [row[0].rsplit(" ", 1)[1] for row in mae] == ["64", "128", "256"]
    assert [row[1] for row in mae] == ["100", "100", "out of memory"]


def test_a_difference_from_the_cpu_is_seen(modules, tmp_path, monkeypatch):
    gpu, networks = modules("gpu"), modules("gpu_networks")
    setup = gpu.setup_of(gpu.flags().parse_args(["--tiny", "--folder", str(tmp_path)]))
    one = {"values": np.ones(9), "gradients": np.ones(9), "losses": np.ones(20)}
    monkeypatch.setattr(networks, "reference", lambda setup, model: one)
    for kind, much in zip(("values", "gradients", "losses"), networks.TOLERANCES["float32"], strict=True):
        for factor, said in ((0.9, "yes"), (1.1, "NO"), (np.nan, "NO")):
            changed = {**one, kind: one[kind] * (1 + factor * much)}
            monkeypatch.setattr(networks, "answers", lambda *given, changed=changed: changed)
            assert {row[-1] for row in networks.parity(setup).tables[0].rows} == {said}


def test_every_network_that_a_corrector_was_tried_with_says_something_of_every_pixel(modules):
    settings, seen = load_config("corrector:smoke").to_dict(), jax.ShapeDtypeStruct((2, 16, 24, 15), np.float32)
    for name, made in modules("corrector_networks").NETWORKS.items():
        net = made(settings)
        params = jax.eval_shape(net.init, jax.random.key(1), seen)
        assert jax.eval_shape(net.apply, params, seen).shape == (2, 16, 24, 4), name


def test_every_step_of_the_automaton_sees_one_pixel_farther(modules):
    net = modules("corrector_networks").Automaton(4, channels=3, width=5, steps=2)
    seen = jax.random.normal(jax.random.key(0), (1, 9, 9, 6))
    params = net.init(jax.random.key(1), seen)
    moved = net.apply(params, seen.at[0, 4, 4].add(1.0)) != net.apply(params, seen)
    found = np.argwhere(np.asarray(moved[0]).any(-1))
    assert found.min(0).tolist() == [2, 2] and found.max(0).tolist() == [6, 6]
