//! Why the loop waits with a reply: what INFO counts is the row of the rule that applied.

use crate::harness::resp::encode;
use crate::harness::scene::split;
use crate::harness::{Scene, ServerBuilder, Version, each_version};

each_version! {
    fn reads_of_a_client_that_pipelines_run_as_they_were_sent(version: Version) {
        let mut scene = Scene::of(ServerBuilder::with_module(version).set("wbl.pipelines", "wait"));
        let mut client = scene.server.raw();
        let pairs = 200;
        let pipeline: Vec<u8> = (0..pairs)
            .flat_map(|number| [format!("SET k {number}"), "GET k".into()])
            .flat_map(|command| encode(&split(&command)))
            .collect();
        scene.make_pipeline(&mut client);
        let (runs, waits) = (scene.gauge("wbl_wrapped_commands"), scene.gauge("wbl_waits_pipelining"));
        let send = || client.send_bytes(&pipeline).expect("the server takes the commands");
        scene.until_loop_waits(|server| server.in_one_iteration(send));
        for number in 0..pairs {
            assert_eq!((client.reply().text(), client.reply().text()), ("OK".into(), number.to_string()));
        }
        assert_eq!(scene.gauge("wbl_wrapped_commands"), runs, "no read was run by the module");
        assert!(scene.gauge("wbl_waits_pipelining") > waits);
        scene.end();
    }

    fn a_script_that_runs_as_sent_counts_with_the_reason_of_that(version: Version) {
        let mut scene = Scene::start(version);
        scene.prepare(&["ACL SETUSER few on nopass ~* +@all -wbl.eval"]);
        let mut client = scene.server.raw();
        client.run("AUTH few any");
        scene.until_loop_waits(|_| client.send(&["EVAL", "return redis.call('INCR', 'k')", "0"]));
        assert_eq!(client.reply().integer(), 1);
        assert_eq!((scene.gauge("wbl_waits_rights"), scene.gauge("wbl_waits_other_module")), (1, 0));
        scene.end();
    }

    fn the_loop_waits_for_writes_that_a_pause_made_wait(version: Version) {
        let mut scene = Scene::start(version);
        let mut client = scene.server.raw();
        scene.control.run("CLIENT PAUSE 60000 WRITE");
        client.send(&["SET", "k", "v"]);
        scene.wait_blocked(1);
        let mut other = scene.server.raw();
        scene.until_loop_waits(|_| other.send_text("CLIENT UNPAUSE"));
        assert_eq!(client.reply().text(), "OK");
        assert!(scene.gauge("wbl_waits_client_pause") > 0);
        assert_eq!(scene.gauge("wbl_write_blocked_count"), 0);
        scene.end();
    }
}
