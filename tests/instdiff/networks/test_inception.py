"""FID's Inception: where its poolings differ from torchvision's, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.inception import InceptionA, InceptionE

from instdiff.networks import inception


def test_what_lies_beyond_the_border_does_not_count_in_the_mean() -> None:
    torch.manual_seed(0)
    network = inception.build().eval()
    plain = InceptionA(192, 32).eval()
    plain.load_state_dict(network.Mixed_5b.state_dict())
    x = torch.rand(1, 192, 5, 5)
    with torch.no_grad():
        apart = (network.Mixed_5b(x) - plain(x)).abs().amax(1)[0]
    assert apart[1:-1, 1:-1].max() == 0  # inside, all nine values are there
    assert apart[0].min() > 0


def test_the_last_block_pools_by_the_greatest() -> None:
    torch.manual_seed(0)
    network = inception.build().eval()
    plain = InceptionE(2048).eval()
    plain.load_state_dict(network.Mixed_7c.state_dict())
    x = torch.rand(1, 2048, 3, 3)
    with torch.no_grad():
        ours, theirs = network.Mixed_7c(x), plain(x)
        expected = network.Mixed_7c.branch_pool(x.amax((2, 3), keepdim=True))
    assert torch.equal(ours[:, :-192], theirs[:, :-192])
    assert torch.allclose(ours[:, -192:, 1, 1], expected[:, :, 0, 0], atol=1e-6)


def test_the_weights_of_a_file_give_the_features_before_the_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(inception.build().state_dict(), tmp_path / inception.WEIGHTS)
    network = inception.load(tmp_path / inception.WEIGHTS)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, size, np.uint8) for size in ((20, 30, 3), (64, 64, 3))]
    features = network.image_features(pictures)
    assert features.shape == (2, 2048)
    assert np.array_equal(features[1], network.image_features(pictures[1:])[0])  # whatever the batch


def test_the_network_sees_each_picture_as_a_square_from_minus_one_to_one_colour_by_colour() -> None:
    seen: list[torch.Tensor] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return torch.zeros(1, 2048)

    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:10, :, 0] = 255  # red above
    pixels[:, 30:, 2] = 255  # blue to the right
    inception.Inception(network).image_features([pixels])  # type: ignore[arg-type]
    (x,) = seen
    assert x.shape == (1, 3, inception.SIDE, inception.SIDE)
    corners = x[0][:, [0, 0, -1, -1], [0, -1, 0, -1]].T.tolist()  # above left, above right, below left, below right
    assert corners == [[1, -1, -1], [1, -1, 1], [-1, -1, -1], [-1, -1, 1]]


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / inception.WEIGHTS)
    with pytest.raises(ValueError, match=r"inception\.pth: not the weights of FID's Inception"):
        inception.load(tmp_path / inception.WEIGHTS)
    with pytest.raises(ValueError, match=r"other\.pth: no such file"):
        inception.load(tmp_path / "other.pth")
