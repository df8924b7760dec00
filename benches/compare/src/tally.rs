//! Counts times in buckets that are 1.6 per cent wide, so that nothing grows while the clock runs.

/// How many buckets there are: 64 for each power of two.
pub const BUCKETS: usize = 59 * 64;

/// How often each time was seen, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Tally {
    buckets: Vec<u64>,
    count: u64,
}

impl Tally {
    /// Nothing seen.
    pub fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0 }
    }

    /// One more.
    #[inline]
    pub fn add(&mut self, nanos: u64) {
        let octave = (63 - (nanos | 1).leading_zeros() as usize).max(5);
        let bucket = if nanos < 64 {
            nanos as usize
        } else {
            (octave - 5) * 64 + ((nanos >> (octave - 6)) & 63) as usize
        };
        self.buckets[bucket] += 1;
        self.count += 1;
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The counts.
    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// Both together.
    pub fn with(&self, other: &Self) -> Self {
        self.buckets.iter().zip(&other.buckets).map(|(a, b)| a + b).collect()
    }

    /// Seconds that the share `q` of all did not exceed (the lower edge of the bucket).
    pub fn at(&self, q: f64) -> f64 {
        let mut left = (self.count as f64 * q) as u64;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            if left < count {
                let (octave, step) = (bucket / 64 + 5, (bucket % 64) as u64);
                let nanos = if bucket < 64 { step } else { (64 + step) << (octave - 6) };
                return nanos as f64 * 1e-9;
            }
            left -= count;
        }
        f64::NAN
    }
}

impl FromIterator<u64> for Tally {
    fn from_iter<I: IntoIterator<Item = u64>>(counts: I) -> Self {
        let buckets: Vec<u64> = counts.into_iter().collect();
        Self { count: buckets.iter().sum(), buckets }
    }
}
