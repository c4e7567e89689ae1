//! Randomness that depends on the seed alone.
//!
//! xoshiro256++ seeded through SplitMix64, as its authors advise: Blackman and Vigna, "Scrambled linear pseudorandom
//! number generators", ACM TOMS 47 (2021); <https://prng.di.unimi.it>. A sequence owns its generator, so what else is
//! being served cannot change its draws.

/// A generator of random numbers; not for secrets.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of a seed.
    pub(super) fn new(seed: u64) -> Self {
        let mut z = seed;
        let state = std::array::from_fn(|_| {
            z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = z;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        });
        Self { state }
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `[0, 1)`, a multiple of 2⁻⁵³.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_follow_from_the_definition() {
        let mut random = Random {
            state: [1, 2, 3, 4],
        };
        // rotl(1 + 4, 23) + 1, then by hand through the next two states.
        assert_eq!(random.next(), 41_943_041);
        assert_eq!(random.next(), 58_720_359);
        // SplitMix64 of seed 0 starts with the value that its reference implementation prints.
        assert_eq!(Random::new(0).state[0], 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn uniform_numbers_fill_the_interval() {
        let mut random = Random::new(7);
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            tenths[(random.uniform() * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|n| (850..1150).contains(n)), "{tenths:?}");
    }
}
