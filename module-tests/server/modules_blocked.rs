//! Clients that other modules block: they wait for both, and are answered amid waits for a RESUME.

use super::modules::builder;
use crate::harness::{
    FrozenDisk, Lever, PATIENCE, RawConnection, Server, Value, Version, dataset, each_lever, each_version, wait_until,
};
use crate::leaks::pipeline;

/// Changes the key T:key that the test's module may show, has it answer this client, which it has blocked, and fails if
/// the answer comes before the change is durable.
pub fn assert_answered_with_what_is_durable(server: &mut Server, client: &mut RawConnection) {
    let [mut control, mut writer, mut freeing] = std::array::from_fn(|_| server.raw());
    let disk = FrozenDisk::freeze(Lever::Sync, server, &mut control);
    writer.send_text("SET T:key 2");
    disk.settle(server, &mut control);
    // Without a key it would wait for everything itself.
    freeing.send_text("effects.free T:clean");
    disk.assert_withheld(server, &mut control, client, "the other module's answer");
    disk.thaw(&mut control);
    assert_eq!(writer.reply(), Value::Simple("OK".into()));
    assert_eq!(freeing.reply().integer(), 1);
    assert_eq!(client.reply(), Value::Simple("DONE".into()));
    dataset::assert_survives(server, "after kill -9");
}

each_version! {
    // The first one's next command would have to wait for the other one's answer, from within the server's filter.
    // Only while paused does the server serve others meanwhile, so that these two have no gated form.
    fn two_clients_of_another_module_are_answered_amid_a_pause(version: Version) {
        let server = builder(version, false).start();
        let (mut control, mut first, mut second) = (server.raw(), server.raw(), server.raw());
        let (mut writer, mut freeing) = (server.raw(), server.raw());
        ["SET T:key 1", "SET T:clean 1", "WBL.WAIT"].iter().for_each(|command| drop(control.run(command)));
        for client in [&mut first, &mut second] {
            client.send_text("effects.block GET T:key");
            client.assert_silent(&mut control, "effects.block");
        }
        first.send_text("effects.string T:own 1");
        first.assert_silent(&mut control, "it waits behind that");
        control.run("WBL.DEBUG PAUSE");
        writer.send_text("SET T:key 2");
        writer.assert_silent(&mut control, "SET while paused");
        freeing.send_text("effects.free T:clean");
        wait_until("the server waits for a RESUME", PATIENCE, || control.call(&["GET", "T:clean"]).is_error());
        control.run("WBL.DEBUG RESUME");
        for client in [&mut first, &mut second] {
            assert_eq!(client.reply(), Value::Simple("DONE".into()));
        }
        let own = format!("{:?}", first.reply());
        assert!(own == "+OK" || own.starts_with("-BUSY"), "{own}");
        assert_eq!(writer.reply(), Value::Simple("OK".into()));
        freeing.reply();
        assert_eq!(control.run("GET T:key").text(), "2");
    }

    // A pause delays its command, and the module blocks its client only when that has ended.
    fn a_client_of_another_module_that_a_pause_has_delayed_is_answered_with_what_is_durable(version: Version) {
        let mut server = builder(version, false).start();
        let [mut control, mut client] = std::array::from_fn(|_| server.raw());
        ["SET T:key 1", "SET T:clean 1", "WBL.WAIT", "CLIENT PAUSE 60000 WRITE"]
            .iter()
            .for_each(|command| drop(control.run(command)));
        client.send_text("effects.block GET T:key");
        client.assert_silent(&mut control, "effects.block in the pause");
        pipeline(&mut control, "CLIENT UNPAUSE; DEBUG SLEEP 0; PING");
        (0..3).for_each(|_| assert!(!control.reply().is_error()));
        client.assert_silent(&mut control, "effects.block");
        assert_answered_with_what_is_durable(&mut server, &mut client);
    }

    // The main thread serves clients for a thread that waits for the RESUME, and cannot wait for it, too.
    fn a_client_of_another_module_is_answered_while_its_thread_waits_for_a_resume(version: Version) {
        let server = builder(version, false).start();
        let (mut control, mut blocked) = (server.raw(), server.raw());
        let (mut threads, mut freeing) = (server.raw(), server.raw());
        ["SET T:key 1", "SET T:clean 1", "WBL.WAIT"].iter().for_each(|command| drop(control.run(command)));
        blocked.send_text("effects.block GET T:key");
        blocked.assert_silent(&mut control, "effects.block");
        control.run("WBL.DEBUG PAUSE");
        threads.send_text("effects.thread SET T:key 2");
        wait_until("the thread waits for a RESUME", PATIENCE, || control.call(&["GET", "T:clean"]).is_error());
        freeing.send_text("effects.free T:clean");
        assert_eq!(blocked.reply(), Value::Simple("DONE".into()));
        control.run("WBL.DEBUG RESUME");
        assert_eq!(threads.reply(), Value::Simple("DONE".into()));
        freeing.reply();
        assert_eq!(control.run("GET T:key").text(), "2");
    }
}

each_lever! {
    fn a_client_that_another_module_blocks_waits_for_both(version: Version, lever: Lever) {
        for first in [true, false] {
            let mut server = builder(version, first).start();
            let (mut control, mut client) = (server.raw(), server.raw());
            // Blocked by its command: a write of its own, and one that runs a command.
            for command in ["effects.block SET T:blocked 1", "effects.block effects.string T:own 1"] {
                client.send_text(command);
                client.assert_silent(&mut control, command);
                control.run("WBL.WAIT");
                client.assert_silent(&mut control, "released by the log alone");
                assert_eq!(control.run("effects.release").integer(), 1);
                assert_eq!(client.reply(), Value::Simple("DONE".into()));
            }
            // Blocked in the same event. The module that comes second can't block the client any more. A client that
            // another module has blocked by a command is waited for by the loop from then on, so this is another.
            let mut client = server.raw();
            client.send_text("SET held:key 1");
            if first {
                client.assert_silent(&mut control, "SET held:key");
                control.run("WBL.WAIT");
                client.assert_silent(&mut control, "released by the log alone");
                assert_eq!(control.run("effects.release").integer(), 1);
            }
            assert_eq!(client.reply(), Value::Simple("OK".into()));
            // The other way round: released by the module, and not yet durable.
            let mut freeing = server.raw();
            let disk = FrozenDisk::freeze(lever, &server, &mut control);
            client.send_text("SET held:key 2");
            disk.assert_withheld(&server, &mut control, &mut client, "SET held:key while the disk stands still");
            // Without a key it would wait for everything.
            freeing.send_text("effects.free T:clean");
            disk.settle(&server, &mut control);
            disk.assert_withheld(&server, &mut control, &mut client, "released by the other module alone");
            disk.thaw(&mut control);
            assert!(!freeing.reply().is_error());
            assert_eq!(client.reply(), Value::Simple("OK".into()));
            dataset::assert_survives(&mut server, "after kill -9");
        }
    }
}
