//! Damage of all kinds.

use super::samples::Sample;
use super::tests::spliced;
use super::*;
use crate::log::sim::{Random, times};

#[test]
fn every_truncation_and_every_flipped_bit_is_found() {
    let file = Sample::everything().slot_import().file();
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

#[test]
fn damage_behind_a_right_checksum_never_panics() {
    let mut random = Random::of_test("damage of an RDB file");
    let mut below = |limit: usize| random.below(limit as u64) as usize;
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 * times() {
        let mut body = Sample::everything().slot_import();
        for _ in 0..1 + below(4) {
            let at = 9 + below(body.0.len() - 9);
            match below(4) {
                0 => body.0[at] ^= 1 << below(8),
                1 => body.0[at] = [0, 0x3f, 0x80, 0x81, 0xc3, 0xff, 22, 245][below(8)],
                2 => drop(body.0.drain(at..(at + 1 + below(20)).min(body.0.len()))),
                _ => {
                    let copied: Vec<u8> = body.0[at..(at + 40).min(body.0.len())].to_vec();
                    body.0.splice(at..at, copied);
                }
            }
        }
        let file = body.file();
        match (spliced(&file, below(4000) as i64), verify(&mut &file[..])) {
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
    }
    println!("{accepted} accepted, {refused} refused");
}
