"""Hidden tokens that nobody's entropy chose, to compare with those it did: elsewhere, or where the errors are.

With random tokens of equal area and shape a repair shows what it does where nothing was doubtful; with those of the
true errors (the oracle) what it could do if doubt knew every error.
"""

import numpy as np
from scipy import ndimage
from scipy.signal import correlate


def random_tokens(hidden, token, seed, alike=None):
    """The hidden pieces moved to random places of their slices, bool (z, y, x), constant inside tokens.

    hidden: bool (z, y, x); token: side of a token in voxels; tokens lie on a lattice from the origin and are cut at
    the far border. Pieces (tokens connected by sides) keep their shape and do not overlap; as many tokens are hidden as
    before. A piece for which no room is left is placed token by token.
    alike: bool (z, y, x), e.g. foreground; a piece then goes, if it can, where at least as many of its tokens touch
    that as before: on background everything would be right already. None: anywhere.
    """
    tokens, rng = _tokens(hidden, token), np.random.default_rng(seed)
    wanted = None if alike is None else _tokens(alike, token)
    moved = np.zeros_like(tokens)
    for z in np.flatnonzero(tokens.any((1, 2))):
        numbers, _ = ndimage.label(tokens[z])
        pieces = [(numbers[box] == i, box) for i, box in enumerate(ndimage.find_objects(numbers), 1)]
        # The largest first, while there is room.
        for piece, box in sorted(pieces, key=lambda found: -np.count_nonzero(found[0])):
            like = None if wanted is None else (wanted[z], np.count_nonzero(wanted[z][box] & piece))
            if not _place(moved[z], piece, like, rng):
                for _ in range(np.count_nonzero(piece)):
                    _place(moved[z], np.ones((1, 1), bool), like and (like[0], 1), rng)
    return _voxels(moved, token, hidden.shape)


def wrong_tokens(truth, labels, token, least_share=0.0):
    """The oracle: tokens of which more than `least_share` of the known voxels are wrong, bool (z, y, x).

    truth: integers (z, y, x), -1 unknown; labels: integers of that shape; token: as in `random_tokens`.
    """
    known = truth != -1
    wrong, counted = (_sums(part, token) for part in (known & (labels != truth), known))
    return _voxels(wrong > least_share * counted, token, truth.shape)


def _place(taken, piece, like, rng):
    """Marks a piece at a random free place of `taken`, bool (rows, columns). False where there is none."""
    places = _overlap(taken, piece) == 0
    if not places.any():
        return False
    if like is not None:
        touching = np.where(places, _overlap(like[0], piece), -1)
        places = touching >= min(like[1], touching.max())
    y, x = divmod(int(rng.choice(np.flatnonzero(places))), places.shape[1])
    taken[y : y + piece.shape[0], x : x + piece.shape[1]] |= piece
    return True


def _overlap(plane, piece):
    """How many tokens of the piece lie on those of the plane, for every place of its upper left corner."""
    return np.rint(correlate(plane.astype(np.float64), piece.astype(np.float64), mode="valid")).astype(int)


def _sums(mask, token):
    """Voxels of the mask in every token, int (z, rows, columns); a token cut by the far border has fewer."""
    z, y, x = mask.shape
    padded = np.pad(mask, ((0, 0), (0, -y % token), (0, -x % token)))
    return padded.reshape(z, padded.shape[1] // token, token, -1, token).sum((2, 4))


def _tokens(mask, token):
    return _sums(mask, token) > 0


def _voxels(tokens, token, shape):
    return tokens.repeat(token, 1).repeat(token, 2)[:, : shape[1], : shape[2]]
