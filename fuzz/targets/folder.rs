//! A whole folder: manifest, segments and base, as they are and with checksums made right.
#![no_main]

use valkey_wbl_fuzz::{judge, sign, unpack};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(mut files) = unpack(input) else { return };
    judge(&files);
    sign(&mut files);
    judge(&files);
});
