"""How far two texts that do the same arithmetic in another order may lie apart, derived from the inputs alone.

* A difference ``x_p - r`` is known to some units in the last place (`ULPS`) of itself, of ``resolution * i`` where the
  resolution is no power of two, and of the coordinates in float64.
* Divided by R it gives xi, and squared s; phi and its two derivatives follow with the slopes of `SLOPES`, which bound
  those of all profiles drawn; where s may lie on either side of a radius at which the profile jumps, by the jump.
* The terms of a sum are counted with their absolute values, and a product that underflows as the smallest normal
  number, of which it may lose all.
"""

import numpy as np

ULPS = 2
SLOPES = (1.0, 2.0, 4.0, 16.0)  # bounds of phi, phi_s, phi_ss and of the slope of the last, for multiples >= 0.8


def finite(array):
    """Absolute values in float64; 0 for what is not finite."""
    return np.where(np.isfinite(array), np.abs(array.astype(np.float64)), 0)


def length(vectors):
    """Length, of a large vector too."""
    return np.hypot(np.hypot(vectors[..., 0], vectors[..., 1]), vectors[..., 2])


class Along:
    """A direction at every pair of atom and channel: bounds of |2 v_r|, |v_R|, |v_w|, |R s_v / 2|; its error.

    Shapes (N, T, 1), and (N, T, P) for what depends on the voxel.
    """

    def __init__(self, bars, direction):
        case, shape = bars.case, (bars.case.n_atoms, bars.case.n_types, 1)
        coords, weights, radii = direction
        self.coords, self.radii, self.weights = np.zeros((3, *shape))
        self.known = np.ones(shape, bool)
        if coords is not None:
            self.coords = self.coords + 2 * finite(coords).max(-1, initial=0)[:, None, None]
            self.known &= np.isfinite(coords).all(-1)[:, None, None]
        if radii is not None:
            self.radii = finite(case.by_atom(radii))[:, :, None] * case.grid.radius_scale
            self.known &= np.isfinite(case.by_atom(radii))[:, :, None]
        self.wild_weights = np.zeros(shape, bool)
        if weights is not None:
            self.weights = finite(weights)[:, :, None]
            self.wild_weights = ~np.isfinite(weights)[:, :, None]
        self.R_s = bars.xi * self.coords + bars.s * self.radii
        self.e_R_s = bars.e_xi * self.coords + bars.e_s * self.radii + bars.eps * self.R_s + bars.tiny


class Bars:
    """How far the outputs of two texts may lie apart.

    Attributes
    ----------
    bars : dict of numpy.ndarray
        By output.
    open : dict of numpy.ndarray
        Elements that may be anything: a product of the inputs overflows on the way, or the last digit of a distance
        decides whether a factor that is not finite is multiplied by zero.
    """

    def __init__(self, case):
        self.case = case
        self.bars, self.open = {}, {}
        info = np.finfo(case.dtype)
        self.eps, self.tiny, self.limit = ULPS * float(info.eps), ULPS * float(info.tiny), float(info.max) / ULPS
        with np.errstate(all="ignore"):
            self._distances()
            self._profiles()
            index = np.arange(case.n_types)
            w = case.index[:, None] == index if case.weights is None else case.weights
            self.w = w.astype(np.float64)[:, :, None]
            self.u, self.v = Along(self, case.u), Along(self, case.v)
            self._grids()
            self._atoms()

    def _distances(self):
        """xi (N, T, P), s and their errors, and which components may be zero or not."""
        case, grid = self.case, self.case.grid
        h, x_f, side = grid.resolution, grid.final_radius_multiple, max(grid.dimension)
        exact = h * 2**20 % 1 == 0
        counts = grid.spatial_grid_dimensions()
        axes = [-length / 2 + np.arange(n) * h for length, n in zip(grid.dimension, counts, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        r = case.positions
        placed = np.isfinite(r).all(1)
        delta = points - np.where(placed[:, None], r, np.inf)[:, None]  # (N, P, 3)
        known = self.eps * np.abs(delta) + ULPS * 2.0**-52 * (
            np.abs(points) + (np.abs(r) + finite(case.coords))[:, None] + side
        )
        if not exact:
            known += self.eps * (np.abs(points) + side)
        self.radius = (case.by_atom(case.radii).astype(np.float64) * grid.radius_scale)[:, :, None]
        radius = np.maximum(self.radius, 1e-15)
        xi = length(delta)[:, None] / radius
        e_xi = length(known)[:, None] / radius + self.eps * xi
        s = xi * xi
        e_s = 2 * xi * e_xi + e_xi * e_xi + self.eps * s + self.tiny
        self.end = np.abs(s - x_f**2) <= 2 * e_s + self.eps
        self.kinks = self.end | (np.abs(s - grid.gaussian_radius_multiple**2) <= 2 * e_s + self.eps)
        self.near = (s - 2 * e_s <= x_f**2 * (1 + self.eps)) & placed[:, None, None]
        self.xi, self.e_xi = np.where(self.near, xi, 0), np.where(self.near, np.minimum(e_xi, 4 * x_f), 0)
        self.s, self.e_s = np.where(self.near, s, 0), np.where(self.near, np.minimum(e_s, 4 * x_f * x_f), 0)
        certain = (delta == 0) & exact & (np.abs(r)[:, None] * 2**20 % 1 == 0)
        self.torn_axis = ((np.abs(delta) <= 4 * known) & ~certain)[:, None] & self.near[..., None]
        self.torn_s = self.torn_axis.any(-1)

    def _profiles(self):
        """Bounds of phi, phi_s and phi_ss, and their errors."""
        grid = self.case.grid
        kind = "binary" if grid.binary else "truncated" if grid.gaussian_radius_multiple < 0 else grid.tail
        never = np.zeros_like(self.kinks)
        jumps = {
            "quadratic": (never, never, self.kinks),
            "quintic": (never, never, never),
            "truncated": (self.end, self.end, self.end),
            "binary": (self.end, never, never),
        }[kind]
        self.phi, self.e_phi = [], []
        for order in range(3):
            bound = 0.0 if kind == "binary" and order else SLOPES[order]
            error = np.minimum(bound, SLOPES[order + 1] * self.e_s + self.eps * bound)
            error = np.where(jumps[order], bound, error)
            self.phi.append(np.where(self.near, bound, 0.0))
            self.e_phi.append(np.where(self.near, error, 0.0))

    def product(self, *factors):
        """Absolute value of a product that may underflow on the way."""
        found = factors[0]
        for factor in factors[1:]:
            found = np.maximum(found * factor, self.tiny / self.eps * (found != 0) * (factor != 0))
        return found

    def _put(self, name, bar, peak, torn):
        self.bars[name] = bar + self.tiny
        self.open[name] = ~(np.maximum(peak, bar / self.eps) < self.limit) | torn

    def _phi_along(self, direction):
        """phi_v and its error."""
        slope = self.product(2 / self.radius, direction.R_s)
        e_slope = 2 / self.radius * direction.e_R_s + self.tiny
        value = self.phi[1] * slope
        return value, self.e_phi[1] * slope + self.phi[1] * e_slope + self.eps * value

    def _phi_along_both(self):
        """phi_uv, its error, and the largest number on the way."""
        u, v, (_, p1, p2), (_, e1, e2) = self.u, self.v, self.phi, self.e_phi
        s_uv = 2 * u.coords * v.coords + 4 * self.xi * (u.coords * v.radii + v.coords * u.radii)
        s_uv = s_uv + 6 * self.s * u.radii * v.radii
        e_s_uv = 4 * self.e_xi * (u.coords * v.radii + v.coords * u.radii) + 6 * self.e_s * u.radii * v.radii
        e_s_uv = e_s_uv + self.eps * s_uv + self.tiny
        both = 4 * u.R_s * v.R_s
        e_both = 4 * (u.e_R_s * v.R_s + u.R_s * v.e_R_s) + self.tiny
        value = p2 * both + p1 * s_uv
        error = e2 * both + p2 * e_both + e1 * s_uv + p1 * e_s_uv + self.eps * value + self.tiny
        per_radius = 1 / self.radius
        scaled = self.product(value, per_radius, per_radius)
        e_scaled = error * per_radius * per_radius + self.eps * scaled + self.tiny * np.maximum(1, per_radius)
        return scaled, e_scaled, value * np.maximum(1, per_radius)

    def _grids(self):
        case, eps, u, v = self.case, self.eps, self.u, self.v
        shape = case.n_examples, case.n_types, *case.grid.spatial_grid_dimensions()
        w = finite(self.w)
        phi, e_phi = self.phi[0], self.e_phi[0]
        (phi_u, e_phi_u), (phi_v, e_phi_v), (phi_uv, e_phi_uv, peak) = (
            self._phi_along(u), self._phi_along(v), self._phi_along_both()
        )  # fmt: skip
        self.phi_v, self.e_phi_v = phi_v, e_phi_v

        def term(*pairs):
            return sum(self.product(a, e) + eps * self.product(a, p) for a, p, e in pairs)

        either = (self.w != 0) & ~(u.known & v.known) | (u.weights != 0) & ~v.known | (v.weights != 0) & ~u.known
        terms = {
            "density": (term((w, phi, e_phi)), 0, self.end & False),
            "tangent": (term((w, phi_v, e_phi_v), (v.weights, phi, e_phi)), 0, self.end & ~v.known & (self.w != 0)),
            "tangent_tangent": (
                term((w, phi_uv, e_phi_uv), (u.weights, phi_v, e_phi_v), (v.weights, phi_u, e_phi_u)),
                np.where(self.w != 0, np.maximum(peak, w * peak), 0) + 0 * phi,
                (self.end | self.torn_s) & either,
            ),
        }
        for name, (bar, high, torn) in terms.items():
            found, peaks, undecided = np.zeros((3, case.n_examples, case.n_types, bar.shape[-1]))
            for i, b in enumerate(case.example):
                found[b] += bar[i]
                undecided[b] += torn[i]
                peaks[b] += high[i] if np.ndim(high) else high
            self._put(name, found.reshape(shape), peaks.reshape(shape), undecided.reshape(shape) > 0)

    def _atoms(self):
        case, radius, eps, tiny, v = self.case, self.radius, self.eps, self.tiny, self.v
        grad = case.grad_density.astype(np.float64).reshape(case.n_examples, case.n_types, -1)[case.example]
        wild = self.near & ~(np.isfinite(grad) & np.isfinite(self.w) & ~v.wild_weights)
        grad, w = finite(grad), finite(self.w)
        grad_w, grad_v = self.product(grad, w), self.product(grad, v.weights)
        unit = case.grid.radius_scale
        (p0, p1, p2), (e0, e1, e2), xi, s, a, e_a = self.phi, self.e_phi, self.xi, self.s, v.R_s, v.e_R_s
        end, by_s = wild & self.end, wild & (self.end | self.torn_s)
        by_axis = wild[..., None] & self.torn_axis | end[..., None]
        second = 2 * grad_w * p2 * a + grad_v * radius * p1
        e_second = 2 * grad_w * (e2 * a + p2 * e_a) + grad_v * radius * e1 + eps * second + tiny
        first, e_first = grad_w * p1, grad_w * e1 + eps * grad_w * p1 + tiny
        q, e_q = 2 * second + 4 * first * v.radii, 2 * e_second + 4 * e_first * v.radii
        r_inner = e_q * xi + q * self.e_xi + 2 * v.coords * e_first + eps * (q * xi + 2 * v.coords * first) + tiny
        radius_inner = (
            2 * (e_second * s + second * self.e_s)
            + 6 * (e_first * a + first * e_a)
            + eps * (2 * second * s + 6 * first * a)
            + tiny
        )
        # (N, T, P[, 3]): the term, the largest number on the way, whether the last digit decides about NaN
        terms = {
            "1 weights": (self.product(grad, e0) + eps * self.product(grad, p0), grad, end),
            "2 weights": (self.product(grad, self.e_phi_v) + eps * self.product(grad, self.phi_v), grad, by_s),
            "1 coords": (2 / radius * (grad_w * (e1 * xi + p1 * self.e_xi + eps * p1 * xi) + tiny), grad_w, by_axis),
            "1 radii": (unit * 2 / radius * (grad_w * (e1 * s + p1 * self.e_s + eps * p1 * s) + tiny), grad_w, by_s),
            "2 coords": (r_inner / radius / radius, np.maximum(r_inner / eps, q), by_axis | by_s[..., None]),
            "2 radii": (unit * radius_inner / radius / radius, np.maximum(radius_inner / eps, q), by_s),
        }
        for key, (term, high, torn) in terms.items():
            name = f"order {key[0]} grad_{key[2:]}"
            bar, peak = np.where(self.near, term, 0).sum(2) + tiny, np.where(self.near, high, 0).sum(2)
            torn = torn.any(2)
            if key.endswith("weights"):
                self._put(name, bar, peak, torn)
            elif key.endswith("coords"):
                self._put(name, np.repeat(bar.sum(1)[:, None], 3, 1), peak.sum(1)[:, None], torn.any(1))
            elif not case.by_type:
                self._put(name, bar.sum(1), peak.sum(1), torn.any(1))
            else:
                if case.weights is None:
                    self._put(f"order {key[0]} partials", bar.sum(1), peak.sum(1), torn.any(1))
                else:
                    self._put(f"order {key[0]} partials", bar, peak, torn)
                self._put(name, *(self._by_type(each) for each in (bar, peak, torn)))
        density = case.density.astype(np.float64).reshape(case.n_examples, case.n_types, -1)[case.example]
        share = np.where(density != 0, self.product(grad, w) / np.abs(density), 0)
        bar = np.where(self.near, share * e0 + eps * share * p0, 0).sum((1, 2))
        peak = np.where(self.near, np.maximum(share, w / np.abs(density)), 0).sum((1, 2))
        wild |= ~np.isfinite(density)
        self._put("relevance", bar, peak, (wild & self.end).any((1, 2)))

    def _by_type(self, values):
        """Sum (N, T) over the atoms to (T,) or (first, T)."""
        case = self.case
        rows = case.n_examples if case.radii.ndim == 2 else 1
        total = np.zeros((rows, case.n_types))
        for i, b in enumerate(case.example):
            total[b if rows > 1 else 0] += values[i]
        return total.reshape(case.radii.shape).astype(values.dtype)


def differences(found, expected, bars):
    """Yield (name, index, found, expected, bar) for every element that does not agree; names of `expected`."""
    for name, value in expected.items():
        a, b, bar = found[name], value, bars.bars[name]
        with np.errstate(all="ignore"):
            apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
            same = (np.isnan(a) & np.isnan(b)) | (a == b) | (np.isfinite(a) & np.isfinite(b) & (apart <= bar))
        for where in map(tuple, np.argwhere(~(same | bars.open[name]))):
            yield name, where, a[where], b[where], bar[where]
