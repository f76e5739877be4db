"""The first system's narrow DenseNet."""

import keras
from keras import layers, regularizers

from bones.networks.parts import load_weights, output_layer, pooled, standardise_layer


def densenet169_k12(size, weights="none", standardise=False, dropout=0.0, pooling="avg"):
    """The first system's narrow DenseNet: blocks of 6, 12, 32, 32 layers, growth 12, stem 16; 1,219,385 parameters.

    Differences from DenseNet-169: bottlenecks as narrow as the growth, transitions that keep all channels, no pooling after the
    stem, dropout 0.2 after every convolution but the stem, L2 1e-4 on kernels, gammas, betas and the output layer's bias.

    Args:
        size: side of the square input, pixels, at least 16.
        weights: "none" or the path of a weights file; there are no ImageNet weights.
        standardise, dropout, pooling: see `applications.densenet169`; a constant scale otherwise.
    Source: https://github.com/ag-piyush/Bone-Fracture-Detection---MURA, densenet.py.
    """
    decay = regularizers.L2(1e-4)
    grey = keras.Input((size, size, 1), name="grey")
    x = standardise_layer(grey) if standardise else layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(grey)
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
    probability = output_layer(pooled(x, pooling), dropout, kernel_regularizer=decay, bias_regularizer=decay)
    network = keras.Model(grey, probability, name="densenet169_k12")
    return network if weights == "none" else load_weights(network, weights)


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
