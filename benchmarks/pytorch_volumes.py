"""The opponents of whole_volume.py: from a TIFF on disk to TIFFs on disk, slice by slice, in PyTorch and MONAI.

Windows, overlap, blending and the weights of the U-Nets are those of the library, so that labels come out the same.
"""

import os

import numpy as np
import pytorch_models
import tifffile
import torch
from torch.nn import functional

AT_ONCE = 16  # windows a call, as the library has it


def prepare():
    """As many threads as there are processors that this process may use."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_grad_enabled(False)


def stack(path):
    """(z, y, x), of one slice as well."""
    found = tifffile.imread(path)
    return found.reshape(-1, *found.shape[-2:])


def by_monai(folder, output, settings, weights, blending):
    """MONAI's sliding_window_inference of the mean of all members, for every slice."""
    from monai.inferers import sliding_window_inference

    nets, overlap = u_nets(settings, weights), 1 - settings["stride"][0] / settings["window"][0]
    weight = torch.tensor(blending)

    def mean(windows):
        windows = windows.contiguous(memory_format=torch.channels_last)
        return sum(net(windows).softmax(1) for net in nets) / len(nets)

    def probabilities(plane):
        how = {"overlap": overlap, "roi_weight_map": weight}
        return sliding_window_inference(plane[None, None], settings["window"], AT_ONCE, mean, **how)[0]

    image = stack(folder / "image.tif")
    decided = [decide(probabilities(normalised(plane)), settings) for plane in image]
    written(output, *(np.stack(maps) for maps in zip(*decided, strict=True)))


def by_folds(folder, output, settings, weights, blending):
    """As nnU-Net does it: each network over the whole volume, a window at a time, and their probabilities summed."""
    image, total, weight = stack(folder / "image.tif"), None, torch.tensor(blending)
    classes, (height, width) = len(settings["classes"]["names"]), settings["window"]
    for net in u_nets(settings, weights):
        found = torch.zeros(len(image), classes, *image.shape[1:])
        for z, grey in enumerate(image):
            plane, sums = normalised(grey), torch.zeros(image.shape[1:])
            for y, x in corners(image.shape[1:], settings):
                box = slice(y, y + height), slice(x, x + width)
                window = plane[box][None, None].contiguous(memory_format=torch.channels_last)
                found[z, :, *box] += net(window).softmax(1)[0] * weight
                sums[box] += weight
            found[z] /= sums
        total = found if total is None else total.add_(found)
    decided = [decide(plane / settings["members"], settings) for plane in total]
    written(output, *(np.stack(maps) for maps in zip(*decided, strict=True)))


def refine(folder, output, settings, weights, blending):
    """Every window that shows a hidden token through the masked autoencoder, the blended answer where one is hidden."""
    labels, entropy = (stack(folder / f"{name}.tif") for name in ("labels", "entropy"))
    token, classes, window = settings["token"], len(settings["class_weights"]), settings["window"]
    grid = tuple(side // token for side in window)
    model = pytorch_models.MaskedAutoencoder(settings["model"], classes, token, grid[0] * grid[1]).eval()
    weight, refined = torch.tensor(blending), labels.copy()
    for z, plane in enumerate(labels):
        doubts = torch.tensor(entropy[z], dtype=torch.float32)[None, None] / 255
        hidden = functional.avg_pool2d(doubts, token)[0, 0] > settings["threshold"]
        boxes = [(y // token, x // token) for y, x in corners(plane.shape, settings)]
        boxes = [(y, x) for y, x in boxes if hidden[y : y + grid[0], x : x + grid[1]].any()]
        tokens = split(torch.tensor(plane.astype(np.int64)), token)
        total, sums = torch.zeros(*plane.shape, classes), torch.full(plane.shape, 1e-30)
        for start in range(0, len(boxes), AT_ONCE):
            group = boxes[start : start + AT_ONCE]
            windows = [(slice(y, y + grid[0]), slice(x, x + grid[1])) for y, x in group]
            given = torch.stack([tokens[box] for box in windows]).flatten(1, 2)
            kept = visible(torch.stack([hidden[box] for box in windows]).flatten(1))
            found = joined(model(given, kept, padded=True).softmax(-1), grid, token)
            for (y, x), one in zip(group, found, strict=True):
                box = slice(y * token, y * token + window[0]), slice(x * token, x * token + window[1])
                total[box] += one * weight[..., None]
                sums[box] += weight
        spread = hidden.repeat_interleave(token, 0).repeat_interleave(token, 1).numpy()
        refined[z][spread] = (total / sums[..., None]).argmax(-1).numpy()[spread]
    tifffile.imwrite(output / "refined.tif", refined)


def visible(hidden):
    """Indices (b, l) of the tokens that are not hidden, bool (b, n); filled up with n."""
    most, n = int((~hidden).sum(1).max()), hidden.shape[1]
    order = torch.where(hidden, n, torch.arange(n)).sort(1).values
    return order[:, : max(most, 1)]


def split(plane, token):
    """(y, x) -> (rows, columns, p)."""
    rows, columns = (side // token for side in plane.shape)
    return plane.reshape(rows, token, columns, token).permute(0, 2, 1, 3).reshape(rows, columns, -1)


def joined(found, grid, token):
    """(b, n, p, c) -> (b, y, x, c)."""
    b, _, _, classes = found.shape
    planes = found.reshape(b, *grid, token, token, classes).permute(0, 1, 3, 2, 4, 5)
    return planes.reshape(b, grid[0] * token, grid[1] * token, classes)


def normalised(grey):
    return torch.tensor(grey.astype(np.float32)).clip(0, 255) / 255


def corners(shape, settings):
    """Where windows begin: every stride, and the last ones flush with the border."""
    axes = []
    for size, window, stride in zip(shape, settings["window"], settings["stride"], strict=True):
        axes.append([*range(0, size - window, stride), size - window])
    return [(y, x) for y in axes[0] for x in axes[1]]


def decide(probabilities, settings):
    """Labels and entropy, uint8 (y, x), of probabilities (c, y, x); "ambiguous" is no label."""
    entropy = torch.special.entr(probabilities).sum(0) / np.log(len(probabilities))
    probabilities[settings["classes"]["ambiguous"]] = -1
    return probabilities.argmax(0).byte().numpy(), (255 * entropy.clip(0, 1)).round().byte().numpy()


def written(output, labels, entropy):
    tifffile.imwrite(output / "labels.tif", labels)
    tifffile.imwrite(output / "entropy.tif", entropy)


def u_nets(settings, weights):
    """The members of an ensemble. weights: {"down0/conv0/kernel": (k, …), …}, as flax has them."""
    widths, classes, found = tuple(settings["model"]["widths"]), len(settings["classes"]["names"]), []
    for member in range(settings["members"]):
        net, levels = pytorch_models.UNet(widths, classes), len(widths)

        def given(name, member=member):
            return torch.tensor(np.array(weights[name][member]))

        double = {f"down{i}": net.down[i] for i in range(levels - 1)} | {"bottom": net.down[-1]}
        for i in range(levels - 1):
            level = levels - 2 - i
            double[f"merge{level}"] = net.merge[i]
            kernel = given(f"up{level}/kernel/kernel")  # (before, 2 * 2 * width)
            net.up[i].weight.data = kernel.reshape(len(kernel), 2, 2, -1).permute(0, 3, 1, 2).contiguous()
            net.up[i].bias.data = given(f"up{level}/bias")
        for name, block in double.items():
            for i in range(2):
                conv, norm = block[3 * i], block[3 * i + 1]
                conv.weight.data = given(f"{name}/conv{i}/kernel").permute(3, 2, 0, 1).contiguous()
                conv.bias.data = given(f"{name}/conv{i}/bias")
                norm.weight.data, norm.bias.data = given(f"{name}/norm{i}/scale"), given(f"{name}/norm{i}/bias")
                norm.eps = 1e-6
        net.head.weight.data = given("head/kernel").T[..., None, None].contiguous()
        net.head.bias.data = given("head/bias")
        found.append(net.eval().to(memory_format=torch.channels_last))
    return found
