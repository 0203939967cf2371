// Compiled, never run: what callers write has the types that index.d.ts promises.
import { Atelier, AtelierError, type Event, type GenerationResult } from 'atelier-client';

const atelier = new Atelier('127.0.0.1:8001', { tokenFile: 'token', retry: { attempts: 5 } });

export async function use(): Promise<string> {
  for await (const event of atelier.generateEvents('a bag', { style: 'luxury', seed: 2n ** 63n })) {
    if (event.type === 'progress' && event.preview) console.log(event.step, event.preview.data.length);
  }
  const result: GenerationResult = await atelier.generate('a bag', {
    preview: { everyNSteps: 2 },
    onEvent: (event: Event) => console.log(event.sequence),
    signal: AbortSignal.timeout(1000),
  });
  const score: number | undefined = (await atelier.score(result.images[0]!.data)).aestheticScore;
  const reason = await atelier.health().catch((error: unknown) => (error instanceof AtelierError ? error.code : ''));
  // @ts-expect-error there is no such style
  void atelier.generate('a bag', { style: 'lux' });
  // @ts-expect-error there is no such field
  void atelier.generate('a bag', { colour: 'red' });
  return `${score} ${reason} ${(await atelier.brands.list())[0]?.brandId}`;
}
