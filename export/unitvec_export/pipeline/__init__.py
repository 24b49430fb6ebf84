"""A model's modules from token vectors on: what each computes, and the nodes that do."""
