"""Load on a server of ours: beyond its peak, and beside others."""
