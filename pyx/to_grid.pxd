# Kernels whose output is the grid: density and its tangent. Every voxel is written by one thread.
# Mirror: cuda/to_grid.cuh.

from libc.math cimport NAN
from libc.string cimport memset
from profile cimport real
from support cimport Support, next_block, place
from atoms cimport Atoms, first_atom, is_nan, radius_slot
from block cimport add_block, fill_phi, fill_phi_v
from workspace cimport Workspace


cdef struct ToGrid:
    Atoms atoms
    const real* v_coords        # tangents (N, 3), (N, T), as radii; absent: zero
    const real* v_weights
    const real* v_radii
    bint tangent
    long long* order            # index types: atoms by example and channel
    long long* start
    long long channels          # per item
    long long planes            # per item
    long long n_groups
    long long n_slabs
    real* grid                  # (B, T, X, Y, Z)


cdef inline void add_atom(Workspace* space, const ToGrid* call, long long b, long long i, long long k_begin,
                          long long k_end, long long x_begin, long long x_end) noexcept nogil:
    # adds atom i to channels [k_begin, k_end) of planes [x_begin, x_end)
    cdef Support* a = &space.support
    cdef const Atoms* atoms = &call.atoms
    cdef const real* r = atoms.coords + 3 * i
    cdef const real* weights = NULL
    cdef const real* v_weights = NULL
    cdef long long slot = radius_slot(atoms, b, i, k_begin), volume, plane, k, c
    cdef double radius = <double>atoms.radii[slot] * a.grid.radius_scale
    cdef real weight = 1, v_weight = 0, from_coords, from_radius
    cdef real v_coords[3]
    cdef real* grid
    cdef bint moved
    plane = a.grid.points[1] * a.grid.points[2]
    volume = a.grid.points[0] * plane
    grid = call.grid + (b * atoms.n_types + k_begin) * volume
    if atoms.weights != NULL:
        weights = atoms.weights + i * atoms.n_types + k_begin
        if call.v_weights != NULL:
            v_weights = call.v_weights + i * atoms.n_types + k_begin
    for k in range(k_end - k_begin):
        weight = weights[k] if weights != NULL else <real>1
        v_weight = v_weights[k] if v_weights != NULL else <real>0
        if (weight != 0 or v_weight != 0) and (is_nan(r, radius) or weight != weight or v_weight != v_weight):
            for c in range(x_begin * plane, x_end * plane):
                grid[k * volume + c] = <real>NAN
    if not radius > 0 or is_nan(r, radius) or not place(a, r, radius, x_begin, x_end):
        return
    for k in range(3):
        v_coords[k] = call.v_coords[3 * i + k] if call.v_coords != NULL else <real>0
    from_coords = <real>(-2.0 / (radius * radius))
    from_radius = <real>(-2.0 / radius * a.grid.radius_scale * call.v_radii[slot]) if call.v_radii != NULL else <real>0
    moved = call.v_coords != NULL or call.v_radii != NULL
    while next_block(a):
        if not call.tangent or v_weights != NULL:
            fill_phi(space)
        if call.tangent and moved:
            fill_phi_v(space, v_coords, from_coords, from_radius)
        for k in range(k_end - k_begin):
            weight = weights[k] if weights != NULL else <real>1
            v_weight = v_weights[k] if v_weights != NULL else <real>0
            if not call.tangent:
                if weight != 0:
                    add_block(space.phi, weight, space.phi, 0, a, grid + k * volume)
            elif moved and weight != 0:     # w phi_v + v_w phi
                add_block(space.phi_v, weight, &space.phi[0] if v_weights != NULL else &space.phi_v[0], v_weight, a,
                          grid + k * volume)
            elif v_weight != 0:
                add_block(space.phi, v_weight, space.phi, 0, a, grid + k * volume)


cdef inline void fill_item(Workspace* space, const ToGrid* call, long long item) noexcept nogil:
    # item = (example, group of channels, slab of planes)
    cdef const Atoms* atoms = &call.atoms
    cdef long long slab = item % call.n_slabs, group = item // call.n_slabs % call.n_groups
    cdef long long b = item // call.n_slabs // call.n_groups, k_begin, k_end, x_begin, x_end, plane, k, j
    k_begin = group * call.channels
    k_end = min(k_begin + call.channels, atoms.n_types)
    x_begin = slab * call.planes
    x_end = min(x_begin + call.planes, space.support.grid.points[0])
    plane = space.support.grid.points[1] * space.support.grid.points[2]
    for k in range(b * atoms.n_types + k_begin, b * atoms.n_types + k_end):
        memset(call.grid + (k * space.support.grid.points[0] + x_begin) * plane, 0,
               (x_end - x_begin) * plane * sizeof(real))
    if atoms.index != NULL:
        for j in range(call.start[b * atoms.n_types + k_begin], call.start[b * atoms.n_types + k_end]):
            add_atom(space, call, b, call.order[j], k_begin, k_end, x_begin, x_end)
        return
    for j in range(first_atom(atoms, b), first_atom(atoms, b + 1)):
        if call.channels > 1 or atoms.weights[j * atoms.n_types + k_begin] != 0 or (
                call.v_weights != NULL and call.v_weights[j * atoms.n_types + k_begin] != 0):
            add_atom(space, call, b, j, k_begin, k_end, x_begin, x_end)
