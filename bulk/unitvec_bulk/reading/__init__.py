"""From paths to tables of texts: storage, files, formats, chunks."""
