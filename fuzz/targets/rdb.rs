//! The walker over RDB files: checked, and spliced into a stream for the server's loader.
#![no_main]

use std::io;
use valkey_wbl::rdb::{Before, Deferred, RdbError, Strip, Summary, examine, splice, verify};

struct Counting(i64, u64);

impl Strip for Counting {
    fn before(&mut self) -> Before {
        Before::all(self.0)
    }

    fn defer(&mut self, _: Deferred) -> io::Result<()> {
        self.1 += 1;
        Ok(())
    }
}

fn spliced(file: &[u8], before_ms: i64) -> Result<(Vec<u8>, Summary, u64), RdbError> {
    let (mut out, mut strip) = (Vec::new(), Counting(before_ms, 0));
    let mut file = file;
    splice(Some(&mut file), &mut out, b"sentinel", &mut strip).map(|summary| (out, summary, strip.1))
}

fn walk(file: &[u8]) {
    let mut rest = file;
    let examined = examine(&mut rest);
    for before_ms in [i64::MIN, 1_700_000_000_000, i64::MAX] {
        match (spliced(file, before_ms), &examined) {
            (Ok((out, summary, deferred)), Ok((examined, _))) => {
                assert_eq!(&summary, examined);
                assert!(deferred == 0 || before_ms > i64::MIN);
                // The stream is a whole file again, with one key more, and nothing in it is deferred twice.
                let again = verify(&mut &out[..]).expect("a whole file");
                assert_eq!(again.keys, summary.keys + 1);
                assert_eq!(again.functions, summary.functions);
            }
            (Err(_), Err(_)) => {}
            // The code of libraries is unpacked only where it is asked for.
            (Ok((_, summary, _)), Err(RdbError::Corrupt { .. })) if summary.functions > 0 => {}
            (Ok(_), Err(error)) => panic!("only examining finds damage: {error}"),
            (Err(error), Ok(_)) => panic!("only splicing finds damage: {error}"),
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    walk(input);
    // Zeros are the checksum of a file that has none.
    let mut unchecked = input.to_vec();
    if let Some(at) = unchecked.len().checked_sub(8) {
        unchecked[at..].fill(0);
        walk(&unchecked);
    }
});
