/** A client of unitvec: its whole face is in this file. */

import { fileURLToPath } from 'node:url';
import { Metadata, credentials as channelCredentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { errorOfCall, errorOfItem } from './errors.js';
import { decodeMatrix } from './matrix.js';
import { exchange } from './stream.js';

const PROTOS = fileURLToPath(new URL('../../protos', import.meta.url));
const definition = loadSync('unitvec/v1/embedding.proto', {
  includeDirs: [PROTOS],
  arrays: true, // Empty lists are lists,
  defaults: true, // and unset fields have their defaults.
  enums: String,
  longs: Number,
  oneofs: true,
});
const { unitvec } = /** @type {any} */ (loadPackageDefinition(definition));
/** @type {(bytes: Buffer) => import('./errors.js').Facts} */
const readError = unitvec.v1.Error.deserialize;

const CHANNEL = {
  // gRPC's own 4 MiB is 2,730 vectors of 384 floats.
  'grpc.max_receive_message_length': 64 * 2 ** 20,
  // A server that starts or drains says so; other failures are the caller's to judge.
  'grpc.service_config': JSON.stringify({
    methodConfig: [
      {
        name: [{ service: 'unitvec.v1.EmbeddingService' }],
        retryPolicy: {
          maxAttempts: 3,
          initialBackoff: '0.1s',
          maxBackoff: '1s',
          backoffMultiplier: 2,
          retryableStatusCodes: ['UNAVAILABLE'],
        },
      },
    ],
  }),
};

/**
 * How texts become vectors; all have defaults.
 *
 * @typedef {object} EncodeOptions
 * @property {boolean} [normalize] Unit length; true by default.
 * @property {number} [dimensions] Keep only so many; 0 keeps all.
 * @property {string} [promptName]
 * @property {'TRUNCATE_END' | 'TRUNCATE_START' | 'TRUNCATE_ERROR'} [truncate]
 *
 * @typedef {import('./matrix.js').Matrix} Matrix
 * @typedef {{vectors: Matrix, model: string, tokens: number[], truncated: number[]}} Embedded
 * @typedef {{indices: number[], scores: number[]}} Ranking Best first.
 * @typedef {{id: string, text: string}} Item
 * @typedef {{id: string, error: import('./errors.js').UnitvecError}} Refused
 * @typedef {{id: string, error: null} & Embedded | Refused} Reply
 * @typedef {'METRIC_COSINE' | 'METRIC_DOT' | 'METRIC_EUCLIDEAN' | 'METRIC_MANHATTAN'} Metric
 */

/** One connection, for any number of calls side by side; close it when they are done. */
export class Client {
  #stub;
  #metadata = new Metadata();

  /**
   * @param {string} target host:port or any other gRPC target.
   * @param {object} [options]
   * @param {number} [options.timeoutS] Deadline of each call that is not a stream, in seconds.
   * @param {string} [options.token] Sent as a bearer token.
   * @param {import('@grpc/grpc-js').ChannelCredentials} [options.credentials] Plaintext, unless
   *   `credentials.createSsl(...)` is given.
   */
  constructor(target, { timeoutS = 30, token, credentials } = {}) {
    this.#stub = new unitvec.v1.EmbeddingService(
      target,
      credentials ?? channelCredentials.createInsecure(),
      CHANNEL,
    );
    this.timeoutS = timeoutS;
    if (token) this.#metadata.set('authorization', `Bearer ${token}`);
  }

  /** Hangs up. */
  close() {
    this.#stub.close();
  }

  /**
   * Returns what the server allows, such as `maxTextsPerRequest`.
   *
   * @returns {Promise<Record<string, number>>}
   */
  async limits() {
    return (await this.#call('listModels', {})).limits;
  }

  /**
   * Embeds texts in one request, so no more of them than `maxTextsPerRequest`.
   *
   * @param {string[]} texts
   * @param {EncodeOptions} [options]
   * @returns {Promise<Embedded>}
   * @throws {import('./errors.js').UnitvecError}
   */
  async embed(texts, options = {}) {
    return decodeEmbedded(await this.#call('embed', { texts, options }));
  }

  /**
   * Scores every query against every document.
   *
   * @param {string[]} queries
   * @param {string[]} documents
   * @param {Metric} [metric]
   * @returns {Promise<Matrix>} (queries, documents)
   * @throws {import('./errors.js').UnitvecError}
   */
  async similarity(queries, documents, metric = 'METRIC_COSINE') {
    const cross = crossOf(queries, documents);
    return decodeMatrix((await this.#call('similarity', { metric, cross })).scores);
  }

  /**
   * Ranks documents for each query.
   *
   * @param {string[]} queries
   * @param {string[]} documents
   * @param {{topK: number, metric?: Metric}} options
   * @returns {Promise<Ranking[]>} One for each query.
   * @throws {import('./errors.js').UnitvecError}
   */
  async rank(queries, documents, { topK, metric = 'METRIC_COSINE' }) {
    const cross = { ...crossOf(queries, documents), topK };
    return (await this.#call('similarity', { metric, cross })).rankings;
  }

  /**
   * Embeds any number of texts over one stream. Each is answered by its id, in any order, with
   * a vector or an error of its own. No more than `gate.capacity` are between the source and
   * the caller: a slow caller slows down the source.
   *
   * @param {AsyncIterable<Item>} items
   * @param {import('./stream.js').Gate} gate
   * @param {EncodeOptions} [options]
   * @returns {AsyncGenerator<Reply, void, undefined>}
   * @throws {import('./errors.js').UnitvecError} If the stream as a whole breaks.
   */
  async *embedStream(items, gate, options = {}) {
    const call = this.#stub.streamEmbed(this.#metadata);
    /** @param {Item} item */
    const toRequest = ({ id, text }) => ({ id, request: { texts: [text], options } });
    try {
      for await (const reply of exchange(call, items, { gate, toRequest })) {
        yield decodeReply(reply);
      }
    } catch (error) {
      throw errorOfCall(error, readError);
    }
  }

  /**
   * @param {string} method
   * @param {object} request
   * @returns {Promise<any>}
   */
  #call(method, request) {
    const deadline = Date.now() + this.timeoutS * 1000;
    return new Promise((resolve, reject) => {
      const answer = (/** @type {unknown} */ error, /** @type {any} */ reply) =>
        error ? reject(errorOfCall(error, readError)) : resolve(reply);
      this.#stub[method](request, this.#metadata, { deadline }, answer);
    });
  }
}

/**
 * @param {string[]} queries
 * @param {string[]} documents
 */
function crossOf(queries, documents) {
  return { queries: { texts: { texts: queries } }, documents: { texts: { texts: documents } } };
}

/**
 * @param {any} reply A `unitvec.v1.EmbedResponse`.
 * @returns {Embedded}
 */
function decodeEmbedded({ embeddings, model, usage }) {
  return {
    vectors: decodeMatrix(embeddings),
    model,
    tokens: usage.tokens,
    truncated: usage.truncated,
  };
}

/**
 * @param {any} reply A `unitvec.v1.StreamEmbedResponse`.
 * @returns {Reply}
 */
function decodeReply({ id, outcome, response, error }) {
  if (outcome === 'error') return { id, error: errorOfItem(error) };
  return { id, error: null, ...decodeEmbedded(response) };
}
