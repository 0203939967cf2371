/**
 * Client of an Atelier image-generation server.
 *
 *     import { Atelier } from 'atelier-client';
 *     const atelier = new Atelier('127.0.0.1:8001');
 *     const result = await atelier.generate('a red handbag on marble', { style: 'luxury', seed: 42 });
 *     await result.images[0].save('bag.png');
 *
 * Names and meanings are those of atelier.v1, in camelCase; enums are lower-case words. Seeds come as decimal strings,
 * because they may exceed 2^53; durations are seconds; what the server left unset is absent.
 */

export type Style =
  | 'none' | 'luxury' | 'casual' | 'minimalist' | 'bold' | 'elegant' | 'modern' | 'vintage' | 'professional';
export type AspectRatio = 'square' | 'landscape' | 'portrait' | 'ultra_wide' | 'instagram' | 'twitter';
export type Quality = 'standard' | 'hd' | 'ultra_hd';
export type Model = 'auto' | 'stable_diffusion_xl' | 'dall_e_3';
export type NoiseSchedule =
  | 'euler' | 'euler_ancestral' | 'ddim' | 'dpmpp_2m' | 'dpmpp_2m_karras' | 'unipc' | 'lcm';
export type Gate = 'report' | 'retry' | 'enforce';
export type ImageFormat = 'png' | 'jpeg' | 'webp';
export type CachePolicy = 'use' | 'reuse' | 'bypass';
export type Priority = 'low' | 'normal' | 'high';
export type Reproducibility = 'batched' | 'exact';
export type OnDisconnect = 'cancel' | 'continue';

/** gRPC status names. */
export type Code =
  | 'CANCELLED' | 'UNKNOWN' | 'INVALID_ARGUMENT' | 'DEADLINE_EXCEEDED' | 'NOT_FOUND' | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED' | 'RESOURCE_EXHAUSTED' | 'FAILED_PRECONDITION' | 'ABORTED' | 'OUT_OF_RANGE'
  | 'UNIMPLEMENTED' | 'INTERNAL' | 'UNAVAILABLE' | 'DATA_LOSS' | 'UNAUTHENTICATED';

/** Asks for small pictures of the unfinished work. */
export interface PreviewOptions {
  /** A preview every so many steps; 0: none. */
  everyNSteps: number;
  /** The longest side in pixels, 16 to 1024. Default: 256. */
  maxSide?: number;
  /** Default: jpeg. */
  format?: ImageFormat;
}

/** Fields of atelier.v1.GenerateRequest beside the prompt. */
export interface GenerateFields {
  negativePrompt?: string;
  style?: Style;
  aspectRatio?: AspectRatio;
  quality?: Quality;
  width?: number;
  height?: number;
  numImages?: number;
  seed?: number | bigint | string;
  model?: Model;
  modelName?: string;
  numInferenceSteps?: number;
  guidanceScale?: number;
  noiseSchedule?: NoiseSchedule;
  brandId?: string;
  brandConsistencyCheck?: boolean;
  aestheticThreshold?: number;
  brandThreshold?: number;
  gate?: Gate;
  maxAttempts?: number;
  outputFormat?: ImageFormat;
  outputQuality?: number;
  preview?: PreviewOptions;
  cache?: CachePolicy;
  priority?: Priority;
  reproducibility?: Reproducibility;
  onDisconnect?: OnDisconnect;
  metadata?: Record<string, string>;
  requestId?: string;
  resumeAfterSequence?: number;
}

export interface CallOptions {
  /** Seconds for all attempts together. Defaults: 600 for a generation, 120 for scores, 30 for questions. */
  timeoutSeconds?: number;
  /** Cancels the call. */
  signal?: AbortSignal;
}

export interface ScoreFields {
  prompt?: string;
  brandId?: string;
  aestheticThreshold?: number;
  brandThreshold?: number;
}

export interface Dimensions {
  width: number;
  height: number;
}

/** What the scorers say of a picture; an absent score has its reason in missingReasons. */
export interface Scores {
  aestheticScore?: number;
  subScores: Record<string, number>;
  aestheticMethod: string;
  brandConsistencyScore?: number;
  brandReferenceMissing: boolean;
  onBrandProbability?: number;
  paletteDistance?: number;
  nearestReferences: { referenceId: string; similarity: number }[];
  brandCentroidSimilarity?: number;
  promptAlignment?: number;
  aestheticThreshold: number;
  brandThreshold: number;
  aestheticPassed?: boolean;
  brandPassed?: boolean;
  passed: boolean;
  missingReasons: Record<string, string>;
  warnings: string[];
}

interface Numbered {
  sequence: number;
  requestId: string;
}

export interface Queued extends Numbered {
  type: 'queued';
  position: number;
  estimatedWaitSeconds?: number;
}

export interface TruncatedTokens {
  encoder: string;
  promptTokens: number;
  negativePromptTokens: number;
}

export interface Started extends Numbered {
  type: 'started';
  model: string;
  modelVersion: string;
  routingReason: string;
  promptUsed: string;
  negativePromptUsed?: string;
  seeds: string[];
  dimensions: Dimensions;
  nativeDimensions: Dimensions;
  numInferenceSteps: number;
  guidanceScale: number;
  noiseSchedule: string;
  truncatedTokens: TruncatedTokens[];
}

export interface Progress extends Numbered {
  type: 'progress';
  imageIndex: number;
  step: number;
  totalSteps: number;
  estimatedRemainingSeconds?: number;
  preview?: { data: Buffer; mediaType: string; dimensions: Dimensions };
  attempt: number;
}

export interface ImageChunk extends Numbered {
  type: 'imageChunk';
  imageIndex: number;
  offset: number;
  totalSize: number;
  data: Buffer;
  last: boolean;
}

export interface ImageCompleted extends Numbered {
  type: 'imageCompleted';
  imageIndex: number;
  seed: string;
  sha256: string;
  mediaType: string;
  dimensions: Dimensions;
  nativeDimensions: Dimensions;
  scores: Scores;
}

export interface Usage {
  inputTokens: number;
  outputTokens: number;
  totalTokens: number;
  estimatedCostUsd: number;
  upstreamCalls: number;
}

export interface Completed extends Numbered {
  type: 'completed';
  generationTimeMs: number;
  timingsMs: Record<string, number>;
  cached: boolean;
  attempts: number;
  restarts: number;
  reproducibility: Reproducibility;
  modelUsed: string;
  modelVersion: string;
  ignoredFields: string[];
  timestamp: Date;
  metadata: Record<string, string>;
  usage?: Usage;
}

export type Event = Queued | Started | Progress | ImageChunk | ImageCompleted | Completed;

/** A picture: its encoded file, checked against `sha256`, and what is known about it. */
export class GeneratedImage {
  readonly data: Buffer;
  readonly seed: string;
  readonly sha256: string;
  readonly mediaType: string;
  readonly dimensions: Dimensions;
  readonly nativeDimensions: Dimensions;
  readonly scores: Scores;
  get base64(): string;
  /** Writes the encoded file as it is; an extension converts nothing. */
  save(path: string): Promise<string>;
}

export interface GenerationResult
  extends Omit<Completed, 'type' | 'sequence'>,
    Pick<
      Started,
      | 'routingReason' | 'promptUsed' | 'negativePromptUsed' | 'numInferenceSteps' | 'guidanceScale' | 'noiseSchedule'
      | 'truncatedTokens'
    > {
  images: GeneratedImage[];
}

export interface ModelInstance {
  model: string;
  version: string;
  state: string;
  reason: string;
  device: string;
  memoryBytes: number;
  deviceMemoryBytes: number;
  queueDepth: number;
  running: number;
  restarts: number;
  pid: number;
  backend: string;
  dtype: string;
  execution: string;
}

export interface Health {
  status: 'healthy' | 'degraded' | 'critical' | 'unhealthy';
  reasons: string[];
  initialized: boolean;
  device: string;
  modelsAvailable: { stableDiffusionXl: boolean; dalle_3: boolean; clipScoring: boolean; brandEmbedding: boolean };
  instances: ModelInstance[];
  totalGenerations: number;
  avgGenerationTimeMs?: number;
  p95GenerationTimeMs?: number;
  avgAestheticScore?: number;
  avgBrandConsistency?: number;
  sloMet?: boolean;
  qualityMet?: boolean;
  brandConsistencyMet?: boolean;
  successRate?: number;
  serverVersion: string;
}

export interface Metrics {
  totalGenerations: number;
  cacheHitRate?: number;
  avgGenerationTimeMs?: number;
  p50GenerationTimeMs?: number;
  p95GenerationTimeMs?: number;
  p99GenerationTimeMs?: number;
  avgAestheticScore?: number;
  avgBrandConsistency?: number;
  generationsByModel: Record<string, number>;
  failedGenerations: number;
  successRate?: number;
  sloMet?: boolean;
  qualityMet?: boolean;
  brandConsistencyMet?: boolean;
  windowSeconds: number;
}

export interface Brand {
  brandId: string;
  name: string;
  referenceCount: number;
  revision: number;
  createdAt?: Date;
  dispersion?: number;
  palette: string[];
  pendingEmbeddings: number;
  warnings: string[];
  references: { referenceId: string; sizeBytes: number; width: number; height: number }[];
}

export interface AddedReferences {
  brand: Brand;
  addedReferenceIds: string[];
  duplicateReferenceIds: string[];
}

export interface ModelInfo {
  name: string;
  version: string;
  state: string;
  reason: string;
  backend: string;
  instances: ModelInstance[];
}

/** What every method rejects with. */
export class AtelierError extends Error {
  readonly name: 'AtelierError';
  readonly code: Code;
  /** The request's field at fault, as the contract spells it; empty where there is none. */
  readonly field: string;
  /** A constant for programs, such as QUEUE_FULL; empty when the server gave none. */
  readonly reason: string;
  /** Seconds until a retry makes sense. */
  readonly retryAfterSeconds?: number;
  readonly metadata: Record<string, string>;
}

export interface AtelierOptions {
  /** Speak TLS; implied by caFile and certFile. */
  tls?: boolean;
  /** Certificates to trust (PEM). */
  caFile?: string;
  /** This client's certificate (PEM), with keyFile. */
  certFile?: string;
  keyFile?: string;
  /** Bearer token. */
  token?: string;
  /** A file with the token, read again at every call. */
  tokenFile?: string;
  /** How calls that ended UNAVAILABLE are tried again. Defaults: 3 attempts, 0.5 s at first, at most 30 s. */
  retry?: { attempts?: number; firstSeconds?: number; longestSeconds?: number };
}

export class Atelier {
  constructor(target?: string, options?: AtelierOptions);
  /**
   * Every event of a generation as it comes; leaving the loop early cancels the work. A stream that ends UNAVAILABLE
   * before any picture bytes came is asked for again with the same requestId, and its events start over; with
   * onDisconnect 'continue' the server keeps the work, and later streams are resumed too.
   */
  generateEvents(prompt: string, options?: GenerateFields & CallOptions): AsyncGenerator<Event, void, void>;
  /** Generates pictures and waits for them. */
  generate(
    prompt: string,
    options?: GenerateFields &
      CallOptions & { onProgress?: (event: Progress) => void; onEvent?: (event: Event) => void },
  ): Promise<GenerationResult>;
  /** Judges one picture: a path, or the bytes of its file. */
  score(image: string | Uint8Array, options?: ScoreFields & CallOptions): Promise<Scores>;
  /** Judges pictures, in their order. */
  scoreAll(images: (string | Uint8Array)[], options?: ScoreFields & CallOptions): Promise<Scores[]>;
  health(options?: CallOptions): Promise<Health>;
  metrics(options?: CallOptions): Promise<Metrics>;
  /** Ends the connection. */
  close(): void;
  readonly brands: {
    create(brandId: string, options?: { name?: string } & CallOptions): Promise<Brand>;
    get(brandId: string, options?: CallOptions): Promise<Brand>;
    list(options?: CallOptions): Promise<Brand[]>;
    delete(brandId: string, options?: CallOptions): Promise<void>;
    add(brandId: string, images: (string | Uint8Array)[], options?: { timeoutSeconds?: number }): Promise<AddedReferences>;
    remove(brandId: string, referenceId: string, options?: CallOptions): Promise<Brand>;
  };
  readonly models: {
    list(options?: CallOptions): Promise<ModelInfo[]>;
    load(name: string, options?: CallOptions): Promise<ModelInfo>;
    unload(name: string, options?: CallOptions): Promise<ModelInfo>;
  };
}
