"""Load tester for unitvec servers."""
