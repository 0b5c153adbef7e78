"""Index to series to volumes to the plan. Pure: no I/O, no dask, no zarr."""
