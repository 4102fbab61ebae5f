"""The reference world: a fast deterministic voxel game in numba."""
