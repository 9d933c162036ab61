/**
 * Limits on the tool calls of AI agents that hold across restarts and across instances.
 *
 * @packageDocumentation
 */
export { Limiter } from './limiter.js';
export type { AttachedId, ToolRateLimiterOptions } from './limiter.js';
export type { Labels, Request } from './request.js';
export { Decision } from './decision.js';
export type { DenialCause, Receipt } from './decision.js';
export { DEFAULT_TOOL_RATE_LIMITS, ToolRateLimiter } from './tool-rate-limiter.js';
export type { ToolCallAnswer, ToolCallStats, ToolRateLimit, ToolRateLimits } from './tool-rate-limiter.js';
export {
  ClosedError,
  ConfigError,
  CounterError,
  DurabilityError,
  InvalidInputError,
  OpenError,
  PanicError,
  ReceiptError,
  TallymeshError,
} from './errors.js';
export type { TallymeshErrorCode } from './errors.js';
export type { Config, CountersConfig, Duration, GossipConfig, LimitConfig, NodeConfig, StorageConfig } from './config.js';
export type { CounterReport, HealthReport, PeerReport } from './reports.js';
