"""File descriptors: each connection takes one."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)

_OTHERS = 128
"""Files of models, event loops, logs and scrapes of metrics; about 50 are open in practice."""


def make_room(max_connections: int) -> None:
    """Raises the limit of open files as connections need it, and warns if it stays too low."""
    needed = max_connections + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _is_below(soft, needed):
        soft = hard if _is_below(hard, needed) else needed
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if _is_below(soft, needed):
        logger.warning(
            "at most %d files may be open (ulimit -Hn), which is too few for %d connections: "
            "raise it (LimitNOFILE=, --ulimit nofile=), or lower --max-connections to %d",
            *(soft, max_connections, max(soft - _OTHERS, 1)),
        )


def _is_below(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed
