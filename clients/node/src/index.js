// Client of an Atelier image-generation server; see index.d.ts for what everything means.
export { Atelier } from './client.js';
export { AtelierError } from './errors.js';
export { GeneratedImage } from './pictures.js';
