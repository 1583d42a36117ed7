//! What a measurement that was repeated comes to.

use std::fmt;

/// Repetitions of one figure, in milliseconds or a second's count.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    sorted: Vec<f64>,
}

impl Figures {
    /// One more.
    pub fn add(&mut self, value: f64) {
        let place = self.sorted.partition_point(|known| *known < value);
        self.sorted.insert(place, value);
    }

    /// The value below which this share of all values lies.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
        let place = (share * self.sorted.len() as f64) as usize;
        self.sorted.get(place.min(self.sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    /// The one in the middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sorted.len()
    }
}

impl fmt::Display for Figures {
    /// `median (least-most)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median() < 100.0 { 2 } else { 0 };
        let [median, least, most] = [self.median(), self.quantile(0.0), self.quantile(1.0)];
        write!(f, "{median:.digits$} ({least:.digits$}-{most:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_between_the_extremes() {
        let mut figures = Figures::default();
        for value in [250.0, 120.0, 900.0, 130.0, 131.0] {
            figures.add(value);
        }
        assert_eq!(figures.to_string(), "131 (120-900)");
        assert_eq!((figures.count(), figures.quantile(0.99)), (5, 900.0));
    }
}
