//! The three readers of RESP: of payloads, of the log's replay (piece by piece), and of what a client sends.
#![no_main]

use valkey_wbl::core::input::Input;
use valkey_wbl::core::portion::{Action, Marks, Portion};
use valkey_wbl::log::resp::{Commands, push_command};
use valkey_wbl::log::{FormatError, Lsn};

type Command = Vec<Vec<u8>>;

fn whole(payload: &[u8]) -> (Vec<Command>, Option<FormatError>) {
    let mut commands = Vec::new();
    for command in Commands::new(payload) {
        match command {
            Ok(command) => commands.push(command.args.iter().map(|arg| arg.to_vec()).collect()),
            Err(error) => return (commands, Some(error)),
        }
    }
    (commands, None)
}

/// What the replay makes of it, in pieces of this size; SETs that were joined are taken apart.
fn replayed(payload: &[u8], piece_bytes: usize) -> Result<Vec<Command>, FormatError> {
    let (mut portion, mut marks, mut commands) = (Portion::default(), Marks::default(), Vec::new());
    let mut read = 0;
    for piece in payload.chunks(piece_bytes) {
        let at = Lsn::ZERO.advance(read as u64);
        read += piece.len();
        let at = if portion.is_open() || !portion.is_empty() { Lsn::ZERO } else { at };
        portion.add(at, piece, (payload.len() - read) as u64, &mut marks).map_err(|(_, error)| error)?;
        for (_, action) in portion.actions() {
            match action {
                Action::Select(db) => commands.push(vec![b"SELECT".to_vec(), db.to_string().into_bytes()]),
                Action::SetAll(args) => {
                    let args: Vec<_> = args.collect();
                    commands.extend(args.chunks(2).map(|pair| vec![b"SET".to_vec(), pair[0].into(), pair[1].into()]));
                }
                Action::Run(args) => commands.push(args.map(<[u8]>::to_vec).collect()),
            }
        }
        let mut next = Portion::default();
        portion.move_open(&mut next);
        portion = next;
    }
    Ok(commands)
}

/// As the replay has them.
fn for_replay(commands: &[Command]) -> Option<Vec<Command>> {
    let mut kept = Vec::new();
    for command in commands {
        match &command[..] {
            [name] if name == b"MULTI" || name == b"EXEC" => {}
            [name, db] if name == b"SELECT" => {
                let db: u32 = std::str::from_utf8(db).ok()?.parse().ok()?;
                kept.push(vec![name.clone(), db.to_string().into_bytes()]);
            }
            [name, key, value] if name.eq_ignore_ascii_case(b"set") => {
                kept.push(vec![b"SET".to_vec(), key.clone(), value.clone()]);
            }
            _ => kept.push(command.clone()),
        }
    }
    Some(kept)
}

/// What is seen of a client's socket, in two looks, is what a reader of the whole makes of it.
fn seen(bytes: &[u8], commands: &[Command]) {
    let half = bytes.len() / 2;
    let mut input = Input::default();
    input.begin(100);
    input.saw(100, &bytes[..half]);
    input.saw(100, bytes);
    let sent: Vec<Command> =
        input.commands(u64::MAX).map(|sent| sent.args.iter().map(|arg| arg.to_vec()).collect()).collect();
    // It knows only what the server takes without a doubt, which may be less.
    assert!(commands.starts_with(&sent), "{sent:?} instead of {commands:?}");
    for command in &sent {
        assert!(input.take(command.iter().map(Vec::as_slice)));
    }
}

libfuzzer_sys::fuzz_target!(|payload: &[u8]| {
    let (commands, error) = whole(payload);
    let mut encoded = Vec::new();
    for command in &commands {
        push_command(&mut encoded, &command.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
    assert_eq!(whole(&encoded), (commands.clone(), None));
    for piece_bytes in [1, 7, payload.len().max(1)] {
        let replayed = replayed(payload, piece_bytes);
        match (for_replay(&commands).filter(|_| error.is_none()), replayed) {
            (Some(expected), Ok(replayed)) => assert_eq!(expected, replayed),
            (None, Err(_)) => {}
            (expected, replayed) => panic!("{expected:?}, but {replayed:?} in pieces of {piece_bytes}"),
        }
    }
    seen(payload, &commands);
});
