"""benchmark.py's PyTorch peer is our network, and a missing peer is said."""

import keras
import numpy as np
import pytest

import networks


def test_the_pytorch_peer_is_our_network():
    torch = pytest.importorskip("torch", reason="PyTorch is a peer of benchmark.py alone: requirements-benchmark.txt")
    import torch_densenet

    network = networks.densenet169(64)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    peer = torch_densenet.DenseNet169().eval()
    torch_densenet.copy_weights(network, peer)
    buffers = [value for name, value in peer.named_buffers() if "running" in name]
    assert sum(value.numel() for value in (*peer.parameters(), *buffers)) == network.count_params()
    pixels = rng.uniform(0, [[[[20]]], [[[90]]], [[[255]]]], (3, 64, 64, 1)).astype("float32")
    with torch.no_grad():
        found = torch.sigmoid(peer(torch.tensor(pixels).permute(0, 3, 1, 2))).numpy()
    expected = network.predict(pixels, verbose=0)
    assert np.ptp(expected) > 1e-3, "the network says the same of all views"
    np.testing.assert_allclose(found, expected, atol=1e-5)
