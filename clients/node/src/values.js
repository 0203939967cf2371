// Between atelier.v1's messages and plain values: words for enums, numbers for counts, seconds, dates.
import Long from 'long';

import { AtelierError } from './errors.js';
import { definition } from './protos.js';

const camel = (name) => name.replace(/_([a-z0-9])/g, (_, letter) => letter.toUpperCase());
const type = (name) => definition[`atelier.v1.${name}`].type;

/** Words of an enum's values: STYLE_LUXURY of Style is `luxury`. */
function words(enumName) {
  const values = type(enumName).value;
  const prefix = values[0].name.replace(/UNSPECIFIED$/, '');
  return new Map(values.slice(1).map(({ name }) => [name.slice(prefix.length).toLowerCase(), name]));
}

const fieldsOf = (message) => new Map(type(message).field.map((field) => [camel(field.name), field]));

/**
 * A message of the named type out of camelCase fields; undefined and null leave a field out.
 * Throws INVALID_ARGUMENT for fields and words that the contract does not have.
 */
export function toMessage(message, values) {
  const fields = fieldsOf(message);
  const filled = {};
  for (const [name, value] of Object.entries(values)) {
    const field = fields.get(name);
    if (field === undefined) {
      const known = [...fields.keys()].sort().join(', ');
      throw new AtelierError('INVALID_ARGUMENT', `There is no field '${name}'; the fields are ${known}.`, { field: name });
    }
    if (value !== undefined && value !== null) filled[name] = toField(name, field, value);
  }
  return filled;
}

function toField(name, field, value) {
  if (field.type === 'TYPE_ENUM') {
    const allowed = words(field.typeName);
    if (allowed.has(value)) return allowed.get(value);
    const message = `${name} cannot be '${value}'; it is one of ${[...allowed.keys()].join(', ')}.`;
    throw new AtelierError('INVALID_ARGUMENT', message, { field: name });
  }
  if (field.type === 'TYPE_UINT64') return toUint64(name, value);
  if (field.type === 'TYPE_UINT32') {
    if (Number.isInteger(value) && value >= 0 && value < 2 ** 32) return value;
    throw new AtelierError('INVALID_ARGUMENT', `${name} cannot be '${value}'; it is a whole number.`, { field: name });
  }
  return field.typeName === 'PreviewOptions' ? toMessage('PreviewOptions', value) : value;
}

function toUint64(name, value) {
  const text = String(value);
  const safe = typeof value !== 'number' || Number.isSafeInteger(value);
  if (safe && /^\d{1,20}$/.test(text) && BigInt(text) < 2n ** 64n) return Long.fromString(text, true);
  const message = `${name} cannot be ${text}; above 2^53 give it as a string or a BigInt.`;
  throw new AtelierError('INVALID_ARGUMENT', message, { field: name });
}

/** A reply as plain values: seeds are decimal strings (they may exceed 2^53), what is unset is absent. */
export function tidy(value, name = '') {
  if (Long.isLong(value)) return name === 'seed' || name === 'seeds' ? value.toString() : value.toNumber();
  if (Buffer.isBuffer(value) || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => tidy(item, name));
  const plain = {};
  for (const [key, item] of Object.entries(value)) {
    if (item === null || key.startsWith('_')) continue;
    if (key === 'estimatedWait' || key === 'estimatedRemaining') plain[`${key}Seconds`] = seconds(item);
    else if (key === 'timestamp' || key === 'createdAt') plain[key] = new Date(seconds(item) * 1000);
    else if (key === 'reproducibility') plain[key] = item.replace('REPRODUCIBILITY_', '').toLowerCase();
    else plain[key] = tidy(item, key);
  }
  return plain;
}

export const seconds = (duration) => Number(duration.seconds) + duration.nanos / 1e9;
