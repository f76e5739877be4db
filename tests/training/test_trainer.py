"""What training does to views, weights and labels, setting by setting."""

import keras
import numpy as np
import pytest
from small_training import options, small

from bones.training import trainer as training


def augmented(size=16, **changes):
    """The part of a trainer that changes views."""
    network = small(size)
    trainer = training.build_trainer(network, options(**changes), steps_an_epoch=1)
    before = trainer.layers[trainer.layers.index(network) - 1]
    return keras.Model(trainer.inputs[0], before.output)


def bars():
    """64 views of a bright bar left of the middle."""
    pixels = np.zeros((64, 16, 16, 1), np.uint8)
    pixels[:, 4:12, 2:5] = 200
    return pixels


def test_plateau_divides_by_ten_after_an_epoch_without_progress():
    callback = training.plateau()
    trainer = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    trainer.compile(keras.optimizers.Adam(1e-4))
    callback.set_model(trainer)
    callback.on_train_begin()
    rates = []
    # The last falls by less than Keras's own tolerance of 1e-4, which is progress, too.
    for epoch, loss in enumerate((1.0, 0.9, 0.95, 0.8, 0.79999)):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(float(keras.ops.convert_to_numpy(trainer.optimizer.learning_rate)))
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-5])


def test_augmentation_flips_and_turns_training_views_only():
    augment, pixels = augmented(flip=True, rotation=30.0), bars()
    assert (np.asarray(augment(pixels, training=False)) == pixels).all()
    changed = np.asarray(augment(pixels, training=True))
    left = changed[:, :, :8].sum((1, 2, 3)) > changed[:, :, 8:].sum((1, 2, 3))
    assert 10 < left.sum() < 54, "about half are mirrored"
    assert len({view.tobytes() for view in changed}) > 50, "each is turned by an angle of its own"
    assert changed.min() >= 0 and changed.max() <= 200


@pytest.mark.parametrize("name", ["shift", "zoom", "contrast", "brightness", "erasing"])
def test_augmentation_setting(name):
    augment, pixels = augmented(**{name: 0.5}), bars()
    assert (np.asarray(augment(pixels, training=False)) == pixels).all()
    changed = np.asarray(augment(pixels, training=True))
    share = (changed != pixels).any((1, 2, 3)).mean()
    assert 0.2 < share < 0.8 if name == "erasing" else share > 0.9
    assert changed.min() >= 0 and changed.max() <= 255


def test_angles_are_uniform_up_to_the_given_one():
    """Of a bar through the centre, by its principal axis."""
    pixels = np.zeros((256, 33, 33, 1), np.uint8)
    pixels[:, 4:29, 15:18] = 200
    turned = np.asarray(augmented(rotation=30.0, flip=False, size=33)(pixels, training=True), float)[..., 0]
    rows, columns = np.mgrid[:33, :33] - 16.0
    moments = [(turned * product).sum((1, 2)) for product in (rows * rows, rows * columns, columns * columns)]
    angles = np.degrees(0.5 * np.arctan2(2 * moments[1], moments[0] - moments[2]))
    assert 27 < np.abs(angles).max() < 31.5 and np.std(angles) == pytest.approx(30 / 3**0.5, rel=0.12)
    assert abs(angles.mean()) < 4


def test_what_turns_into_the_image_is_black():
    """Corners are not mirrored or repeated from the image."""
    pixels = np.full((64, 33, 33, 1), 200, np.uint8)
    for name in ("rotation", "shift", "zoom"):
        changed = np.asarray(augmented(**{name: {"rotation": 45.0}.get(name, 0.4)}, size=33)(pixels, training=True))
        dark = (changed < 1).any((1, 2, 3))
        assert dark.mean() > 0.4, name


def test_shift_moves_along_both_axes():
    pixels = np.zeros((64, 33, 33, 1), np.uint8)
    pixels[:, 15:18, 15:18] = 200
    changed = np.asarray(augmented(shift=0.2, size=33)(pixels, training=True), float)[..., 0]
    rows, columns = np.mgrid[:33, :33] - 16.0
    for axis in (rows, columns):
        moved = (changed * axis).sum((1, 2)) / changed.sum((1, 2)) / 33
        assert 0.15 < np.abs(moved).max() <= 0.205 and np.std(moved) == pytest.approx(0.2 / 3**0.5, rel=0.25)


def test_flips_do_not_tell_angles():
    """Each layer draws from a stream of its own."""
    augment, pixels = augmented(flip=True, rotation=30.0), bars()
    turned = np.asarray(augment(pixels, training=True))[..., 0]
    mirrored = turned[:, :, :8].sum((1, 2)) < turned[:, :, 8:].sum((1, 2))
    rows, columns = np.mgrid[:16, :16] - 7.5
    slope = (turned * rows * columns).sum((1, 2)) / turned.sum((1, 2))
    clockwise = (slope - (turned * rows).sum((1, 2)) * (turned * columns).sum((1, 2)) / turned.sum((1, 2)) ** 2) > 0
    assert 0.2 < clockwise[mirrored].mean() < 0.8 and 0.2 < clockwise[~mirrored].mean() < 0.8


def test_weight_decay_shrinks_kernels_alone():
    network = small()
    trainer = training.build_trainer(network, options(weight_decay=0.5), steps_an_epoch=1)
    for variable in network.trainable_variables:
        variable.assign(keras.ops.ones(variable.shape))
    trainer.optimizer.apply([keras.ops.zeros(variable.shape) for variable in network.trainable_variables])
    found = {variable.name: float(np.asarray(variable).ravel()[0]) for variable in network.trainable_variables}
    assert found == pytest.approx({"gamma": 1, "beta": 1, "kernel": 1 - 0.1 * 0.5, "bias": 1})


def test_l2_is_in_the_loss_and_not_in_the_saved_network(tmp_path):
    network = small()
    training.build_trainer(network, options(l2=0.25), steps_an_epoch=1)
    kernel = next(variable for variable in network.trainable_variables if variable.name == "kernel")
    assert [float(loss) for loss in network.losses] == pytest.approx([0.25 * float((np.asarray(kernel) ** 2).sum())])
    network.save(tmp_path / "network.h5")
    assert not keras.models.load_model(tmp_path / "network.h5", compile=False).losses


def test_label_smoothing():
    trainer = training.build_trainer(small(), options(label_smoothing=0.2), steps_an_epoch=1)
    label, probability = np.array([[0.0], [1.0]]), np.array([[0.3], [0.6]])
    expected = -np.mean([0.1 * np.log(0.3) + 0.9 * np.log(0.7), 0.9 * np.log(0.6) + 0.1 * np.log(0.4)])
    assert float(trainer.loss(label, probability)) == pytest.approx(expected, rel=1e-5)


def test_metrics_take_the_label_of_the_heavier_view():
    metric = training.with_hard_labels(keras.metrics.BinaryAccuracy())
    metric.update_state(np.array([[0.7], [0.2], [1.0], [0.0]]), np.array([[0.9], [0.1], [0.2], [0.3]]))
    assert float(metric.result()) == 0.75


@pytest.mark.parametrize("schedule", ("constant", "cosine"))
def test_accumulated_batches_train_as_one(schedule):
    """Of a network without batch normalisation."""
    views = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 1)).astype(np.uint8)
    label = (np.arange(32) % 2).astype(np.float32)[:, None]
    weights = []
    for batch_size, accumulation in ((16, 1), (4, 4)):
        keras.utils.set_random_seed(0)
        grey = keras.Input((16, 16, 1))
        x = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(grey))
        network = keras.Model(grey, keras.layers.Dense(1, activation="sigmoid")(x))
        how = options(accumulation=accumulation, schedule=schedule, learning_rate=0.01)
        trainer = training.build_trainer(network, how, steps_an_epoch=1000)  # a cosine that has hardly fallen
        before = network.get_weights()
        for batch in np.split(np.arange(32), 32 // batch_size):
            trainer.train_on_batch(views[batch], label[batch])
            if batch[-1] < 15:
                assert all((one == other).all() for one, other in zip(network.get_weights(), before, strict=True))
        weights.append(network.get_weights()[0])
    assert np.abs(weights[0] - before[0]).max() > 0.01
    np.testing.assert_allclose(*weights, atol=2e-4)
