//! The last segment after its header, which a crash may have left in any state: raw, with its frames made right, and as
//! payloads (between bytes 0xff) of frames that are.
#![no_main]

use valkey_wbl_fuzz::{Files, frame, judge, sign};

const HEADER: &str = "#WBL2 2 00000000000000ff 11 0000000000000abc 18bcfe56800 - 00000000\n";
const MANIFEST: &str = "#WBL2 generation 2 00000000000000ff\n#base none lsn 17\n\
                        file appendonly.aof.7.incr.aof seq 7 type i\n#segment first 17\n#end 00000000\n";
const SEGMENT: &str = "appendonly.aof.7.incr.aof";

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut files = Files::from([("appendonly.aof.manifest".to_string(), MANIFEST.into())]);
    files.insert(SEGMENT.into(), HEADER.into());
    sign(&mut files);
    let header = files[SEGMENT].clone();
    files.insert(SEGMENT.into(), [&header, input].concat());
    judge(&files);
    sign(&mut files);
    judge(&files);
    let mut segment = header;
    for payload in input.split(|byte| *byte == 0xff).filter(|payload| !payload.is_empty()) {
        segment.extend(frame(0xabc, segment.len(), payload));
    }
    files.insert(SEGMENT.into(), segment);
    judge(&files);
});
