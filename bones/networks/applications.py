"""The networks: DenseNet-169, the first system's narrow DenseNet, and a frozen InceptionV3.

Every builder takes the side of the square input, a choice of weights, and settings of a recipe; it returns an uncompiled
`keras.Model` that maps grey pixels of 0 to 255, (n, size, size, 1), to one float32 probability of "abnormal", (n, 1). The
scaling of pixels is the network's first layer, so nobody can feed it wrongly, and every layer comes with Keras, so a saved one
opens without this file.
"""

from pathlib import Path

import h5py  # reads weights files, which Keras writes as HDF5
import keras
from keras import layers, ops, regularizers

from bones.system.errors import WeightsError

# Mean and standard deviation of ImageNet's colour channels on a 0-1 scale, which the DenseNet weights of keras.applications
# expect ("torch" mode of keras.applications.imagenet_utils.preprocess_input).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def densenet169(size, weights="none", standardise=False, dropout=0.0):
    """DenseNet-169 of keras.applications behind one grey channel; 12,644,545 parameters.

    The grey channel is repeated three times and scaled per copy as ImageNet's colours were, so that the first convolution
    keeps its published shape: ImageNet weights, a weights file and random weights all fit one and the same network.

    Args:
        size: side of the square input, pixels, at least 32.
        weights: "none", "imagenet", or the path of a weights file (see `build`).
        standardise: bring each view to mean 0 and deviation 1 in place of ImageNet's constants.
        dropout: share of features dropped before the last unit.
    Source: Huang et al. 2017, arXiv 1608.06993; as MURA's baseline uses it, arXiv 1712.06957.
    """
    check_size("densenet169", size, 32)
    scale = [1 / (255 * std) for std in IMAGENET_STD]
    offset = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    network = build("densenet169", keras.applications.DenseNet169, size, weights, standardise, scale, offset, dropout)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # as in the authors' Torch code; Keras's 0.99 lags behind for hundreds of steps
    return network


def inception_v3(size, weights="none", standardise=False, dropout=0.3):
    """InceptionV3 as a fixed feature extractor with dropout and one trainable unit, the second system; 21,804,833 parameters.

    Args:
        size: side of the square input, pixels, at least 75.
        weights: "none", "imagenet", or the path of a weights file (see `build`). With "none" the frozen features are random.
        standardise, dropout: see `densenet169`; a constant scale otherwise.
    Source: Szegedy et al. 2016, arXiv 1512.00567.
    """
    check_size("inception_v3", size, 75)
    base, scale, offset = keras.applications.InceptionV3, [1 / 127.5] * 3, [-1.0] * 3
    decay = regularizers.L2(1e-4)
    network = build("inception_v3", base, size, weights, standardise, scale, offset, dropout, kernel_regularizer=decay)
    for layer in network.layers[:-1]:
        layer.trainable = False
    return network


def densenet169_k12(size, weights="none", standardise=False, dropout=0.0):
    """The first system's narrow DenseNet: blocks of 6, 12, 32, 32 layers, growth 12, stem 16; 1,219,385 parameters.

    Beside DenseNet-169: bottlenecks as narrow as the growth, transitions that keep all channels, no pooling after the stem,
    dropout 0.2 after every convolution but the stem, L2 1e-4 on kernels, gammas, betas and the final unit's bias.

    Args:
        size: side of the square input, pixels, at least 16.
        weights: "none" or the path of a weights file; there are no ImageNet weights.
        standardise, dropout: see `densenet169`; a constant scale otherwise.
    Source: https://github.com/ag-piyush/Bone-Fracture-Detection---MURA, densenet.py.
    """
    check_size("densenet169_k12", size, 16)
    if weights == "imagenet":
        raise WeightsError(
            "no ImageNet weights exist for densenet169_k12; pass --weights none, or a weights file of this network."
        )
    decay = regularizers.L2(1e-4)
    grey = keras.Input((size, size, 1), name="grey")
    x = standardised(grey) if standardise else layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(grey)
    x = layers.Conv2D(
        16,
        7,
        strides=2,
        padding="same",
        use_bias=False,
        kernel_initializer="he_uniform",
        kernel_regularizer=decay,
        name="stem_conv",
    )(x)
    for block, num_layers in enumerate((6, 12, 32, 32), start=1):
        if block > 1:
            x = normalised_conv(x, x.shape[-1], 1, decay, f"transition{block - 1}")
            x = layers.Dropout(0.2, name=f"transition{block - 1}_dropout")(x)
            x = layers.AveragePooling2D(2, name=f"transition{block - 1}_pool")(x)
        for place in range(1, num_layers + 1):
            name = f"block{block}_layer{place}"
            new = normalised_conv(x, 12, 1, decay, f"{name}_narrow")
            new = normalised_conv(new, 12, 3, decay, f"{name}_grow")
            new = layers.Dropout(0.2, name=f"{name}_dropout")(new)
            x = layers.Concatenate(name=f"{name}_concat")([x, new])
    x = normalised_relu(x, decay, "last")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    probability = last_unit(x, dropout, kernel_regularizer=decay, bias_regularizer=decay)
    network = keras.Model(grey, probability, name="densenet169_k12")
    return network if weights == "none" else load_weights(network, weights)


def check_size(name, size, least):
    """Raise WeightsError when a side of the input is smaller than a network can halve it."""
    if size < least:
        raise WeightsError(f"{name} takes views of {least} px or more, and --size is {size}. Pass a larger --size.")


def standardised(grey):
    """Each view with mean 0 and deviation 1, in float32; a view of one grey becomes 0."""
    # Not LayerNormalization, whose three axes a .h5 file brings back as the last one alone.
    return layers.GroupNormalization(1, center=False, scale=False, dtype="float32", name="standardise")(grey)


def last_unit(x, dropout, **regularizers):
    """The probability of "abnormal" from pooled features, in float32."""
    x = layers.Dropout(dropout, name="dropout")(x) if dropout else x
    return layers.Dense(1, activation="sigmoid", dtype="float32", name="probability", **regularizers)(x)


def normalised_relu(x, decay, name):
    """Batch normalisation with regularised scale and centre, then ReLU."""
    x = layers.BatchNormalization(gamma_regularizer=decay, beta_regularizer=decay, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


def normalised_conv(x, filters, kernel, decay, name):
    """Batch normalisation, ReLU and a square convolution without bias, in DenseNet's order."""
    x = normalised_relu(x, decay, name)
    return layers.Conv2D(
        filters,
        kernel,
        padding="same",
        use_bias=False,
        kernel_initializer="he_uniform",
        kernel_regularizer=decay,
        name=f"{name}_conv",
    )(x)


def build(name, base_builder, size, weights, standardise, scale, offset, dropout, kernel_regularizer=None):
    """A network of keras.applications between a repeated grey channel and one sigmoid unit.

    Args:
        base_builder: builder of keras.applications, or one with its arguments.
        weights: "none" (random), "imagenet" (downloaded once by Keras), or the path of a .h5, .weights.h5 or .keras file:
            either this whole network as `best.h5` holds it, or the base alone as keras.applications publishes it.
        standardise, dropout: see `densenet169`.
        scale, offset: three values each; channel c becomes grey * scale[c] + offset[c] where views are not standardised.
    Raises: WeightsError when the weights cannot be had or do not fit.
    """
    grey = keras.Input((size, size, 1), name="grey")
    shade = standardised(grey) if standardise else grey
    colour = layers.Concatenate(name="repeat_grey")([shade, shade, shade])  # (n, size, size, 3)
    if not standardise:
        colour = layers.Rescaling(scale, offset, name="scale")(colour)
    try:
        base = base_builder(
            input_tensor=colour, include_top=False, pooling="avg", weights="imagenet" if weights == "imagenet" else None
        )
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise WeightsError(
            f"the ImageNet weights of {name} cannot be downloaded ({error}).\n"
            "Expected network access, or the file in ~/.keras/models from an earlier download.\n"
            "Pass --weights none to start from random weights, or --weights FILE with a file that you have."
        ) from None
    name_layers(base)
    network = keras.Model(grey, last_unit(base.output, dropout, kernel_regularizer=kernel_regularizer), name=name)
    return network if weights in ("none", "imagenet") else load_weights(network, weights, base)


def name_layers(base):
    """Name by its place each layer that keras.applications left to a counter of all layers built in the process."""
    for place, layer in enumerate(base.layers):
        kind = type(layer).__name__.lower()
        if layer.name.replace("_", "").startswith(kind):
            layer.name = f"layer{place:03d}_{kind}"


def load_weights(network, path, base=None):
    """Give `network` the weights in a file: of the whole network, or of its base alone.

    Args:
        network: keras.Model to fill, in place.
        path: .h5 or .keras file of a whole model, or a .weights.h5 or keras.applications weights file.
        base: the part of `network` that a keras.applications weights file fills.
    Returns: network.
    Raises: WeightsError naming the file when it is missing, no weights file, or of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; --weights takes none, imagenet or the path of a .h5 or .keras file.")
    try:
        if is_whole_model(path):
            network.set_weights(keras.models.load_model(path, compile=False, safe_mode=True).get_weights())
        else:
            (network if path.name.endswith(".weights.h5") or base is None else base).load_weights(path)
    except Exception as error:  # h5py, zipfile and Keras each raise their own
        raise WeightsError(
            f"{path} does not hold weights for {network.name} ({(str(error) or type(error).__name__).splitlines()[0]}).\n"
            f"Expected a whole {network.name} saved by mura.py (best.h5), or the weights of its base from keras.applications."
        ) from None
    return network


def drop_features(network, rate):
    """The same network with stochastic depth: while it trains, each layer of its dense blocks is left out for some views.

    A dense block has no sums to skip a layer in, so what the layer would add to the features becomes 0, and is scaled up
    by 1 / (1 - rate) where it stays: a stock Dropout layer with one draw a view.

    Args:
        network: keras.Model with dense blocks.
        rate: share of the views that a layer is left out for.
    Source: Huang et al. 2016, arXiv 1603.09382, which leaves out layers of a residual network for a whole batch.
    """

    def call(layer, inputs, **options):
        if isinstance(layer, layers.Concatenate) and len(inputs) == 2:
            features, new = inputs
            drop = layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{layer.name}_depth")
            inputs = [features, drop(new)]
        return layer(inputs, **options)

    deep = keras.models.clone_model(network, call_function=call, clone_function=copy_layer)
    deep.set_weights(network.get_weights())
    return deep


def copy_layer(layer):
    """A new layer of the same configuration."""
    return type(layer).from_config(layer.get_config())


def speed_up(network):
    """Let a network compute faster where this repository knows how.

    On TensorFlow, on a CPU, its layers compute with fused.py from then on; the network stays what it is, and so do its files.
    On OpenVINO, which only scores, it is rebuilt with channels in front. Results are equal (tests/networks/test_fused.py,
    tests/networks/test_openvino.py). Other backends and GPUs keep the stock layers.

    Args:
        network: keras.Model, not yet traced.
    Returns: the keras.Model to use, of the same inputs, outputs and weights.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from bones.networks import fused

        fused.fuse(network)
    return channels_first(network) if backend == "openvino" else network


def channels_first(network):
    """The same network in float32 with channels before rows and columns.

    OpenVINO computes so, and transposes around each layer otherwise, which takes nine tenths of its time. Keras keeps kernels
    in one form whatever the order, so the weights are the same. OpenVINO itself uses bfloat16 where the processor has it.
    """
    config = float32_config(network)
    for layer in config["layers"]:
        options = layer["config"]
        layer.pop("build_config", None)  # shapes of the other order
        if "data_format" in options:
            options["data_format"] = "channels_first"
        if layer["class_name"] in ("BatchNormalization", "Concatenate", "GroupNormalization"):
            options["axis"] = 1
        if layer["class_name"] == "Rescaling" and isinstance(options["scale"], list):  # a value a channel
            options |= {name: [[[value]] for value in options[name]] for name in ("scale", "offset")}
        if layer["class_name"] == "InputLayer":
            _, height, width, channels = options["batch_shape"]
            options["batch_shape"] = (None, channels, height, width)
    turned = keras.Model.from_config(config)
    turned.set_weights(network.get_weights())
    grey = keras.Input(network.input_shape[1:], name="grey")
    return keras.Model(grey, turned(layers.Permute((3, 1, 2))(grey)), name=network.name)


def float32_config(network):
    """What `keras.Model.from_config` makes the same network of, computing in float32 whatever it was trained in."""
    config = network.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float32"
    return config


def in_float32(network):
    """A copy of a network that computes in float32, with stock layers."""
    exact = keras.Model.from_config(float32_config(network))
    exact.set_weights(network.get_weights())
    return exact


def calibrated(network, temperature, flip_averaging=False):
    """A network that gives the probability that model_test.py prints, for other runtimes to score with.

    What `data_loader.predict` and `scores.calibrate` do around the network becomes part of the graph.

    Args:
        network: keras.Model in float32.
        temperature: the run's.
        flip_averaging: take the mean of a view's probability and its mirror image's.
    Returns: keras.Model from "grey", (n, size, size, 1) float32 of 0 to 255, to {"probability": (n, 1) float32}. The weights
        are those of `network`, not copies.
    """
    grey = keras.Input(network.input_shape[1:], name="grey")
    # Both sides as one batch: called twice, the network would stand in the file twice.
    sides = ops.concatenate([grey, grey[:, :, ::-1]], axis=0) if flip_averaging else grey  # (2n or n, size, size, 1)
    probability = network(sides)
    if flip_averaging:
        probability = ops.mean(ops.reshape(probability, (2, -1, 1)), axis=0)
    if temperature != 1.0:
        # In float32 1 - 1e-7 is 1 - 1.2e-7, so the share of "normal" is clipped on its own. No log1p: tf2onnx lacks it.
        logit = ops.log(ops.clip(probability, 1e-7, 1.0)) - ops.log(ops.clip(1.0 - probability, 1e-7, 1.0))
        probability = ops.sigmoid(logit / temperature)
    return keras.Model(grey, {"probability": probability}, name=network.name)


def adam(learning_rate, **options):
    """Keras's Adam with its options, on one device of TensorFlow as one operation a variable (fused.py)."""
    if keras.backend.backend() == "tensorflow":
        from bones.networks import fused

        if fused.is_alone():
            return fused.Adam(learning_rate, name="adam", **options)
    return keras.optimizers.Adam(learning_rate, **options)


def is_whole_model(path):
    """Whether a file holds a model's architecture beside its weights."""
    if path.suffix == ".keras":
        return True
    with h5py.File(path) as file:
        return "model_config" in file.attrs


BUILDERS = {builder.__name__: builder for builder in (densenet169, densenet169_k12, inception_v3)}
