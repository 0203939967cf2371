// Puts the contract beside the sources while the package is packed, and takes it away afterwards.
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
rmSync(here('../protos'), { recursive: true, force: true });
if (!process.argv.includes('--remove')) {
  mkdirSync(here('../protos/atelier'), { recursive: true });
  cpSync(here('../../../protos/atelier/v1'), here('../protos/atelier/v1'), { recursive: true });
}
