//! What a benchmark found: each figure beside its peer's, round by round, held against its goal.
//!
//! Ratios are taken within a round and never across: both sides of a round ran right after each other, so that
//! whatever else the machine did weighs on both.

use serde_json::{Value, json};

/// What a figure is to reach.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// Ours divided by the peer's, at least.
    RatioAtLeast(f64),
    /// Ours divided by the peer's, at most.
    RatioAtMost(f64),
    /// Ours, at least.
    AtLeast(f64),
    /// Ours, at most.
    AtMost(f64),
    /// None: told for orientation.
    Told,
}

/// One figure, measured once a round.
#[derive(Debug)]
pub(super) struct Figure {
    name: String,
    unit: &'static str,
    goal: Goal,
    ours: Vec<f64>,
    peers: Vec<f64>,
}

impl Figure {
    pub(super) fn new(name: impl Into<String>, unit: &'static str, goal: Goal) -> Self {
        Self { name: name.into(), unit, goal, ours: Vec::new(), peers: Vec::new() }
    }

    /// Adds a round with a peer.
    pub(super) fn round(&mut self, ours: f64, peers: f64) {
        self.ours.push(ours);
        self.peers.push(peers);
    }

    /// Adds a round without one.
    pub(super) fn alone(&mut self, ours: f64) {
        self.ours.push(ours);
    }

    fn ratios(&self) -> Vec<f64> {
        self.ours.iter().zip(&self.peers).map(|(ours, peers)| ours / peers).collect()
    }

    /// Whether the median reaches the goal; `None` where there is none.
    pub(super) fn is_met(&self) -> Option<bool> {
        let (ratio, ours) = (Spread::of(&self.ratios()).median, Spread::of(&self.ours).median);
        match self.goal {
            Goal::RatioAtLeast(goal) => Some(ratio >= goal),
            Goal::RatioAtMost(goal) => Some(ratio <= goal),
            Goal::AtLeast(goal) => Some(ours >= goal),
            Goal::AtMost(goal) => Some(ours <= goal),
            Goal::Told => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let (ratios, ours) = (self.ratios(), Spread::of(&self.ours));
        let mut value = json!({ "name": self.name, "unit": self.unit, "restante": ours.to_json() });
        if !ratios.is_empty() {
            value["peer"] = Spread::of(&self.peers).to_json();
            value["ratio"] = Spread::of(&ratios).to_json();
        }
        if let Some(met) = self.is_met() {
            value["goal"] = json!(self.goal_in_words());
            value["met"] = json!(met);
        }
        value
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let mut line = format!("  {:<38} {:>22} {:<9}", self.name, Spread::of(&self.ours).text(), self.unit);
        let ratios = self.ratios();
        if !ratios.is_empty() {
            let peers = Spread::of(&self.peers).text();
            line.push_str(&format!(" peer {peers:>22}   ratio {}", Spread::of(&ratios).text()));
        }
        match self.is_met() {
            Some(true) => line.push_str(&format!("   goal {}: met", self.goal_in_words())),
            Some(false) => line.push_str(&format!("   goal {}: MISSED", self.goal_in_words())),
            None => {}
        }
        line
    }

    /// One row of the table in docs/performance.md.
    pub(super) fn row(&self) -> String {
        let ratios = self.ratios();
        let or_none = |values: &[f64]| if values.is_empty() { "–".to_owned() } else { Spread::of(values).text() };
        let met = match self.is_met() {
            Some(true) => format!("{}: met", self.goal_in_words()),
            Some(false) => format!("{}: **missed**", self.goal_in_words()),
            None => "–".to_owned(),
        };
        let name = if self.unit.is_empty() { self.name.clone() } else { format!("{}, {}", self.name, self.unit) };
        format!("| {name} | {} | {} | {} | {met} |", or_none(&self.ours), or_none(&self.peers), or_none(&ratios))
    }

    fn goal_in_words(&self) -> String {
        match self.goal {
            Goal::RatioAtLeast(goal) => format!("ratio ≥ {}", short(goal)),
            Goal::RatioAtMost(goal) => format!("ratio ≤ {}", short(goal)),
            Goal::AtLeast(goal) => format!("≥ {}", short(goal)),
            Goal::AtMost(goal) => format!("≤ {}", short(goal)),
            Goal::Told => String::new(),
        }
    }
}

/// Median, least and most.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        let (half, last) = (sorted.len() / 2, sorted.len().saturating_sub(1));
        let median =
            if sorted.len().is_multiple_of(2) { f64::midpoint(at(half.saturating_sub(1)), at(half)) } else { at(half) };
        Self { median, least: at(0), most: at(last) }
    }

    fn text(&self) -> String {
        format!("{} ({}–{})", short(self.median), short(self.least), short(self.most))
    }

    fn to_json(&self) -> Value {
        json!({ "median": self.median, "least": self.least, "most": self.most })
    }
}

/// Three significant places, whole numbers from 100 on.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut figure = Figure::new("messages", "1/s", Goal::RatioAtLeast(3.0));
        for (ours, peers) in [(30.0, 10.0), (40.0, 10.0), (10.0, 10.0)] {
            figure.round(ours, peers);
        }
        assert_eq!(figure.is_met(), Some(true));
        assert_eq!(figure.to_json()["ratio"], json!({ "median": 3.0, "least": 1.0, "most": 4.0 }));
        assert!(figure.row().ends_with("| 3.00 (1.00–4.00) | ratio ≥ 3.00: met |"), "{}", figure.row());
        assert!(figure.line().ends_with("ratio 3.00 (1.00–4.00)   goal ratio ≥ 3.00: met"), "{}", figure.line());
        figure.round(10.0, 10.0);
        assert_eq!(figure.is_met(), Some(false));
    }
}
