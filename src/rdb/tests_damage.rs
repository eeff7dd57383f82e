//! Damage of all kinds.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::samples::Sample;
use super::tests::spliced;
use super::*;

#[test]
fn every_truncation_and_every_flipped_bit_is_found() {
    let file = Sample::everything().file();
    for end in 0..file.len() {
        let result = spliced(&file[..end], 2400);
        assert!(matches!(result, Err(RdbError::Truncated { offset }) if offset == end as u64), "{end}: {result:?}");
        assert!(verify(&mut &file[..end]).is_err(), "{end}");
    }
    let mut file = file;
    for bit in 0..file.len() * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(spliced(&file, 2400).is_err(), "bit {bit}");
        assert!(verify(&mut &file[..]).is_err(), "bit {bit}");
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Replay a failure with RDB_FUZZ_SEED=seed.
#[test]
fn damage_behind_a_right_checksum_never_panics() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |age| age.as_nanos() as u64);
    let seed = std::env::var("RDB_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now | 1);
    println!("RDB_FUZZ_SEED={seed}");
    let mut random = Random(seed);
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut body = Sample::everything();
        for _ in 0..1 + random.below(4) {
            let at = 9 + random.below(body.0.len() - 9);
            match random.below(4) {
                0 => body.0[at] ^= 1 << random.below(8),
                1 => body.0[at] = [0, 0x3f, 0x80, 0x81, 0xc3, 0xff, 22, 245][random.below(8)],
                2 => drop(body.0.drain(at..(at + 1 + random.below(20)).min(body.0.len()))),
                _ => {
                    let copied: Vec<u8> = body.0[at..(at + 40).min(body.0.len())].to_vec();
                    body.0.splice(at..at, copied);
                }
            }
        }
        let file = body.file();
        match (spliced(&file, random.below(4000) as i64), verify(&mut &file[..])) {
            (Ok((out, summary, _)), Ok(verified)) => {
                assert_eq!(summary, verified);
                // The stream is a whole file again, with one key more.
                let again = verify(&mut &out[..]).map(|again| again.keys);
                assert!(matches!(again, Ok(keys) if keys == summary.keys + 1), "{again:?}");
                accepted += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (spliced, verified) => panic!("one walk only finds damage: {spliced:?}, {verified:?}"),
        }
        if Instant::now() > deadline {
            break;
        }
    }
    println!("{accepted} accepted, {refused} refused");
}
