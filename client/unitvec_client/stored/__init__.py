"""Search over vectors in files, as `unitvec embed` writes them, without a server."""
