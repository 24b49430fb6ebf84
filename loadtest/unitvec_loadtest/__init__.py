"""Load tester for unitvec servers.

The pipe is the architecture: a pacer says when requests are due, the runner sends them and
keeps one compact record of each, and statistics, text, JSON and HTML are computed from those
records afterwards.

    settings -> pacer -> runner(sender) -> results -> statistics -> report, page
"""
