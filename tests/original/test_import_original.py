"""import_original.py, original/weights.py, original/verify.py: from the original's file to a workdir, same numbers."""

import json
import math

import jax
import numpy as np
import pytest
import tifffile
from test_torch_files import number, write_state_dict

from maeref_jax.commands import import_original
from maeref_jax.errors import BadInput
from maeref_jax.models.blocks import sine_cosine_positions
from maeref_jax.original import importing, verify, weights
from maeref_jax.pipeline import methods
from maeref_jax.refiners import mae

PAPER = weights.Sizes(128, 4, 5, 128, 14, 64, 7, 2.0)
SMALL = weights.Sizes(16, 4, 5, 16, 2, 8, 1, 2.0)
KNOWN = {"num_heads": 1, "decoder_num_heads": 8, "patch_perc_keep": 0.7, "pos_encode_w": 0.08}
FLAGS = ["--encoder_heads", "1", "--decoder_heads", "2", "--keep", "0.7", "--position_weight", "0.08"]


@pytest.fixture(scope="module")
def golden(root):
    return root / "tests" / "golden"


@pytest.fixture(scope="module")
def vectors(golden):
    with np.load(golden / "tiny.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def imported(golden, tmp_path_factory):
    output = tmp_path_factory.mktemp("imported") / "mae"
    assert import_original.main([str(golden / "tiny.ckpt"), "--output", str(output)]) == 0
    return output


def tensors_of(sizes, seed=0):
    """Random weights under the original's names, with its position tables."""
    rng = np.random.default_rng(seed)
    shapes = weights.expected_shapes(sizes)
    tensors = {name: (0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    for name in weights.POSITIONS:
        table = sine_cosine_positions((sizes.window // sizes.token,) * 2, shapes[name][-1])
        tensors[name] = np.concatenate([np.zeros((1, shapes[name][-1]), np.float32), table])[None]
    return tensors


def test_the_model_has_the_originals_numbers(imported, vectors):
    """Indices, masks, activations, logits, losses, gradients, optimiser steps, predictions."""
    model = methods.load_model(imported, "refiner")
    lines = verify.compare(model.settings, model.params, vectors)
    assert [line for line in lines if not line.good] == []
    compared = {line.key for line in lines if not np.isnan(line.absolute)}
    inputs = {key for key in vectors if verify.INPUTS.fullmatch(key)}
    assert compared | inputs == set(vectors) and len(compared) == 163


def test_another_model_is_outside_the_tolerances(imported, vectors):
    model = methods.load_model(imported, "refiner")
    few = {key: vectors[key] for key in (*verify.NEEDED, "logits", "mask", "argmax_image", "loss_weighted")}
    other = {**model.settings, "original": {"rules": True, "keep": 0.6}}
    bad = {line.key for line in verify.compare(other, model.params, few) if not line.good}
    assert bad == {"logits", "mask", "argmax_image", "loss_weighted"}
    scaled = jax.tree.map(lambda leaf: leaf * np.float32(1.001), model.params)
    bad = {line.key for line in verify.compare(model.settings, scaled, few) if not line.good}
    assert {"logits", "loss_weighted"} <= bad and "mask" not in bad


def test_the_workdir_is_one_that_refining_accepts(imported):
    model = methods.load_model(imported, "refiner")
    assert model.settings["window"] == [32, 32] and model.settings["stride"] == [16, 16]
    assert model.settings["threshold"] == 0.4 and model.settings["train_threshold"] == 0.1
    assert model.settings["class_weights"] == [0.16, 0.16, 0.36, 0.16, 0.16]
    assert model.facts["imported_from"] == "tiny.ckpt"
    assert json.loads((imported / "summary.json").read_text())["steps"] == 157000
    assert "tiny.ckpt" in (imported / "model_card.md").read_text()
    hidden = np.zeros((1, 32, 32), bool)
    hidden[:, 8:16] = True
    given = {"labels": np.ones((1, 32, 32), np.int16), "entropy": np.zeros((1, 32, 32), np.float32), "hidden": hidden}
    found = jax.jit(model.apply.refine)(model.params, model.state, given, jax.random.key(0))
    np.testing.assert_allclose(np.asarray(found).sum(-1), 1, atol=1e-5)


def test_verification_prints_a_line_a_key_and_its_exit_code_is_the_verdict(golden, vectors, tmp_path, capsys):
    few = {key: vectors[key] for key in (*verify.NEEDED, "mask", "ids_keep")}
    np.savez(tmp_path / "good.npz", **few)
    np.savez(tmp_path / "bad.npz", **{**few, "mask": 1 - few["mask"]})
    command = [str(golden / "tiny.ckpt"), "--verify"]
    assert import_original.main([*command, str(tmp_path / "good.npz")]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == len(few) + 1 and "2 keys compared, 0 outside" in out
    assert import_original.main([*command, str(tmp_path / "bad.npz"), "--output", str(tmp_path / "mae")]) == 1
    assert "OUTSIDE" in capsys.readouterr().out and not (tmp_path / "mae").exists()


def test_a_file_of_paper_size_makes_the_round_trip_and_keeps_its_function(tmp_path):
    tensors = tensors_of(PAPER)
    assert len(tensors) == 266 and sum(tensor.size for tensor in tensors.values()) == 2_302_032
    path = write_state_dict(tmp_path / "paper.ckpt", {f"model.{k}": v for k, v in tensors.items()}, epoch=number(1))
    flags = [*FLAGS[:3], "8", *FLAGS[4:], "--output", str(tmp_path / "mae"), "--voxel_size_nm", "20,10,10"]
    assert import_original.main([str(path), *flags]) == 0
    model = methods.load_model(tmp_path / "mae", "refiner")
    assert sum(leaf.size for leaf in jax.tree.leaves(model.params)) == 2_105_232
    assert model.settings["voxel_size_nm"] == [20.0, 10.0, 10.0]
    back = weights.to_tensors(model.params, 4)
    for name, value in back.items():
        np.testing.assert_array_equal(value, tensors[name])
    assert set(back) == set(tensors) - set(weights.POSITIONS)
    net = mae.network(model.settings)
    rng = np.random.default_rng(1)
    labels, kept, decoded = (
        rng.integers(0, 5, (1, 1024, 16)),
        np.arange(0, 1024, 40)[None],
        np.arange(0, 1024, 20)[None],
    )
    call = jax.jit(net.apply, static_argnums=2)
    valid = np.ones(kept.shape, bool), np.ones(decoded.shape, bool)
    found = call({"params": model.params}, labels, (32, 32), kept, valid[0], decoded, valid[1])
    wanted = plain_numpy(tensors, labels[0], kept[0], decoded[0])
    np.testing.assert_allclose(found[0], wanted, atol=2e-5 * np.abs(wanted).max())


def plain_numpy(tensors, labels, kept, decoded):
    """The original's network in float64, from the description of its behaviours. labels: (n, p) -> (m, p, 5)."""
    t = {name: value.astype(np.float64) for name, value in tensors.items()}
    erf = np.vectorize(math.erf)

    def dense(x, name):
        return x @ t[f"{name}.weight"].reshape(len(t[f"{name}.weight"]), -1).T + t[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-6)
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    def block(x, name, heads):
        length, width = x.shape
        q, k, v = (
            dense(norm(x, f"{name}.norm1"), f"{name}.attn.qkv").reshape(length, 3, heads, -1).transpose(1, 2, 0, 3)
        )
        scores = np.exp(q @ k.transpose(0, 2, 1) * (width // heads) ** -0.5)
        y = (scores / scores.sum(-1, keepdims=True)) @ v
        x = x + dense(y.transpose(1, 0, 2).reshape(length, width), f"{name}.attn.proj")
        y = dense(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        return x + dense(0.5 * y * (1 + erf(y / 2**0.5)), f"{name}.mlp.fc2")

    x = dense(labels.astype(np.float64), "patch_embed.proj") + 0.08 * t["pos_embed"][0, 1:]
    x = np.concatenate([t["cls_token"][0], x[kept]])
    for i in range(PAPER.encoder_depth):
        x = block(x, f"blocks.{i}", KNOWN["num_heads"])
    x = dense(norm(x, "norm"), "decoder_embed")
    full = np.repeat(t["mask_token"][0], len(labels), 0)
    full[kept] = x[1:]
    x = np.concatenate([x[:1], (full + t["decoder_pos_embed"][0, 1:])[decoded]])
    for i in range(PAPER.decoder_depth):
        x = block(x, f"decoder_blocks.{i}", KNOWN["decoder_num_heads"])
    return dense(norm(x, "decoder_norm"), "decoder_pred.0")[1:].reshape(len(decoded), 16, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.attn.qkv.bias"), "missing tensors: blocks.1.attn.qkv.bias"),
        (lambda t: t.update({"blocks.1.extra": np.ones(3, np.float32)}), "does not have: blocks.1.extra"),
        (lambda t: t.update({"norm.weight": np.ones(3, np.float32)}), r"norm.weight \(3,\) instead of \(16,\)"),
        (lambda t: t.update({"norm.weight": np.full(16, np.nan, np.float32)}), "no finite numbers: norm.weight"),
        (lambda t: t.update({"pos_embed": t["pos_embed"] + 0.01}), "position tables.*pos_embed"),
        (lambda t: t.pop("cls_token"), "cls_token"),
        (lambda t: t.pop("mask_token"), "mask_token"),
    ],
)
def test_what_is_wrong_with_the_tensors_is_named(tmp_path, change, message):
    tensors = tensors_of(SMALL)
    change(tensors)
    np.savez(tmp_path / "a.npz", **tensors)
    with pytest.raises(BadInput, match=message):
        import_original.main([str(tmp_path / "a.npz"), *FLAGS, "--output", str(tmp_path / "mae")])
    assert not (tmp_path / "mae").exists()


def test_a_tensor_of_something_else_is_named(tmp_path):
    tensors = {f"model.{name}": value for name, value in tensors_of(SMALL).items()}
    np.savez(tmp_path / "a.npz", **tensors, **{"criterion.weight": np.ones(5, np.float32)})
    with pytest.raises(BadInput, match=r"criterion\.weight"):
        import_original.main([str(tmp_path / "a.npz"), *FLAGS, "--output", str(tmp_path / "mae")])


def test_what_the_file_does_not_say_is_required_and_never_guessed(tmp_path):
    np.savez(tmp_path / "a.npz", **tensors_of(SMALL))
    command = [str(tmp_path / "a.npz"), "--output", str(tmp_path / "mae")]
    with pytest.raises(BadInput, match="--encoder_heads, --decoder_heads, --keep, --position_weight"):
        import_original.main(command)
    for i in range(0, len(FLAGS), 2):
        with pytest.raises(BadInput, match=f"does not say {FLAGS[i]}:"):
            import_original.main([*command, *FLAGS[:i], *FLAGS[i + 2 :]])
    with pytest.raises(BadInput, match="does not divide"):
        import_original.main([*command, "--decoder_heads", "3", *FLAGS[:2], *FLAGS[4:]])


def test_a_flag_that_contradicts_the_file_is_refused(golden, tmp_path):
    with pytest.raises(BadInput, match=r"--keep 0.5 contradicts the checkpoint, which says 0.7"):
        import_original.main([str(golden / "tiny.ckpt"), "--keep", "0.5", "--output", str(tmp_path / "mae")])


def test_other_classes_need_names(tmp_path):
    np.savez(tmp_path / "a.npz", **tensors_of(SMALL._replace(classes=3)))
    command = [str(tmp_path / "a.npz"), *FLAGS, "--output", str(tmp_path / "mae")]
    with pytest.raises(BadInput, match="3 classes"):
        import_original.main(command)
    assert import_original.main([*command, "--class_names", "outside,nucleus,unsure", "--ambiguous"]) == 0
    settings = json.loads((tmp_path / "mae" / "config.json").read_text())["config"]
    assert settings["classes"]["names"] == ["outside", "nucleus", "unsure"] and settings["classes"]["ambiguous"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--output is missing"),
        (["--output", "."], "exists already"),
        (["--output", "x", "--config.a=1"], "no config"),
    ],
)
def test_bad_usage(golden, arguments, message):
    with pytest.raises(BadInput, match=message):
        import_original.main([str(golden / "tiny.ckpt"), *arguments])


def test_hyper_parameters_are_found_at_any_depth_unless_they_disagree():
    nested = {"hyper_parameters": {"cfg": {"MODEL": {"num_heads": 2, "depth": 3}}, "old": {"depth": 4}}}
    assert importing.hyper_parameters(nested) == {"num_heads": 2}
    assert importing.hyper_parameters({}) == {}


def test_vectors_without_their_inputs_are_refused(imported):
    model = methods.load_model(imported, "refiner")
    with pytest.raises(BadInput, match="lack entropy, dist, noise"):
        verify.compare(model.settings, model.params, {"labels": np.zeros((1, 8, 8)), "mask_ratio": 0.5})


def test_the_command_refines_with_what_it_wrote(run, imported, tmp_path):
    labels, painted = np.zeros((2, 40, 36), np.uint8), np.zeros((2, 40, 36), np.uint8)
    labels[:, 8:30, 8:30], painted[:, 12:20, 12:20] = 3, 1
    for name, array in (("labels", labels), ("mask", painted)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, imagej=True, metadata={"axes": "ZYX"})
    done = run(
        "refine.py", "--labels", tmp_path / "labels.tif", "--hidden", tmp_path / "mask.tif", "--refiner", imported,
        "--voxel_size_nm", "30,5,5", "--config.use.symmetries=true", "--output", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refined = tifffile.imread(tmp_path / "out" / "labels_refined.tif")
    np.testing.assert_array_equal(refined[painted == 0], labels[painted == 0])
    assert refined.max() <= 3
