//! Under systemd: sockets that it has opened (socket activation, by its own tool), what it is told, and the units of `contrib/systemd` as
//! its own tools judge them.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use testbed::peers::{Restante, RestanteConfig};
use testbed::samples::awkward;
use testbed::{Host, PackageSet, Process, Sandbox, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_restante");

/// The units of the repository.
const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contrib/systemd");

/// How exposed the unit may be, in tenths, as `systemd-analyze security` counts: 0 is nothing, 100 everything.
const EXPOSURE: &str = "16";

/// A user of the host without any right.
const NOBODY: &str = "2008";

/// The server's ports, with both families, and the names that a socket unit would give them.
const PORTS: [u16; 4] = [25, 587, 465, 443];
const NAMES: &str = "smtp:smtp:submission:submission:submissions:submissions:https:https";

#[test]
fn the_units_are_sound_and_leave_little_in_reach() {
    let sandbox = Sandbox::new().unwrap();
    let host = sandbox.host("mx.a.example", &[PackageSet::Systemd]).unwrap();
    host.run(&["ln", "-s", PROGRAM, "/usr/bin/restante"]).unwrap();
    let units = ["restante.service", "restante.socket"].map(|unit| {
        let path = format!("/etc/systemd/system/{unit}");
        host.put(&path, &fs::read(Path::new(UNITS).join(unit)).unwrap()).unwrap();
        path
    });
    let [service, socket] = &units;
    let analyze = |arguments: &[&str]| {
        let output = host.output(&[&["systemd-analyze"], arguments].concat(), b"").unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    };
    // What it does not know it passes over with a warning, so silence is asked for.
    assert_eq!(analyze(&["verify", service, socket]), (true, String::new()));
    let within = |bound: &str| analyze(&["security", "--offline=true", &format!("--threshold={bound}"), service]);
    let (is_within, said) = within(EXPOSURE);
    assert!(is_within && said.contains("Overall exposure level"), "{said}");
    assert!(!within("0").0, "nothing is ever beyond the bound");
}

/// An environment variable, as systemd's tool is told of it.
fn setting((name, value): (&OsStr, Option<&OsStr>)) -> String {
    format!("--setenv={}={}", name.display(), value.unwrap_or_default().display())
}

/// A server whose sockets systemd's own tool has opened, started by the first connection; it runs as [`NOBODY`], who cannot open its ports,
/// and begins anew when it has ended, like a service that is restarted.
struct Activated {
    server: Restante,
    told: UnixDatagram,
    _process: Process,
}

impl Activated {
    fn new(sandbox: &Sandbox) -> Self {
        let config = RestanteConfig::new(PROGRAM, "mx.b.example", &["b.example"]).users(&["bob"]);
        let server = Restante::prepare(sandbox, config.packages(PackageSet::Systemd)).unwrap();
        let host = server.host();
        let room = host.room().display().to_string();
        fs::set_permissions(sandbox.folder(), Permissions::from_mode(0o711)).unwrap();
        let keys = sandbox.folder().join("keys").display().to_string();
        host.run(&["chown", "-R", &format!("{NOBODY}:{NOBODY}"), &room, &keys]).unwrap();
        let notices = host.room().join("notify.sock");
        let told = UnixDatagram::bind(&notices).unwrap();
        fs::set_permissions(&notices, Permissions::from_mode(0o666)).unwrap();
        // As the socket unit has it.
        host.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv6/bindv6only"]).unwrap();

        let serve = server.command(&["serve"]);
        let serve: Vec<_> = serve.get_args().skip_while(|part| *part != "--").skip(1).map(OsStr::to_owned).collect();
        let drop =
            format!("exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --no-new-privs --bounding-set=-all");
        // The pid that the sockets are meant for is the server's own, each time.
        let one = format!("export LISTEN_PID=$$; echo $$ > {room}/pid; {drop} \"$@\"");
        let script = format!("while sh -c '{one}' server \"$@\"; do :; done");
        let mut command = host.command("systemd-socket-activate");
        for port in PORTS {
            command.args([format!("--listen=0.0.0.0:{port}"), format!("--listen=[::]:{port}")]);
        }
        command.arg(format!("--fdname={NAMES}")).arg(format!("--setenv=NOTIFY_SOCKET={}", notices.display()));
        let settings: Vec<_> = server.command(&["serve"]).get_envs().map(setting).collect();
        command.args(settings).args(["sh", "-c", &script, "manager"]).args(serve);
        let process = host.spawn_command("activated", command).unwrap();
        Self { server, told, _process: process }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.host().room().join("log/activated.log")).unwrap_or_default()
    }

    fn host(&self) -> &Host {
        self.server.host()
    }

    /// Whoever connects before there is a server is heard once there is one.
    fn greeting(&self) -> String {
        let stream = || self.host().connect((self.host().ipv4(), 25)).ok();
        let stream: TcpStream = wait::until("somebody to listen", wait::LONG, stream).unwrap();
        stream.set_read_timeout(Some(wait::LONG)).unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        (&stream).write_all(b"QUIT\r\n").unwrap();
        line
    }

    /// The next thing that systemd is told and that says this.
    fn wait_until_told(&self, what: &str) {
        self.told.set_read_timeout(Some(wait::LONG)).unwrap();
        let mut octets = [0; 4096];
        loop {
            let length = self.told.recv(&mut octets).unwrap_or_else(|error| panic!("{what}: {error}\n{}", self.log()));
            if String::from_utf8_lossy(&octets[..length]).lines().any(|line| line == what) {
                return;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.host().room().join("pid")).unwrap();
        self.host().run(&["kill", signal, pid.trim()]).unwrap();
    }
}

#[test]
fn sockets_of_systemd_are_taken_over_and_nobody_is_refused_while_the_server_restarts() {
    let sandbox = Sandbox::new().unwrap();
    let b = Activated::new(&sandbox);
    let a = RestanteConfig::new(PROGRAM, "mx.a.example", &["a.example"]).users(&["alice"]);
    let a = Restante::start(&sandbox, a).unwrap();
    assert!(!b.log().contains("listening on "), "started before anybody came: {}", b.log());
    assert!(b.greeting().starts_with("220 mx.b.example "), "{}", b.log());
    b.wait_until_told("READY=1");
    for port in PORTS {
        for address in [format!("0.0.0.0:{port}"), format!("[::]:{port}")] {
            assert!(b.log().contains(&format!("listening on {address} ")), "{address}: {}", b.log());
        }
    }
    let warning = "this runs as root";
    assert!(!b.log().contains(warning) && a.log().matches(warning).count() == 1, "{}{}", a.log(), b.log());
    // By SMTP in, and by HTTPS: what it serves is fetched.
    let id = a.send("alice@a.example", &["bob@b.example"], &awkward("activated")).unwrap();
    a.wait_for_state(&id, "delivered", wait::LONG).unwrap_or_else(|error| panic!("{error}\n{}", b.log()));
    let document = b.host().run(&[
        "curl",
        "--silent",
        "--fail",
        "--cacert",
        &sandbox.ca().certificate().display().to_string(),
        "https://tbr.b.example/.well-known/tbr/domain",
    ]);
    assert!(document.unwrap().contains("b.example"));

    b.signal("-TERM");
    b.wait_until_told("STOPPING=1");
    // There is no server now, or not yet again.
    assert!(b.greeting().starts_with("220 mx.b.example "), "{}", b.log());
    b.wait_until_told("READY=1");
    let id = a.send("alice@a.example", &["bob@b.example"], &awkward("again")).unwrap();
    a.wait_for_state(&id, "delivered", wait::LONG).unwrap_or_else(|error| panic!("{error}\n{}", b.log()));
    assert_eq!(b.server.maildir("bob@b.example").messages().len(), 2);
}
