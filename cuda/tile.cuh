// A tile of voxels of one example and the atoms that reach it: what the kernels of to_grid.cuh share.
//
//      z ->  ________ ________ ________         grid:   cut into tiles, a block of threads each (DENSITY_THREADS)
//     y     | warp 0 | warp 1 | next tile       tile:   BRICKS_Z bricks along z, BRICKS_Y along y, as many along x as
//     |     |________|________|________                 the warps make
//     v     | warp 2 | warp 3 |                 brick:  BRICK_X x BRICK_Y x BRICK_Z voxels, a warp each
//           |________|________|________         thread: VOXELS of them in a row, for GROUP channels in registers
//                                             cell:   tiles whose atoms are listed together before, where that pays
//     x: into the page, where warp 4 begins     atoms:  those that reach the tile are listed in shared memory, in their
//                                                       order; a warp visits those that reach its brick
#pragma once
#include "support.cuh"

enum {
    DENSITY_THREADS = 384,
    DENSITY_BLOCKS = 8 / sizeof(real), // of a multiprocessor: 80 registers a thread, 168 in double precision
    TANGENT_THREADS = 256,
    TANGENT_BLOCKS = 8 / sizeof(real), // 128, 255
    MAX_WARPS = DENSITY_THREADS / 32,
    BRICK_X = 4, // voxels of a warp: nearly a cube, which few atoms reach
    BRICK_Y = VOXELS,
    BRICK_Z = 8, // 32 bytes or more, a sector of memory
    BRICKS_Y = 2, // bricks of a tile
    BRICKS_Z = 2,
    TILE_Y = BRICK_Y * BRICKS_Y,
    TILE_Z = BRICK_Z * BRICKS_Z,
    LISTED = 2048 / sizeof(real), // atoms listed at a time
    NAN_CHANNELS = 256, // channels that are searched for NaN at a time
    CELL_X = 24, // voxels of a cell: whole tiles of every kernel; or twice as many, and so on (cell_scale)
    CELL_Y = 24,
    CELL_Z = 32
};

__host__ __device__ constexpr int tile_x(int threads) { return BRICK_X * (threads / 32 / (BRICKS_Y * BRICKS_Z)); }

struct Listed {
    Position position;
    real per_radius; // 1 / R
    real v_radius; // -2 v_R
};

struct Box { // of voxels
    int x, y, z;
    int size_x, size_y, size_z;
};

struct Region { // a tile or a cell, in shared memory
    long long b; // example
    double center[3]; // of its grid
    real origin[3]; // of voxel 0
    real origin_low[3]; // what origin lacks
    long long first; // its first atom
    int n; // its atoms
    real widest; // largest radius of a channel, where each has its own
    Box box;
};

struct Tile : Region { // in shared memory
    Listed atom[LISTED];
    int ordinal[LISTED]; // atom - first atom of the example
    unsigned bits[LISTED]; // bit k: channel k of 32 counts
    int kept[MAX_WARPS];
    int next; // first atom not listed for want of room
    unsigned nan_bits[NAN_CHANNELS / 32]; // bit k % 32 of word k / 32: channel k of NAN_CHANNELS is NaN
    const int *candidates; // atoms that may reach the tile, in order: those of its cell; absent: all of the example
    int n_candidates;
    real u_radius[LISTED]; // -2 u_R of the listed atoms, apart: a Listed is a power of two
};

struct Prepared { // what was found before by the kernels of prepare.cuh; absent: a tile looks for itself
    const unsigned *__restrict__ bits; // (N, W), words of 32 channels: where an atom counts, directions included
    const unsigned *__restrict__ channels; // (B, n_parts, 2, W): where any atom of a part of them counts, and is NaN
    const int *__restrict__ cells; // (B, cells, 1 + capacity): how many atoms of the example reach the cell, and which,
    // in order; -1: too many
    int n_parts;
    int cell_scale;
    int capacity;
};

__device__ __forceinline__ int words_of(const Atoms &atoms) { return ((int)atoms.n_types + 31) / 32; }

__device__ __forceinline__ real gap(real low, real high)
{
    // distance of 0 from [low, high]
    return real_max(real_max(low, -high), (real)0);
}

__device__ __forceinline__ bool is_infinite(const real (&position)[3])
{
    return real_max(real_max(real_abs(position[0]), real_abs(position[1])), real_abs(position[2])) > REAL_MAX;
}

__device__ __forceinline__ bool reaches(const real (&position)[3], real per_radius, const Scalars &scalars,
                                        const Box &box)
{
    // false only if no voxel of the box lies inside the support; true for NaN; not for an infinite position
    const real h = scalars.resolution;
    const real x = gap(real_fma((real)box.x, h, position[0]), real_fma((real)(box.x + box.size_x - 1), h, position[0]));
    const real y = gap(real_fma((real)box.y, h, position[1]), real_fma((real)(box.y + box.size_y - 1), h, position[1]));
    const real z = gap(real_fma((real)box.z, h, position[2]), real_fma((real)(box.z + box.size_z - 1), h, position[2]));
    return is_nan(position, per_radius) // fmax drops a NaN
           || !(square(x * per_radius, y * per_radius, z * per_radius) > scalars.profile.cutoff_s * (real)1.0001);
}

__device__ __forceinline__ unsigned regions_along(const Geometry &grid, int axis, unsigned size)
{
    return ((unsigned)grid.points[axis] + size - 1) / size; // an axis counts in 32 bits
}

__device__ __forceinline__ int clipped(const Geometry &grid, int axis, int first, int size)
{
    const int left = (int)grid.points[axis] - first;
    return size < left ? size : left;
}

__device__ __forceinline__ void open_region(Region &region, const Atoms &atoms, const Geometry &grid, bool by_channel,
                                            int size_x, int size_y, int size_z)
{
    // item = (example, region); z innermost, so that neighbours along a row are written at about the same time. Of one
    // thread
    const unsigned n_z = regions_along(grid, 2, size_z), n_y = regions_along(grid, 1, size_y);
    const unsigned n_x = regions_along(grid, 0, size_x);
    const unsigned row = blockIdx.x / n_z, plane = row / n_y;
    region.box.x = (int)(plane % n_x) * size_x;
    region.box.y = (int)(row % n_y) * size_y;
    region.box.z = (int)(blockIdx.x % n_z) * size_z;
    region.box.size_x = clipped(grid, 0, region.box.x, size_x);
    region.box.size_y = clipped(grid, 1, region.box.y, size_y);
    region.box.size_z = clipped(grid, 2, region.box.z, size_z);
    region.b = plane / n_x;
    region.first = atoms.n_atoms == 0 ? 0 : first_atom(atoms, region.b);
    region.n = atoms.n_atoms == 0 ? 0 : (int)(first_atom(atoms, region.b + 1) - region.first);
    for (int axis = 0; axis < 3; ++axis) {
        region.center[axis] = center_of(atoms, grid.center, (int)region.b, axis);
        const double origin = region.center[axis] + grid.origin[axis];
        region.origin[axis] = (real)origin;
        region.origin_low[axis] =
            is_finite(region.origin[axis]) ? (real)(origin - (double)region.origin[axis]) : (real)0;
    }
    region.widest = 0;
    for (int k = 0; by_channel && k < (int)atoms.n_types; ++k) {
        const real radius = atoms.radii[radius_slot(atoms, region.b, 0, k)]; // NaN, <= 0: see find_nan_bits
        if (radius > region.widest)
            region.widest = radius;
    }
}

__device__ __forceinline__ void open_tile(Tile &tile, const Atoms &atoms, const Prepared &prepared,
                                          const Geometry &grid, bool by_channel)
{
    if (threadIdx.x == 0) {
        open_region(tile, atoms, grid, by_channel, tile_x(blockDim.x), TILE_Y, TILE_Z);
        tile.candidates = nullptr;
        tile.n_candidates = tile.n;
        if (prepared.cells != nullptr) {
            const int scale = prepared.cell_scale;
            long long cell = tile.b * regions_along(grid, 0, scale * CELL_X) + tile.box.x / (scale * CELL_X);
            cell = cell * regions_along(grid, 1, scale * CELL_Y) + tile.box.y / (scale * CELL_Y);
            cell = cell * regions_along(grid, 2, scale * CELL_Z) + tile.box.z / (scale * CELL_Z);
            const int *listed = prepared.cells + cell * (1 + prepared.capacity);
            if (listed[0] >= 0) {
                tile.candidates = listed + 1;
                tile.n_candidates = listed[0];
            }
        }
    }
    __syncthreads();
}

__device__ __forceinline__ void report_examples(const Tile &tile, const Atoms &atoms)
{
    // atoms before, between or after those of the examples are in none
    const bool last = tile.b == atoms.n_examples - 1;
    if (threadIdx.x == 0
        && (tile.n < 0 || (tile.b == 0 && tile.first != 0) || (last && tile.first + tile.n != atoms.n_atoms)))
        atoms.fault[FAULT_EXAMPLE] = 1;
}

__device__ __forceinline__ bool read_radius(const Region &region, const Atoms &atoms, const real *u_weights,
                                            const real *v_weights, const Scalars &scalars, long long i, long long &slot,
                                            real &radius)
{
    // false: atom i contributes nowhere
    const long long k = atoms.index != nullptr ? channel_of(atoms, i) : 0;
    radius = region.widest;
    if (k < 0)
        return false;
    if (atoms.index != nullptr || !atoms.radius_by_type) {
        slot = radius_slot(atoms, region.b, i, k);
        radius = atoms.radii[slot];
        if (radius <= 0 && !has_weight(atoms, v_weights, i, 0, (int)atoms.n_types)
            && (u_weights == nullptr || !has_weight(atoms, u_weights, i, 0, (int)atoms.n_types)))
            return false;
        radius = good_radius(atoms, radius);
    }
    radius *= scalars.radius_scale;
    return true;
}

__device__ __forceinline__ bool is_near(const Region &region, const Atoms &atoms, const real *u_weights,
                                        const real *v_weights, const Scalars &scalars, long long i, long long &slot,
                                        real &radius)
{
    // false: atom i contributes nothing to the region
    if (!read_radius(region, atoms, u_weights, v_weights, scalars, i, slot, radius))
        return false;
    const real position[3] = {region.origin[0] - atoms.coords[3 * i] + region.origin_low[0],
                              region.origin[1] - atoms.coords[3 * i + 1] + region.origin_low[1],
                              region.origin[2] - atoms.coords[3 * i + 2] + region.origin_low[2]};
    return is_nan(position, radius)
           || (!is_infinite(position) && reaches(position, per_radius_of(radius), scalars, region.box));
}

__device__ __forceinline__ int sum_before(int n)
{
    // over the lanes before this one
    const int lane = threadIdx.x % 32;
    int sum = n;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        const int others = __shfl_up_sync(0xffffffffu, sum, distance);
        sum += lane >= distance ? others : 0;
    }
    return sum - n;
}

__device__ __forceinline__ int list_atoms(Tile &tile, const Atoms &atoms, const real *u_weights, const real *v_weights,
                                          const real *u_radii, const real *v_radii, const Geometry &grid,
                                          const Scalars &scalars, int begin)
{
    // List, in order, the candidates from `begin` on that reach the tile, as many as there is room for; tile.next goes on
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, threads = blockDim.x, end = tile.n_candidates;
    int count = 0;
    __syncthreads();
    if (threadIdx.x == 0)
        tile.next = end;
    for (; begin < end && count < LISTED; begin += threads) {
        const int place = begin + (int)threadIdx.x;
        const int ordinal = place < end && tile.candidates != nullptr ? tile.candidates[place] : place;
        const long long i = tile.first + ordinal;
        long long slot = 0;
        real radius = 0;
        const bool keep = place < end && ordinal < tile.n // offsets may have changed since
                          && is_near(tile, atoms, u_weights, v_weights, scalars, i, slot, radius);
        const unsigned votes = __ballot_sync(0xffffffffu, keep);
        if (lane == 0)
            tile.kept[warp] = __popc(votes);
        __syncthreads();
        const int kept = sum_before(lane < threads / 32 ? tile.kept[lane] : 0); // lane n: of the warps before warp n
        const int at = count + __shfl_sync(0xffffffffu, kept, warp) + __popc(votes & ((1u << lane) - 1));
        count += __shfl_sync(0xffffffffu, kept, 31);
        if (keep && at < LISTED) {
            Listed &a = tile.atom[at];
            for (int axis = 0; axis < 3; ++axis)
                split(a.position, axis, grid.origin[axis], (double)atoms.coords[3 * i + axis] - tile.center[axis]);
            a.per_radius = per_radius_of(radius);
            if (u_radii != nullptr)
                tile.u_radius[at] = minus_two(scalars.radius_scale * u_radii[slot]);
            if (v_radii != nullptr)
                a.v_radius = minus_two(scalars.radius_scale * v_radii[slot]);
            tile.ordinal[at] = ordinal;
        }
        if (keep && at == LISTED)
            tile.next = place;
        if (threadIdx.x == 0 && count == LISTED && begin + threads < end)
            tile.next = begin + threads;
        __syncthreads();
    }
    return count < LISTED ? count : LISTED;
}
