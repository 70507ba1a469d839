//! Amounts as Kubernetes writes them: `500m`, `2`, `512Mi`, `1G`.
//!
//! The syntax is that of the Kubernetes API's "resource quantity": a decimal
//! number and a suffix, one of `m k M G T P E`, their binary forms
//! `Ki Mi Gi Ti Pi Ei`, or an exponent as in `1e3`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of something, more than zero, kept as it was written.
///
/// ```json
/// "512Mi"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(
    feature = "openrpc",
    derive(schemars::JsonSchema),
    schemars(extend(
        "pattern" = r"^([0-9]+\.?[0-9]*|\.[0-9]+)(m|[kMGTPE]|[KMGTPE]i|[eE]\+?[0-9]+)?$"
    ))
)]
pub struct Quantity(String);

/// The text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a quantity: write a number above 0 with a Kubernetes suffix, as in 500m, 2, 512Mi or 1G"
)]
pub struct QuantityError(String);

impl Quantity {
    /// The amount in thousandths, rounded up: millicores where it counts cores.
    pub fn milli(&self) -> u128 {
        parse(&self.0).unwrap_or_default()
    }

    /// The amount in whole units, rounded up: bytes where it counts bytes.
    pub fn units(&self) -> u128 {
        self.milli().div_ceil(1000)
    }
}

impl TryFrom<String> for Quantity {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        match parse(&text) {
            Some(milli) if milli > 0 => Ok(Self(text)),
            _ => Err(QuantityError(text)),
        }
    }
}

impl From<Quantity> for String {
    fn from(q: Quantity) -> Self {
        q.0
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text in thousandths, rounded up; `None` where it is no quantity or more than 2^63 units.
fn parse(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Eighteen digits before and nine after the point are more than any machine has of anything.
    if number.is_empty() || number == "." || whole.len() > 18 || fraction.len() > 9 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_u128.pow(fraction.len().try_into().ok()?);
    let thousandths = multiplier(suffix)?.checked_mul(digits)?.div_ceil(scale);
    (thousandths <= (1_u128 << 63) * 1000).then_some(thousandths)
}

/// How many thousandths one of this suffix is.
fn multiplier(suffix: &str) -> Option<u128> {
    let decimal = |power: u32| Some(10_u128.pow(power + 3));
    let binary = |power: u32| Some((1_u128 << (10 * power)) * 1000);
    match suffix {
        "m" => Some(1),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let power: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (power <= 18).then(|| decimal(power)).flatten()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_every_suffix() {
        for (text, milli) in [
            ("500m", 500),
            ("2", 2_000),
            ("0.5", 500),
            (".5", 500),
            ("2.", 2_000),
            ("1e3", 1_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("512Mi", 536_870_912_000),
            ("1G", 1_000_000_000_000),
            ("0.0001", 1),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().milli(), milli, "{text}");
        }
        assert_eq!("100m".parse::<Quantity>().unwrap().units(), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "", ".", "0", "0Mi", "-1", "+1", "1 Gi", "1gb", "1KI", "Mi", "1e", "1e99", "1..2",
            "NaN", "16Ei", "١",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
