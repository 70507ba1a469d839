//! What a connection may take of the daemon, and how long it may keep it waiting.

use std::time::Duration;

use clap::Args;
use noxrunner_protocol::quantity::Quantity;

use super::duration;

/// The bounds of a connection. The defaults are those of the wire's description.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Bounds of connections")]
pub struct WireBounds {
    /// Connections at once: for one more, the one that has been idle longest is closed
    #[arg(long, value_name = "COUNT", default_value = "256", value_parser = count(65_536))]
    pub max_connections: usize,

    /// The same for HTTP on TCP
    #[arg(long, value_name = "COUNT", default_value = "1024", value_parser = count(65_536))]
    pub max_http_connections: usize,

    /// Calls in flight on a connection, and entries of a batch; beyond it nothing more is read
    #[arg(long, value_name = "COUNT", default_value = "64", value_parser = count(4_096))]
    pub max_calls: usize,

    /// Longest line, message or JSON body of a client (4Mi)
    #[arg(long, value_name = "SIZE", default_value = "4Mi", value_parser = size)]
    pub max_request: usize,

    /// Longest answer, or answers of a batch together
    #[arg(long, value_name = "SIZE", default_value = "16Mi", value_parser = size)]
    pub max_answer: usize,

    /// Answers that wait for a client to read; beyond it no further one is taken up
    #[arg(long, value_name = "SIZE", default_value = "256Ki", value_parser = size)]
    pub output_buffer: usize,

    /// How long a client may take to its first byte
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub first_byte_timeout: Duration,

    /// How long an HTTP client may take for the headers of a request
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub header_timeout: Duration,

    /// How long an HTTP client may send nothing of a body it has begun
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub body_timeout: Duration,

    /// How long a client may take nothing of its answers
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub write_timeout: Duration,
}

/// Smallest and largest size that makes sense, in bytes: an error message fits into
/// the one, and the other still fits into memory many times.
const SIZES: std::ops::RangeInclusive<u128> = 4 * 1024..=256 * 1024 * 1024;

/// A size in bytes, as `4Mi`.
fn size(text: &str) -> Result<usize, String> {
    let quantity: Quantity = text.parse().map_err(|e| format!("{e}"))?;
    let bytes = Some(quantity.units()).filter(|bytes| SIZES.contains(bytes));
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| format!("{text:?} is not between 4Ki and 256Mi"))
}

/// A number of things, at least one.
fn count(most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| format!("{text:?} is not a number from 1 to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use noxrunner_protocol::limits;

    #[test]
    fn sizes_and_counts() {
        assert_eq!(size("4Mi"), Ok(limits::MAX_LINE_BYTES));
        assert_eq!(size("16Mi"), Ok(limits::MAX_RESPONSE_BYTES));
        for bad in ["", "0", "1Ki", "1Gi", "-1", "4MiB", "99999999999999999999E"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(count(64)("64"), Ok(limits::MAX_CALLS_IN_FLIGHT));
        for bad in ["", "0", "65", "-1", "1.5", "many"] {
            assert!(count(64)(bad).is_err(), "{bad}");
        }
    }
}
