"""The opponents: a masked autoencoder and an ensemble of U-Nets as one would write them in PyTorch.

Needs torch (not a dependency of the library). Sizes and work are those of the models of configs/mae.py and
configs/ensemble.py: the same tokens kept and decoded, the same widths, AdamW, float32 unless autocast is asked for.
"""

import math

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width, heads, mlp_ratio):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        hidden = int(mlp_ratio * width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x, seen=None):
        """seen: bool (b, l), which tokens attention sees, None for all."""
        b, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(b, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mask = None if seen is None else seen[:, None, None]
        y = functional.scaled_dot_product_attention(*qkv, mask).transpose(1, 2).reshape(b, length, width)
        x = x + self.out(y)
        return x + self.mlp(self.norm2(x))


class MaskedAutoencoder(nn.Module):
    """Labels int64 (b, n, p) and kept indices (b, l) -> logits (b, n, p, c). All samples keep as many tokens; or, where
    they are `padded`, the index n stands for none.
    """

    def __init__(self, model, classes, token, tokens):
        super().__init__()
        width, inner = model["encoder_width"], model["decoder_width"]
        self.classes, self.pixels = classes, token**2
        self.embed = nn.Linear(token**2 * classes, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, inner))
        self.register_buffer("positions", torch.randn(1, tokens, width) * 0.02)
        self.register_buffer("inner_positions", torch.randn(1, tokens, inner) * 0.02)
        ratio = model["mlp_ratio"]
        blocks = [Block(width, model["encoder_heads"], ratio) for _ in range(model["encoder_depth"])]
        self.encoder = nn.Sequential(*blocks, nn.LayerNorm(width, eps=1e-6))
        self.to_decoder = nn.Linear(width, inner)
        blocks = [Block(inner, model["decoder_heads"], ratio) for _ in range(model["decoder_depth"])]
        self.decoder = nn.Sequential(*blocks, nn.LayerNorm(inner, eps=1e-6))
        self.head = nn.Linear(inner, token**2 * classes)

    def forward(self, labels, kept, padded=False):
        b, n, _ = labels.shape
        there = kept.clamp(max=n - 1)[..., None]
        chosen = torch.gather(labels, 1, there.expand(-1, -1, self.pixels))
        x = self.embed(functional.one_hot(chosen, self.classes).flatten(2).to(self.embed.weight.dtype))
        x = x + torch.gather(self.positions.expand(b, -1, -1), 1, there.expand(-1, -1, x.shape[-1]))
        x, seen = torch.cat([self.class_token.expand(b, -1, -1), x], 1), functional.pad(kept < n, (1, 0), value=True)
        for block in self.encoder[:-1]:
            x = block(x, seen if padded else None)
        x = self.to_decoder(self.encoder[-1](x))
        full = self.mask_token.expand(b, n + 1, -1).to(x.dtype)
        full = full.scatter(1, kept[..., None].expand(-1, -1, x.shape[-1]), x[:, 1:])[:, :n] + self.inner_positions
        y = self.decoder(torch.cat([x[:, :1], full], 1))[:, 1:]
        return self.head(y).reshape(b, n, self.pixels, self.classes)


class Double(nn.Sequential):
    def __init__(self, before, width):
        layers = []
        for channels in (before, width):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                nn.GroupNorm(math.gcd(8, width), width),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """Images (b, 1, y, x) -> logits (b, c, y, x)."""

    def __init__(self, widths, classes):
        super().__init__()
        self.down = nn.ModuleList(Double(a, b) for a, b in zip((1, *widths[:-1]), widths, strict=True))
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.merge = nn.ModuleList(Double(2 * b, b) for _, b in pairs)
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x):
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.head(x)


def hidden_loss(logits, labels, hidden):
    """Mean cross-entropy over the pixels of hidden tokens, bool (b, n)."""
    return functional.cross_entropy(logits[hidden].flatten(0, 1), labels[hidden].flatten())
