// Densities of atoms on a grid and their derivatives of first and second order. Mirror: pyx/density.pyx.
//
// Compiled once per precision (-DREAL) and architecture; gridgrad.kernels.gpu chooses. The arguments are those of
// gridgrad/kernels/abi.py: addresses of contiguous, validated arrays, 0 where absent; an output that is absent is not
// computed. B examples, N atoms, T types.
#include "prepare.cuh"
#include "to_grid.cuh"
#include "to_atoms.cuh"

// ---- entry points ---------------------------------------------------------------------------------------------------
// clang-format off: the arguments stand in lines of inputs, scalars and outputs

// a row a kernel, read by gridgrad.kernels.abi.Launch: threads of a block, voxels of its tile if it makes one, and of
// what a thread stores at once if rows have to be multiples of that
#define LAUNCH(kernel, ...) extern "C" __device__ int launch_##kernel[5] = {__VA_ARGS__};

// a kernel of tiles for any rows, and one, its name and _aligned, for rows of whole 16-byte stores; abi.py chooses
#define TO_GRID(THREADS, BLOCKS, kernel, arguments, ...) \
    LAUNCH(kernel, THREADS, tile_x(THREADS), TILE_Y, TILE_Z) \
    LAUNCH(kernel##_aligned, THREADS, tile_x(THREADS), TILE_Y, TILE_Z, VOXELS) \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) kernel arguments \
    { constexpr bool ALIGNED = false; __VA_ARGS__ } \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) kernel##_aligned arguments \
    { constexpr bool ALIGNED = true; __VA_ARGS__ }

#define ATOMS {coords, index, weights, radii, offsets, centers, n_examples, n_atoms, n_types, radius_example_stride, \
               grid.radius_by_type != 0, fault}

#define PREPARED {bits, channels, cells, n_parts, cell_scale, capacity}

TO_GRID(DENSITY_THREADS, DENSITY_BLOCKS,
density, (const real *coords, const long long *index, const real *weights, const real *radii, const long long *offsets,
          const double *centers,
          const __grid_constant__ Geometry grid, long long n_examples, long long n_atoms, long long n_types,
          long long radius_example_stride, real *density, const unsigned *bits, const unsigned *channels,
          const int *cells, int n_parts, int cell_scale, int capacity, int *fault),
{
    // Write the (B, T, X, Y, Z) density: sum_i w_ik phi(s_ip).
    to_grid<0, ALIGNED>(ToGrid{ATOMS, {}, {}, PREPARED, density}, grid);
})

TO_GRID(TANGENT_THREADS, TANGENT_BLOCKS,
density_tangent, (const real *coords, const long long *index, const real *weights, const real *radii,
                  const long long *offsets, const double *centers, const real *grad_grad_coords,
                  const real *grad_grad_weights, const real *grad_grad_radii,
                  const __grid_constant__ Geometry grid, long long n_examples, long long n_atoms, long long n_types,
                  long long radius_example_stride, real *grad_grad_density, const unsigned *bits,
                  const unsigned *channels, const int *cells, int n_parts, int cell_scale, int capacity, int *fault),
{
    // Write the (B, T, X, Y, Z) derivative of the density along v: sum_i w phi_v + v_w phi.
    to_grid<1, ALIGNED>(ToGrid{ATOMS, {}, {grad_grad_coords, grad_grad_weights, grad_grad_radii}, PREPARED,
                               grad_grad_density}, grid);
})

TO_GRID(TANGENT_THREADS, TANGENT_BLOCKS,
density_tangent_tangent, (const real *coords, const long long *index, const real *weights, const real *radii,
                          const long long *offsets, const double *centers,
                          const real *u_coords, const real *u_weights, const real *u_radii,
                          const real *v_coords, const real *v_weights, const real *v_radii,
                          const __grid_constant__ Geometry grid, long long n_examples, long long n_atoms,
                          long long n_types, long long radius_example_stride, real *density_uv, const unsigned *bits,
                          const unsigned *channels, const int *cells, int n_parts, int cell_scale, int capacity,
                          int *fault),
{
    // Write the (B, T, X, Y, Z) second derivative of the density along u and v: sum_i w phi_uv + u_w phi_v + v_w phi_u.
    to_grid<2, ALIGNED>(ToGrid{ATOMS, {u_coords, u_weights, u_radii}, {v_coords, v_weights, v_radii}, PREPARED,
                               density_uv}, grid);
})

LAUNCH(density_backward, ATOM_THREADS)
extern "C" __global__ void __launch_bounds__(ATOM_THREADS, ATOM_BLOCKS)
density_backward(const real *coords, const long long *index, const real *weights, const real *radii,
                 const long long *offsets, const double *centers, const real *grad_density,
                 const __grid_constant__ Geometry grid, long long n_examples, long long n_atoms, long long n_types,
                 long long radius_example_stride,
                 real *grad_coords, real *grad_weights, real *grad_radii, int *fault)
{
    // Write the first-order gradients (N, 3), (N, T) and radii (by type: partial sums, see radii_sum).
    atom_gradients(ToAtoms{ATOMS, {}, grad_density, nullptr, false, grad_coords, grad_weights, grad_radii, nullptr},
                   grid);
}

LAUNCH(density_backward_backward, ATOM_THREADS)
extern "C" __global__ void __launch_bounds__(ATOM_THREADS, SECOND_BLOCKS)
density_backward_backward(const real *coords, const long long *index, const real *weights, const real *radii,
                          const long long *offsets, const double *centers, const real *grad_density,
                          const real *grad_grad_coords, const real *grad_grad_weights, const real *grad_grad_radii,
                          const __grid_constant__ Geometry grid, long long n_examples, long long n_atoms,
                          long long n_types, long long radius_example_stride,
                          real *grad_coords, real *grad_weights, real *grad_radii, int *fault)
{
    // Write the gradients of <v, first-order gradients> with respect to coords, weights and radii.
    atom_gradients(ToAtoms{ATOMS, {grad_grad_coords, grad_grad_weights, grad_grad_radii}, grad_density, nullptr, true,
                           grad_coords, grad_weights, grad_radii, nullptr}, grid);
}

LAUNCH(density_relevance, ATOM_THREADS)
extern "C" __global__ void __launch_bounds__(ATOM_THREADS, ATOM_BLOCKS)
density_relevance(const real *coords, const long long *index, const real *weights, const real *radii,
                  const long long *offsets, const double *centers, const real *density, const real *relevance,
                  const __grid_constant__ Geometry grid, long long n_examples, long long n_atoms, long long n_types,
                  long long radius_example_stride, real *atom_relevance, int *fault)
{
    // Write (N,): each atom's share of the relevance of a voxel is its share of the density there.
    atom_relevance_sum(ToAtoms{ATOMS, {}, relevance, density, false, nullptr, nullptr, nullptr, atom_relevance}, grid);
}

LAUNCH(radii_sum, SUM_THREADS)
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
radii_sum(const real *partials, const long long *index, const long long *offsets, long long n_examples,
          long long n_atoms, long long n_types, int per_example, real *grad_radii)
{
    // Add the partial sums of density_backward*, in a fixed order and in float64, to (T,) or (B, T): a block per sum.
    const Atoms atoms = {nullptr, index, nullptr, nullptr, offsets, nullptr, n_examples, n_atoms, n_types, 0,
                         false, nullptr};
    const long long k = blockIdx.x % n_types, b = blockIdx.x / n_types;
    const long long begin = per_example ? first_atom(atoms, b) : 0;
    const long long end = per_example ? first_atom(atoms, b + 1) : n_atoms;
    double sum[1] = {};
    for (long long i = begin + threadIdx.x; i < end; i += SUM_THREADS) {
        if (index == nullptr)
            sum[0] += partials[i * n_types + k];
        else if (index[i] == k)
            sum[0] += partials[i];
    }
    block_sum<SUM_THREADS>(sum);
    if (threadIdx.x == 0)
        grad_radii[blockIdx.x] = (real)sum[0];
}

LAUNCH(weight_bits, BITS_THREADS)
extern "C" __global__ void __launch_bounds__(BITS_THREADS)
weight_bits(const real *weights, const real *u_weights, const real *v_weights, const long long *offsets,
            long long n_examples, long long n_atoms, long long n_types, int n_parts, unsigned *bits,
            unsigned *channels)
{
    // Write what Prepared tells of the weights and of those of the directions.
    const Atoms atoms = {nullptr, nullptr, weights, nullptr, offsets, nullptr, n_examples, n_atoms, n_types, 0,
                         false, nullptr};
    find_weight_bits(atoms, u_weights, v_weights, n_parts, bits, channels);
}

LAUNCH(list_cells, CELLS_THREADS, CELL_X, CELL_Y, CELL_Z)
extern "C" __global__ void __launch_bounds__(CELLS_THREADS)
list_cells(const real *coords, const long long *index, const real *weights, const real *radii, const long long *offsets,
           const double *centers, const real *u_weights, const real *v_weights,
           const __grid_constant__ Geometry grid, long long n_examples, long long n_atoms, long long n_types,
           long long radius_example_stride, int cell_scale, int capacity, int *cells, int *fault)
{
    // Write what Prepared tells of the atoms that reach a cell.
    list_in_cells(ATOMS, u_weights, v_weights, grid, cell_scale, capacity, cells);
}
