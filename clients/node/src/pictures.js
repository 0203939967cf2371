// The events of one generation into its result, with every picture checked; and pictures into bytes.
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';

import { AtelierError } from './errors.js';

const lost = (message) => new AtelierError('DATA_LOSS', `${message}; try again.`);

export class GeneratedImage {
  constructor(data, { seed, sha256, mediaType, dimensions, nativeDimensions, scores }) {
    Object.assign(this, { data, seed, sha256, mediaType, dimensions, nativeDimensions, scores });
  }

  get base64() {
    return this.data.toString('base64');
  }

  /** Writes the encoded file as it is; an extension converts nothing. */
  async save(path) {
    await writeFile(path, this.data);
    return path;
  }
}

/** Collects events; `result` once Completed has come. */
export class Assembler {
  #files = new Map();
  #images = new Map();
  #started;
  #completed;

  add(event) {
    if (event.type === 'started') this.#started = event;
    else if (event.type === 'imageChunk') this.#addChunk(event);
    else if (event.type === 'imageCompleted') this.#images.set(event.imageIndex, this.#check(event));
    else if (event.type === 'completed') this.#completed = event;
  }

  result() {
    if (!this.#started || !this.#completed) throw lost('The stream ended before the generation was completed');
    const images = [...this.#images.entries()].sort(([a], [b]) => a - b).map(([, image]) => image);
    const expected = Math.max(this.#started.seeds.length, 1);
    if (images.length !== expected) throw lost(`${images.length} of ${expected} pictures arrived`);
    const { type: _type, sequence: _sequence, ...completed } = this.#completed;
    const { routingReason, promptUsed, negativePromptUsed, numInferenceSteps } = this.#started;
    const { guidanceScale, noiseSchedule, truncatedTokens } = this.#started;
    const decided = { routingReason, promptUsed, negativePromptUsed, numInferenceSteps };
    return { ...completed, ...decided, guidanceScale, noiseSchedule, truncatedTokens, images };
  }

  #addChunk({ imageIndex, offset, totalSize, data, last }) {
    const file = this.#files.get(imageIndex) ?? { pieces: [], size: 0 };
    this.#files.set(imageIndex, file);
    if (offset !== file.size) throw lost(`Picture ${imageIndex} has a gap at byte ${file.size}`);
    file.pieces.push(data);
    file.size += data.length;
    if (file.size > totalSize || (last && file.size !== totalSize)) {
      throw lost(`Picture ${imageIndex} has ${file.size} bytes instead of ${totalSize}`);
    }
  }

  #check(done) {
    const data = Buffer.concat(this.#files.get(done.imageIndex)?.pieces ?? []);
    this.#files.delete(done.imageIndex);
    if (createHash('sha256').update(data).digest('hex') !== done.sha256) {
      throw lost(`Picture ${done.imageIndex} does not have its SHA-256`);
    }
    return new GeneratedImage(data, done);
  }
}

/** The encoded file of a picture: a path, or bytes. */
export async function load(image) {
  if (image instanceof Uint8Array) return Buffer.from(image);
  try {
    return await readFile(image);
  } catch (error) {
    throw new AtelierError('INVALID_ARGUMENT', `${image} cannot be read: ${error.code}.`, { field: 'image', cause: error });
  }
}
