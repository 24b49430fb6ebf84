/** Requests and replies of one stream side by side, each held back by the other. */

import { EventEmitter, once } from 'node:events';

/** Lets so many requests be in flight, and counts them. */
export class Gate extends EventEmitter {
  inFlight = 0;
  mostInFlight = 0;

  /** @param {number} capacity */
  constructor(capacity) {
    super();
    this.capacity = capacity;
  }

  /**
   * Waits until there is room for one more.
   *
   * @param {AbortSignal} signal Ends the wait with an exception.
   */
  async enter(signal) {
    while (this.inFlight >= this.capacity) await once(this, 'left', { signal });
    this.inFlight += 1;
    this.mostInFlight = Math.max(this.mostInFlight, this.inFlight);
  }

  /** Notes that one was answered, and that the caller has come back for the next. */
  leave() {
    this.inFlight -= 1;
    this.emit('left');
  }
}

/**
 * Sends a request for each item while it yields the replies.
 *
 * @template Item
 * @param {import('@grpc/grpc-js').ClientDuplexStream<object, any>} call
 * @param {AsyncIterable<Item>} items
 * @param {{gate: Gate, toRequest: (item: Item) => object}} options
 * @returns {AsyncGenerator<any, void, undefined>}
 * @throws Whatever `items` throws, or gRPC.
 */
export async function* exchange(call, items, { gate, toRequest }) {
  call.on('error', () => {}); // The loop below throws it; once that has ended, it is old news.
  const over = new AbortController();
  /** @type {unknown} */
  let sourceError = null;
  const sent = send(call, items, { gate, toRequest, signal: over.signal }).catch((error) => {
    sourceError = error;
    call.cancel();
  });
  try {
    for await (const reply of call) {
      yield reply;
      gate.leave();
    }
    await sent;
  } catch (error) {
    throw sourceError ?? error;
  } finally {
    over.abort();
    call.cancel();
  }
}

/**
 * @template Item
 * @param {import('@grpc/grpc-js').ClientDuplexStream<object, any>} call
 * @param {AsyncIterable<Item>} items
 * @param {{gate: Gate, toRequest: (item: Item) => object, signal: AbortSignal}} options
 */
async function send(call, items, { gate, toRequest, signal }) {
  for await (const item of items) {
    await gate.enter(signal);
    // False means that the server has stopped reading, and what was written only piles up here.
    if (!call.write(toRequest(item))) await once(call, 'drain', { signal });
  }
  call.end();
}
