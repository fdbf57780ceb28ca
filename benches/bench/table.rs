//! The median of the figures of several rounds, and the printed tables.

use std::fmt::Write as _;

/// The median; of an even number of figures, the upper of the two in the middle.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// A Markdown table whose first column is text and whose other columns are numbers.
pub struct Table(String);

impl Table {
    pub fn new(columns: &[&str]) -> Self {
        let rule = "---: | ".repeat(columns.len() - 1);
        Self(format!("| {} |\n| --- | {}\n", columns.join(" | "), rule.trim_end()))
    }

    pub fn row(&mut self, name: &str, figures: &[String]) {
        writeln!(self.0, "| {name} | {} |", figures.join(" | ")).unwrap();
    }

    pub fn print(&self) {
        println!("\n{}", self.0);
    }
}
