// The services of atelier.v1, loaded from the .proto files: those packed with this package, or the repository's.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const packed = here('../protos');
const folder = existsSync(packed) ? packed : here('../../../protos');

const FILES = ['image_generation', 'brand', 'model'].map((name) => `atelier/v1/${name}.proto`);
// Long integers stay objects until tidy() knows whether they are seeds; enums are their names.
const OPTIONS = { enums: String, defaults: true, oneofs: true };

export const definition = loadSync(FILES, { ...OPTIONS, includeDirs: [folder] });
export const services = loadPackageDefinition(definition).atelier.v1;
export const details = loadSync('rpc_details.proto', { ...OPTIONS, includeDirs: [here('.')] });
