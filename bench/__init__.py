"""Side-by-side benchmarks of unitvec and its peers: `python -m bench --help`."""
