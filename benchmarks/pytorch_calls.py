"""The opponents of pytorch_models.py as calls to time: one training step, one prediction; they wait for the result."""

import contextlib

import numpy as np
import pytorch_models
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def masked_autoencoder(settings, batch, dtype):
    """(training step, inference) on a batch of mae_speed.random_batch: the same tokens kept and hidden."""
    token, classes = settings["token"], len(settings["class_weights"])
    b, height, width = batch["labels"].shape
    planes = batch["labels"].astype(np.int64).reshape(b, height // token, token, width // token, token)
    labels = torch.tensor(planes.transpose(0, 1, 3, 2, 4).reshape(b, -1, token**2), device=DEVICE)
    tokens, rng = labels.shape[1], np.random.default_rng(0)
    order = torch.tensor(np.stack([rng.permutation(tokens) for _ in range(b)]), device=DEVICE)
    kept = order[:, int(batch["shared"]["hidden_count"]) :].sort(1).values
    hidden = torch.ones((b, tokens), dtype=torch.bool, device=DEVICE).scatter(1, kept, False)
    model = pytorch_models.MaskedAutoencoder(settings["model"], classes, token, tokens).to(DEVICE)
    forward = torch.compile(model) if DEVICE == "cuda" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with autocast(dtype):
            loss = pytorch_models.hidden_loss(forward(labels, kept), labels, hidden)
        loss.backward()
        optimizer.step()
        wait()

    def predict():
        with torch.inference_mode(), autocast(dtype):
            forward(labels, kept).softmax(-1)
        wait()

    return step, predict


def ensemble(settings, images, labels, dtype):
    """(training step of all members one after another, prediction of all). images (b, k, y, x), labels alike."""
    members, widths, classes = images.shape[1], tuple(settings["model"]["widths"]), len(settings["classes"]["names"])
    nets = [pytorch_models.UNet(widths, classes).to(DEVICE, memory_format=torch.channels_last) for _ in range(members)]
    forwards = [torch.compile(net) if DEVICE == "cuda" else net for net in nets]
    optimizers = [torch.optim.AdamW(net.parameters(), lr=1e-4) for net in nets]
    x = torch.tensor(images, device=DEVICE)[:, :, None]
    x = [x[:, i].contiguous(memory_format=torch.channels_last) for i in range(members)]
    y = [torch.tensor(labels[:, i].astype(np.int64), device=DEVICE) for i in range(members)]

    def step():
        for forward, optimizer, image, target in zip(forwards, optimizers, x, y, strict=True):
            optimizer.zero_grad(set_to_none=True)
            with autocast(dtype):
                loss = torch.nn.functional.cross_entropy(forward(image), target)
            loss.backward()
            optimizer.step()
        wait()

    def predict():
        with torch.inference_mode(), autocast(dtype):
            torch.stack([forward(x[0]).softmax(1) for forward in forwards]).mean(0)
        wait()

    return step, predict


def autocast(dtype):
    return contextlib.nullcontext() if dtype == "float32" else torch.autocast(DEVICE, getattr(torch, dtype))


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()
