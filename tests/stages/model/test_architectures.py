"""Every model takes N×C×H×W and gives N×classes, and what it cannot take is said."""

import pytest
import torch

from stages.common.errors import UserError
from stages.model.architectures import build_model
from stages.model.head import name_of_head


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("simplenet", 4),
        ("resnet9", 8),
        ("resnet9", 32),
        ("resnet18", 8),
        ("resnet18", 65),
        ("mobilenet_v3_small", 32),
        pytest.param("vit_b_16", 32, marks=pytest.mark.slow),
        ("googlenet", 32),
        ("timm/test_efficientnet", 32),
        ("timm/test_vit", 32),
    ],
)
def test_shapes(name: str, image_size: int, channels: int) -> None:
    """Also googlenet and vit, which need options of their own."""
    model = build_model(name, num_classes=7, channels=channels, image_size=image_size)
    model.train()
    assert model(torch.randn(2, channels, image_size, image_size)).shape == (2, 7)


def test_resnet18_has_a_small_stem_for_small_images() -> None:
    small, large = (build_model("resnet18", num_classes=2, channels=3, image_size=side) for side in (64, 65))
    assert small.conv1.kernel_size == (3, 3)  # type: ignore[union-attr]
    assert large.conv1.kernel_size == (7, 7)  # type: ignore[union-attr]


def test_the_same_seed_gives_the_same_weights() -> None:
    """Also after the trial run that build_model makes."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(build_model("resnet9", num_classes=2, channels=1, image_size=8).state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


@pytest.mark.parametrize(("name", "image_size"), [("alexnet", 8), ("resnet9", 4), ("vit_b_16", 30)])
def test_images_of_the_wrong_size(name: str, image_size: int) -> None:
    with pytest.raises(UserError, match=rf"{name} cannot take images of {image_size} px .* Change image_size"):
        build_model(name, num_classes=2, channels=1, image_size=image_size)


def test_timm_has_no_such_architecture() -> None:
    with pytest.raises(UserError, match=r"model: timm/test_vitt: .* did you mean timm/test_vit"):
        build_model("timm/test_vitt", num_classes=2, channels=3, image_size=32)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet9", "10"),
        ("resnet18", "fc"),
        pytest.param("vit_b_16", "heads.head", marks=pytest.mark.slow),
        ("timm/test_vit", "head"),
        ("simplenet", "3"),
    ],
)
def test_the_head_is_the_last_layer(name: str, head: str) -> None:
    assert name_of_head(build_model(name, num_classes=128, channels=3, image_size=32), 128) == head
