//! Logarithmic histograms whose counts do not depend on how the data are split.

/// Bins with exact binary edges, `2^bits` to an octave, found from the bits of a number.
pub struct LogBins {
    /// Bin 1 begins at 2 to the power of this.
    pub lowest_exponent: i64,
    pub octaves: usize,
    pub bits: u32,
}

impl LogBins {
    /// Number of bins, including bin 0, which holds all smaller values, zero and negative ones too.
    pub const fn count(&self) -> usize {
        (self.octaves << self.bits) + 1
    }

    const fn base(&self) -> i64 {
        (1023 + self.lowest_exponent) << self.bits
    }

    /// The bin of `value`; the last one for all larger values.
    pub fn index(&self, value: f64) -> usize {
        if value <= 0.0 {
            return 0;
        }
        let index = (value.to_bits() >> (52 - self.bits)) as i64 - self.base() + 1;
        index.clamp(0, self.count() as i64 - 1) as usize
    }

    /// Lower and upper edge of bin `index`.
    pub fn edges(&self, index: usize) -> (f64, f64) {
        let edge = |i: i64| f64::from_bits(((i + self.base()) as u64) << (52 - self.bits));
        let low = if index == 0 { 0.0 } else { edge(index as i64 - 1) };
        (low, edge(index as i64))
    }

    /// The quantile `share` of a histogram, linear within a bin; 0 in bin 0.
    pub fn quantile(&self, histogram: &[i64], share: f64) -> f64 {
        let total: i64 = histogram.iter().sum();
        let wanted = share * total as f64;
        let mut below = 0.0;
        for (index, &count) in histogram.iter().enumerate() {
            if count > 0 && below + count as f64 >= wanted {
                let (low, high) = self.edges(index);
                let part = (wanted - below) / count as f64;
                return if index == 0 { 0.0 } else { low + part * (high - low) };
            }
            below += count as f64;
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINS: LogBins = LogBins { lowest_exponent: -2, octaves: 8, bits: 2 };

    #[test]
    fn bins_hold_their_edges() {
        // 1/4 opens bin 1; four bins further is 1/2; 10 lies in [10, 12).
        assert_eq!((BINS.index(0.25), BINS.index(0.5), BINS.index(0.2)), (1, 5, 0));
        assert_eq!((BINS.index(-1.0), BINS.index(f64::MAX)), (0, BINS.count() - 1));
        assert_eq!(BINS.edges(BINS.index(10.0)), (10.0, 12.0));
        assert_eq!(BINS.edges(0), (0.0, 0.25));
    }

    #[test]
    fn a_quantile_is_linear_within_its_bin() {
        let mut histogram = vec![0; BINS.count()];
        histogram[0] = 2;
        histogram[BINS.index(8.0)] = 8;
        // Half of ten: the third of eight in [8, 10).
        assert_eq!(BINS.quantile(&histogram, 0.5), 8.75);
        assert_eq!(BINS.quantile(&histogram, 0.1), 0.0);
        assert_eq!(BINS.quantile(&[0; 4], 0.5), 0.0);
    }
}
