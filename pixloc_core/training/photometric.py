"""Changes of the appearance of images: light, obstacles, lens, sensor, compression."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from pixloc_core.config import check, setting
from pixloc_core.shapes import Bool, Float, Tensor
from pixloc_core.training.jpeg import compress

_LUMA = (0.299, 0.587, 0.114)
# Mean brightness of an image that automatic exposure still allows.
_DARKEST, _LIGHTEST = 0.1, 0.85
# More images at once do not fit into the caches of a CPU: three times as slow.
_CHUNK = 2


@dataclass(frozen=True, kw_only=True)
class PhotometricConfig:
    """How differently two images of one place may look.

    The defaults fit the training of a robot's network; a strength of about 0.3 fits fine-tuning.
    """

    strength: float = setting(
        1.0, doc="Factor of all changes and of their shares; 0: none.", ge=0.0, le=2.0
    )
    shading: float = setting(
        0.4, doc="Share with soft shadows or light gradients.", ge=0.0, le=1.0
    )
    occluders: float = setting(
        0.12, doc="Share of each of three things in the way.", ge=0.0, le=1.0
    )
    low_light: float = setting(0.08, doc="Share made dark, with warm lamps.", ge=0.0, le=1.0)
    grey: float = setting(0.12, doc="Share without colour.", ge=0.0, le=1.0)
    blur: float = setting(0.35, doc="Share with blur of motion or focus.", ge=0.0, le=1.0)
    max_blur: float = setting(
        7.0, doc="Longest blur of motion, in an image 320 wide.", unit="px", ge=0.0, le=40.0
    )
    noise: float = setting(0.05, doc="Largest usual noise of the sensor.", ge=0.0, le=0.5)
    jpeg: float = setting(0.5, doc="Share compressed as JPEG.", ge=0.0, le=1.0)

    def __post_init__(self) -> None:
        check(self)


def change_appearance(
    images: Float[Tensor, "b 3 h w"],
    generators: Sequence[torch.Generator],
    config: PhotometricConfig,
) -> Float[Tensor, "b 3 h w"]:
    """Change each image on its own.

    Args:
        images: In [0, 1].
        generators: Random numbers (on the CPU), one for each image. What an image becomes
            depends on its own alone.
        config: How much.

    Returns:
        Images in [0, 1] on the device of the images.
    """
    if config.strength == 0 or len(images) == 0:
        return images
    if images.device.type == "cpu" and len(images) > _CHUNK:
        starts = range(0, len(images), _CHUNK)
        chunks = [(images[i : i + _CHUNK], generators[i : i + _CHUNK]) for i in starts]
        return torch.cat([change_appearance(*chunk, config) for chunk in chunks])
    dice = _Dice(generators, images, config.strength)
    images = _change_light(images, dice, config)
    images = _add_occluders(images, dice, config.occluders)
    images = _change_colour(images, dice, config.grey)
    images = _blur(images, dice, config)
    images = _expose(images, dice)
    images = _add_noise(images, dice, config.noise)
    return _compress(images, dice, config.jpeg)


class _Dice:
    """Random numbers, one for each image at a time: `(b, 1, 1, 1)` tensors.

    Args:
        generators: One for each image.
        like: Their dtype and device.
        strength: Factor of all shares and spreads.
    """

    _NUMBER = 160

    def __init__(
        self, generators: Sequence[torch.Generator], like: Tensor, strength: float
    ) -> None:
        numbers = torch.stack([torch.rand(self._NUMBER, generator=g) for g in generators])
        self._numbers = iter(numbers.to(like)[:, None, None, None].unbind(-1))
        seeds = [int(torch.randint(2**53, (), generator=g)) for g in generators]
        self._sources = [torch.Generator(like.device).manual_seed(seed) for seed in seeds]
        self.strength = strength

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers between two others."""
        return low + (high - low) * next(self._numbers)

    def spread(self, size: float) -> Tensor:
        """Numbers about zero, of about this size times the strength; at most 2.85 of it."""
        total = next(self._numbers) + next(self._numbers) + next(self._numbers) - 1.5
        return 1.9 * size * self.strength * total

    def happens(self, share: float) -> Bool[Tensor, "b 1 1 1"]:
        """Whether something of a share happens to each image."""
        return next(self._numbers) < share * self.strength

    def field(self, rows: int, columns: int, size: Sequence[int]) -> Float[Tensor, "b 1 h w"]:
        """Smooth random fields, about normal: a grid enlarged."""
        grid = self.noise((1, rows, columns))
        return functional.interpolate(grid, tuple(size), mode="bicubic", align_corners=True)

    def noise(self, shape: Sequence[int]) -> Tensor:
        """Normal noise `(b, *shape)`, made where the images are."""
        return torch.stack(
            [torch.randn(tuple(shape), generator=g, device=g.device) for g in self._sources]
        )


def _coordinates(images: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates x and y of the pixels, -1 to 1 over the width, `(1, 1, h, w)`."""
    height, width = images.shape[-2:]
    x = torch.linspace(-1, 1, width, device=images.device)
    y = torch.linspace(-1, 1, height, device=images.device) * height / width
    return x.expand(1, 1, height, width), y[:, None].expand(1, 1, height, width)


def _change_light(images: Tensor, dice: _Dice, config: PhotometricConfig) -> Tensor:
    """Soft shadows, gradients of light, and darkness with lamps."""
    x, y = _coordinates(images)
    angle = dice.uniform(0, 6.2832)
    across = x * angle.cos() + y * angle.sin()
    gradient = (dice.spread(0.5) * across).exp()
    images = torch.where(dice.happens(config.shading), images * gradient, images)
    # Shadows with an edge along a wavy line: a threshold of a smooth field.
    edge = across + 0.35 * dice.field(4, 5, images.shape[-2:]) + dice.uniform(-0.6, 0.6)
    shadow = torch.sigmoid(edge * dice.uniform(1, 5).exp())
    depth = (dice.uniform(0.2, 0.6) * dice.strength).clamp(max=0.8)
    images = torch.where(dice.happens(config.shading), images * (1 - depth * shadow), images)
    dark = images * images.sqrt() * dice.uniform(0.12, 0.5)
    light = torch.zeros_like(x)
    for _ in range(2):
        distance_sq = (x - dice.uniform(-1, 1)).square() + (y - dice.uniform(-0.7, 0.3)).square()
        light = light + dice.uniform(0, 2.5) / (1 + distance_sq * dice.uniform(3, 30))
    warm = torch.cat([torch.ones_like(light[:, :, :1, :1]), dice.uniform(0.55, 0.95),
                      dice.uniform(0.2, 0.8)], 1)  # fmt: skip
    dark = dark * (1 + warm * light)
    return torch.where(dice.happens(config.low_light), dark, images)


def _add_occluders(images: Tensor, dice: _Dice, share: float) -> Tensor:
    """Soft-edged boxes and blobs with a texture, up to three."""
    x, y = _coordinates(images)
    texture = 0.25 * dice.field(24, 32, images.shape[-2:])
    for _ in range(3):
        u, v = x - dice.uniform(-1, 1), y - dice.uniform(-0.75, 0.75)
        angle = dice.uniform(0, 3.1416)
        u, v = u * angle.cos() + v * angle.sin(), v * angle.cos() - u * angle.sin()
        u, v = u / dice.uniform(0.03, 0.3), v / dice.uniform(0.03, 0.3)
        box = torch.maximum(u.abs(), v.abs())
        radius = torch.where(dice.uniform() < 0.5, box, torch.hypot(u, v))
        alpha = ((1 - radius) * dice.uniform(4, 40)).clamp(0, 1)
        colour = torch.cat([dice.uniform(0, 0.9) for _ in range(3)], 1)
        colour = torch.lerp(colour.mean(1, keepdim=True), colour, 0.4)
        covered = torch.lerp(images, (colour + texture * dice.uniform()).clamp(0, 1), alpha)
        images = torch.where(dice.happens(share), covered, images)
    return images


def _change_colour(images: Tensor, dice: _Dice, share_grey: float) -> Tensor:
    """Temperature, tint, saturation."""
    warmth, tint = dice.spread(0.09), dice.spread(0.03)
    images = images * torch.cat((warmth + tint, -tint, tint - warmth), 1).exp()
    luma = (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    saturation = (dice.spread(0.35)).exp()
    coloured = torch.lerp(luma.expand_as(images), images, saturation)
    return torch.where(dice.happens(share_grey), luma, coloured).clamp(min=0)


def _blur(images: Tensor, dice: _Dice, config: PhotometricConfig) -> Tensor:
    """Vignetting, then blur by motion along a line or by a wrong focus."""
    x, y = _coordinates(images)
    fall_off = dice.uniform(0, 0.35) * dice.strength * (x * x + y * y)
    images = images * (1 - fall_off.clamp(max=0.9))
    scale = images.shape[-1] / 320 * dice.strength
    length = dice.uniform(0.5, max(config.max_blur, 0.5)) * scale
    angle, is_motion = dice.uniform(0, 3.1416), dice.uniform() < 0.5
    chosen = dice.happens(config.blur).flatten().nonzero()[:, 0].tolist()
    result = images.clone() if chosen else images
    for i in chosen:
        # Defocus disks are smaller than the ways of motion.
        extent = float(length[i]) * (1.0 if bool(is_motion[i]) else 0.4)
        kernel = _kernel(extent, float(angle[i]), is_motion=bool(is_motion[i])).to(images)
        half = kernel.shape[-1] // 2
        padded = functional.pad(images[i : i + 1], (half,) * 4, mode="replicate")
        result[i] = functional.conv2d(padded.movedim(0, 1), kernel[None, None])[:, 0]
    return result


def _kernel(extent: float, angle: float, *, is_motion: bool) -> Float[Tensor, "k k"]:
    """Weights of a line of a length, or of a disk of a diameter, with soft edges."""
    half = int(extent / 2 + 1)
    steps = torch.arange(-half, half + 1, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    turn = torch.tensor(angle).double()
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    distance = torch.hypot(along, across) - extent / 2
    if is_motion:
        distance = torch.maximum(along.abs() - extent / 2, across.abs() - 0.5)
    weights = (0.5 - distance).clamp(0, 1)
    return weights / weights.sum()


def _expose(images: Tensor, dice: _Dice) -> Tensor:
    """Gain, contrast and gamma."""
    # Automatic exposure leaves nothing black, nor all white.
    mean = images.mean((1, 2, 3), keepdim=True).clamp(min=1e-3)
    gain = torch.minimum(torch.maximum(dice.spread(0.3).exp(), _DARKEST / mean), _LIGHTEST / mean)
    images = (images * gain).clamp(0, 1)
    images = images.clamp(min=1e-4) ** dice.spread(0.22).exp()
    bend = dice.spread(0.35)
    curved = images + bend * images * (1 - images) * (2 * images - 1)
    haze = (dice.uniform(-0.15, 0.15) * dice.strength).clamp(min=0)
    return (haze + (1 - haze) * curved).clamp(0, 1)


def _add_noise(images: Tensor, dice: _Dice, largest: float) -> Tensor:
    """Shot noise, which grows with the square root of the light, and read noise."""
    level = dice.uniform() ** 2 * largest * dice.strength
    # Dark images are amplified, and their noise with them.
    level = level * (1.6 - images.mean((1, 2, 3), keepdim=True)).clamp(min=1)
    noise = dice.noise(images.shape[1:]).to(images)
    colourless = dice.uniform(0, 0.8)
    noise = torch.lerp(noise, noise[:, :1], colourless)
    sigma = level * (0.35 + images).sqrt()
    return (images + sigma * noise).clamp(0, 1)


def _compress(images: Tensor, dice: _Dice, share: float) -> Tensor:
    quality = dice.uniform(100 - 70 * min(dice.strength, 1.0), 95).flatten()
    chosen = dice.happens(share).flatten().nonzero()[:, 0]
    if len(chosen) == 0:
        return images
    result = images.clone()
    result[chosen] = compress(images[chosen], quality[chosen])
    return result
