"""File descriptors: each connection takes one."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)

_OTHERS = 128
"""Files of models, event loops, logs and scrapes of metrics; about 50 are open in practice."""


def make_room(max_connections: int, *, doors: int = 1) -> int:
    """Raises the limit of open files as connections need it, and warns if it stays too low.

    Args:
        max_connections: Connections that are asked for, of each door.
        doors: Ports that clients connect to.

    Returns:
        The connections of each door that fit, at most as many as are asked for.
    """
    needed = doors * max_connections + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _is_below(soft, needed):
        soft = hard if _is_below(hard, needed) else needed
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if not _is_below(soft, needed):
        return max_connections
    fit = max((soft - _OTHERS) // doors, 1)
    logger.warning(
        "takes %d connections, not %d as --max-connections says: only %d files may be open; raise "
        "that limit (ulimit -Hn, LimitNOFILE=, --ulimit nofile=)",
        *(fit, max_connections, soft),
    )
    return fit


def _is_below(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed
