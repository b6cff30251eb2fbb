//! The power fails at every sync while mail of a site goes by stick and by upload: whatever was not synced is gone, the server is
//! started anew, and everything comes once (TBR §7.4).

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common {
    pub(crate) mod stick;
    pub(crate) mod uploading;
}

use std::path::Path;
use std::process::Stdio;

use common::stick::World;
use common::{stick, uploading};
use testbed::peers::restante::object;
use testbed::peers::{PartTime, Restante};
use testbed::powercut::{CutAt, Loss, PowerCut};
use testbed::samples::{crlf, large};
use testbed::{Sandbox, wait};

/// Reads a bundle at a server whose disk may lose power meanwhile; whether it was read to the end.
fn import_until_cut(server: &mut Restante, disk: &PowerCut, file: &Path, cut: CutAt) -> bool {
    disk.plan(cut);
    let mut reading = server.command(&["bundle", "import", file.to_str().unwrap(), "--limit", "20s"]);
    let mut reading = reading.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ended = || if disk.is_cut() { Some(None) } else { reading.try_wait().unwrap().map(Some) };
    let ended = wait::until("a cut, or the end of the bundle", wait::LONG, ended).unwrap();
    match ended {
        Some(status) if !disk.is_cut() => {
            disk.plan(CutAt::BeforeSync(u64::MAX));
            assert!(status.success(), "{status} without a cut");
            true
        }
        _ => {
            server.lose_power(disk, Loss::Everything).unwrap();
            // Should it have come too late for that server, it runs one of its own, and ends with that.
            reading.wait().unwrap();
            server.run().unwrap();
            false
        }
    }
}

#[test]
fn the_power_fails_at_every_sync_while_bundles_are_read_and_everything_comes_once() {
    let sandbox = Sandbox::new().unwrap();
    // Hosts see disks that were mounted before them.
    let disk = |name| PowerCut::mount(&sandbox.folder().join(name)).unwrap();
    let (site_disk, custodian_disk) = (disk("disk-s"), disk("disk-c"));
    let mut world =
        World::with(sandbox, |site| site.data(site_disk.path()), |custodian| custodian.data(custodian_disk.path()));
    let (file, answer) = (world.file("out.tar"), world.file("answer.tar"));
    let mut sent = Vec::new();
    for number in 1.. {
        assert!(number < 100, "no end");
        let message = large(&format!("number {number}"), 100_000);
        sent.push((world.send("bob@site.example", &message), message));
        stick::export(&world.custodian, &file, &[]);
        if import_until_cut(&mut world.site, &site_disk, &file, CutAt::BeforeSync(number)) {
            assert!(number > 2, "are the data on the disk?");
            break;
        }
    }
    stick::import(&world.site, &file);
    let written = stick::by_bob(&large("from the site", 100_000));
    let id = stick::write_at_site(&world, &["alice@a.example"], &written);
    stick::export(&world.site, &answer, &[]);
    let cuts = (1..).find(|n| import_until_cut(&mut world.custodian, &custodian_disk, &answer, CutAt::BeforeSync(*n)));
    assert!(cuts > Some(1), "are the data on the disk?");
    for (id, message) in &sent {
        world.origin.wait_for_state(id, "delivered", wait::LONG).unwrap();
        let copies = world.copies("bob@site.example");
        assert_eq!(copies.iter().filter(|copy| object(copy) == Some(&crlf(message)[..])).count(), 1);
    }
    assert_eq!(world.copies("bob@site.example").len(), sent.len());
    let copies = world.origin.maildir("alice@a.example").wait_for(1, wait::LONG).unwrap();
    assert!(copies[0].ends_with(&crlf(&written)));
    assert_eq!(stick::hear_custodian(&world)["taken"], 1);
    world.site.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    assert_eq!(world.origin.maildir("alice@a.example").messages().len(), 1);
    for server in [&world.custodian, &world.site] {
        let checked = server.json(&["store", "check"], b"").unwrap();
        assert_eq!(checked["clean"], true, "{checked:#}");
    }
}

/// The custodian loses power at this sync, unless the message has arrived before. Whether it has.
fn arrives_before_cut(world: &mut PartTime, disk: &PowerCut, number: u64, message: &[u8], others: usize) -> bool {
    disk.plan(CutAt::BeforeSync(number));
    let id = uploading::write_at_site(world, &["alice@a.example"], message);
    let arrived = || world.origin.maildir("alice@a.example").messages().len() > others;
    let ended = || (disk.is_cut() || arrived()).then_some(());
    wait::until("a cut, or the message", wait::LONG, ended).unwrap();
    let was_cut = disk.is_cut();
    if was_cut {
        world.custodian.lose_power(disk, Loss::Everything).unwrap();
        world.custodian.run().unwrap();
    } else {
        disk.plan(CutAt::BeforeSync(u64::MAX));
    }
    world.site.wait_for_state(&id, "relayed", wait::LONG).unwrap();
    uploading::copy_at_origin(world, message, others);
    !was_cut
}

#[test]
fn the_power_fails_at_every_sync_of_the_custodian_and_everything_arrives_once() {
    let sandbox = Sandbox::new().unwrap();
    // Hosts see disks that were mounted before them.
    let disk = PowerCut::mount(&sandbox.folder().join("disk")).unwrap();
    let mut world = uploading::world_in(
        sandbox,
        |name, config| if name == "custodian" { config.data(disk.path()) } else { config },
    );
    for number in 1.. {
        assert!(number < 60, "no end");
        let message = uploading::by_bob(&large(&format!("number {number}"), 80_000));
        if arrives_before_cut(&mut world, &disk, number, &message, number as usize - 1) {
            assert!(number > 3, "are the data on the disk?");
            break;
        }
    }
    assert_eq!(world.custodian.json(&["store", "check"], b"").unwrap()["clean"], true);
}
