//! What is in a log's segments: where their frames end, the times that they state, and whether they are sealed.

use crate::support::*;
use valkey_wbl::log::sim::SimDisk;
use valkey_wbl::log::{Batch, Frame, MANIFEST_NAME, Verdict, segment_name};

/// The offsets of the frame ends in a segment of these units, one to a frame; the first is where its header ends.
pub fn frame_ends(segment: &[u8], range: std::ops::Range<usize>) -> Vec<usize> {
    let line_end = |at: usize| at + segment[at..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut ends = vec![line_end(0)];
    for number in range {
        let at = ends[ends.len() - 1];
        let line = if segment[at..].starts_with(b"#TS:") { line_end(at) } else { at };
        ends.push(line_end(line) + unit(number).len());
    }
    ends
}

/// A log with a frame at each of these times, and the frames when it is read again.
pub fn frames_at(times: &[u64]) -> (Vec<u8>, Vec<Frame>) {
    let disk = SimDisk::new();
    let mut writer = go_on(reopen(&disk).unwrap(), times[0]).unwrap();
    for (number, unix_ms) in times.iter().enumerate() {
        let (start, payload) = (writer.appended(), unit(number));
        writer.append(Batch { start, payload: &payload, unix_ms: *unix_ms }).unwrap();
    }
    writer.close().unwrap();
    let opened = reopen(&disk).unwrap();
    assert_eq!(*opened.verdict(), Verdict::Clean);
    assert_eq!(recovered(&opened), units(0..times.len()));
    let (mut frames, mut payload, mut found) = (opened.frames(), Vec::new(), Vec::new());
    while let Some(frame) = frames.next_frame(&mut payload).unwrap() {
        found.push(frame);
    }
    (disk.contents(&segment_name(1)).unwrap(), found)
}

/// The seconds that the lines of a segment state.
pub fn time_lines(bytes: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(bytes);
    let seconds = text.lines().filter_map(|line| line.strip_prefix("#TS:"));
    seconds.map(|seconds| seconds.parse().unwrap()).collect()
}

/// The manifest without the seal of the first segment, as where the log went on in another file after a failed write.
pub fn unseal(disk: &SimDisk) {
    let text = String::from_utf8(disk.contents(MANIFEST_NAME).unwrap()).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("#end"));
    let unsealed = |line: &str| match line.split_once(" end ") {
        Some((begin, _)) => format!("{begin}\n"),
        None => format!("{line}\n"),
    };
    let text: String = lines.map(unsealed).collect();
    disk.put(MANIFEST_NAME, format!("{text}#end {:08x}\n", crc32c::crc32c(text.as_bytes())).as_bytes());
}
