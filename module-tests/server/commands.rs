//! Nobody is shown what is not durable, and nobody else waits: every command of the servers, with its keys dirty and
//! clean while the durable offset stands still.

use crate::harness::commands::{self, Case, Reads};
use crate::harness::scene::split;
use crate::harness::trial::{Dirty, sweep};
use crate::harness::{Lever, ServerBuilder, Version, each_lever, each_version};
use valkey_wbl::core::table;

each_lever! {
    fn every_read_of_dirty_keys_is_held_and_then_sends_the_stock_servers_bytes_in_resp2(version: Version, lever: Lever) {
        sweep(version, lever, "HELLO 2", Dirty::Each, &reads(version));
    }

    fn every_read_of_dirty_keys_is_held_and_then_sends_the_stock_servers_bytes_in_resp3(version: Version, lever: Lever) {
        sweep(version, lever, "HELLO 3", Dirty::All, &reads(version));
    }

    fn every_read_of_clean_keys_is_answered_while_others_wait(version: Version, lever: Lever) {
        sweep(version, lever, "HELLO 2", Dirty::Other, &reads(version));
        sweep(version, lever, "HELLO 3", Dirty::Other, &reads(version));
    }

    fn commands_that_tell_nothing_of_the_dataset_are_never_held(version: Version, lever: Lever) {
        let mut cases = all(version);
        cases.retain(|case| case.reads == Some(Reads::Never));
        sweep(version, lever, "HELLO 2", Dirty::All, &cases);
    }

    fn every_write_is_held_and_then_sends_the_stock_servers_bytes(version: Version, lever: Lever) {
        let server = ServerBuilder::stock(version).start();
        let cases = commands::cases(&mut server.raw());
        sweep(version, lever, "HELLO 2", Dirty::Nothing, &cases);
        sweep(version, lever, "HELLO 3", Dirty::Nothing, &cases);
    }

    fn every_write_of_dirty_keys_is_held_and_then_sends_the_stock_servers_bytes(version: Version, lever: Lever) {
        let server = ServerBuilder::stock(version).start();
        sweep(version, lever, "HELLO 3", Dirty::All, &commands::cases(&mut server.raw()));
    }

    fn every_write_that_changes_nothing_of_dirty_keys_is_held(version: Version, lever: Lever) {
        let server = ServerBuilder::stock(version).start();
        let cases = commands::noop_cases(&mut server.raw());
        sweep(version, lever, "HELLO 2", Dirty::Each, &cases);
        sweep(version, lever, "HELLO 3", Dirty::All, &cases);
    }

    fn every_write_that_changes_nothing_of_clean_keys_is_answered_while_others_wait(version: Version, lever: Lever) {
        let server = ServerBuilder::stock(version).start();
        sweep(version, lever, "HELLO 2", Dirty::Other, &commands::noop_cases(&mut server.raw()));
    }
}

each_version! {
    fn commands_that_end_with_their_event_raise_no_other(version: Version) {
        let server = ServerBuilder::stock(version).set("notify-keyspace-events", "EA").start();
        let (mut client, mut listener) = (server.raw(), server.raw());
        let mut cases = commands::cases(&mut client);
        cases.retain(|case| table::find(case.command).is_some_and(|row| row.ends_with_event));
        let (count, mut complete) = (cases.len(), 0);
        listener.run("PSUBSCRIBE __keyevent@*");
        for case in cases {
            client.run("FLUSHALL");
            case.setup.iter().for_each(|command| drop(client.run(command)));
            client.run("PUBLISH __keyevent@call begin");
            client.run(case.call);
            client.run("PUBLISH __keyevent@call end");
            let mut events = |last: &str| -> Vec<String> {
                let message = || {
                    let message = listener.reply();
                    let channel = message.items()[2].text();
                    channel.rsplit_once(':').map_or_else(|| message.items()[3].text(), |(_, event)| event.to_owned())
                };
                std::iter::repeat_with(message).take_while(|event| event != last).collect()
            };
            events("begin");
            let (row, raised) = (table::find(case.command).expect("a row"), events("end"));
            if row.is_complete_with(row.event.as_bytes(), split(case.call).len()) && raised.iter().any(|name| name == row.event) {
                assert_eq!(raised, [row.event], "{}", case.call);
                complete += 1;
            }
        }
        assert!(count - complete < count / 4, "{complete} of {count}");
    }
}

fn all(version: Version) -> Vec<Case> {
    commands::read_cases(&mut ServerBuilder::stock(version).start().raw())
}

fn reads(version: Version) -> Vec<Case> {
    let mut cases = all(version);
    cases.retain(|case| case.reads != Some(Reads::Never));
    cases
}
