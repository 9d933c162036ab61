/**
 * Limits on the tool calls of AI agents that hold across restarts and across instances.
 *
 * @packageDocumentation
 */
export { Limiter } from './limiter.js';
export type { AttachedId } from './limiter.js';
export { Operator } from './operator.js';
export type { OperatorOptions, QuarantineOptions } from './operator.js';
export { LazyLimiter } from './lazy-limiter.js';
export type { LazyLimiterState } from './lazy-limiter.js';
export type { LimiterSource } from './limiter-handle.js';
export type { Labels, LimitReset, Request } from './request.js';
export { CounterListing } from './counter-listing.js';
export { generateNodeKey, publicKeyOf } from './node-key.js';
export { Decision, Peek } from './decision.js';
export type { AllowedDecision, DenialCause, Receipt } from './decision.js';
export { DEFAULT_TOOL_RATE_LIMITS, ToolRateLimiter } from './tool-rate-limiter.js';
export type { OtherTools, RateLimitResult, RateLimitStats, ToolRateLimit, ToolRateLimits } from './tool-rate-limiter.js';
export { toolRateLimiters } from './tool-rate-limiters.js';
export type { ToolRateLimiterOptions, ToolRateLimiters, ToolRateLimitersOptions, ToolTurn } from './tool-rate-limiters.js';
export {
  ClosedError,
  ConfigError,
  CounterError,
  DeniedError,
  DurabilityError,
  InvalidInputError,
  OpenError,
  PanicError,
  PeerPackageError,
  RefundError,
  TallymeshError,
} from './errors.js';
export type { ErrorJson, RefundErrorCode, TallymeshErrorCode } from './errors.js';
export type {
  Config,
  CountersConfig,
  Duration,
  GossipConfig,
  LimitConfig,
  NodeConfig,
  OperatorConfig,
  StorageConfig,
} from './config.js';
export type {
  Closed,
  CounterReport,
  CutOffReport,
  Health,
  HealthReport,
  OperatorReport,
  PeerReport,
  Rejections,
  StatusReport,
} from './reports.js';
export type {
  CellReport,
  CountedReport,
  CounterPage,
  CounterQuery,
  CounterSelection,
  CrossingReport,
  ExplainQuery,
  Explanation,
  LinkReport,
} from './selection.js';
