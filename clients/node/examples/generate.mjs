// node examples/generate.mjs 127.0.0.1:8001 "a red handbag on marble" bag.png
import { Atelier } from 'atelier-client';

const [target = '127.0.0.1:8001', prompt = 'a red handbag on marble', path = 'bag.png'] = process.argv.slice(2);
const atelier = new Atelier(target);
const result = await atelier.generate(prompt, {
  style: 'luxury',
  seed: 42,
  onProgress: ({ step, totalSteps }) => process.stderr.write(`\rstep ${step}/${totalSteps} `),
});
const [image] = result.images;
await image.save(path);
console.log(`${path} ${image.dimensions.width}x${image.dimensions.height} seed ${image.seed} by ${result.modelUsed}`);
atelier.close();
