"""The reference models: their data, their training, and what stays behind."""

from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netferry.converters import frameworks
from netferry.converters.errors import MissingError, NetferryError, RefusedError, UsageError, WriteError
from netferry.zoo import data
from netferry.zoo.catalog import CATALOG, ModelSpec, named
from netferry.zoo.train import TRAINERS, Trained, _epochs, measure, reload, train, trainer

Zoo = dict[tuple[str, str], Trained]

CELLS = [(name, framework) for framework in TRAINERS for name in CATALOG]
SEQUENCES = [name for name, spec in CATALOG.items() if spec.data == "digit-rows"]
QUICK = replace(CATALOG["logistic"], epochs=2)

every_model = pytest.mark.parametrize("spec", CATALOG.values(), ids=CATALOG)
every_framework = pytest.mark.parametrize("framework", TRAINERS)
every_cell = pytest.mark.parametrize(("name", "framework"), CELLS)


def noise(spec: ModelSpec, batch: int, length: int = 28) -> np.ndarray:
    dims = [length if dim is None else dim for dim in spec.dims]
    return np.random.default_rng(0).normal(size=(batch, *dims)).astype(np.float32)


# ---- the catalog ----------------------------------------------------------------------------------------


def test_the_zoo_has_eleven_models() -> None:
    assert list(CATALOG) == [
        "linear", "linear-diabetes", "logistic", "cnn-binary", "cnn", "rnn", "lstm", "gru", "bilstm", "mlp", "cnn-bn",
    ]  # fmt: skip


def test_a_name_that_the_zoo_does_not_have_is_answered_with_those_it_has() -> None:
    with pytest.raises(UsageError, match=r"one of linear, .*, cnn-bn, received resnet"):
        named("resnet")


# ---- data -----------------------------------------------------------------------------------------------


@every_model
def test_data_fits_the_model_that_learns_from_it(spec: ModelSpec) -> None:
    dataset = data.load(spec)
    for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)):
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert x.shape[1:] == tuple(28 if dim is None else dim for dim in spec.dims)
        if spec.task == "classes":
            assert (y.dtype, y.shape) == (np.int64, (len(x),))
            assert set(np.unique(y)) == set(range(spec.outputs))
        else:
            assert (y.dtype, y.shape) == (np.float32, (len(x), spec.outputs))
        if spec.task == "binary":
            assert set(np.unique(y)) == {0, 1}


@every_model
def test_the_same_seed_gives_the_same_data_and_another_gives_other(spec: ModelSpec) -> None:
    once, again, other = data.load(spec), data.load(spec), data.load(replace(spec, seed=spec.seed + 1))
    np.testing.assert_array_equal(once.x_train, again.x_train)
    np.testing.assert_array_equal(once.y_test, again.y_test)
    assert not np.array_equal(once.x_train, other.x_train)


@every_model
def test_no_held_out_row_is_trained_on(spec: ModelSpec) -> None:
    dataset = data.load(spec)
    trained = {row.tobytes() for row in dataset.x_train}
    assert not any(row.tobytes() in trained for row in dataset.x_test)


def test_the_line_is_three_x_plus_two() -> None:
    dataset = data.load(CATALOG["linear"])
    slope, intercept = np.polyfit(dataset.x_train[:, 0], dataset.y_train[:, 0], 1)
    assert (abs(slope - 3), abs(intercept - 2)) < (0.05, 0.05)


@pytest.mark.parametrize("name", ["linear-diabetes", "logistic"])
def test_features_are_standardised_by_the_training_rows_alone(name: str) -> None:
    dataset = data.load(CATALOG[name])
    np.testing.assert_allclose(dataset.x_train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(dataset.x_train.std(axis=0), 1, atol=1e-5)
    assert np.abs(dataset.x_test.mean(axis=0)).max() > 1e-3


def test_no_mean_colour_and_no_contrast_tells_the_textures_apart() -> None:
    dataset = data.load(CATALOG["cnn-binary"])
    fine = dataset.y_train[:, 0] == 1
    assert fine.mean() == pytest.approx(0.5, abs=0.05)
    for feature in (np.mean, np.std):
        values = np.array([feature(image) for image in dataset.x_train])
        gap = abs(values[fine].mean() - values[~fine].mean())
        assert gap < 0.25 * values.std()


def test_enlarging_is_the_bilinear_interpolation_of_the_frameworks() -> None:
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(0).random((3, 8, 8))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(images)[:, None], size=28, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(data.enlarge(images, 28), expected[:, 0].numpy(), atol=1e-12)


def test_the_three_views_of_the_digits_hold_the_same_numbers() -> None:
    image, rows, pixels = (data.load(CATALOG[name]).x_test for name in ("cnn", "rnn", "mlp"))
    np.testing.assert_array_equal(image[..., 0], rows)
    np.testing.assert_array_equal(rows.reshape(len(rows), -1), pixels)


def test_without_scikit_learn_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingError, match=r'pip install "netferry\[zoo\]"'):
        data.load(CATALOG["cnn"])
    assert len(data.load(CATALOG["linear"]).x_train) == 400


# ---- MNIST's own files ----------------------------------------------------------------------------------


def images_file(count: int = 12, *, magic: int = 0x803, side: int = 28) -> bytes:
    pixels = np.random.default_rng(count).integers(0, 256, count * side * side, np.uint8)
    return struct.pack(">4I", magic, count, side, side) + pixels.tobytes()


def labels_file(count: int = 12, *, magic: int = 0x801) -> bytes:
    return struct.pack(">2I", magic, count) + bytes(i % 10 for i in range(count))


def write_mnist(folder: Path, dot: str = "-", pack: Callable[[bytes], bytes] | None = None) -> Path:
    for part, count in (("train", 12), ("t10k", 10)):
        for stem, suffix, content in (
            ("images", "idx3-ubyte", images_file(count)),
            ("labels", "idx1-ubyte", labels_file(count)),
        ):
            name = f"{part}-{stem}{dot}{suffix}"
            (folder / (f"{name}.gz" if pack else name)).write_bytes(pack(content) if pack else content)
    return folder


@pytest.mark.parametrize(("dot", "pack"), [("-", None), (".", None), ("-", gzip.compress)])
def test_mnists_own_files_are_read_plain_and_gzipped(tmp_path: Path, dot: str, pack: Any) -> None:
    dataset = data.load(CATALOG["cnn"], write_mnist(tmp_path, dot, pack))
    assert (dataset.x_train.shape, dataset.x_test.shape) == ((12, 28, 28, 1), (10, 28, 28, 1))
    assert dataset.y_train.tolist() == [i % 10 for i in range(12)]
    pixels = np.frombuffer(images_file(12)[16:], np.uint8).reshape(12, 28, 28, 1) / 255
    expected = (pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(dataset.x_train, expected, atol=1e-5)


def test_models_that_do_not_read_digits_do_not_look_for_mnist(tmp_path: Path) -> None:
    assert len(data.load(CATALOG["linear"], tmp_path / "nowhere").x_train) == 400


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "labels where images should be": ("train-images-idx3-ubyte", labels_file(99), "expected the number 0x00000803 first"),
    "images where labels should be": ("t10k-labels-idx1-ubyte", images_file(), "expected the number 0x00000801 first"),
    "not IDX": ("train-images-idx3-ubyte", b"\x89PNG" * 20, "received 0x89504e47"),
    "empty": ("train-images-idx3-ubyte", b"", "expected a header of 16 bytes, received 0 bytes"),
    "other image size": ("train-images-idx3-ubyte", images_file(side=32), r"expected \(28, 28\), received \(32, 32\)"),
    "too short": ("train-images-idx3-ubyte", images_file()[:-1], "expected 9408 bytes after the header, received 9407"),
    "too long": ("train-images-idx3-ubyte", images_file() + b"\0", "expected 9408 bytes after the header, received more"),
    "a header that asks for terabytes": (
        "train-images-idx3-ubyte",
        struct.pack(">4I", 0x803, 2**32 - 1, 28, 28),
        "asks for too many images",
    ),
    "more labels than images": ("train-labels-idx1-ubyte", labels_file(13), r"as many labels as images \(12\), received 13"),
    "a label that is no digit": ("train-labels-idx1-ubyte", labels_file(11) [:4] + struct.pack(">I", 12) + b"\x0b" * 12, "expected labels from 0 to 9, received 11"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_mnist_file_is_refused_by_what_is_wrong_with_it(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (write_mnist(tmp_path) / name).write_bytes(content)
    with pytest.raises(RefusedError, match=message):
        data.load(CATALOG["cnn"], tmp_path)


@pytest.mark.parametrize("content", [b"not gzip at all", gzip.compress(images_file())[:-9]])
def test_a_broken_gzip_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (write_mnist(tmp_path, pack=gzip.compress) / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(RefusedError, match=r"train-images-idx3-ubyte\.gz: it cannot be read"):
        data.load(CATALOG["cnn"], tmp_path)


def test_empty_mnist_files_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(images_file(0))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels_file(0))
    with pytest.raises(RefusedError, match="MNIST's 't10k' files are empty"):
        data.load(CATALOG["cnn"], tmp_path)


def test_a_folder_without_mnist_is_refused_with_the_names_that_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"expected train-images-idx3-ubyte or .*idx3-ubyte\.gz"):
        data.load(CATALOG["cnn"], tmp_path)


# ---- the models as they are written ---------------------------------------------------------------------


@every_cell
def test_every_framework_has_a_factory_for_every_model(name: str, framework: str) -> None:
    factory = getattr(trainer(framework), CATALOG[name].factory)
    assert factory() is not None


@every_cell
def test_classifiers_give_probabilities_at_any_batch(name: str, framework: str) -> None:
    spec, native = CATALOG[name], trainer(framework)
    model = native.build(spec)
    for batch in (1, 3):
        outputs = native.predict(model, noise(spec, batch))
        assert outputs.shape == (batch, spec.outputs)
        if spec.task != "regression":
            assert ((outputs >= 0) & (outputs <= 1)).all()
        if spec.task == "classes":
            np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)


@every_framework
@pytest.mark.parametrize("name", SEQUENCES)
def test_recurrent_models_take_any_length(name: str, framework: str) -> None:
    spec, native = CATALOG[name], trainer(framework)
    model = native.build(spec)
    short, long = (native.predict(model, noise(spec, 2, length)) for length in (5, 40))
    assert short.shape == long.shape == (2, 10)
    assert not np.allclose(short, long, atol=1e-3)


@every_framework
@pytest.mark.parametrize("row", [0, -1])
def test_the_bidirectional_lstm_reads_from_both_ends(framework: str, row: int) -> None:
    """Over a hundred rows, one direction alone would hardly feel the row that is far from its end."""
    spec, native = CATALOG["bilstm"], trainer(framework)
    native.seed(0)
    model = native.build(spec)
    rows = noise(spec, 1, 100)
    changed = rows.copy()
    changed[:, row] += 3
    moved = np.abs(native.predict(model, changed) - native.predict(model, rows)).max()
    assert moved > 1e-3


@pytest.mark.parametrize("name", CATALOG)
def test_pytorch_and_mxnet_write_the_same_function(name: str) -> None:
    """With PyTorch's weights, all randomised, in MXNet's model, both give the same outputs."""
    torch, mx = pytest.importorskip("torch"), trainer("mxnet").mx  # type: ignore[attr-defined]
    spec, random = CATALOG[name], np.random.default_rng(5)
    ours, theirs = trainer("pytorch").build(spec), trainer("mxnet").build(spec)
    state = {key: weight for key, weight in ours.state_dict().items() if weight.ndim}
    for key, weight in state.items():
        drawn = random.normal(size=weight.shape) / np.sqrt(weight[0].numel())
        weight.copy_(torch.from_numpy(np.abs(drawn) + 0.5 if "var" in key else drawn))
    targets = theirs.collect_params().values()
    for weight, parameter in zip(state.values(), targets, strict=True):
        parameter.set_data(mx.nd.array(weight.numpy()))
    x = noise(spec, 4)
    expected, received = trainer("pytorch").predict(ours, x), trainer("mxnet").predict(theirs, x)
    assert np.abs(expected - received).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", CATALOG)
def test_keras_has_matrices_of_the_same_sizes(name: str) -> None:
    ours, theirs = (trainer(framework).build(CATALOG[name]) for framework in ("pytorch", "tensorflow"))
    expected = sorted(weight.numel() for weight in ours.parameters() if weight.ndim > 1)
    kernels = [weight for weight in theirs.weights if "kernel" in weight.path]
    assert sorted(int(np.prod(weight.shape)) for weight in kernels) == expected


@every_framework
def test_dropout_and_batch_norm_know_training_from_inference(framework: str) -> None:
    spec, native = CATALOG["cnn-bn"], trainer(framework)
    model = native.build(spec)
    x = noise(spec, 8)
    once = native.predict(model, x)
    np.testing.assert_array_equal(native.predict(model, x), once)
    assert np.abs(in_training_mode(framework, model, native.to_native(x)) - once).max() > 1e-3


def in_training_mode(framework: str, model: Any, x: np.ndarray) -> np.ndarray:
    if framework == "tensorflow":
        return np.asarray(model(x, training=True))
    if framework == "mxnet":
        native: Any = trainer("mxnet")
        with native.autograd.record():
            return np.asarray(model(native.nd.array(x)).asnumpy())
    import torch

    with torch.no_grad():
        return np.asarray(model.train()(torch.from_numpy(x)))


# ---- training, in small ---------------------------------------------------------------------------------


@every_framework
@pytest.mark.parametrize("name", ["logistic", "cnn-bn", pytest.param("bilstm", marks=pytest.mark.slow)])
def test_the_same_seed_gives_the_same_losses(name: str, framework: str) -> None:
    spec = replace(CATALOG[name], epochs=1)
    once, again = train(spec, framework), train(spec, framework)
    assert once.history == again.history
    assert once.metrics == again.metrics
    assert train(replace(spec, seed=spec.seed + 1), framework).history != once.history


@every_framework
def test_progress_is_told_after_every_pass(framework: str) -> None:
    told: list[tuple[int, int, str]] = []
    trained = train(QUICK, framework, progress=lambda *step: told.append(step))
    assert [(done, total) for done, total, _ in told] == [(1, 2), (2, 2)]
    assert [text for _, _, text in told] == [f"loss {loss:.4f}" for loss in trained.history]


@every_framework
def test_training_that_diverges_is_an_error(framework: str) -> None:
    with pytest.raises(NetferryError, match="training did not converge"):
        train(replace(CATALOG["linear"], learning_rate=1e6), framework)


@every_framework
def test_a_training_on_mnists_files_is_saved_like_any_other(tmp_path: Path, framework: str) -> None:
    spec = replace(CATALOG["mlp"], epochs=1)
    trained = train(spec, framework, tmp_path / "out", data_dir=write_mnist(tmp_path))
    assert (len(trained.history), [path.is_file() for path in trained.files].count(False)) == (1, 0)


def test_a_larger_data_set_is_gone_through_fewer_times() -> None:
    spec = CATALOG["cnn"]
    assert [_epochs(spec, rows) for rows in (1437, 2000, 4000, 60000)] == [8, 8, 4, 2]


@pytest.mark.parametrize("framework", ["onnx", "jax"])
def test_the_zoo_trains_in_three_frameworks_only(framework: str) -> None:
    with pytest.raises(UsageError, match="one of pytorch, tensorflow, mxnet"):
        train(QUICK, framework)


@every_framework
def test_a_framework_that_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, framework: str
) -> None:
    monkeypatch.setattr(frameworks, "find_spec", lambda package: None)
    with pytest.raises(MissingError, match=rf'pip install "netferry\[{framework}\]"'):
        train(QUICK, framework)


def test_metrics_are_what_they_are_called() -> None:
    x = np.zeros((4, 1), np.float32)
    numbers, yes, classes = (
        np.array([[1.0], [2], [3], [4]]),
        np.array([[0.0], [1], [1], [1]]),
        np.array([0, 1, 2, 0]),
    )
    cases = [
        ("linear-diabetes", numbers, numbers, {"R2": 1.0}),
        ("linear-diabetes", numbers, np.full((4, 1), 2.5), {"R2": 0.0}),
        ("linear-diabetes", numbers, numbers + 1, {"R2": 0.2}),
        ("logistic", yes, np.array([[0.4], [0.6], [0.5], [0.9]]), {"accuracy": 0.75}),
        ("cnn", classes, np.eye(3)[[0, 1, 1, 1]], {"accuracy": 0.5}),
    ]  # fmt: skip
    for name, y, outputs, expected in cases:
        dataset = data.Dataset(x, y, x, y)
        assert measure(CATALOG[name], lambda _, outputs=outputs: outputs, dataset) == pytest.approx(expected)


# ---- what stays behind ----------------------------------------------------------------------------------


@every_framework
def test_a_file_that_was_changed_since_is_refused(tmp_path: Path, framework: str) -> None:
    trained = train(QUICK, framework, tmp_path)
    reload(QUICK, framework, tmp_path)
    file = trained.files[-1]
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(RefusedError, match="this is not the file that was trained"):
        reload(QUICK, framework, tmp_path)
    file.unlink()
    with pytest.raises(RefusedError, match="received no such file"):
        reload(QUICK, framework, tmp_path)


@pytest.mark.parametrize("note", [None, "not json", "{}", "[]", '{"sha256": 3}'])
def test_a_note_that_cannot_be_read_is_refused(tmp_path: Path, note: str | None) -> None:
    train(QUICK, "pytorch", tmp_path)
    path = tmp_path / "pytorch" / "logistic.json"
    path.unlink() if note is None else path.write_text(note)
    with pytest.raises(RefusedError, match="the note beside a trained model cannot be read"):
        reload(QUICK, "pytorch", tmp_path)


def test_a_model_that_cannot_be_written_leaves_the_old_one_as_it_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = train(QUICK, "pytorch", tmp_path)
    standing = {path.name: path.read_bytes() for path in (tmp_path / "pytorch").glob("[!.]*")}

    def fails(model: object, directory: Path, name: str) -> list[Path]:
        (directory / before.files[0].name).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(trainer("pytorch"), "save", fails)
    with pytest.raises(WriteError, match="the disk is full"):
        train(QUICK, "pytorch", tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "pytorch").glob("[!.]*")} == standing


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pytorch").write_text("in the way")
    with pytest.raises(WriteError, match="cannot make this folder"):
        train(QUICK, "pytorch", tmp_path)
