// The client of one server.
import { randomUUID } from 'node:crypto';

import { channelCredentials, CHANNEL_OPTIONS, headers } from './connection.js';
import { AtelierError, errorOf } from './errors.js';
import { Brands, Models } from './groups.js';
import { Assembler, load } from './pictures.js';
import { services } from './protos.js';
import { Attempts } from './retry.js';
import { tidy, toMessage } from './values.js';

// Many pictures go in several messages, so that a server's limit on one message is met; 64 is the contract's.
const SCORE_BYTES = 3 * 1024 * 1024;
const SCORE_IMAGES = 64;
const PIECE_BYTES = 1024 * 1024;

export class Atelier {
  #target;
  #options;
  #stubs;

  constructor(target = '127.0.0.1:8001', options = {}) {
    if (!target || /^https?:\/\//.test(target)) {
      const message = `'${target}' is no HOST:PORT, such as 127.0.0.1:8001.`;
      throw new AtelierError('INVALID_ARGUMENT', message, { field: 'target' });
    }
    this.#target = target;
    this.#options = options;
    const channel = channelCredentials(options);
    this.#stubs = Object.fromEntries(
      ['ImageGenerationService', 'BrandService', 'ModelService'].map((name) => [
        name,
        new services[name](target, channel, CHANNEL_OPTIONS),
      ]),
    );
    const add = (...call) => this.#addReferences(...call);
    this.brands = new Brands((...call) => this.#unary('BrandService', ...call), add);
    this.models = new Models((...call) => this.#unary('ModelService', ...call));
  }

  /** Ends the connection. */
  close() {
    for (const stub of Object.values(this.#stubs)) stub.close();
  }

  /** Every event of a generation as it comes; leaving the loop early cancels the work. */
  async *generateEvents(prompt, { timeoutSeconds = 600, signal, ...fields } = {}) {
    const request = toMessage('GenerateRequest', { requestId: randomUUID(), ...fields, prompt });
    const attempts = new Attempts(this.#options.retry, timeoutSeconds);
    let sequence = 0;
    let beganPictures = false;
    for (;;) {
      try {
        for await (const event of this.#stream(request, attempts, signal)) {
          sequence = event.sequence;
          beganPictures ||= event.type === 'imageChunk';
          yield event;
        }
        return;
      } catch (failure) {
        const error = errorOf(failure, this.#target);
        if (beganPictures) {
          // The reader holds half a file: only a server that kept the work can go on where it was.
          if (request.onDisconnect !== 'ON_DISCONNECT_CONTINUE') throw error;
          request.resumeAfterSequence = sequence;
        }
        await attempts.waitAfter(error, signal);
      }
    }
  }

  /** Generates pictures and waits for them. */
  async generate(prompt, { onProgress, onEvent, ...fields } = {}) {
    const assembler = new Assembler();
    for await (const event of this.generateEvents(prompt, fields)) {
      assembler.add(event);
      onEvent?.(event);
      if (event.type === 'progress') onProgress?.(event);
    }
    return assembler.result();
  }

  /** Judges one picture. */
  async score(image, options) {
    return (await this.scoreAll([image], options))[0];
  }

  /** Judges pictures, in their order. */
  async scoreAll(images, { timeoutSeconds = 120, signal, ...fields } = {}) {
    const scores = [];
    for (const batch of batches(await Promise.all(images.map(load)))) {
      const request = { ...toMessage('ScoreRequest', fields), images: batch };
      const reply = await this.#unary('ImageGenerationService', 'score', request, { timeoutSeconds, signal });
      scores.push(...reply.scores);
    }
    return scores;
  }

  /** How the server and each of its models are. */
  health(options) {
    return this.#unary('ImageGenerationService', 'health', {}, options);
  }

  /** What the server did in its rolling window. */
  metrics(options) {
    return this.#unary('ImageGenerationService', 'getMetrics', {}, options);
  }

  async *#stream(request, attempts, signal) {
    const stub = this.#stubs.ImageGenerationService;
    const call = stub.generate(request, headers(this.#options), { deadline: attempts.deadline() });
    const cancel = () => call.cancel();
    signal?.addEventListener('abort', cancel);
    if (signal?.aborted) cancel();
    try {
      for await (const { event: type, sequence, requestId, ...message } of call) {
        // An event of a kind that this client does not know has no type.
        if (type) yield { type, ...tidy({ sequence, requestId, ...message[type] }) };
      }
    } finally {
      signal?.removeEventListener('abort', cancel);
      call.on('error', () => {}); // a cancelled call still reports, and nobody listens any more
      call.cancel();
    }
  }

  async #unary(service, method, request, { timeoutSeconds = 30, signal, repeatable = true } = {}) {
    const attempts = new Attempts(this.#options.retry, timeoutSeconds);
    for (;;) {
      try {
        return tidy(await this.#once(service, method, request, attempts, signal));
      } catch (failure) {
        const error = errorOf(failure, this.#target);
        if (!repeatable) throw error;
        await attempts.waitAfter(error, signal);
      }
    }
  }

  #once(service, method, request, attempts, signal) {
    return new Promise((resolve, reject) => {
      const done = (error, reply) => (error ? reject(error) : resolve(reply));
      const metadata = headers(this.#options);
      const call = this.#stubs[service][method](request, metadata, { deadline: attempts.deadline() }, done);
      if (signal?.aborted) call.cancel();
      signal?.addEventListener('abort', () => call.cancel(), { once: true });
    });
  }

  async #addReferences(brandId, images, { timeoutSeconds = 300 } = {}) {
    const files = await Promise.all(images.map(load)); // first: a missing file costs no call
    const reply = await new Promise((resolve, reject) => {
      const done = (error, value) => (error ? reject(errorOf(error, this.#target)) : resolve(value));
      const deadline = new Attempts({}, timeoutSeconds).deadline();
      const call = this.#stubs.BrandService.addReferenceImages(headers(this.#options), { deadline }, done);
      for (const file of files) {
        for (let start = 0; start < file.length || start === 0; start += PIECE_BYTES) {
          const end = start + PIECE_BYTES;
          call.write({ brandId, data: file.subarray(start, end), last: end >= file.length });
        }
      }
      call.end();
    });
    return tidy(reply);
  }
}

function* batches(files) {
  let batch = [];
  let size = 0;
  for (const file of files) {
    if (batch.length && (batch.length === SCORE_IMAGES || size + file.length > SCORE_BYTES)) {
      yield batch;
      [batch, size] = [[], 0];
    }
    batch.push(file);
    size += file.length;
  }
  if (batch.length) yield batch;
}
