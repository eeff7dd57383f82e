//! Portions of a log, and what is replayed of them.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::log::resp::push_command;

const FIRST: u64 = 1000;

/// One line per action.
fn told(portion: &Portion) -> Vec<String> {
    let words = |args: Arguments<'_>| args.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
    let told = portion.actions().map(|(_, action)| match action {
        Action::Select(db) => format!("select {db}"),
        Action::SetAll(args) => format!("set all: {}", words(args)),
        Action::Run(args) => format!("run: {}", words(args)),
    });
    told.collect()
}

fn encoded(commands: &[&[&[u8]]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    commands.iter().for_each(|command| push_command(&mut bytes, command));
    bytes
}

fn whole(bytes: &[u8]) -> Result<Portion, (Lsn, FormatError)> {
    let mut portion = Portion::default();
    portion.add(Lsn::new(FIRST), bytes, 0, &mut Marks::default()).map(|()| portion)
}

fn of(commands: &[&str]) -> Vec<u8> {
    let commands: Vec<Vec<&[u8]>> = commands.iter().map(|text| text.split(' ').map(str::as_bytes).collect()).collect();
    encoded(&commands.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

const COMMANDS: &[&str] = &[
    "SET a 1",
    "MULTI",
    "set b 2",
    "SET a 3",
    "EXEC",
    "INCR a",
    "SET c 4 PXAT 5",
    "SET d 6",
    "SELECT 7",
    "SET e 8",
    "GET e",
    "SET f",
];

const ACTIONS: &[&str] = &[
    "set all: a 1 b 2 a 3",
    "run: INCR a",
    "run: SET c 4 PXAT 5",
    "set all: d 6",
    "select 7",
    "set all: e 8",
    "run: GET e",
    "run: SET f",
];

#[test]
fn plain_sets_in_a_row_are_joined_and_all_else_stays_as_it_is_and_where_it_is() {
    let portion = whole(&of(COMMANDS)).unwrap();
    assert_eq!(told(&portion), ACTIONS);
    let positions: Vec<u64> = portion.actions().map(|(place, _)| place.at.get()).collect();
    let of_command = |index: usize| FIRST + of(&COMMANDS[..index]).len() as u64;
    assert_eq!(positions, [0, 5, 6, 7, 8, 9, 10, 11].map(of_command));
}

#[test]
fn pieces_of_any_size_give_the_same_in_however_many_portions() {
    let bytes = of(COMMANDS);
    for size in 1..bytes.len() {
        for limit in [1, 40, 1000] {
            let (mut actions, mut places) = (Vec::new(), Vec::new());
            let (mut portion, mut marks) = (Portion::default(), Marks { is_format_1: true, in_transaction: false });
            for (index, piece) in bytes.chunks(size).enumerate() {
                let at = index * size;
                let left = (bytes.len() - at - piece.len()) as u64;
                portion.add(Lsn::new(FIRST + at as u64), piece, left, &mut marks).unwrap();
                if portion.size_bytes() >= limit && !portion.is_empty() || left == 0 {
                    let mut next = Portion::default();
                    portion.move_open(&mut next);
                    actions.extend(told(&portion));
                    places.extend(portion.actions().map(|(place, _)| place));
                    portion = next;
                }
            }
            // SETs are joined within a portion only.
            let joined = actions.join("; ").replace("; set all:", "");
            let joined = joined.replace("PXAT 5 d 6", "PXAT 5; set all: d 6").replace("7 e 8", "7; set all: e 8");
            assert_eq!(joined, ACTIONS.join("; "), "pieces of {size}, portions of {limit}");
            let at_incr = FIRST + of(&COMMANDS[..5]).len() as u64;
            assert!(places.iter().any(|place| place.at.get() == at_incr && !place.may_have_failed));
            let in_transaction = places.iter().filter(|place| place.may_have_failed).count();
            assert!(limit > 1 || size > 1 || in_transaction == 2, "{in_transaction} of SETs that stand alone");
        }
    }
}

#[test]
fn only_transactions_of_format_1_may_hold_what_failed() {
    let bytes = of(&["INCR a", "MULTI", "INCR b", "EXEC", "INCR c"]);
    for (is_format_1, expected) in [(false, [false; 3]), (true, [false, true, false])] {
        let mut portion = Portion::default();
        portion.add(Lsn::ZERO, &bytes, 0, &mut Marks { is_format_1, in_transaction: false }).unwrap();
        let found: Vec<bool> = portion.actions().map(|(place, _)| place.may_have_failed).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn joined_sets_are_bounded_in_number_and_bytes() {
    let counts = |count: usize, bytes: usize| -> Vec<usize> {
        let value = vec![b'v'; bytes];
        let set: [&[u8]; 3] = [b"SET", b"k", &value];
        let portion = whole(&encoded(&vec![&set[..]; count])).unwrap();
        let pairs = |action: Action<'_>| if let Action::SetAll(args) = action { args.len() / 2 } else { 0 };
        portion.actions().map(|(_, action)| pairs(action)).collect()
    };
    assert_eq!(counts(2 * PAIRS_MAX + 1, 0), [PAIRS_MAX, PAIRS_MAX, 1]);
    assert_eq!(counts(3, PAIRS_BYTES_MAX), [1, 1, 1]);
}

#[test]
fn empty_arguments_are_arguments() {
    let portion = whole(&encoded(&[&[b"SET", b"", b""], &[b"ECHO", b""]])).unwrap();
    let counts: Vec<usize> = portion
        .actions()
        .map(|(_, action)| match action {
            Action::SetAll(args) | Action::Run(args) => {
                assert_eq!(args.len(), args.clone().count());
                args.len()
            }
            Action::Select(_) => 0,
        })
        .collect();
    assert_eq!(counts, [2, 2]);
}

#[test]
fn a_cleared_portion_keeps_its_memory_unless_it_is_big() {
    let mut portion = whole(&of(&["SET a 1"])).unwrap();
    portion.clear(1 << 20);
    assert!(portion.size_bytes() == 0 && portion.bytes.capacity() > 0);
    let mut portion = whole(&encoded(&[&[b"SET", b"a", &[0; 5000]]])).unwrap();
    portion.clear(4096);
    assert!(portion.size_bytes() == 0 && portion.bytes.capacity() == 0);
}

#[test]
fn what_is_no_command_is_an_error_at_its_position() {
    let good = of(&["INCR a"]);
    for bad in [
        &b"PING\r\n"[..],
        b"*0\r\n",
        b"*\r\n",
        b"*1\r\n$4\r\nPING",
        b"*1\r\n$4\r\nPINGXX",
        b"*1\r\n$5\r\nPING\r\n",
        b"*2\r\n$4\r\nPING\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*1\r\n$18446744073709551615\r\n",
        b"*99999999\r\n$1\r\na\r\n",
        b"*1",
        b"*1\n$4\r\nPING\r\n",
        b"*00000000000000000000000000000001\r",
        b"*2\r\n$6\r\nSELECT\r\n$1\r\nx\r\n",
        b"*2\r\n$6\r\nSELECT\r\n$2\r\n-1\r\n",
    ] {
        let (at, _) = whole(&[&good, bad].concat()).err().unwrap_or_else(|| panic!("{}", bad.escape_ascii()));
        assert_eq!(at.get(), FIRST + good.len() as u64, "{}", bad.escape_ascii());
    }
}

#[test]
fn memory_is_taken_for_what_the_frame_has_only() {
    let mut portion = Portion::default();
    let head = b"*2\r\n$3\r\nGET\r\n$4000000000\r\nvalue";
    let refused = portion.add(Lsn::ZERO, head, 1_000_000, &mut Marks::default());
    assert!(refused.is_err() && portion.bytes.capacity() < 1000);
}
