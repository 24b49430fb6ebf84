/** Failures of calls, and of single requests of a stream, as one kind of exception. */

import { status } from '@grpc/grpc-js';

/** What the server, or the connection to it, says went wrong. */
export class UnitvecError extends Error {
  /**
   * @param {string} message What is wrong and what to do, for people.
   * @param {Partial<Facts>} facts
   * @param {ErrorOptions} [options]
   */
  constructor(message, facts, options) {
    super(message, options);
    this.code = status[facts.code ?? status.UNKNOWN] ?? 'UNKNOWN';
    this.reason = facts.reason ?? '';
    this.field = facts.field ?? '';
    this.retryDelayMs = facts.retryDelayMs ?? 0;
    this.requestId = facts.requestId ?? '';
  }

  /** Returns all that is known, in one line. */
  toString() {
    const facts = [
      this.field && `at ${this.field}`,
      this.retryDelayMs && `try again in ${this.retryDelayMs} ms`,
      this.requestId && `request ${this.requestId}`,
    ].filter(Boolean);
    const kind = [this.code, this.reason].filter(Boolean).join(' ');
    return `${kind}: ${this.message}${facts.length ? ` (${facts.join(', ')})` : ''}`;
  }
}

/**
 * A `unitvec.v1.Error`.
 *
 * @typedef {object} Facts
 * @property {number} code Number of the gRPC status.
 * @property {string} reason Stable name of the cause, such as TEXT_TOO_LONG.
 * @property {string} message
 * @property {string} field What is at fault, such as texts[3]; empty if nothing is.
 * @property {number} retryDelayMs When to try again; 0 if that does not help.
 * @property {string} requestId
 */

/**
 * Returns the exception for one request of a stream.
 *
 * @param {Facts} facts
 */
export function errorOfItem(facts) {
  return new UnitvecError(facts.message, facts);
}

/**
 * Returns the exception for a call that failed. The server puts the facts into a trailer; a
 * connection that failed has none, and says why in its own words.
 *
 * @param {unknown} error As gRPC threw it; whatever is not of gRPC is returned as it is.
 * @param {(bytes: Buffer) => Facts} deserialize Reads a `unitvec.v1.Error`.
 * @returns {unknown}
 */
export function errorOfCall(error, deserialize) {
  if (!isServiceError(error)) return error;
  const [trailer] = error.metadata.get('unitvec-error-bin');
  const known = Buffer.isBuffer(trailer) ? deserialize(trailer) : { code: error.code };
  return new UnitvecError(error.details, known, { cause: error });
}

/**
 * @param {unknown} error
 * @returns {error is import('@grpc/grpc-js').ServiceError}
 */
function isServiceError(error) {
  return error instanceof Error && 'metadata' in error && 'details' in error;
}
