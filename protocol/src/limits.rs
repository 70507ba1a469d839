//! The numbers that both sides of the wire keep to.

/// Longest line or JSON body, in bytes, its newline not counted.
pub const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// Longest response, or batch of responses, in bytes.
pub const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// Most calls in flight on one connection; beyond it the daemon stops reading.
pub const MAX_CALLS_IN_FLIGHT: usize = 64;

/// Most entries in one batch.
pub const MAX_BATCH_ENTRIES: usize = 64;

/// Longest session id, in Unicode scalar values.
pub const MAX_SESSION_ID_CHARS: usize = 256;

/// Time to live of a sandbox nobody gave one, in seconds.
pub const DEFAULT_TTL_SECONDS: u32 = 900;

/// Longest time to live of a sandbox: 30 days, in seconds.
pub const MAX_TTL_SECONDS: u32 = 30 * 24 * 60 * 60;

/// Time a command gets where the caller names none, in seconds.
pub const DEFAULT_TIMEOUT_SECONDS: f64 = 30.0;

/// Longest time a command can be given: 24 hours, in seconds.
pub const MAX_TIMEOUT_SECONDS: f64 = 24.0 * 60.0 * 60.0;

/// Output kept of each stream where the caller names no bound, in bytes.
pub const DEFAULT_OUTPUT_BYTES: u64 = 1024 * 1024;

/// Most output of a stream that an answer carries as text, in bytes.
pub const MAX_OUTPUT_BYTES_UTF8: u64 = 1024 * 1024;

/// Most output of a stream that an answer carries as base64, in bytes before encoding.
pub const MAX_OUTPUT_BYTES_BASE64: u64 = 4 * 1024 * 1024;

/// Most bytes of a file that one answer carries as text.
pub const MAX_READ_BYTES_UTF8: u64 = 1024 * 1024;

/// Most bytes of a file that one answer carries as base64, before encoding.
pub const MAX_READ_BYTES_BASE64: u64 = 4 * 1024 * 1024;

/// Most entries that one answer lists.
pub const MAX_LIST_ENTRIES: usize = 50_000;

/// Largest archive that an answer to `file.download` carries, in bytes before encoding.
pub const MAX_DOWNLOAD_BYTES: u64 = 11 * 1024 * 1024;
