// The attempts and the time of one call.
import { setTimeout as sleep } from 'node:timers/promises';

export const RETRY = { attempts: 3, firstSeconds: 0.5, longestSeconds: 30 };

export class Attempts {
  constructor(policy, timeoutSeconds) {
    this.policy = { ...RETRY, ...policy };
    this.end = timeoutSeconds === undefined ? Infinity : Date.now() + timeoutSeconds * 1000;
    this.failed = 0;
  }

  /** When gRPC shall end the next attempt. */
  deadline() {
    return this.end === Infinity ? Infinity : new Date(this.end);
  }

  /** Waits before the next attempt; throws the error where it is final. Waits are full-jitter. */
  async waitAfter(error, signal) {
    this.failed += 1;
    const { attempts, firstSeconds, longestSeconds } = this.policy;
    if (error.code !== 'UNAVAILABLE' || this.failed >= attempts || signal?.aborted) throw error;
    const backoff = firstSeconds * 2 ** Math.min(this.failed - 1, 30) * Math.random();
    const asked = error.retryAfterSeconds ?? 0;
    const wait = Math.min(asked + backoff, longestSeconds);
    if (asked > longestSeconds || Date.now() + wait * 1000 >= this.end) throw error;
    await sleep(wait * 1000, undefined, { signal }).catch(() => {
      throw error;
    });
  }
}
