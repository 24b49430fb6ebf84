"""`embed_stream`: texts in, items out in the same order, with bounded memory; see `window`."""

from __future__ import annotations

from typing import Any

from unitvec_client.core.backoff import Backoff
from unitvec_client.core.failures import Failure
from unitvec_client.core.rpcs import STREAM_EMBED
from unitvec_client.core.steps import (
    END,
    Emit,
    Finish,
    Open,
    Poll,
    Pull,
    Receive,
    Script,
    Send,
    Sleep,
)
from unitvec_client.errors import ErrorFacts, ProtocolError
from unitvec_client.methods.window import StreamWindow


def stream_script(window: StreamWindow) -> Script[None]:
    """Pull texts, send requests, emit items, until all are answered.

    Requests go out and items are handed on while texts are still pulled, so that neither the
    server nor the caller waits for a slow source to fill the window.

    Raises:
        UnitvecError: If the stream breaks and must not be opened again.
    """
    backoff = Backoff(window.context.policy)
    opened = False
    while True:
        while (item := window.take_item()) is not None:
            yield Emit(item)
        if window.done:
            break
        opened = yield from _send_ready(window, opened=opened)
        if window.wants_text:
            text = yield Pull()
            window.end() if text is END else window.feed(text)
            if window.in_flight:
                opened = yield from _take_in(window, backoff, (yield Poll()))
        elif window.in_flight:
            opened = yield from _take_in(window, backoff, (yield Receive()))
        else:
            yield Sleep(window.wait_s())
    if opened:
        # Everything was answered, so how the stream ends no longer matters.
        yield Finish()
        yield Receive()


def _send_ready(window: StreamWindow, *, opened: bool) -> Script[bool]:
    """Send what may be sent now; return whether the stream is open."""
    while (request := window.take_request()) is not None:
        if not opened:
            yield Open(window.context.call(STREAM_EMBED))
            opened = True
        yield Send(request)
    return opened


def _take_in(window: StreamWindow, backoff: Backoff, outcome: Any) -> Script[bool]:
    """Take in one reply, or None for none yet; return whether the stream is still open."""
    if outcome is None:
        return True
    if isinstance(outcome, Failure) and outcome.too_large:
        window.on_too_large(outcome)
        return False
    if isinstance(outcome, Failure):
        yield Sleep(window.context.delay_s(backoff, outcome))
        window.resend_unanswered()
        return False
    if outcome is END:
        message = "bad reply: the stream ended before every request was answered"
        raise ProtocolError(message, ErrorFacts(request_id=window.context.request_id))
    backoff.reset()
    window.on_reply(outcome)
    return True
