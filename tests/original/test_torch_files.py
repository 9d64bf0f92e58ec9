"""torch_files.py: what torch.save writes, made here by hand, and what it could be made to write."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.original.importing import hyper_parameters
from maeref_jax.original.torch_files import read_checkpoint


def opcodes(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


def text(string):
    data = string.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def number(value):
    return b"J" + value.to_bytes(4, "little")


def numbers(values):
    return b"(" + b"".join(number(value) for value in values) + b"t"


def tensor(key, array, kind="FloatStorage", size=None, stride=None, offset=0):
    """The pickle of one tensor, as torch writes it."""
    size = array.shape if size is None else size
    stride = [s // array.itemsize for s in array.strides] if stride is None else stride
    pid = b"(" + text("storage") + named("torch", kind) + text(key) + text("cpu") + number(array.size) + b"tQ"
    arguments = b"(" + pid + number(offset) + numbers(size) + numbers(stride) + b"\x89}t"
    return named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def mapping(entries):
    return b"}(" + b"".join(text(name) + value for name, value in entries.items()) + b"u"


def write_torch(path, content, storages, order="little"):
    """A zip like torch.save's: content is pickle code, storages {key: array}."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", opcodes(content))
        file.writestr("archive/byteorder", order)
        for key, array in storages.items():
            file.writestr(f"archive/data/{key}", array.tobytes())
    return path


def write_state_dict(path, tensors, **rest):
    """A Lightning-like checkpoint of {name: float32 array}; rest: pickle code by name."""
    content = mapping({name: tensor(str(i), array) for i, (name, array) in enumerate(tensors.items())})
    content = mapping({"state_dict": content, **rest}) if rest else content
    return write_torch(path, content, {str(i): np.ascontiguousarray(a) for i, a in enumerate(tensors.values())})


def test_a_checkpoint_that_lightning_wrote(root):
    found = read_checkpoint(root / "tests" / "golden" / "tiny.ckpt")
    with np.load(root / "tests" / "golden" / "tiny.npz") as vectors:
        wanted = {name.removeprefix("sd/"): vectors[name] for name in vectors.files if name.startswith("sd/")}
    assert {f"model.{name}" for name in wanted} == set(found.tensors)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found.tensors[f"model.{name}"], value)
    assert found.rest["hyper_parameters"]["cfg" if "cfg" in found.rest["hyper_parameters"] else "MODEL"]
    assert found.rest["global_step"] == 157000


def test_types_strides_offsets_and_byte_orders(tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    parts = {
        "transposed": tensor("0", numbers, size=(3, 4), stride=(1, 3)),
        "tail": tensor("0", numbers, size=(2,), stride=(1,), offset=10),
        "scalar": tensor("0", numbers, size=(), stride=(), offset=5),
        "half": tensor("1", numbers.astype(np.float16), "HalfStorage"),
        "brain": tensor("2", np.array([0x3FC0, 0xC000], np.uint16), "BFloat16Storage"),
        "long": tensor("3", np.arange(3), "LongStorage"),
    }
    storages = {"0": numbers, "1": numbers.astype(np.float16), "2": np.array([0x3FC0, 0xC000], np.uint16)}
    path = write_torch(tmp_path / "a.pt", mapping(parts), {**storages, "3": np.arange(3)})
    found = read_checkpoint(path).tensors
    np.testing.assert_array_equal(found["transposed"], numbers.reshape(4, 3).T)
    assert found["tail"].tolist() == [10, 11] and found["scalar"] == 5 and found["scalar"].shape == ()
    np.testing.assert_array_equal(found["half"], numbers)
    assert found["brain"].tolist() == [1.5, -2.0] and found["brain"].dtype == np.float32
    assert found["long"].dtype == np.int64 and found["long"].tolist() == [0, 1, 2]
    big = write_torch(tmp_path / "b.pt", mapping({"x": tensor("0", numbers)}), {"0": numbers.astype(">f4")}, "big")
    np.testing.assert_array_equal(read_checkpoint(big).tensors["x"], numbers)


@pytest.mark.parametrize("nested", [False, True], ids=["alone", "beside a state dict"])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, nested):
    trace = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    program = pickle.dumps({"a": 1, "hyper_parameters": Malicious()} if nested else Malicious(), 2)
    pickle.loads(program)
    assert trace.exists()
    trace.rmdir()
    with zipfile.ZipFile(tmp_path / "bad.ckpt", "w") as file:
        file.writestr("archive/data.pkl", program)
    with pytest.raises(BadInput, match=r"mkdir.*refused"):
        read_checkpoint(tmp_path / "bad.ckpt")
    assert not trace.exists()


@pytest.mark.parametrize(
    "name", ["builtins\neval", "os\nsystem", "numpy\nload", "torch\nload", "collections\nnamedtuple"]
)
def test_no_other_name_is_known(tmp_path, name):
    path = write_torch(tmp_path / "a.pt", f"c{name}\n".encode(), {})
    with pytest.raises(BadInput, match="refused"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((13,), (1,), 0), ((4,), (1,), 9), ((2, 6), (7, 1), 0), ((10**6, 10**6), (0, 0), 0), ((3,), (1, 1), 0)],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, size, stride, offset):
    numbers = np.arange(12, dtype=np.float32)
    content = mapping({"x": tensor("0", numbers, size=size, stride=stride, offset=offset)})
    with pytest.raises(BadInput, match="damaged"):
        read_checkpoint(write_torch(tmp_path / "a.pt", content, {"0": numbers}))


def test_safetensors_and_npz(tmp_path):
    one, two = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1.5], np.float16)
    header = {
        "__metadata__": {"format": "pt"},
        "one": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "two": {"dtype": "F16", "shape": [1], "data_offsets": [24, 26]},
    }
    encoded = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + one.tobytes() + two.tobytes())
    np.savez(tmp_path / "a.npz", one=one, two=two)
    np.savez(tmp_path / "golden.npz", **{"sd/one": one, "sd/two": two, "labels": one})
    for name in ("a.safetensors", "a.npz", "golden.npz"):
        found = read_checkpoint(tmp_path / name).tensors
        assert set(found) == {"one", "two"}
        np.testing.assert_array_equal(found["one"], one)
        np.testing.assert_array_equal(found["two"], two)


@pytest.mark.parametrize("name", ["none.ckpt", "text.ckpt", "cut.ckpt", "text.safetensors", "text.npz", "objects.npz"])
def test_what_is_no_checkpoint_is_one_message(tmp_path, root, name):
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("no tensors here")
    if name.startswith("cut"):
        path.write_bytes((root / "tests" / "golden" / "tiny.ckpt").read_bytes()[:5000])
    if name.startswith("objects"):
        np.savez(path, one=np.array([{}], object))
    with pytest.raises(BadInput, match=name):
        read_checkpoint(path)


def test_no_number_in_a_safetensors_file_reads_what_it_does_not_name(tmp_path):
    path = tmp_path / "a.safetensors"

    def write(**changes):
        header = {"one": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]} | changes}
        encoded = json.dumps(header).encode()
        path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + np.arange(4, dtype=np.float32).tobytes())
        return read_checkpoint(path).tensors["one"].tolist()

    assert write() == [2, 3]
    for changes in (
        {"data_offsets": [-8, 16]}, {"data_offsets": [-16, -8]}, {"data_offsets": [8, 24]}, {"data_offsets": [16, 8]},
        {"shape": [3]}, {"shape": [-2]}, {"shape": [-1, -2]}, {"shape": [2**40, 2**40]}, {"data_offsets": [8.0, 16]},
        {"data_offsets": None}, {"dtype": "F128"}, {"shape": "22"},
    ):  # fmt: skip
        with pytest.raises(BadInput, match=r"a.safetensors is (damaged|no safetensors file)"):
            write(**changes)
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(BadInput, match="truncated"):
        read_checkpoint(path)


def test_a_checkpoint_takes_no_more_memory_than_it_has_bytes(tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    path = write_torch(tmp_path / "a.pt", mapping({f"{i}": tensor("0", numbers) for i in range(50)}), {"0": numbers})
    found = read_checkpoint(path).tensors
    assert len(found) == 50 and all(np.shares_memory(found["0"], other) for other in found.values())
    with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", opcodes(mapping({"x": tensor("0", numbers)})))
        file.writestr("archive/data/0", bytes(10**6))
    with pytest.raises(BadInput, match=r"is packed or encrypted, which torch.save does not do"):
        read_checkpoint(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b"}r" + (10**9).to_bytes(4, "little"), "numbers more things than it has bytes, 1000000000"),
        (b"B" + (2**31 - 1).to_bytes(4, "little"), "cannot be read"),
        (b"\x8e" + (2**62).to_bytes(8, "little"), "cannot be read"),
        (b"I" + b"9" * 5000 + b"\n", "cannot be read"),
        (b"}" + text("state_dict") + text("none") + b"s", "its state_dict is a str"),
        (b"]" * 10, "holds a list"),
    ],
    ids=["memo", "bytes", "more bytes", "digits", "state_dict", "list"],
)
def test_a_pickle_that_asks_for_more_than_it_has_is_refused(tmp_path, program, said):
    with pytest.raises(BadInput, match=said):
        read_checkpoint(write_torch(tmp_path / "a.pt", program, {}))


def test_settings_that_are_trees_without_end_are_left_aside():
    endless = {"num_heads": 4}
    endless["self"] = endless
    wide = []
    for _ in range(60):
        wide = [wide, wide]
    assert hyper_parameters({"hyper_parameters": {"a": endless, "weights": wide}}) == {"num_heads": 4}
    assert hyper_parameters({"hyper_parameters": 3}) == {}
