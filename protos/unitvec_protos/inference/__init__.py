"""Generated messages and stubs of what we answer of the Open Inference Protocol (``inference``)."""
