"""Trials in other processes, here or on other machines, by way of a folder that all of them see.

`store` is that folder, `node` what runs at the other end, `remote` what starts trials and looks
after them; `on_processes`, `on_ray` and `on_dask` are the three kinds of places to run at.
"""
