//! The sandbox itself: names resolve, sockets of the test are inside, nothing outlives it; nginx serves over TLS 1.3.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use testbed::peers::Nginx;
use testbed::{Record, Sandbox, wait};

#[test]
fn names_resolve_and_everything_ends_with_it() {
    let sandbox = Sandbox::new().unwrap();
    let host = sandbox.host("one.example", &[]).unwrap();
    let other = sandbox.host("two.example", &[]).unwrap();
    let long = "x".repeat(300);
    sandbox
        .publish(&[Record::Txt("_tbr.one.example".to_owned(), long), Record::NullMx("nomail.example".to_owned())])
        .unwrap();
    let found = host.run(&["getent", "ahosts", "two.example"]).unwrap();
    assert!(found.contains(&other.ipv4().to_string()), "{found}");
    assert!(found.contains(&other.ipv6().to_string()), "{found}");
    assert!(host.run(&["getent", "ahosts", "three.example"]).is_err());
    assert_eq!(host.run(&["hostname"]).unwrap(), "one.example\n");
    assert!(!Path::new("/etc/only-on-a-host").exists());
    host.put("/etc/only-on-a-host", b"x").unwrap();
    assert!(!Path::new("/etc/only-on-a-host").exists());

    let listener = other.listen(2500).unwrap();
    let mut stream = host.connect((other.ipv4(), 2500)).unwrap();
    let (mut accepted, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), host.ipv4());
    stream.write_all(b"ping").unwrap();
    let mut four = [0; 4];
    accepted.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"ping");

    let sleeper = host.spawn("sleep", &["sh", "-c", "sleep 1000 & sleep 1000"]).unwrap();
    let processes = wait::until("both sleepers", wait::LONG, || {
        let found = host.processes().ok()?;
        (found.len() >= 4).then_some(found)
    })
    .unwrap();
    assert!(processes.contains(&sleeper.id()));
    let folder = sandbox.folder().to_owned();
    drop(host);
    for process in processes {
        assert!(!Path::new(&format!("/proc/{process}")).exists());
    }
    drop((other, sandbox));
    assert!(!folder.exists());
}

#[test]
fn a_far_host_is_as_far_by_either_protocol_until_it_is_near_again() {
    let sandbox = Sandbox::new().unwrap();
    let (far, other) = (sandbox.host("far.example", &[]).unwrap(), sandbox.host("other.example", &[]).unwrap());
    let _listener = other.listen(2500).unwrap();
    let delay = Duration::from_millis(400);
    let connect = |to: IpAddr| {
        let begun = Instant::now();
        let answer = far.connect((to, 2500));
        // Nobody listens by IPv6: to be told so takes a round trip, too.
        let refused =
            |error: anyhow::Error| error.downcast::<io::Error>().unwrap().kind() == io::ErrorKind::ConnectionRefused;
        assert!(answer.map_or_else(refused, |_| to.is_ipv4()));
        begun.elapsed()
    };
    let link = far.delay(delay).unwrap();
    for address in [IpAddr::from(other.ipv4()), IpAddr::from(other.ipv6())] {
        let took = connect(address);
        assert!(took >= delay, "{address}: {took:?}");
    }
    drop(link);
    wait::until("a near host", wait::LONG, || (connect(other.ipv4().into()) < delay / 2).then_some(())).unwrap();
}

#[test]
fn nginx_serves_files_over_tls() {
    let sandbox = Sandbox::new().unwrap();
    let client = sandbox.host("client.example", &[]).unwrap();
    let nginx = Nginx::start(&sandbox, "www.example").unwrap();
    std::fs::write(nginx.files().join("m"), "octets").unwrap();
    let ca = sandbox.ca().certificate().to_str().unwrap();
    let curl = ["curl", "--silent", "--show-error", "--tlsv1.3", "--cacert", ca];
    let got = client.run(&[&curl[..], &["https://www.example/m"]].concat()).unwrap();
    assert_eq!(got, "octets");
}
