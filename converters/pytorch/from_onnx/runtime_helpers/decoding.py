"""Files inside tensors."""

# mypy: ignore-errors

from __future__ import annotations

import torch


def decode_image(encoded, pixel_format):
    """Pixels (height, width, channels), uint8, of the bytes of an image file in one of the formats that ONNX names."""
    import io

    from PIL import Image

    formats = (
        "BMP",
        "JPEG",
        "JPEG2000",
        "PNG",
        "PPM",
        "TIFF",
        "WEBP",
    )  # for some others Pillow starts a program
    image = Image.open(io.BytesIO(bytes(encoded.tolist())), formats=formats)
    image = image.convert("L" if pixel_format == "Grayscale" else "RGB")
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).to(encoded.device)
    pixels = pixels.reshape(image.height, image.width, -1)
    return pixels.flip(2) if pixel_format == "BGR" else pixels
