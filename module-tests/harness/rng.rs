//! Random numbers that a seed reproduces.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of one test: of `WBL_SEED` (a number, or `random`), else of the test's name. Prints the seed.
    pub fn of_test(name: &str) -> Rng {
        let seed = match std::env::var("WBL_SEED") {
            Ok(text) if text == "random" => {
                let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                clock.expect("a clock after 1970").as_nanos() as u64
            }
            Ok(text) => text.parse().expect("WBL_SEED is a number or `random`"),
            // FNV-1a
            Err(_) => name
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)),
        };
        println!("{name}: WBL_SEED={seed}");
        Rng(seed)
    }

    /// The generator of this seed.
    pub fn seeded(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A generator whose numbers are independent of what this one gives later.
    pub fn fork(&mut self) -> Rng {
        Rng(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of `0..limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "below(0)");
        self.next() % limit
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}
