//! Chance from a seed: one stream for each component, so that a change of one leaves the others as they were.

/// A splitmix64 stream.
#[derive(Debug, Clone)]
pub struct Stream(u64);

impl Stream {
    /// The stream of a component under a run's seed.
    #[must_use]
    pub fn new(seed: u64, component: &str) -> Self {
        // FNV-1a spreads the component's name over the seed.
        let name = component
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut stream = Self(seed ^ name);
        stream.number();
        stream
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        self.number() % bound
    }

    /// One of the items; none of an empty list.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
        if count == 0 { None } else { items.get(usize::try_from(self.below(count)).unwrap_or(0)) }
    }

    /// A number from 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A pause between two faults in milliseconds: at least one second, at most twelve, mostly short ones.
    pub fn pause_ms(&mut self) -> u64 {
        // Half of the pauses are below two seconds, half of the rest below three, and so on.
        let halvings = u64::from(self.number().trailing_ones()).min(10);
        1_000 + halvings * 1_000 + self.below(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_component_name_a_stream() {
        let numbers = |seed, component| -> Vec<u64> {
            let mut stream = Stream::new(seed, component);
            (0..4).map(|_| stream.number()).collect()
        };
        assert_eq!(numbers(1, "schedule"), numbers(1, "schedule"));
        assert_ne!(numbers(1, "schedule"), numbers(2, "schedule"));
        assert_ne!(numbers(1, "schedule"), numbers(1, "workload"));
    }

    #[test]
    fn nothing_is_picked_from_nothing() {
        assert_eq!(Stream::new(0, "x").pick::<u8>(&[]), None);
        assert_eq!(Stream::new(0, "x").pick(&[7]), Some(&7));
    }
}
