"""What ε-Seg is worth without one of its parts, for benchmarks/clicks.py. Not a program."""

LOSSES = {
    "no contrastive term": {"contrastive": 0.0},
    "no mixture prior": {"divergence": 0.0},
    "no inpainting": {"inpainting": 0.0},
}


def kmeans(workdir, data, pairs):
    raise NotImplementedError
