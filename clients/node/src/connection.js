// Where a server is and how it is spoken to: address, TLS, token.
import { readFileSync } from 'node:fs';

import { credentials, Metadata } from '@grpc/grpc-js';

import { AtelierError } from './errors.js';

// After a restart of the server it is found again within seconds; gRPC's own limit is two minutes.
export const CHANNEL_OPTIONS = { 'grpc.max_reconnect_backoff_ms': 5000 };

function readFile(path, field) {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new AtelierError('INVALID_ARGUMENT', `${path} cannot be read: ${error.code}.`, { field, cause: error });
  }
}

/** Channel credentials for the options of Atelier. */
export function channelCredentials({ tls = false, caFile, certFile, keyFile }) {
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new AtelierError('INVALID_ARGUMENT', 'Give certFile and keyFile together.', { field: 'certFile' });
  }
  if (!tls && caFile === undefined && certFile === undefined) return credentials.createInsecure();
  return credentials.createSsl(
    caFile === undefined ? null : readFile(caFile, 'caFile'),
    keyFile === undefined ? null : readFile(keyFile, 'keyFile'),
    certFile === undefined ? null : readFile(certFile, 'certFile'),
  );
}

/** Metadata of a call. The token file is read each time, so a renewed token needs no new client. */
export function headers({ token, tokenFile }) {
  const metadata = new Metadata();
  const word = (tokenFile === undefined ? (token ?? '') : readFile(tokenFile, 'tokenFile').toString()).trim();
  if (!/^[\x20-\x7e]*$/.test(word)) {
    throw new AtelierError('INVALID_ARGUMENT', 'The token holds characters that no token has.', { field: 'token' });
  }
  if (word) metadata.set('authorization', `Bearer ${word}`);
  return metadata;
}
