//! A folder as one input: a line `=== <name>` before each file, and a line feed after it.

use std::collections::BTreeMap;

/// The files of a folder.
pub type Files = BTreeMap<String, Vec<u8>>;

const MARK: &[u8] = b"=== ";

/// The input that stands for a folder.
pub fn pack(files: &Files) -> Vec<u8> {
    let mut input = Vec::new();
    for (name, bytes) in files {
        input.extend_from_slice(MARK);
        input.extend_from_slice(name.as_bytes());
        input.push(b'\n');
        input.extend_from_slice(bytes);
        input.push(b'\n');
    }
    input
}

/// The folder that an input stands for; `None` where it is none.
pub fn unpack(input: &[u8]) -> Option<Files> {
    let mut files = Files::new();
    let mut rest = input.strip_prefix(MARK)?;
    loop {
        let name_end = rest.iter().position(|byte| *byte == b'\n')?;
        let (name, behind) = rest.split_at_checked(name_end)?;
        let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.contains(['/', '\0']))?;
        let content = behind.get(1..)?;
        let next = content.windows(MARK.len() + 1).position(|bytes| bytes.starts_with(b"\n") && bytes.ends_with(MARK));
        let bytes = match next {
            Some(end) => content.get(..end)?,
            None => content.strip_suffix(b"\n").unwrap_or(content),
        };
        files.insert(name.to_string(), bytes.to_vec());
        match next {
            Some(end) => rest = content.get(end + 1 + MARK.len()..)?,
            None => return Some(files),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_back_as_it_went() {
        let files = Files::from([
            ("a".to_string(), b"one\n=== no file".to_vec()),
            ("b".to_string(), b"".to_vec()),
            ("c".to_string(), b"\n\n".to_vec()),
        ]);
        let mut expected = files.clone();
        // A mark inside of a file begins another one.
        expected.insert("a".into(), b"one".to_vec());
        expected.insert("no file".into(), b"".to_vec());
        assert_eq!(unpack(&pack(&files)), Some(expected));
        assert_eq!(unpack(b"else"), None);
    }
}
