//! Rows of the tables, printed and kept.

use std::time::Duration;

use serde_json::{Value, json};

/// One arm's figures.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    /// Those of all rounds that count.
    pub(crate) samples: &'a [Duration],
    /// How many things a second were done, where that is what counts.
    pub(crate) per_second: Option<f64>,
    /// What one round's figure is to that of the arm it is held against, round by round.
    pub(crate) ratios: Vec<f64>,
    /// The arm it is held against.
    pub(crate) to: &'a str,
}

/// Begins a table.
pub(crate) fn head(title: &str) {
    println!(
        "\n{title:36} {:>9} {:>9} {:>8} {:>8}  ratio to",
        "p50 µs", "p99 µs", "a second", "ratio"
    );
}

impl Row<'_> {
    /// Prints it.
    pub(crate) fn show(&self) -> Value {
        let (p50, p99) = (percentile(self.samples, 50), percentile(self.samples, 99));
        let ratio = (!self.ratios.is_empty()).then(|| median(&self.ratios));
        let number = |figure: Option<f64>, digits: usize| {
            figure.map_or_else(String::new, |figure| format!("{figure:.digits$}"))
        };
        let (rate, shown) = (number(self.per_second, 0), number(ratio, 2));
        println!("{:36} {p50:>9.0} {p99:>9.0} {rate:>8} {shown:>8}  {}", self.name, self.to);
        json!({
            "name": self.name,
            "samples": self.samples.len(),
            "p50us": p50,
            "p99us": p99,
            "perSecond": self.per_second,
            "ratio": ratio,
            "ratios": self.ratios,
            "to": self.to,
        })
    }
}

/// The row of an arm that cannot run here.
pub(crate) fn absent(name: &str, why: &str) -> Value {
    println!("{name:36} {why}");
    json!({"name": name, "absent": why, "samples": 0, "p50us": null, "p99us": null, "ratio": null})
}

/// In microseconds.
pub(crate) fn percentile(samples: &[Duration], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e6
}

/// The middle one, or the middle of the middle two.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}
