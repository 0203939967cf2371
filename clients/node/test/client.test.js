// Run by tests/client/test_node.py, which starts the server at ATELIER_SERVER: echo models `echo` and `slow`.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { after, test } from 'node:test';

import { Atelier, AtelierError } from 'atelier-client';

const atelier = new Atelier(process.env.ATELIER_SERVER);
const small = { width: 64, height: 64, numInferenceSteps: 4, modelName: 'echo' };
after(() => atelier.close());

test('pictures are those of their seeds, and checked', async () => {
  const both = await atelier.generate('a bag', { ...small, seed: 5, numImages: 2, metadata: { order: '7' } });
  const second = await atelier.generate('a bag', { ...small, seed: 6 });
  assert.deepEqual(both.images.map(({ seed }) => seed), ['5', '6']);
  assert.deepEqual(both.images[1].data, second.images[0].data);
  assert.equal(createHash('sha256').update(both.images[0].data).digest('hex'), both.images[0].sha256);
  assert.deepEqual(both.images[0].dimensions, { width: 64, height: 64 });
  assert.deepEqual([both.modelUsed, both.metadata, both.attempts, both.cached], ['echo', { order: '7' }, 1, false]);
  assert.ok(both.timestamp instanceof Date && Math.abs(both.timestamp - Date.now()) < 600_000);
  assert.equal(typeof both.generationTimeMs, 'number');
  assert.equal(both.images[0].scores.brandReferenceMissing, true);
  await both.images[0].save('node.png');
  assert.deepEqual(await readFile('node.png'), both.images[0].data);
});

test('seeds beyond 2^53 stay exact', async () => {
  const result = await atelier.generate('a bag', { ...small, seed: 2n ** 64n - 2n });
  assert.equal(result.images[0].seed, '18446744073709551614');
});

test('every event comes in order', async () => {
  const types = [];
  const steps = [];
  let previews = 0;
  for await (const event of atelier.generateEvents('a bag', { ...small, preview: { everyNSteps: 2, format: 'png' } })) {
    types.push(event.type);
    if (event.type !== 'progress') continue;
    steps.push(event.step);
    if (event.preview) previews += event.preview.mediaType === 'image/png' ? 1 : 0;
  }
  assert.deepEqual(steps, [1, 2, 3, 4]);
  assert.equal(previews, 2);
  assert.deepEqual([types[0], types.at(-2), types.at(-1)], ['queued', 'imageCompleted', 'completed']);
  assert.ok(types.includes('started') && types.includes('imageChunk'));
});

test('the exact path is reported in words', async () => {
  const result = await atelier.generate('a bag', { ...small, reproducibility: 'exact', style: 'luxury' });
  assert.equal(result.reproducibility, 'exact');
  assert.notEqual(result.promptUsed, 'a bag');
});

test('leaving the loop frees the model', async () => {
  for await (const event of atelier.generateEvents('a bag', { ...small, modelName: 'slow', numInferenceSteps: 150 })) {
    if (event.type === 'progress') break;
  }
  for (;;) {
    const { instances } = await atelier.health();
    if (!instances.some(({ model, running }) => model === 'slow' && running > 0)) break;
  }
});

test('an abort signal ends the call', async () => {
  const signal = AbortSignal.timeout(300);
  const call = atelier.generate('a bag', { ...small, modelName: 'slow', numInferenceSteps: 150, signal });
  await assert.rejects(call, { name: 'AtelierError', code: 'CANCELLED' });
});

test('the deadline holds', async () => {
  const call = atelier.generate('a bag', { modelName: 'slow', numInferenceSteps: 150, timeoutSeconds: 0.5 });
  await assert.rejects(call, { code: 'DEADLINE_EXCEEDED' });
});

test('refusals name their fields', async () => {
  await assert.rejects(atelier.generate('a bag', { numImages: 11 }), {
    name: 'AtelierError', code: 'INVALID_ARGUMENT', field: 'num_images', reason: 'INVALID_ARGUMENT',
  });
  await assert.rejects(atelier.generate('a bag', { modelName: 'nix' }), (error) => {
    assert.ok(error instanceof AtelierError);
    assert.deepEqual([error.code, error.field], ['NOT_FOUND', 'model_name']);
    return true;
  });
});

test('wrong words and fields cost no call', async () => {
  const wrong = [{ style: 'lux' }, { colour: 'red' }, { seed: -1 }, { seed: 2 ** 60 }, { numImages: 1.5 }];
  for (const fields of wrong) {
    const [field] = Object.keys(fields);
    await assert.rejects(atelier.generate('a bag', fields), { code: 'INVALID_ARGUMENT', field });
  }
  await assert.rejects(atelier.score('none.png'), { code: 'INVALID_ARGUMENT', field: 'image' });
  assert.throws(() => new Atelier('http://127.0.0.1:1'), { code: 'INVALID_ARGUMENT', field: 'target' });
  assert.throws(() => new Atelier('127.0.0.1:1', { caFile: 'none.pem' }), { field: 'caFile' });
});

test('scores, health, metrics, models', async () => {
  const { images } = await atelier.generate('a bag', small);
  const [first, second] = await atelier.scoreAll([images[0].data, images[0].data], { prompt: 'a bag' });
  assert.deepEqual(first, second);
  assert.equal(first.aestheticThreshold, 7.5);
  const health = await atelier.health();
  assert.deepEqual([health.status, health.modelsAvailable.stableDiffusionXl], ['healthy', true]);
  assert.equal(typeof health.instances[0].memoryBytes, 'number');
  const metrics = await atelier.metrics();
  assert.ok(metrics.totalGenerations > 0 && metrics.generationsByModel.echo > 0);
  assert.deepEqual((await atelier.models.list()).map(({ name }) => name), ['echo', 'slow']);
});

test('brands come and go', async () => {
  const { images } = await atelier.generate('a bag', { ...small, seed: 1 });
  const made = await atelier.brands.create('acme', { name: 'Acme' });
  assert.deepEqual([made.brandId, made.name, made.referenceCount], ['acme', 'Acme', 0]);
  assert.ok(made.createdAt instanceof Date);
  const added = await atelier.brands.add('acme', [images[0].data]);
  assert.equal(added.addedReferenceIds.length, 1);
  assert.equal((await atelier.brands.get('acme')).references[0].referenceId, added.addedReferenceIds[0]);
  assert.deepEqual((await atelier.brands.list()).map(({ brandId }) => brandId), ['acme']);
  assert.equal((await atelier.brands.remove('acme', added.addedReferenceIds[0])).referenceCount, 0);
  await atelier.brands.delete('acme');
  await assert.rejects(atelier.brands.get('acme'), { code: 'NOT_FOUND' });
});
