// What a call ends with when it does not succeed.
import { status } from '@grpc/grpc-js';

import { details } from './protos.js';

const NAMES = new Map(Object.entries(status).map(([name, code]) => [code, name]));
const DETAILS = 'grpc-status-details-bin';

export class AtelierError extends Error {
  constructor(code, message, { field = '', reason = '', retryAfterSeconds, metadata = {}, cause } = {}) {
    super(message, { cause });
    this.name = 'AtelierError';
    this.code = code;
    this.field = field;
    this.reason = reason;
    this.retryAfterSeconds = retryAfterSeconds;
    this.metadata = metadata;
  }
}

/** The error that a failed call ended with. */
export function errorOf(failure, target) {
  if (failure instanceof AtelierError) return failure;
  if (typeof failure.code !== 'number') {
    return new AtelierError('INVALID_ARGUMENT', failure.message, { cause: failure });
  }
  const facts = factsOf(failure.metadata?.get(DETAILS)[0]);
  const code = NAMES.get(failure.code) ?? 'UNKNOWN';
  const message = facts === undefined ? ownWords(code, failure.details, target) : failure.details;
  return new AtelierError(code, message, { ...facts, cause: failure });
}

function read(name, bytes) {
  return details[`atelier.client.details.${name}`].deserialize(bytes);
}

function factsOf(packed) {
  if (packed === undefined) return undefined;
  const facts = {};
  for (const { typeUrl, value } of read('Status', packed).details) {
    const name = typeUrl.split('.').pop();
    if (name === 'ErrorInfo') {
      const { reason, metadata } = read('ErrorInfo', value);
      Object.assign(facts, { reason, metadata });
    } else if (name === 'BadRequest') {
      facts.field = read('BadRequest', value).fieldViolations[0]?.field;
    } else if (name === 'RetryInfo') {
      const { retryDelay } = read('RetryInfo', value);
      facts.retryAfterSeconds = Number(retryDelay.seconds) + retryDelay.nanos / 1e9;
    }
  }
  return facts;
}

/** What to do about a status that no Atelier server wrote. */
function ownWords(code, words, target) {
  switch (code) {
    case 'UNAVAILABLE':
      return `No answer from ${target}: start the server there, or check address, TLS and network (${words}).`;
    case 'UNIMPLEMENTED':
      return `The server at ${target} does not offer this; a newer one may (${words}).`;
    case 'DEADLINE_EXCEEDED':
      return `${target} did not finish within the timeout; give more time (${words}).`;
    default:
      return `${target}: ${words}`;
  }
}
