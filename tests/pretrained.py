"""Where the tests' pretrained weights come from; a test changes what it is about by `model_copy`."""

from stages.model.pretrained import Origin

ORIGIN = Origin(
    architecture="resnet9",
    source="https://example.org/weights",
    source_sha256="0" * 64,
    licence="MIT",
    trained_on="nothing",
    classes=5,
    mean=[0.4, 0.5, 0.6],
    std=[0.2, 0.2, 0.2],
    interpolation="bicubic",
    image_size=8,
    crop_share=1.0,
)
