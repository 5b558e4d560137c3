import torch

from smedit.engine import hypernetwork
from smedit.engine.hypernetwork import ShapeNetwork


def test_chunks_give_the_outputs_and_gradients_of_one_pass(monkeypatch):
    torch.manual_seed(0)
    network = ShapeNetwork(["a", "b"], d_in=5, d_out=3, rank=4, n_blocks=2, lr=0.1).double()
    keys, gradients = torch.randn(2, 7, 5).double(), torch.randn(2, 7, 3).double()
    network.normalizer.update(torch.cat([keys, gradients], -1).flatten(0, 1))
    with torch.no_grad():
        for block in network.blocks:
            block.B.normal_()  # away from the start, where blocks are the identity
    found = []
    for values in (2**24, 3 * 2 * 8):  # all seven tokens at once, then three at a time
        monkeypatch.setattr(hypernetwork, "MAX_VALUES", values)
        outputs = network(keys, gradients)
        loss = sum(output.square().sum() for output in outputs)
        found.append([*outputs, *torch.autograd.grad(loss, list(network.blocks.parameters()))])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    assert found[0][-1].norm() > 0
