"""Densities of atoms on a grid and their derivatives of first and second order. Mirror: cuda/density.cu.

Compiled once per precision (-DREAL) and SIMD level; gridgrad.kernels.cpu chooses. The arguments are those of
gridgrad/kernels/abi.py: addresses of contiguous, validated arrays, 0 where absent; an output that is absent is not
computed. B examples, N atoms, T types.
"""
from libc.stdlib cimport calloc, free
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.string cimport memcpy, memset
from profile cimport real
from support cimport Geometry
from atoms cimport Atoms, Tangents, first_atom, first_bad_index, first_bad_offset, first_bad_radius
from to_grid cimport ToGrid, to_grid
from gather cimport ToAtoms
from to_atoms cimport to_atoms

ctypedef size_t Address

cdef extern from *:
    """
    /* the levels of setup.py: 1 more for each that processor and operating system have */
    static int levels_here(void) {
    #if defined(__x86_64__) || defined(__i386__)
        if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 1;
        return 2 + (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
                    && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"));
    #else
        return 1;
    #endif
    }
    """
    int levels_here()


def n_levels():
    """Return how many SIMD levels this processor has, in rising order; ask the baseline."""
    return levels_here()


cdef bytes own_copy(Address integers, long long n):
    # what addresses are computed from is checked and then followed: another thread may write to it meanwhile
    cdef bytes copy
    cdef char* target
    if not integers:
        return b""
    copy = PyBytes_FromStringAndSize(NULL, n * sizeof(long long))
    target = PyBytes_AsString(copy)
    with nogil:
        memcpy(target, <const char*>integers, n * sizeof(long long))
    return copy


cdef int check_integers(const Atoms* atoms) except -1:
    cdef long long i
    with nogil:
        i = first_bad_offset(atoms)
    if i >= 0:
        raise ValueError(f"offsets: element {i} is {atoms.offsets[i]}; expected offsets that rise from 0 to the "
                         f"number of atoms, {atoms.n_atoms}")
    with nogil:
        i = first_bad_index(atoms)
    if i >= 0:
        raise ValueError(f"types: atom {i} has index {atoms.index[i]}; expected an index below n_types = "
                         f"{atoms.n_types} (negative: the atom is ignored)")
    return 0


cdef tuple read_atoms(Atoms* atoms, Geometry* grid, Address coords, Address index, Address weights, Address radii,
                      Address offsets, Address centers, bytes geometry, long long n_examples, long long n_atoms,
                      long long n_types, long long radius_example_stride, Address u_weights=0, Address v_weights=0):
    # returns what has to live as long as `atoms` is used
    cdef long long i
    cdef bytes own_index = own_copy(index, n_atoms), own_offsets = own_copy(offsets, n_examples + 1)
    if len(geometry) != sizeof(Geometry):
        raise ValueError(f"geometry: {len(geometry)} bytes; expected {sizeof(Geometry)}")
    memcpy(grid, <const char*>geometry, sizeof(Geometry))
    atoms.coords = <const real*>coords
    atoms.index = <const long long*><const char*>own_index if index else NULL
    atoms.weights = <const real*>weights
    atoms.radii = <const real*>radii
    atoms.offsets = <const long long*><const char*>own_offsets if offsets else NULL
    atoms.centers = <const double*>centers
    atoms.n_examples = n_examples
    atoms.n_atoms = n_atoms
    atoms.n_types = n_types
    atoms.radius_example_stride = radius_example_stride
    atoms.radius_by_type = grid.radius_by_type != 0
    check_integers(atoms)
    with nogil:
        i = first_bad_radius(atoms, <const real*>u_weights, <const real*>v_weights)
    if i >= 0:
        raise ValueError(f"radii: element {i} is {atoms.radii[i]}; expected a radius > 0")
    return own_index, own_offsets


cdef Tangents tangents(Address coords, Address weights, Address radii) noexcept:
    cdef Tangents v
    v.coords = <const real*>coords
    v.weights = <const real*>weights
    v.radii = <const real*>radii
    return v


# ---- entry points ---------------------------------------------------------------------------------------------------

def density(Address coords, Address index, Address weights, Address radii, Address offsets, Address centers,
            bytes geometry, long long n_examples, long long n_atoms, long long n_types,
            long long radius_example_stride, Address density, int n_threads):
    """Write the (B, T, X, Y, Z) density: sum_i w_ik phi(s_ip)."""
    cdef Geometry grid
    cdef ToGrid call
    cdef tuple _owned
    memset(&call, 0, sizeof(ToGrid))
    _owned = read_atoms(&call.atoms, &grid, coords, index, weights, radii, offsets, centers, geometry, n_examples,
                        n_atoms, n_types, radius_example_stride)
    call.out = <real*>density
    with nogil:
        to_grid(&call, &grid, n_threads)


def density_tangent(Address coords, Address index, Address weights, Address radii, Address offsets, Address centers,
                    Address grad_grad_coords, Address grad_grad_weights, Address grad_grad_radii,
                    bytes geometry, long long n_examples, long long n_atoms, long long n_types,
                    long long radius_example_stride, Address grad_grad_density, int n_threads):
    """Write the (B, T, X, Y, Z) derivative of the density along v: sum_i w phi_v + v_w phi."""
    cdef Geometry grid
    cdef ToGrid call
    cdef tuple _owned
    memset(&call, 0, sizeof(ToGrid))
    _owned = read_atoms(&call.atoms, &grid, coords, index, weights, radii, offsets, centers, geometry, n_examples,
                        n_atoms, n_types, radius_example_stride, 0, grad_grad_weights)
    call.derivative = 1
    call.v = tangents(grad_grad_coords, grad_grad_weights, grad_grad_radii)
    call.out = <real*>grad_grad_density
    with nogil:
        to_grid(&call, &grid, n_threads)


def density_tangent_tangent(Address coords, Address index, Address weights, Address radii, Address offsets,
                            Address centers,
                            Address u_coords, Address u_weights, Address u_radii,
                            Address v_coords, Address v_weights, Address v_radii,
                            bytes geometry, long long n_examples, long long n_atoms, long long n_types,
                            long long radius_example_stride, Address density_uv, int n_threads):
    """Write the (B, T, X, Y, Z) second derivative of the density along u, v: sum_i w phi_uv + u_w phi_v + v_w phi_u."""
    cdef Geometry grid
    cdef ToGrid call
    cdef tuple _owned
    memset(&call, 0, sizeof(ToGrid))
    _owned = read_atoms(&call.atoms, &grid, coords, index, weights, radii, offsets, centers, geometry, n_examples,
                        n_atoms, n_types, radius_example_stride, u_weights, v_weights)
    call.derivative = 2
    call.u = tangents(u_coords, u_weights, u_radii)
    call.v = tangents(v_coords, v_weights, v_radii)
    call.out = <real*>density_uv
    with nogil:
        to_grid(&call, &grid, n_threads)


def density_backward(Address coords, Address index, Address weights, Address radii, Address offsets, Address centers,
                     Address grad_density,
                     bytes geometry, long long n_examples, long long n_atoms, long long n_types,
                     long long radius_example_stride,
                     Address grad_coords, Address grad_weights, Address grad_radii, int n_threads):
    """Write the first-order gradients (N, 3), (N, T) and radii (by type: partial sums, see radii_sum)."""
    cdef Geometry grid
    cdef ToAtoms call
    cdef tuple _owned
    memset(&call, 0, sizeof(ToAtoms))
    _owned = read_atoms(&call.atoms, &grid, coords, index, weights, radii, offsets, centers, geometry, n_examples,
                        n_atoms, n_types, radius_example_stride)
    call.grad_density = <const real*>grad_density
    call.grad_coords = <real*>grad_coords
    call.grad_weights = <real*>grad_weights
    call.grad_radii = <real*>grad_radii
    with nogil:
        to_atoms(&call, &grid, n_threads)


def density_backward_backward(Address coords, Address index, Address weights, Address radii, Address offsets,
                              Address centers, Address grad_density,
                              Address grad_grad_coords, Address grad_grad_weights, Address grad_grad_radii,
                              bytes geometry, long long n_examples, long long n_atoms, long long n_types,
                              long long radius_example_stride,
                              Address grad_coords, Address grad_weights, Address grad_radii, int n_threads):
    """Write the gradients of <v, first-order gradients> with respect to coords, weights and radii."""
    cdef Geometry grid
    cdef ToAtoms call
    cdef tuple _owned
    memset(&call, 0, sizeof(ToAtoms))
    _owned = read_atoms(&call.atoms, &grid, coords, index, weights, radii, offsets, centers, geometry, n_examples,
                        n_atoms, n_types, radius_example_stride, 0, grad_grad_weights)
    call.second = True
    call.grad_density = <const real*>grad_density
    call.v = tangents(grad_grad_coords, grad_grad_weights, grad_grad_radii)
    call.grad_coords = <real*>grad_coords
    call.grad_weights = <real*>grad_weights
    call.grad_radii = <real*>grad_radii
    with nogil:
        to_atoms(&call, &grid, n_threads)


def density_relevance(Address coords, Address index, Address weights, Address radii, Address offsets, Address centers,
                      Address density, Address relevance,
                      bytes geometry, long long n_examples, long long n_atoms, long long n_types,
                      long long radius_example_stride, Address atom_relevance, int n_threads):
    """Write (N,): each atom's share of the relevance of a voxel is its share of the density there."""
    cdef Geometry grid
    cdef ToAtoms call
    cdef tuple _owned
    memset(&call, 0, sizeof(ToAtoms))
    _owned = read_atoms(&call.atoms, &grid, coords, index, weights, radii, offsets, centers, geometry, n_examples,
                        n_atoms, n_types, radius_example_stride)
    call.density = <const real*>density
    call.grad_density = <const real*>relevance
    call.relevance = <real*>atom_relevance
    with nogil:
        to_atoms(&call, &grid, n_threads)


def radii_sum(Address partials, Address index, Address offsets, long long n_examples, long long n_atoms,
              long long n_types, bint per_example, Address grad_radii):
    """Add the partial sums of density_backward*, in the order of the atoms and in float64, to (T,) or (B, T)."""
    cdef Atoms atoms
    cdef long long b, i, k, n_sets = n_examples if per_example else 1
    cdef const real* source = <const real*>partials
    cdef double* of_example
    cdef double* sums
    cdef bytes own_index = own_copy(index, n_atoms), own_offsets = own_copy(offsets, n_examples + 1)
    memset(&atoms, 0, sizeof(Atoms))
    atoms.index = <const long long*><const char*>own_index if index else NULL
    atoms.offsets = <const long long*><const char*>own_offsets if offsets else NULL
    atoms.n_examples = n_examples
    atoms.n_atoms = n_atoms
    atoms.n_types = n_types
    check_integers(&atoms)
    sums = <double*>calloc(n_sets * n_types + 1, sizeof(double))
    if sums == NULL:
        raise MemoryError("radii_sum: no memory for scratch space")
    with nogil:
        for b in range(n_examples):
            of_example = sums + (b if per_example else 0) * n_types
            for i in range(first_atom(&atoms, b), first_atom(&atoms, b + 1)):
                if atoms.index == NULL:
                    for k in range(n_types):
                        of_example[k] += <double>source[i * n_types + k]
                elif atoms.index[i] >= 0:
                    of_example[atoms.index[i]] += <double>source[i]
        for k in range(n_sets * n_types):
            (<real*>grad_radii)[k] = <real>sums[k]
        free(sums)
